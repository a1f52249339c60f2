"""The histories of units, cut to their HistoryLimit."""

import structlog

from xchronos.clock import SECOND
from xchronos.engine.state.cluster_state import ClusterState
from xchronos.engine.state.context import Fences, SchedulerContext
from xchronos.errors import StoreUnavailable
from xchronos.registry.units import Loaded, UnitCache
from xchronos.store.batcher import Batcher
from xchronos.store.contract import Delete, Txn

log = structlog.get_logger(__name__)

SLACK = 4
"""A history may exceed its limit by one part in so many before it is cut: one look then pays for many records."""

FIRST_LOOK = 5
"""After so many ends a scheduler looks at a history whose length it does not know."""


class HistoryGc:
    """Deletes the oldest records of histories that have grown too long, with work in proportion to what has ended.

    What has ended of a start that still stands for machines to come is kept: it says which of them have had a copy.
    """

    def __init__(
        self, context: SchedulerContext, units: UnitCache, fences: Fences, batcher: Batcher, cluster: ClusterState
    ) -> None:
        self._store = context.store
        self._keys = context.keys
        self._clock = context.clock
        self._units = units
        self._fences = fences
        self._batcher = batcher
        self._cluster = cluster
        self._room: dict[str, int] = {}
        self._full: set[str] = set()

    def ended(self, unit: str) -> None:
        """One more record is in the unit's history; the scheduler that owns the unit cuts it."""
        if self._fences.fence(unit) is None:
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
        loaded = await self._units.get(unit) if self._fences.fence(unit) is not None else None
        if not isinstance(loaded, Loaded):
            self._room.pop(unit, None)
            return
        limit, step = loaded.unit.history_limit, self._store.max_operations
        while True:
            # Oldest first: whatever this finds before the last `limit` of them is beyond the limit.
            page = await self._store.range(self._keys.history(unit), limit=limit + step, keys_only=True)
            excess = page.items[: max(len(page.items) - limit, 0)]
            fence = self._fences.fence(unit)
            if fence is None:
                self._room.pop(unit, None)
                return
            kept = tuple(self._keys.execution(prefix) for prefix in self._cluster.stand_for_machines(unit))
            excess = [item for item in excess if not item.key.startswith(kept)]
            if excess:
                await self._batcher.submit(Txn((fence,), tuple(Delete(item.key) for item in excess)))
            if not page.more or not excess:
                break
        self._room[unit] = limit - len(page.items) + len(excess) + max(limit // SLACK, 1)
