"""What follows when an attempt or an execution has ended: another attempt, the end, and what that sets off."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from xchronos.clock import Instant, to_datetime
from xchronos.model.lifecycle import execution_after
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution
from xchronos.model.unit import Unit
from xchronos.scheduler.placement import keeps_its_machine
from xchronos.scheduler.policies.retry import Again, End, after_attempt
from xchronos.scheduler.reasons import Reason, because
from xchronos.scheduler.starts import lacking, started

KEPT_ATTEMPTS = 20
"""How many attempts the record of an execution keeps where they have no limit: lost ones, and those of such a unit."""


class Chained(msgspec.Struct, frozen=True):
    """What an end starts: `executions`; `unstartable` are units named by OnSuccess= or OnFailure= that cannot be."""

    executions: tuple[Execution, ...] = ()
    unstartable: tuple[str, ...] = ()


def complete(unit: Unit | None, execution: Execution, now: Instant, cancelled: Reason | None = None) -> Execution:
    """The record of an execution whose attempt its agent has handed back: ended, or delayed until the next attempt.

    `unit` is None when it is gone: then its end is the attempt's. `cancelled` says why it was to
    end, when nobody had asked its machine yet.
    """
    attempt = execution.current
    assert attempt is not None
    if cancelled is not None and not execution.stop_requested:
        execution = msgspec.structs.replace(execution, stop_requested=cancelled.text)
    if unit is None:
        verdict: End | Again = End(attempt.outcome or Outcome.LOST, Reason("attempt", attempt.reason))
    else:
        verdict = after_attempt(unit, execution, attempt, now)
    settled = msgspec.structs.replace(
        execution, attempts=_with(execution, attempt, unit), current=None, reason=verdict.reason.text
    )
    if isinstance(verdict, Again):
        return msgspec.structs.replace(
            settled,
            state=execution_after(execution.state, "delay"),
            due_at=to_datetime(verdict.due_at),
            deadline=None if verdict.deadline is None else to_datetime(verdict.deadline),
            waits_since=to_datetime(now),
            home=attempt.machine if unit is not None and keeps_its_machine(unit) else "",
        )
    state = execution_after(execution.state, "end")
    return msgspec.structs.replace(settled, state=state, outcome=verdict.outcome, ended_at=attempt.ended_at)


def finish(execution: Execution, outcome: Outcome, reason: Reason, now: Instant) -> Execution:
    """The record of an execution that no machine has, when it ends."""
    state = execution_after(execution.state, "end")
    return msgspec.structs.replace(
        execution, state=state, outcome=outcome, reason=reason.text, ended_at=to_datetime(now), home=""
    )


def give_back(
    unit: Unit | None, execution: Execution, lost: Reason, now: Instant, cancelled: Reason | None, why: Reason
) -> Execution:
    """The record of an execution that is taken from its machine: it waits for another one, or ends if it was to.

    The attempt is lost, for the reason `lost`. `why` is what the execution says of it; `cancelled` why it is to end.
    """
    assert execution.current is not None
    moment = to_datetime(now)
    attempt = msgspec.structs.replace(execution.current, outcome=Outcome.LOST, reason=lost.text, ended_at=moment)
    stop = execution.stop_requested or (cancelled.text if cancelled is not None else "")
    back = msgspec.structs.replace(
        execution,
        attempts=_with(execution, attempt, unit),
        current=None,
        stop_requested=stop,
        reason=stop or why.text,
    )
    if stop:
        state = execution_after(execution.state, "end")
        return msgspec.structs.replace(back, state=state, outcome=Outcome.CANCELLED, ended_at=moment)
    deadline = None
    if unit is not None and unit.start_deadline is not None:
        deadline = to_datetime(now + unit.start_deadline)
    state = execution_after(execution.state, "lose")
    return msgspec.structs.replace(back, state=state, deadline=deadline, waits_since=moment)


def lose(unit: Unit | None, execution: Execution, now: Instant, cancelled: Reason | None) -> Execution:
    """The record of an execution whose machine is gone. `cancelled` is why it is to end, if it is."""
    assert execution.current is not None
    why = because("attempt-taken-back", number=execution.current.number, machine=execution.current.machine)
    return give_back(unit, execution, because("machine-lost"), now, cancelled, why)


def take_back(
    unit: Unit | None, execution: Execution, reason: Reason, now: Instant, cancelled: Reason | None
) -> Execution:
    """The record of an execution that has to leave its machine, whose agent has not begun it."""
    assert execution.current is not None
    why = because("attempt-not-begun", number=execution.current.number, why=reason.text)
    return give_back(unit, execution, reason, now, cancelled, why)


def chain_of(unit: Unit) -> tuple[str, ...]:
    """The units that an end of this one may start: they have to be known when it is decided."""
    return (*unit.on_success, *unit.on_failure) if unit.on_success or unit.on_failure else ()


def chain(
    unit: Unit | None,
    ended: Execution,
    units: Mapping[str, Unit | None],
    running: Mapping[str, Iterable[Execution]],
    now: Instant,
    stamps: Sequence[Instant],
) -> Chained:
    """What OnSuccess= and OnFailure= start when an execution has ended: every copy of each unit named.

    Args:
        unit: What has ended.
        ended: Its record.
        units: The units of `chain_of(unit)`; one that does not exist is missing or None.
        running: What there is of each of them.
        now: The wall clock.
        stamps: A fire time for each of them, nobody else's.
    """
    if unit is None:
        return Chained()
    if ended.outcome is Outcome.SUCCEEDED:
        names = unit.on_success
    elif ended.outcome in (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.LOST):
        names = unit.on_failure
    else:
        return Chained()
    found: list[Execution] = []
    unstartable: list[str] = []
    why = because("chained", outcome=ended.outcome, by=ended.id)
    for name, stamp in zip(names, stamps, strict=False):
        other = units.get(name)
        if other is None or other.masked or other.template:
            unstartable.append(name)
            continue
        begin = started(other, stamp, now, "chain", why)
        found += lacking(other, begin, running.get(name, ())) if other.keep_running else begin
    return Chained(tuple(found), tuple(unstartable))


def _with(execution: Execution, attempt: Attempt, unit: Unit | None) -> tuple[Attempt, ...]:
    """The attempts that have ended, this one included, as many of them as a record keeps."""
    attempts = (*execution.attempts, attempt)
    if unit is not None and (unit.keep_running or not unit.retry.max_attempts):
        return attempts[-KEPT_ATTEMPTS:]
    lost = [one for one in attempts if one.outcome is Outcome.LOST]
    gone = {one.number for one in lost[:-KEPT_ATTEMPTS]}
    return tuple(one for one in attempts if one.number not in gone) if gone else attempts
