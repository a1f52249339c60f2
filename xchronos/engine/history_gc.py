"""The histories of units, cut to their HistoryLimit."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from xchronos.clock import SECOND
from xchronos.engine.state.cluster_state import ClusterState
from xchronos.engine.state.context import Fences, SchedulerContext
from xchronos.errors import StoreUnavailable
from xchronos.limits import HISTORY_KEYS
from xchronos.registry.keys import unit_of
from xchronos.registry.units import Loaded, UnitCache
from xchronos.store.batcher import Batcher
from xchronos.store.contract import Delete, Guard, Txn

log = structlog.get_logger(__name__)

SLACK = 4
"""A history may exceed its limit by one part in so many before it is cut: one look then pays for many records."""

FIRST_LOOK = 5
"""After so many ends a scheduler looks at a history whose length it does not know."""

LOOK_AGAIN = 50
"""After so many cuts of what is remembered the store is looked at again: what nobody told of is found then."""

LOOKS_TOGETHER = 16
"""How many histories are read at a time."""

CUT_TOGETHER = 256
"""How many units' histories are cut at a time. What they delete goes to the store together."""


@dataclass(slots=True)
class RememberedHistory:
    """What is in a unit's history: what the last look at it has found, and what has ended since."""

    keys: list[str]
    """The keys of the records; one may be here twice."""

    fence: Guard
    """Under which fence it was looked at. Under another one somebody else may have written."""

    created: int
    """In which life of the unit it was looked at."""

    cuts: int = 0
    """How often it was cut since."""


class HistoryGc:
    """Deletes the oldest records of histories that have grown too long, with work in proportion to what has ended.

    A history is read once. After that its keys are remembered, as far as there is room (`limits.HISTORY_KEYS`). A cut
    is then a few deletions, and those of many units are one Txn. What nobody told of, or what was told of and has left
    no record, is found by another look now and then.

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
        self._remembered: dict[str, RememberedHistory] = {}
        self._count = 0
        self._arriving: dict[str, list[str]] = {}

    def ended(self, execution_id: str) -> None:
        """An execution is in its unit's history; the scheduler that owns the unit cuts that."""
        unit = unit_of(execution_id)
        if self._fences.fence(unit) is None:
            return
        key = self._keys.execution(execution_id)
        if unit in self._arriving:
            self._arriving[unit].append(key)
        remembered = self._remembered.get(unit)
        if remembered is not None:
            remembered.keys.append(key)
            self._count += 1
        room = self._room.get(unit, FIRST_LOOK) - 1
        self._room[unit] = room
        if room <= 0:
            self._full.add(unit)

    async def run(self) -> None:
        """Cut the histories that are full, once a second."""
        while True:
            await self._clock.sleep(SECOND)
            full, self._full = sorted(self._full), set()
            for first in range(0, len(full), CUT_TOGETHER):
                await self._cut(full[first : first + CUT_TOGETHER])

    async def _cut(self, names: Sequence[str]) -> None:
        """Cut some histories, together."""
        owned = [unit for unit in names if self._fences.fence(unit) is not None]
        for unit in set(names) - set(owned):
            self._forget(unit)
        try:
            found = await self._units.get_many(owned)
        except StoreUnavailable as error:
            self._put_off(owned, error)
            return
        known: list[Loaded] = []
        unknown: list[Loaded] = []
        for unit in owned:
            loaded = found.get(unit)
            if isinstance(loaded, Loaded):
                (known if self._is_known(loaded) else unknown).append(loaded)
            else:
                self._forget(unit)
        async with asyncio.TaskGroup() as group:
            for loaded in known:
                group.create_task(self._cut_remembered(loaded))
        for first in range(0, len(unknown), LOOKS_TOGETHER):
            async with asyncio.TaskGroup() as group:
                for loaded in unknown[first : first + LOOKS_TOGETHER]:
                    group.create_task(self._look(loaded))

    def _is_known(self, loaded: Loaded) -> bool:
        remembered = self._remembered.get(loaded.name)
        if remembered is None:
            return False
        same = (remembered.fence, remembered.created) == (self._fences.fence(loaded.name), loaded.created)
        if same and remembered.cuts < LOOK_AGAIN:
            return True
        self._drop(loaded.name)
        return False

    async def _look(self, loaded: Loaded) -> None:
        """Read a history, cut it, and remember what is left."""
        unit, limit, step = loaded.name, loaded.unit.history_limit, self._store.max_operations
        self._arriving[unit] = []
        try:
            while True:
                # Oldest first: whatever this finds before the last `limit` of them is beyond the limit.
                page = await self._store.range(self._keys.history(unit), limit=limit + step, keys_only=True)
                keys = [item.key for item in page.items]
                fence = self._fences.fence(unit)
                if fence is None:
                    self._forget(unit)
                    return
                excess = self._excess(unit, keys, limit)
                if excess:
                    await self._batcher.submit(Txn((fence,), tuple(map(Delete, excess))))
                if not page.more or not excess:
                    break
        except StoreUnavailable as error:
            self._put_off([unit], error)
            return
        finally:
            arrived = self._arriving.pop(unit)
        self._room[unit] = _room(limit, len(keys) - len(excess))
        if not page.more:
            left = dict.fromkeys((*keys, *arrived))
            for key in excess:
                del left[key]
            self._remember(unit, RememberedHistory([*left], fence, loaded.created))

    async def _cut_remembered(self, loaded: Loaded) -> None:
        """Cut a history by what is remembered of it."""
        unit, limit, step = loaded.name, loaded.unit.history_limit, self._store.max_operations
        remembered = self._remembered[unit]
        keys = sorted(set(remembered.keys))
        excess = self._excess(unit, keys, limit)
        parts = [excess[first : first + step] for first in range(0, len(excess), step)]
        try:
            for part in parts:
                await self._batcher.submit(Txn((remembered.fence,), tuple(map(Delete, part))))
        except StoreUnavailable as error:
            self._put_off([unit], error)
            return
        self._room[unit] = _room(limit, len(keys) - len(excess))
        if self._remembered.get(unit) is remembered:
            gone = set(excess)
            left = [key for key in dict.fromkeys(remembered.keys) if key not in gone]
            self._remember(unit, RememberedHistory(left, remembered.fence, remembered.created, remembered.cuts + 1))

    def _excess(self, unit: str, keys: Sequence[str], limit: int) -> list[str]:
        """The keys of the records to delete, of all keys of a history, the oldest first."""
        kept = tuple(self._keys.execution(prefix) for prefix in self._cluster.stand_for_machines(unit))
        return [key for key in keys[: max(len(keys) - limit, 0)] if not key.startswith(kept)]

    def _remember(self, unit: str, history: RememberedHistory) -> None:
        """Remember a history, instead of those that were not cut for longest where there is no room."""
        self._drop(unit)
        self._remembered[unit] = history
        self._count += len(history.keys)
        while self._count > HISTORY_KEYS:
            self._drop(next(iter(self._remembered)))

    def _drop(self, unit: str) -> None:
        """Remember no more what is in a history; the next cut looks at it."""
        before = self._remembered.pop(unit, None)
        if before is not None:
            self._count -= len(before.keys)

    def _forget(self, unit: str) -> None:
        """The unit is not this scheduler's, or is gone."""
        self._drop(unit)
        self._room.pop(unit, None)

    def _put_off(self, units: Sequence[str], error: StoreUnavailable) -> None:
        """Nobody knows what became of a cut: the next one looks."""
        for unit in units:
            self._drop(unit)
        log.info("histories are cut later", units=list(units[:10]), count=len(units), reason=str(error))
        self._full.update(units)


def _room(limit: int, length: int) -> int:
    """How many more records a history of this length takes before it is cut."""
    return limit - length + max(limit // SLACK, 1)
