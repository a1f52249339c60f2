"""Executions that no machine has: whatever has changed for one of them is a reason to decide about it again."""

import asyncio
import heapq
from collections.abc import Iterable

from xchronos.clock import Instant
from xchronos.engine.committer import Committer
from xchronos.engine.reconcile.completions import Completions
from xchronos.engine.reconcile.views import NO_COPIES, Views
from xchronos.engine.state.open_execution import OpenExecution
from xchronos.registry.keys import unit_of
from xchronos.registry.units import Loaded
from xchronos.scheduler.feasibility import has_room
from xchronos.scheduler.pending import (
    Decision,
    Finish,
    PlaceNow,
    Queue,
    Stay,
    WaitForMachine,
    asks_history,
    consider,
    urgency,
)
from xchronos.scheduler.placement import stands
from xchronos.scheduler.reasons import Reason
from xchronos.scheduler.rejections import PASSING
from xchronos.scheduler.view import fire_prefix, undecided

LOOKED_AT_BETWEEN_NEWS = 128
"""How many executions are looked at before others get a turn."""


class PendingExecutions:
    """Has executions placed, ended, queued, or wait on."""

    def __init__(self, committer: Committer, views: Views, completions: Completions) -> None:
        self._committer = committer
        self._views = views
        self._completions = completions

    async def place_pending(self, machines: set[str], now: Instant) -> None:
        """Look at everything without a machine for which something has changed. `machines` are those that have."""
        cluster, work = self._committer.cluster, self._committer.work
        ready = cluster.ripe(now)
        if machines:
            ready.update(*cluster.standing.values())
        ready |= work.look
        work.look = set()
        freed, work.freed = work.freed, set()
        for unit in freed:
            ready.update(self._views.of(unit).next_queued())
        ready = {execution_id for execution_id in ready if self._committer.fence(unit_of(execution_id)) is not None}
        hopeless: dict[str, Reason] = {}
        if ready:
            loaded = await self._load({unit_of(execution_id) for execution_id in ready})
            line = sorted((self._urgency(execution_id, loaded), execution_id) for execution_id in ready)
            for index, (_, execution_id) in enumerate(line, 1):
                await self._consider(execution_id, loaded, now, hopeless)
                cluster.remind(execution_id, now)
                if index % LOOKED_AT_BETWEEN_NEWS == 0:
                    await asyncio.sleep(0)
        if work.retry_waiting:
            work.retry_waiting = False
            if cluster.waiting and has_room(cluster.machines.values()):
                await self._place_waiting(now)

    async def _place_waiting(self, now: Instant) -> None:
        """Everything that waits for a machine, the most urgent first, for as long as there is room for anything.

        What was hopeless before need not be now: the news that brings it here may have come in the middle of a turn.
        """
        cluster = self._committer.cluster
        hopeless: dict[str, Reason] = {}
        waiting = {unit: ids for unit, ids in cluster.waiting.items() if self._committer.fence(unit) is not None}
        loaded = await self._load(set(waiting))
        # Loading took a while: some may wait no more.
        lines = [sorted(ids, reverse=True) for ids in waiting.values() if ids]
        heads = [(self._urgency(line[-1], loaded), line) for line in lines]
        heapq.heapify(heads)
        while heads and has_room(cluster.machines.values()):
            line = heads[0][1]
            execution_id = line.pop()
            await self._consider(execution_id, loaded, now, hopeless)
            if line and unit_of(execution_id) not in hopeless:
                heapq.heapreplace(heads, (self._urgency(line[-1], loaded), line))
            else:
                heapq.heappop(heads)

    async def _load(self, names: Iterable[str]) -> dict[str, Loaded]:
        loaded = await self._committer.load(sorted(names))
        # Started for a unit that does not exist (any more): nobody will ever run it.
        unreadable = self._committer.unreadable
        self._committer.work.gone.update(name for name in names if name not in loaded and name not in unreadable)
        return loaded

    def _urgency(self, execution_id: str, loaded: dict[str, Loaded]) -> tuple[int, str]:
        found = loaded.get(unit_of(execution_id))
        return urgency(found.unit if found is not None else None, execution_id)

    async def _consider(
        self, execution_id: str, loaded: dict[str, Loaded], now: Instant, hopeless: dict[str, Reason]
    ) -> None:
        entry = self._committer.cluster.open.get(execution_id)
        found = loaded.get(unit_of(execution_id))
        if entry is None or found is None or not self._is_to_decide(execution_id, entry, found):
            return
        unit, name = found.unit, found.name
        reached = self._committer.cluster.reached(entry, now)
        ended = NO_COPIES
        if asks_history(unit, entry.execution, self._views.of(name), reached):
            # A machine whose copy was lost gets it of a start that stands, when it fits again.
            ended = await self._views.ended_copies(fire_prefix(execution_id), lost=not stands(unit))
        await self._completions.have_chain(unit)
        if not self._is_to_decide(execution_id, entry, found):
            # Reading took a while; whatever has happened meanwhile is looked at by itself.
            return
        decision = consider(
            unit,
            entry.execution,
            self._views.of(name, ended),
            now,
            txn_room=self._committer.txn_room,
            reached=reached,
            hopeless=hopeless.get(name),
        )
        self._commit(execution_id, entry, found, decision, now, hopeless)

    def _is_to_decide(self, execution_id: str, entry: OpenExecution, found: Loaded) -> bool:
        committer, cluster = self._committer, self._committer.cluster
        if cluster.open.get(execution_id) is not entry or entry.machine or entry.busy:
            return False
        cursor = cluster.cursors.known.get(found.name)
        # While the unit's new life is not accepted, its acceptance has yet to remove the history of the former life. It
        # would remove the end of this execution with it.
        accepted = cursor is None or found.created <= cursor.schedule.unit_revision
        return accepted and committer.fence(found.name) is not None and found.name not in committer.work.refused

    def _commit(
        self,
        execution_id: str,
        entry: OpenExecution,
        found: Loaded,
        decision: Decision,
        now: Instant,
        hopeless: dict[str, Reason],
    ) -> None:
        committer, unit = self._committer, found.unit
        # A start by hand may belong to a later life of the unit than memory knows. Only while it is undecided can it be
        # told from what the former life has left: so the write is refused when the unit's record has changed.
        upon = found if undecided(entry.execution) else None
        match decision:
            case Finish(outcome, reason):
                self._completions.finish(execution_id, entry, outcome, reason, now, unit, upon)
                return
            case Stay(cancelled):
                self._views.cancel(cancelled)
                return
            case Queue(execution, cancelled):
                self._views.cancel(cancelled)
                committer.move(execution_id, entry, execution, unit, upon=upon)
                return
        committer.cluster.learn(execution_id, entry, unit)
        match decision:
            case PlaceNow(execution, last_machine, also, cancelled):
                self._views.cancel(cancelled)
                self._views.carry_on(found.name, last_machine)
                committer.move(execution_id, entry, execution, unit, also, upon=upon)
            case WaitForMachine(waiting, reason, rejections, shared):
                if entry.execution.stands and any(rejection.code in PASSING for rejection in rejections):
                    committer.work.short_of_room.add(execution_id)
                if shared:
                    hopeless[found.name] = reason
                if waiting is not None:
                    committer.move(execution_id, entry, waiting, unit, upon=upon)
