"""Why is it not running? The answer in sentences, from the same facts and by the same rules as the decisions."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from xchronos.clock import DAY, HOUR, MINUTE, SECOND, Instant, Micros, to_datetime, to_instant
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution, Schedule
from xchronos.model.unit import Unit
from xchronos.scheduler.feasibility import MachineView
from xchronos.scheduler.pending import Finish, PlaceNow, find_place
from xchronos.scheduler.ranking import Ranking
from xchronos.scheduler.rejections import Rejection, by_machine
from xchronos.scheduler.timing.preview import preview
from xchronos.scheduler.view import KnownExecution, View, filed

TXN_ROOM = 1_000_000
"""How much a Txn may hold makes no difference to where an execution goes."""


def explain(
    unit: Unit,
    schedule: Schedule | None,
    executions: Iterable[Execution],
    views: Sequence[MachineView],
    now: Instant,
    last: Execution | None = None,
    ended: Mapping[str, str] | None = None,
    held_up: Sequence[str] = (),
) -> list[str]:
    """What holds a unit up, or what it is doing: first the unit and its schedule, then each execution not yet ended.

    A waiting execution is judged by the scheduler's own function (`pending.find_place`) over what it goes by: the
    counts per reason in one line, then every machine with all of its reasons, every unmet metadata pair by name.

    Args:
        unit: The unit.
        schedule: Its cursor; None while no scheduler has accepted it.
        executions: All of its executions that have not ended.
        views: Every machine that is alive, with what is placed on it.
        now: The wall clock.
        last: Its latest execution that has ended, told of unless it succeeded, when all have.
        ended: By id, the last machine of each ended copy of the fire times that wait (see `placement.asks_history`).
        held_up: Why nothing can be decided about the unit just now (see `nobody_decides`). Then no turn comes.
    """
    active = sorted(
        (as_it_waits(e, now) for e in executions if e.state != "ended"), key=lambda e: (e.fire_time, e.copy)
    )
    lines = [_of_the_unit(unit, schedule, now, idle=not active, turns=not held_up)]
    lines += [f"nothing is decided about it just now: {why}" for why in held_up]
    view = filed(
        {one.id: KnownExecution(one, one.current.machine if one.current is not None else "") for one in active},
        Ranking(views),
        last_machine=schedule.last_machine if schedule is not None else "",
        ended=ended or {},
    )
    for execution in active:
        lines.extend(_of_an_execution(unit, execution, active, view, now, turns=not held_up))
    if not active and last is not None and last.outcome not in (None, Outcome.SUCCEEDED):
        why = f": {last.reason}" if last.reason else ""
        lines.append(f"{last.id} was its last execution: {last.outcome}{why}")
    return lines


def nobody_decides(shard: int, owner: str, store_faults: Iterable[str]) -> list[str]:
    """Why nothing can be decided about the units of a shard: `owner` is the scheduler that has it, empty for none.

    `store_faults` are what the job store says is wrong with it: a store that takes no writes takes no decision.
    """
    reasons = [f"the job store: {fault}" for fault in store_faults]
    if not owner:
        reasons.append(f"no scheduler owns its shard, {shard}: none is alive, or none reaches the job store")
    return reasons


def explain_refused(files: Sequence[str], *, known: bool) -> list[str]:
    """What there is to say of files of the unit's name that are not taken in: `files` names each, and what is wrong.

    `known`: there is a unit of that name all the same, in its older version.
    """
    start = "a newer file is refused" if known else "there is no such unit yet: its file is refused"
    return [f"{start}: {file}" for file in files]


def as_it_waits(execution: Execution, now: Instant) -> Execution:
    """The execution with the instants until which it waits as they are after the wall clock was set back.

    They are no further away than they were when they were set: whoever schedules it goes by a clock that is never set
    back. Where the clock was not set back, or has caught up since, they are what the record says.
    """
    since = execution.waits_since or execution.claimed_at
    ahead = to_instant(since) - now if since is not None else 0
    if ahead <= 0:
        return execution

    def nearer(moment: datetime | None) -> datetime | None:
        return to_datetime(to_instant(moment) - ahead) if moment is not None else None

    return msgspec.structs.replace(execution, due_at=nearer(execution.due_at), deadline=nearer(execution.deadline))


def _of_the_unit(unit: Unit, schedule: Schedule | None, now: Instant, *, idle: bool, turns: bool) -> str:
    if unit.masked:
        return "it is masked: its file is empty, so there is nothing to run"
    if unit.template:
        prefix, _, rest = unit.name.partition("@")
        return f"it is a template and does not run itself: submit an instance, such as {prefix}@1{rest}"
    if schedule is None:
        return "no scheduler has accepted it yet"
    if schedule.paused:
        return (
            "it is paused: nothing fires until it is resumed, when the misfire policy decides what becomes of the gap"
        )
    if schedule.finished:
        return f"its schedule is finished: {schedule.finished}"
    if not unit.triggers:
        if unit.keep_running and idle and not unit.is_global and schedule.fired:
            return "nothing of it runs: once it is started again, it is kept running"
        return "it is kept running" if unit.keep_running else "it has no trigger: it runs when it is started"
    late = [state.next for state in schedule.triggers if state.next is not None and to_instant(state.next) <= now]
    if late:
        due = min(late)
        age = span(now - to_instant(due))
        waits = ": its scheduler has not taken its turn yet" if turns else ""
        return f"its fire time {rfc3339(due)} has been due for {age}{waits}"
    upcoming = preview(unit, now, 1, schedule)
    if not upcoming:
        return "nothing follows: its triggers have no further fire time"
    at, kind = upcoming[0]
    return f"its next fire time is {rfc3339(to_datetime(at))}, in {span(at - now)} ({kind})"


def _of_an_execution(
    unit: Unit, execution: Execution, active: Sequence[Execution], view: View, now: Instant, *, turns: bool
) -> list[str]:
    name = execution.id
    current = execution.current
    machine = current.machine if current is not None else "a machine"
    why = f": {execution.reason}" if execution.reason else ""
    if execution.stop_requested:
        why += f"; it is being stopped: {execution.stop_requested}"
    elif current is not None and current.leave:
        why += f"; it has to leave: {current.leave}"
    match execution.state:
        case "waiting":
            return _waiting(unit, execution, view, now, name, turns=turns)
        case "queued":
            ahead = [e.id for e in active if e.fire_time < execution.fire_time]
            behind = f" after {ahead[0]}" if ahead else ""
            if len(ahead) > 1:
                behind += f" and {len(ahead) - 1} more"
            return [f"{name} is queued{behind} (Concurrency={unit.concurrency})"]
        case "delayed":
            if execution.due_at is None or (wait := to_instant(execution.due_at) - now) <= 0:
                return [f"{name} is to be placed{' now' if turns else ''}{why}"]
            return [f"{name} starts in {span(wait)}, not before {rfc3339(execution.due_at)}{why}"]
        case "placed":
            return [f"{name} is placed on {machine}, whose agent has not started it yet{why}"]
        case "running":
            started = current.started_at if current is not None else None
            since = "" if started is None else f" for {span(now - to_instant(started))}"
            if current is not None and current.revision not in ("", unit.revision):
                since += ", as the unit was before it changed"
            return [f"{name} has been running on {machine}{since}{why}"]
        case _:
            return [f"{name} has ended an attempt on {machine}: the scheduler decides what follows{why}"]


def _waiting(unit: Unit, execution: Execution, view: View, now: Instant, name: str, *, turns: bool) -> list[str]:
    decision = find_place(unit, execution, view, now, txn_room=TXN_ROOM)
    if isinstance(decision, PlaceNow):
        current = decision.execution.current
        assert current is not None
        then = ": the next turn places it" if turns else ""
        return [f"{name} waits, though {current.machine} could take it now{then}"]
    if isinstance(decision, Finish):
        return [f"{name} waits for nothing any more: the next turn ends it, as {decision.reason.text}"]
    until = ""
    if execution.deadline is not None:
        left = to_instant(execution.deadline) - now
        until = f"; it may wait for {span(left)} more" if left > 0 else "; its StartDeadline has passed"
    if execution.stands:
        return [f"{name} stands: {decision.reason.text}", *_each_machine(decision.rejections)]
    lines = [f"{name} waits for a machine: {decision.reason.text}{until}"]
    return lines + _each_machine(decision.rejections)


def _each_machine(rejections: Iterable[Rejection]) -> list[str]:
    return [f"  {machine} {reasons}" for machine, reasons in by_machine(rejections).items()]


def rfc3339(moment: datetime) -> str:
    """A time as all of xchronos tells it to programs, and here to people: `2030-01-01T00:00:00Z`."""
    return moment.isoformat().replace("+00:00", "Z")


def span(length: Micros) -> str:
    """A length of time for people, to its two largest units: `2h 5min`, `3.5s`."""
    if length < MINUTE:
        return f"{max(length, 0) / SECOND:.3g}s"
    for unit, name, smaller, smaller_name in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", SECOND, "s"),
    ):
        if length >= unit:
            rest = length % unit // smaller
            return f"{length // unit}{name}" + (f" {rest}{smaller_name}" if rest else "")
    raise AssertionError("a minute or more is at least one minute")
