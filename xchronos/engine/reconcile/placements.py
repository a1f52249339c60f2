"""Executions and machines: where the copies of a fire time go, and what becomes of those that wait."""

import asyncio
import heapq
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

import msgspec

from xchronos.clock import Instant, to_datetime, to_instant
from xchronos.engine.committer import Committer
from xchronos.engine.reconcile.completions import Completions
from xchronos.engine.reconcile.machine_choice import MachineChoice
from xchronos.engine.state.cluster_state import OpenExecution, fire_prefix, undecided
from xchronos.model.lifecycle import execution_after
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution, ExecutionState, Owed, fire_key
from xchronos.model.unit import Unit
from xchronos.registry.keys import unit_of
from xchronos.registry.units import Loaded
from xchronos.scheduler.feasibility import MachineView
from xchronos.scheduler.overlap import overlap
from xchronos.scheduler.ranking import Ranking
from xchronos.scheduler.rejections import PASSING, Rejection, words_of
from xchronos.scheduler.retry import past_deadline
from xchronos.scheduler.timing.schedule import randomized_delay

AT_ONCE = 128
"""How many executions are looked at before others get a turn."""

MOST_WAITING = 100
"""How many executions of a unit may wait for a machine. Later fire times are missed: they would only pile up."""


class Placements:
    """Gives executions to machines."""

    def __init__(self, committer: Committer, completions: Completions, machine_choice: MachineChoice) -> None:
        self._committer = committer
        self._completions = completions
        self._machine_choice = machine_choice

    # -- a fire time ------------------------------------------------------------------------------------------------

    def fire(
        self,
        unit: Unit,
        owed: Owed,
        now: Instant,
        moment: datetime,
        room: int,
        before: Sequence[Execution] = (),
        had: Collection[str] = (),
    ) -> tuple[list[Execution], Owed | None]:
        """The executions of a fire time, one per copy, each placed, waiting, queued, delayed or skipped.

        At most `room` of them, from `owed.copy` on; then comes what is left, or None. `before` are those of earlier
        fire times that the same Txn writes: they overlap this one like any other. `had` are the machines of its copies
        that are written already.
        """
        cluster = self._committer.cluster
        first = Execution(
            unit=unit.name,
            fire_time=owed.fire_time,
            trigger=owed.trigger,
            revision=unit.revision,
            claimed_at=moment,
            report=bool(unit.on_success) or unit.keep_running,
            payload=unit.payload,
        )
        at = to_instant(owed.fire_time)
        copies = 1 if unit.is_global else unit.availability - owed.copy
        if unit.start_deadline is not None:
            first = msgspec.structs.replace(first, deadline=to_datetime(at + unit.start_deadline))
        if unit.concurrency != "allow":
            active, queued = set(cluster.active.get(unit.name, ())), set(cluster.queued.get(unit.name, ()))
            for earlier in before:
                if earlier.state != "ended":
                    (queued if earlier.state == "queued" else active).add(earlier.id)
            decision = overlap(unit, sorted(active), len(queued), execution=first.id)
            if decision.action == "skip":
                return [
                    msgspec.structs.replace(
                        first, state="ended", outcome=Outcome.SKIPPED, reason=decision.reason, ended_at=moment
                    )
                ], None
            if decision.action != "start":
                if decision.action == "replace":
                    self._replace((*active, *queued), first.id, f"the fire time {fire_key(owed.fire_time)}")
                return self._copies(first, "queued", decision.reason, owed, copies, room)
        if unit.randomized_delay:
            due = at + randomized_delay(unit, at)
            if due > now:
                due_at = to_datetime(due)
                deadline = None if unit.start_deadline is None else to_datetime(due + unit.start_deadline)
                first = msgspec.structs.replace(first, due_at=due_at, deadline=deadline)
                reason = f"RandomizedDelay: starts at {due_at.isoformat()}"
                return self._copies(first, "delayed", reason, owed, copies, room)
        return self._spread(unit, first, owed, copies, moment, room, had)

    def _copies(
        self, first: Execution, state: ExecutionState, reason: str, owed: Owed, copies: int, room: int
    ) -> tuple[list[Execution], Owed | None]:
        """Copies without a machine.

        Of a Global unit it is one, which becomes as many as there are machines when it is placed.
        """
        numbers = self._free_numbers(first, owed.copy, min(copies, room))
        written = [msgspec.structs.replace(first, copy=number, state=state, reason=reason) for number in numbers]
        if copies <= room:
            return written, None
        return written, msgspec.structs.replace(owed, copy=owed.copy + room)

    def _spread(
        self, unit: Unit, first: Execution, owed: Owed, copies: int, moment: datetime, room: int, had: Collection[str]
    ) -> tuple[list[Execution], Owed | None]:
        """Copies on machines, as far as there are any."""
        cluster = self._committer.cluster
        views: Iterable[MachineView] | Ranking = cluster.ranking
        if owed.copy and unit.is_global:
            views = [view for machine, view in cluster.machines.items() if machine > owed.after]
        chosen = self._machine_choice.choose(unit, first.id, views, copies=copies, taken=had)
        machines = sorted(chosen.machines) if unit.is_global else chosen.machines
        unplaced = 0 if owed.copy and unit.is_global else chosen.unplaced
        numbers = self._free_numbers(first, owed.copy, min(len(machines) + unplaced, room))
        written = [
            placed(first, machine, number, 1, unit.revision, moment)
            for machine, number in zip(machines, numbers, strict=False)
        ]
        written += [self._waiting(first, number, chosen.summary, moment) for number in numbers[len(machines) :]]
        if len(machines) + unplaced <= room:
            return written, None
        after = machines[room - 1] if unit.is_global else ""
        return written, msgspec.structs.replace(owed, copy=owed.copy + room, after=after)

    def _waiting(self, first: Execution, number: int, reason: str, moment: datetime) -> Execution:
        """A copy that no machine takes now: it waits, unless so many of the unit wait that nobody would miss it."""
        if len(self._committer.cluster.waiting.get(first.unit, ())) < MOST_WAITING:
            return msgspec.structs.replace(first, copy=number, state="waiting", reason=reason)
        reason = f"{MOST_WAITING} executions of the unit wait for a machine already ({reason})"
        return msgspec.structs.replace(
            first, copy=number, state="ended", outcome=Outcome.MISSED, reason=reason, ended_at=moment, deadline=None
        )

    def _free_numbers(self, execution: Execution, start: int, count: int) -> list[int]:
        """Numbers for copies.

        One that is taken belongs to something else of the same instant: to a former life of the unit, or to a start
        by hand. An identity is never used twice.
        """
        prefix, held = fire_prefix(execution.id), self._committer.cluster.open
        numbers: list[int] = []
        while len(numbers) < count:
            if f"{prefix}{start}" not in held:
                numbers.append(start)
            start += 1
        return numbers

    def _replace(self, others: Iterable[str], execution_id: str, by: str) -> None:
        """Concurrency=replace: whatever else of the unit there is has to end."""
        prefix = fire_prefix(execution_id)
        for other in sorted(others):
            if not other.startswith(prefix):
                self._committer.work.cancels.setdefault(other, f"replaced by {by}")

    def _replace_older(self, unit: str, execution_id: str) -> None:
        cluster, prefix = self._committer.cluster, fire_prefix(execution_id)
        older = [other for other in (*cluster.active.get(unit, ()), *cluster.queued.get(unit, ())) if other < prefix]
        self._replace(older, execution_id, execution_id)

    # -- executions that wait ---------------------------------------------------------------------------------------

    async def place_pending(self, now: Instant) -> None:
        """Look at everything without a machine for which something has changed."""
        cluster, work = self._committer.cluster, self._committer.work
        ready = cluster.ripe(now)
        ready |= work.look
        work.look = set()
        freed, work.freed = work.freed, set()
        for unit in freed:
            ready.update(self._next_queued(unit))
        ready = {execution_id for execution_id in ready if self._committer.fence(unit_of(execution_id)) is not None}
        hopeless: dict[str, str] = {}
        if ready:
            loaded = await self._load({unit_of(execution_id) for execution_id in ready})
            line = sorted((self._urgency(execution_id, loaded), execution_id) for execution_id in ready)
            for index, (_, execution_id) in enumerate(line, 1):
                await self._consider(execution_id, loaded, now, hopeless)
                cluster.remind(execution_id, now)
                if index % AT_ONCE == 0:
                    await asyncio.sleep(0)
        if work.retry_waiting:
            work.retry_waiting = False
            if cluster.waiting and cluster.has_room():
                await self._place_waiting(now)

    async def _place_waiting(self, now: Instant) -> None:
        """Everything that waits for a machine, the most urgent first, for as long as there is room for anything.

        What was hopeless before need not be now: the news that brings it here may have come in the middle of a turn.
        """
        cluster = self._committer.cluster
        hopeless: dict[str, str] = {}
        waiting = {unit: ids for unit, ids in cluster.waiting.items() if self._committer.fence(unit) is not None}
        loaded = await self._load(set(waiting))
        # Loading took a while: some may wait no more.
        lines = [sorted(ids, reverse=True) for ids in waiting.values() if ids]
        heads = [(self._urgency(line[-1], loaded), line) for line in lines]
        heapq.heapify(heads)
        while heads and cluster.has_room():
            line = heads[0][1]
            execution_id = line.pop()
            await self._consider(execution_id, loaded, now, hopeless)
            if line and unit_of(execution_id) not in hopeless:
                heapq.heapreplace(heads, (self._urgency(line[-1], loaded), line))
            else:
                heapq.heappop(heads)

    async def _load(self, names: set[str]) -> dict[str, Loaded]:
        loaded = await self._committer.load(sorted(names))
        # Started for a unit that does not exist (any more): nobody will ever run it.
        self._committer.work.gone.update(name for name in names if name not in loaded)
        return loaded

    def _urgency(self, execution_id: str, loaded: dict[str, Loaded]) -> tuple[int, str]:
        """Sorts before what is less urgent: by Priority=, then by fire time."""
        found = loaded.get(unit_of(execution_id))
        priority = found.unit.priority if found is not None and found.unit is not None else 0
        return -priority, execution_id.partition("/")[2]

    def _next_queued(self, unit: str) -> list[str]:
        """All copies of the first fire time in a unit's queue, once nothing else of the unit is active."""
        line = self._committer.cluster.queued.get(unit)
        if not line:
            return []
        prefix = fire_prefix(min(line))
        return [] if self._blocked(prefix) else [queued for queued in line if queued.startswith(prefix)]

    def _blocked(self, prefix: str) -> bool:
        return any(not other.startswith(prefix) for other in self._committer.cluster.active.get(unit_of(prefix), ()))

    async def _consider(
        self, execution_id: str, loaded: dict[str, Loaded], now: Instant, hopeless: dict[str, str]
    ) -> None:
        entry = self._committer.cluster.open.get(execution_id)
        found = loaded.get(unit_of(execution_id))
        if entry is None or entry.machine or entry.busy or found is None or self._committer.fence(found.name) is None:
            return
        cursor = self._committer.cluster.cursors.known.get(found.name)
        if found.name in self._committer.work.refused or (cursor and found.created > cursor.schedule.unit_revision):
            # Its acceptance has yet to forget what the unit's former life has left, and would forget this one's end.
            return
        execution, reached = entry.execution, self._committer.cluster.reached(entry, now)
        # It may be of a later life of the unit than is known here, and once decided about it could not be told from it.
        upon = found if undecided(execution) else None
        if execution.stop_requested:
            await self._completions.end(execution_id, entry, Outcome.CANCELLED, execution.stop_requested, now, upon)
            return
        expired = past_deadline(execution, reached, execution.reason or "no machine could take it")
        if expired is not None:
            await self._completions.end(execution_id, entry, expired.outcome, expired.reason, now, upon)
            return
        unit = found.unit
        if unit is None:
            reason = f"the stored unit cannot be read: {found.error}"
            await self._completions.end(execution_id, entry, Outcome.FAILED, reason, now, upon)
            return
        if execution.state == "queued" and (
            self._blocked(fire_prefix(execution_id)) or execution_id not in self._next_queued(unit.name)
        ):
            if unit.concurrency == "replace":
                # Whoever has queued it may have died before it asked the others to end.
                self._replace_older(unit.name, execution_id)
            return
        if execution.state == "delayed" and execution.due_at is not None and to_instant(execution.due_at) > reached:
            return
        if upon is not None and not await self._may_overlap(execution_id, entry, unit, now, upon):
            return
        await self._place(execution_id, entry, unit, now, hopeless, upon)

    async def _may_overlap(
        self, execution_id: str, entry: OpenExecution, unit: Unit, now: Instant, upon: Loaded
    ) -> bool:
        """What Concurrency= says of an execution that no trigger fired; it is dealt with when the answer is no."""
        cluster = self._committer.cluster
        active = sorted(cluster.active.get(unit.name, ()))
        prefix = fire_prefix(execution_id)
        queued = [other for other in sorted(cluster.queued.get(unit.name, ())) if not other.startswith(prefix)]
        decision = overlap(unit, active, len(queued), execution=execution_id)
        if decision.action == "start":
            return True
        if decision.action == "skip":
            await self._completions.end(execution_id, entry, Outcome.SKIPPED, decision.reason, now, upon)
            return False
        if decision.action == "replace":
            self._replace((*active, *queued), execution_id, execution_id)
        queued_one = msgspec.structs.replace(
            entry.execution, state=execution_after("delayed", "enqueue"), due_at=None, reason=decision.reason
        )
        self._committer.move(execution_id, entry, queued_one, unit, upon=upon)
        return False

    async def _place(
        self,
        execution_id: str,
        entry: OpenExecution,
        unit: Unit,
        now: Instant,
        hopeless: dict[str, str],
        upon: Loaded | None,
    ) -> None:
        execution, committer = entry.execution, self._committer
        committer.cluster.learn(execution_id, entry, unit)
        plain = not execution.attempts and unit.availability == 1 and not unit.is_global
        if plain and unit.name in hopeless:
            reason = hopeless[unit.name]
        else:
            fresh = unit.is_global and not execution.attempts
            if fresh and unit.keep_running:
                taken = self._machine_choice.homes(unit.name)
            else:
                taken = await self._machine_choice.machines_of_copies(unit, execution_id)
                if committer.cluster.open.get(execution_id) is not entry or entry.busy:
                    # Asking the history took a while; whatever has happened meanwhile is looked at by itself.
                    return
            if fresh:
                chosen = self._machine_choice.choose(unit, execution_id, committer.cluster.ranking, taken=taken)
            else:
                chosen = self._machine_choice.again(unit, execution_id, execution, taken)
            if chosen.machines:
                moment, number = to_datetime(now), execution.attempts[-1].number + 1 if execution.attempts else 1
                moved = placed(execution, chosen.machines[0], execution.copy, number, unit.revision, moment)
                also = self._other_copies(execution, unit, chosen.machines[1:], moment) if unit.is_global else []
                committer.move(execution_id, entry, moved, unit, also, upon=upon)
                return
            if unit.is_global and (execution.attempts or not chosen.unplaced):
                await self._end_global(execution_id, entry, unit, chosen.rejections, now)
                return
            reason = chosen.summary
            if plain:
                hopeless[unit.name] = reason
        if execution.state != "waiting" or execution.reason != reason:
            state = execution_after(execution.state, "wait")
            waiting = msgspec.structs.replace(execution, state=state, reason=reason, due_at=None)
            committer.move(execution_id, entry, waiting, unit, upon=upon)

    def _other_copies(
        self, execution: Execution, unit: Unit, machines: Sequence[str], moment: datetime
    ) -> list[Execution]:
        """The copies of a Global unit on all other machines; for those that the Txn cannot hold, one that waits."""
        room = self._committer.room - 2
        fresh = msgspec.structs.replace(execution, copy=execution.copy + 1)
        numbers = self._free_numbers(fresh, fresh.copy, min(len(machines), room))
        if len(machines) <= room:
            return [
                placed(execution, machine, number, 1, unit.revision, moment)
                for machine, number in zip(machines, numbers, strict=True)
            ]
        rest = msgspec.structs.replace(execution, copy=numbers.pop(), state="waiting", due_at=None)
        return [
            rest,
            *(
                placed(execution, machine, number, 1, unit.revision, moment)
                for machine, number in zip(machines, numbers, strict=False)
            ),
        ]

    async def _end_global(
        self, execution_id: str, entry: OpenExecution, unit: Unit, against: Sequence[Rejection], now: Instant
    ) -> None:
        """A copy of a Global unit belongs to its machine: when that cannot take it, or all have theirs, it is over."""
        attempts = entry.execution.attempts
        if not attempts:
            await self._completions.end(execution_id, entry, Outcome.SKIPPED, "every machine has its copy", now)
            return
        outcome = attempts[-1].outcome or Outcome.LOST
        home = self._committer.cluster.machines.get(attempts[-1].machine)
        if home is None:
            await self._completions.end(execution_id, entry, outcome, f"{attempts[-1].machine} is gone", now)
            return
        reason = f"{home.machine.id} {words_of(against)}"
        lasting = {rejection.code for rejection in against} - PASSING
        if lasting == {"cordoned"} and not unit.keep_running and home.machine.drain_until is None:
            # A cordon is for a while. A unit that is kept running gets a new copy when it is lifted.
            lasting = set()
        if lasting:
            await self._completions.end(execution_id, entry, outcome, reason, now)
        elif entry.execution.state != "waiting" or entry.execution.reason != reason:
            state = execution_after(entry.execution.state, "wait")
            self._committer.move(
                execution_id, entry, msgspec.structs.replace(entry.execution, state=state, reason=reason)
            )


def placed(
    execution: Execution, machine: str, copy: int, number: int, revision: str, moment: datetime | None
) -> Execution:
    """One copy of the execution, with its attempt `number` on a machine."""
    attempt = Attempt(number=number, machine=machine, placed_at=moment, revision=revision)
    return msgspec.structs.replace(
        execution,
        copy=copy,
        state="placed",
        current=attempt,
        reason="",
        due_at=None,
        deadline=None,
        waits_since=None,
    )
