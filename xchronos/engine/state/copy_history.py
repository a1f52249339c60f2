"""Which machines the copies of a fire time have had: Availability=N means N distinct machines, from first to last."""

from collections.abc import Mapping

from xchronos.registry.copies import ended_copies
from xchronos.registry.keys import Keys
from xchronos.store.contract import Store
from xchronos.store.recent import LruCache

KEPT = 4_096
"""Of how many fire times it is remembered; the history knows the rest."""


class CopyHistory:
    """The machines of copies that have ended, read from the history when a copy that waits asks for them."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._known = LruCache[tuple[str, bool], Mapping[str, str]](KEPT)

    async def ended(self, prefix: str, *, lost: bool = True) -> Mapping[str, str]:
        """By execution id, the machine that each ended copy of a fire time had last. Raises StoreError.

        `lost` is as in `ended_copies`.
        """
        known = self._known.get((prefix, lost))
        if known is None:
            known = await ended_copies(self._store, self._keys, prefix, lost=lost)
            self._known.put((prefix, lost), known)
        return known

    def forget(self, prefix: str) -> None:
        """A copy of the fire time has left its machine: the history may say more now."""
        for lost in (True, False):
            self._known.pop((prefix, lost))
