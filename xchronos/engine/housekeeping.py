"""What has to be tidied up: history beyond its limit, units whose TTL has ended."""

import structlog

from xchronos.clock import SECOND, Clock
from xchronos.engine.ownership import Ownership
from xchronos.registry.batch import Batcher
from xchronos.registry.keys import Keys
from xchronos.registry.units import UnitCache
from xchronos.store.contract import Delete, Guard, Store, Txn

log = structlog.get_logger(__name__)

SLACK = 4
"""A history may exceed its limit by a quarter before it is cut: one look then pays for many records."""

FIRST_LOOK = 5
"""How many ends after the start of a scheduler a history of unknown length is looked at."""


class Housekeeping:
    """Keeps what grows within its bounds, with work in proportion to what has ended."""

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, units: UnitCache, ownership: Ownership, batcher: Batcher
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._units = units
        self._ownership = ownership
        self._batcher = batcher
        self._room: dict[str, int] = {}
        self._full: set[str] = set()

    def ended(self, unit: str) -> None:
        """One more record in the unit's history."""
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
                await self._cut(unit)

    async def expire(self, unit: str) -> None:
        """A unit's TTL has ended: destroy it, unless it has changed meanwhile."""
        item = await self._store.get(self._keys.job(unit))
        fence = self._ownership.fence(unit)
        if item is None or fence is None:
            return
        log.info("TTL ended: unit is destroyed", unit=unit)
        await self._batcher.submit(
            Txn((fence, Guard(item.key, item.mod_revision)), (Delete(item.key),))
        )

    async def _cut(self, unit: str) -> None:
        loaded = await self._units.get(unit)
        fence = self._ownership.fence(unit)
        if loaded is None or loaded.unit is None or fence is None:
            self._room.pop(unit, None)
            return
        limit = loaded.unit.history_limit
        page = await self._store.range(self._keys.history(unit), keys_only=True)
        excess = page.items[: max(len(page.items) - limit, 0)]
        step = self._store.max_operations
        for start in range(0, len(excess), step):
            operations = tuple(Delete(item.key) for item in excess[start : start + step])
            await self._batcher.submit(Txn((fence,), operations))
        self._room[unit] = limit - min(len(page.items), limit) + max(limit // SLACK, 1)
