"""What has to be tidied up: history beyond its limit."""

from collections.abc import Callable

import structlog

from xchronos.clock import SECOND, Clock
from xchronos.errors import StoreUnavailable
from xchronos.registry.keys import Keys
from xchronos.registry.units import UnitCache
from xchronos.store.batcher import Batcher
from xchronos.store.contract import Delete, Guard, Store, Txn

log = structlog.get_logger(__name__)

SLACK = 4
"""A history may exceed its limit by a quarter before it is cut: one look then pays for many records."""

FIRST_LOOK = 5
"""How many ends after the start of a scheduler a history of unknown length is looked at."""


class HistoryGc:
    """Keeps what grows within its bounds, with work in proportion to what has ended."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        clock: Clock,
        units: UnitCache,
        fence: Callable[[str], Guard | None],
        batcher: Batcher,
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._units = units
        self._fence = fence
        self._batcher = batcher
        self._room: dict[str, int] = {}
        self._full: set[str] = set()

    def ended(self, unit: str) -> None:
        """One more record in the unit's history; whose unit it is, cuts it."""
        if self._fence(unit) is None:
            return
        room = self._room.get(unit, FIRST_LOOK) - 1
        self._room[unit] = room
        if room <= 0:
            self._full.add(unit)

    async def run(self) -> None:
        """Cut the histories that are full, once a second."""
        while True:
            await self._clock.sleep(SECOND)
            full, self._full = self._full, set()
            for unit in sorted(full):
                try:
                    await self._cut(unit)
                except StoreUnavailable as error:
                    log.info("a history is cut later", unit=unit, reason=str(error))
                    self._full.add(unit)

    async def _cut(self, unit: str) -> None:
        loaded = await self._units.get(unit) if self._fence(unit) is not None else None
        if loaded is None or loaded.unit is None:
            self._room.pop(unit, None)
            return
        limit, step = loaded.unit.history_limit, self._store.max_operations
        while True:
            # Oldest first: whatever this finds before the last `limit` of them is beyond the limit.
            page = await self._store.range(self._keys.history(unit), limit=limit + step, keys_only=True)
            excess = page.items[: max(len(page.items) - limit, 0)]
            fence = self._fence(unit)
            if fence is None:
                self._room.pop(unit, None)
                return
            if excess:
                await self._batcher.submit(Txn((fence,), tuple(Delete(item.key) for item in excess)))
            if not page.more:
                break
        self._room[unit] = limit - len(page.items) + len(excess) + max(limit // SLACK, 1)
