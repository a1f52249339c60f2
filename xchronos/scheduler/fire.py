"""What becomes of the fire times of a unit that are due: one record for each copy, and the cursor after them."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

import msgspec

from xchronos.clock import Instant, Micros, to_datetime, to_instant
from xchronos.errors import InvalidTrigger
from xchronos.model.lifecycle import execution_after
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution, ExecutionState, Owed, Schedule, fire_key
from xchronos.model.unit import Unit
from xchronos.scheduler.placement import last_machine_after, machines_of_copies, place
from xchronos.scheduler.policies.overlap import overlap
from xchronos.scheduler.reasons import Reason, because
from xchronos.scheduler.timing.schedule import Turn, not_run, randomized_delay, turn
from xchronos.scheduler.view import View, fire_prefix

MOST_FIRES = 1_000
"""How many fire times of one unit are decided together, unless they are misfires: those are bounded by MisfireLimit."""

MOST_WAITING = 100
"""How many executions of a unit may wait for a machine. Later fire times are missed: they would only pile up."""


class Due(msgspec.Struct, frozen=True):
    """What is to be recorded at some instant, in order, and the cursor after it.

    `problem` is set where this process cannot compute what follows: nothing is to be recorded then.
    """

    owed: tuple[Owed, ...]
    schedule: Schedule
    problem: str = ""


class Fired(msgspec.Struct, frozen=True):
    """What the due fire times of a unit become.

    Attributes:
        executions: New records, as many as one Txn holds beside the cursor.
        schedule: The cursor after them; what did not fit is in its `owed`.
        cancelled: Ids of other executions that have to end (Concurrency=replace), and why.
        last_machine: Where LoadBalancing=round-robin has gone last.
        late: For each fire time that was begun, how late that was, in microseconds.
        problem: Why this process cannot compute what follows; then nothing is written, and another one may know.
    """

    executions: tuple[Execution, ...]
    schedule: Schedule
    cancelled: dict[str, Reason]
    last_machine: str
    late: tuple[Micros, ...]
    problem: str = ""


def due(unit: Unit, schedule: Schedule, now: Instant) -> Due:
    """What has to be recorded at `now`: what was put off before, else what the cursor has passed."""
    if schedule.owed:
        return Due(schedule.owed, msgspec.structs.replace(schedule, owed=()))
    try:
        turned = _turn(unit, schedule, now)
    except InvalidTrigger as error:
        return Due((), schedule, str(error))
    missed = [
        Owed(record.first, gap.kind, -1 - gap.trigger, "", record)
        for gap in turned.missed
        for record in (gap.record(),)
    ]
    return Due((*missed, *[Owed(fire.fire_time, fire.trigger) for fire in turned.fires]), turned.schedule)


def begun_before(unit: Unit, schedule: Schedule) -> str:
    """The fire time of which an earlier Txn holds some copies: the prefix of their ids, empty when there is none.

    Its rest goes to other machines than they, also than those of copies that have ended (`View.ended`).
    """
    if unit.is_global or not schedule.owed or schedule.owed[0].copy <= 0:
        return ""
    return f"{unit.name}/{fire_key(schedule.owed[0].fire_time)}/"


def fire(unit: Unit, schedule: Schedule, view: View, now: Instant, most: int) -> Fired:
    """Decide what the due fire times become. At most `most` records are written, the rest stays owed.

    Each copy is placed, waits, is queued, is delayed, or has ended as skipped or missed. Fire times that one Txn
    writes overlap each other like any others.
    """
    # Whoever has put them off had found them due, by a clock that may have been ahead of this one.
    now = max(now, *(to_instant(owed.fire_time) for owed in schedule.owed)) if schedule.owed else now
    decided = due(unit, schedule, now)
    decision = _Decision(unit, view, now, most, begun_before(unit, schedule))
    left = decision.record(decided.owed)
    moved, executions = decided.schedule, decision.executions
    skipped = len({one.fire_time for one in executions if one.outcome is Outcome.SKIPPED})
    if skipped:
        moved = not_run(unit, moved, skipped)
    if left or decision.last_machine:
        moved = msgspec.structs.replace(moved, owed=tuple(left), last_machine=decision.last_machine)
    return Fired(
        tuple(executions), moved, decision.cancelled, decision.last_machine, tuple(decision.late), decided.problem
    )


def placed(execution: Execution, machine: str, copy: int, number: int, unit: Unit, now: Instant) -> Execution:
    """One copy of the execution, with its attempt `number` on a machine.

    Raises IllegalEvent when the execution is in a state that has no way there.
    """
    attempt = Attempt(number=number, machine=machine, placed_at=to_datetime(now), revision=unit.revision)
    return msgspec.structs.replace(
        execution,
        copy=copy,
        state=execution_after(execution.state, "place"),
        current=attempt,
        reason="",
        due_at=None,
        deadline=None,
        waits_since=None,
        home="",
        stands=False,
    )


def free_numbers(execution_id: str, view: View, start: int, count: int) -> list[int]:
    """`count` numbers for copies of a fire time, from `start` on.

    One that is taken belongs to something else of the same instant: to a former life of the unit, or to a start by
    hand. An identity is never used twice.
    """
    prefix = fire_prefix(execution_id)
    numbers: list[int] = []
    while len(numbers) < count:
        if f"{prefix}{start}" not in view.open:
            numbers.append(start)
        start += 1
    return numbers


def replaced(others: Iterable[str], execution_id: str, by: str) -> dict[str, Reason]:
    """Concurrency=replace: all else that there is of the unit has to end, but for the copies of the same fire time."""
    prefix, why = fire_prefix(execution_id), because("replaced-by-fire", by=by)
    return {other: why for other in sorted(others) if not other.startswith(prefix)}


class _Decision:
    """One call of `fire`: what it has decided so far."""

    def __init__(self, unit: Unit, view: View, now: Instant, most: int, begun: str) -> None:
        self._unit = unit
        self._view = view
        self._now = now
        self._moment = to_datetime(now)
        self._most = most
        self._begun = begun
        self.executions: list[Execution] = []
        self.cancelled: dict[str, Reason] = {}
        self.last_machine = view.last_machine
        self.late: list[Micros] = []

    def record(self, owed: Sequence[Owed]) -> Sequence[Owed]:
        """Records what is owed, in order. Returns what is left of it."""
        for index, one in enumerate(owed):
            room = self._most - len(self.executions)
            if not room:
                return owed[index:]
            if one.missed is not None:
                self.executions.append(_missed(self._unit, one, self._moment))
                continue
            rest = self._fire(one, room)
            if not one.copy:
                self.late.append(self._now - to_instant(one.fire_time))
            if rest is not None:
                return [rest, *owed[index + 1 :]]
        return ()

    def _fire(self, owed: Owed, room: int) -> Owed | None:
        """Records a fire time's copies from `owed.copy` on, as many as there is room for. Returns what is left."""
        unit, view = self._unit, self._view
        first = Execution(
            unit=unit.name,
            fire_time=owed.fire_time,
            trigger=owed.trigger,
            revision=unit.revision,
            claimed_at=self._moment,
            report=bool(unit.on_success) or unit.keep_running,
            payload=unit.payload,
        )
        at = to_instant(owed.fire_time)
        copies = 1 if unit.is_global else unit.availability - owed.copy
        if unit.start_deadline is not None:
            first = msgspec.structs.replace(first, deadline=to_datetime(at + unit.start_deadline))
        if unit.concurrency != "allow":
            active, queued = set(view.active), set(view.queued)
            for earlier in self.executions:
                if earlier.state != "ended":
                    (queued if earlier.state == "queued" else active).add(earlier.id)
            decision = overlap(unit, sorted(active), len(queued), execution=first.id)
            # What an earlier Txn holds of this fire time has begun, and the rest follows it.
            if decision.action == "skip" and not owed.copy:
                self.executions.append(_ended(first, Outcome.SKIPPED, decision.reason, self._moment))
                return None
            if decision.action in ("queue", "replace"):
                if decision.action == "replace":
                    by = f"the fire time {fire_key(owed.fire_time)}"
                    self.cancelled.update(replaced((*active, *queued), first.id, by))
                return self._without_machine(first, "queued", decision.reason, owed, copies, room)
        if unit.randomized_delay:
            starts = at + randomized_delay(unit, at)
            if starts > self._now:
                due_at = to_datetime(starts)
                deadline = None if unit.start_deadline is None else to_datetime(starts + unit.start_deadline)
                first = msgspec.structs.replace(first, due_at=due_at, deadline=deadline)
                reason = because("randomized-delay", at=due_at.isoformat())
                return self._without_machine(first, "delayed", reason, owed, copies, room)
        return self._spread(first, owed, copies, room)

    def _without_machine(
        self, first: Execution, state: ExecutionState, reason: Reason, owed: Owed, copies: int, room: int
    ) -> Owed | None:
        """Copies that wait for something else than a machine.

        Of a Global unit it is one, which becomes as many as there are machines when it is placed.
        """
        self.executions += [
            msgspec.structs.replace(first, copy=number, state=state, reason=reason.text)
            for number in free_numbers(first.id, self._view, owed.copy, min(copies, room))
        ]
        return None if copies <= room else msgspec.structs.replace(owed, copy=owed.copy + room)

    def _spread(self, first: Execution, owed: Owed, copies: int, room: int) -> Owed | None:
        """Copies on machines, as far as there are any."""
        unit, view = self._unit, self._view
        more_of_global = bool(owed.copy) and unit.is_global
        views = (
            [one for machine, one in view.ranking.views.items() if machine > owed.after]
            if more_of_global
            else view.ranking
        )
        taken: Collection[str] = ()
        if self._begun and first.id.startswith(self._begun):
            taken = machines_of_copies(unit, f"{self._begun}-1", view)  # -1 is no copy: it leaves none of them out
        chosen = place(unit, views, copies=copies, taken=taken, seed=first.id, last=self.last_machine)
        self.last_machine = last_machine_after(unit, chosen, self.last_machine)
        machines = sorted(chosen.machines) if unit.is_global else chosen.machines
        unplaced = 0 if more_of_global else chosen.unplaced
        numbers = free_numbers(first.id, view, owed.copy, min(len(machines) + unplaced, room))
        self.executions += [
            placed(first, machine, number, 1, unit, self._now)
            for machine, number in zip(machines, numbers, strict=False)
        ]
        self.executions += [self._waiting(first, number, chosen.summary) for number in numbers[len(machines) :]]
        if len(machines) + unplaced <= room:
            return None
        after = machines[room - 1] if unit.is_global else ""
        return msgspec.structs.replace(owed, copy=owed.copy + room, after=after)

    def _waiting(self, first: Execution, number: int, why: str) -> Execution:
        """A copy that no machine takes now: it waits, unless so many of the unit wait that nobody would miss it."""
        if self._view.waiting < MOST_WAITING:
            reason = because("no-machine", why=why)
            return msgspec.structs.replace(first, copy=number, state="waiting", reason=reason.text)
        crowd = because("crowd", count=MOST_WAITING, why=why)
        one = msgspec.structs.replace(first, copy=number, deadline=None)
        return _ended(one, Outcome.MISSED, crowd, self._moment)


def _ended(execution: Execution, outcome: Outcome, reason: Reason, moment: datetime) -> Execution:
    """A fire time that ends as it is recorded."""
    return msgspec.structs.replace(
        execution,
        state=execution_after(execution.state, "end"),
        outcome=outcome,
        reason=reason.text,
        ended_at=moment,
    )


def _missed(unit: Unit, owed: Owed, moment: datetime) -> Execution:
    missed = owed.missed
    assert missed is not None
    times = "fire time was" if missed.count == 1 else "fire times were"
    details = {"count": missed.count, "times": times, "policy": missed.policy}
    reason = because("misfire-paused", **details) if missed.paused else because("misfire", **details)
    gap = Execution(
        unit=unit.name,
        fire_time=missed.first,
        # Below every copy's number, and one for each trigger: a gap is a record beside those of what fires.
        copy=owed.copy,
        trigger=owed.trigger,
        revision=unit.revision,
        claimed_at=moment,
        missed=missed,
    )
    return _ended(gap, Outcome.MISSED, reason, moment)


def _turn(unit: Unit, schedule: Schedule, now: Instant) -> Turn:
    decided = turn(unit, schedule, now)
    if len(decided.fires) > MOST_FIRES and not any(fire.misfire for fire in decided.fires):
        # All are within the threshold, and so they are at the instant of one of the first of them.
        return turn(unit, schedule, decided.fires[MOST_FIRES - 1].at)
    return decided
