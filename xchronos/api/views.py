"""What the API shows of stored records. Every function here is pure."""

import re
from collections.abc import Iterable, Sequence

import msgspec

from xchronos.clock import Instant, to_datetime
from xchronos.model.compile.unit import described
from xchronos.model.records import Attempt, Execution, Schedule, TriggerState
from xchronos.model.unit import Unit
from xchronos.registry.readers import is_left_alone, told_unread
from xchronos.registry.refused import RefusedUnitFile
from xchronos.registry.roster import Share
from xchronos.registry.units import Stored, text_of
from xchronos.scheduler.explain import as_it_waits
from xchronos.scheduler.timing.preview import preview
from xchronos.scheduler.timing.schedule import accept, randomized_delay
from xchronos.unitfile import UnitName, parse
from xchronos.wire.details import AttemptStatus, ExecutionStatus, PlacementDetail, RefusedFileStatus
from xchronos.wire.messages import Calendar, FireTime, Scheduler, TriggerStatus, UnitState, UnitSummary

_DESCRIPTION = re.compile(r"^[ \t]*Description[ \t]*=[ \t]*(.*?)[ \t]*$", re.MULTILINE)


def scheduler(share: Share) -> Scheduler:
    """A living scheduler."""
    reads = share.reads
    return Scheduler(
        share.machine, share.shards, share.leads, reads.version, reads.level, reads.rules, share.cannot_read
    )


def summarize(stored: Stored, active: int, schedulers: Sequence[Share] = ()) -> UnitSummary:
    """One line about a unit, with `active` executions. The unit is not compiled: there may be a hundred thousand."""
    record, schedule = stored.record, stored.schedule
    upcoming = last = None
    if schedule is not None:
        lasts = [state.last for state in schedule.triggers if state.last is not None]
        last = max(lasts) if lasts else None
        if not (schedule.finished or record.desired == "paused"):
            nexts = [state.next for state in schedule.triggers if state.next is not None]
            upcoming = min(nexts) if nexts else None
    return UnitSummary(
        name=stored.name,
        state="unread" if is_left_alone(stored.name, schedulers) else _state(stored),
        description=_expanded(stored.name, _description(stored)),
        next=upcoming,
        last=last,
        fired=schedule.fired if schedule is not None else 0,
        active=active,
        revision=record.revision,
        source=record.source,
        submitted_at=record.submitted_at,
        finished=schedule.finished if schedule is not None else "",
        unread=told_unread(stored.name, schedulers),
        problem=stored.unreadable,
    )


def with_refused(
    units: list[UnitSummary], refused: Sequence[RefusedUnitFile], after: str, limit: int
) -> list[UnitSummary]:
    """A page of units with what is refused: said of each unit, and a row for a file that is none yet.

    Args:
        units: The units of the page, by name; fewer than `limit` on the last page.
        refused: The refused files.
        after: The name after which the page begins.
        limit: The most units of the page.
    """
    reasons: dict[str, str] = {}
    for unit, words in zip((one.unit for one in refused), refused_words(refused), strict=True):
        reasons.setdefault(unit, words)
    page = {one.name: one for one in units}
    last = units[-1].name if len(units) >= limit else ""
    for name, reason in reasons.items():
        known = page.get(name)
        if known is not None:
            page[name] = msgspec.structs.replace(known, refused=reason)
        elif name > after and (not last or name < last):
            page[name] = UnitSummary(name, "refused", refused=reason)
    return [page[name] for name in sorted(page)][:limit]


def refused_words(refused: Iterable[RefusedUnitFile]) -> list[str]:
    """Each refused file in one line: its first problem, how many there are besides, and the machine that has it."""
    lines = []
    for one in refused:
        problems = one.file.problems or (one.file.path,)
        words = problems[0] if one.file.path in problems[0] else f"{one.file.path}: {problems[0]}"
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        lines.append(f"{words}{more}, on {one.machine}")
    return lines


def refused_files(refused: Iterable[RefusedUnitFile]) -> tuple[RefusedFileStatus, ...]:
    """The refused files as programs see them."""
    return tuple(RefusedFileStatus(**msgspec.structs.asdict(one.file), machine=one.machine) for one in refused)


def _state(stored: Stored) -> UnitState:
    record, schedule = stored.record, stored.schedule
    if stored.unreadable:
        return "unreadable"
    if not (record.text or record.text_base64):
        return "masked"
    if "@." in stored.name and not UnitName.parse(stored.name).instance:
        return "template"
    if record.desired == "paused":
        return "paused"
    if schedule is None:
        return "new"
    if schedule.finished:
        return "finished"
    return "scheduled" if schedule.triggers else "idle"


def _expanded(name: str, description: str) -> str:
    return described(description, UnitName.parse(name)) if "%" in description else description


def _description(stored: Stored) -> str:
    """The unit's Description= as it is written.

    Nearly every one stands alone on one line of a file without drop-ins. Only for the others is the file parsed.
    """
    record = stored.record
    text = record.text
    if not record.drop_ins and text:
        found = _DESCRIPTION.findall(text)
        if not found:
            return ""
        if len(found) == 1 and not found[0].endswith("\\") and "\\\n" not in text:
            return str(found[0])
    options = [option for option in parse(text_of(record)).options if option.section == "Unit"]
    for dropin in record.drop_ins:
        options += [option for option in parse(dropin.text).options if option.section == "Unit"]
    return next((option.value for option in reversed(options) if option.name == "Description"), "")


def trigger_statuses(unit: Unit, schedule: Schedule | None) -> tuple[TriggerStatus, ...]:
    """The unit's triggers, and how far each is.

    A schedule of other triggers says nothing about these. A trigger has no next fire time where nothing fires: in a
    template, a paused unit, a schedule that is finished.
    """
    states: tuple[TriggerState, ...] = (TriggerState(),) * len(unit.triggers)
    if schedule is not None and len(schedule.triggers) == len(unit.triggers):
        states = schedule.triggers
        if schedule.finished or schedule.paused:
            states = tuple(msgspec.structs.replace(state, next=None) for state in states)
    return tuple(
        TriggerStatus(spec.key, spec.text, spec.trigger.kind, state.next, state.last, state.fired, state.remaining)
        for spec, state in zip(unit.triggers, states, strict=True)
    )


def calendar(unit: Unit, schedule: Schedule | None, now: Instant, n: int) -> Calendar:
    """The next `n` fire times of a unit. Without a schedule, they are those that it had if it were accepted now."""
    note = ""
    if schedule is None:
        note = "as if the unit were accepted now"
    elif unit.template:
        note = schedule.finished
    elif schedule.finished:
        note = f"its schedule is finished: {schedule.finished}"
    elif schedule.paused:
        note = "the unit is paused: nothing fires until it is resumed"
    fires = tuple(_fire(unit, at, kind) for at, kind in preview(unit, now, n, schedule))
    shown = schedule if schedule is not None else accept(unit, now, 0)
    return Calendar(unit.name, trigger_statuses(unit, shown), fires, note, unit.time_zone)


def _fire(unit: Unit, at: Instant, kind: str) -> FireTime:
    delay = randomized_delay(unit, at)
    return FireTime(to_datetime(at), kind, to_datetime(at + delay) if delay else None)


def placing(unit: Unit) -> PlacementDetail:
    """Where the unit may run, its conditions in words."""
    asked = unit.requirements
    words = [f"MachineID={asked.machine_id}"] if asked.machine_id is not None else []
    words += ["|".join(f"{key}={value}" for value in sorted(values)) for key, values in sorted(asked.metadata.items())]
    words += [str(term) for term in asked.terms]
    words += [f"MachineOf={peer}" for peer in asked.peers]
    words += [f"Conflicts={other}" for other in asked.conflicts]
    words += [f"Replaces={other}" for other in asked.replaces]
    return PlacementDetail(unit.executor, unit.availability, unit.is_global, unit.load_balancing, tuple(words))


def newest_first(executions: Iterable[Execution]) -> list[Execution]:
    """The executions by fire time, the latest first. Those of one fire time are in the order of unit and copy."""
    return sorted(sorted(executions, key=lambda e: (e.unit, e.copy)), key=lambda e: e.fire_time, reverse=True)


def with_progress(execution: Execution, progress: Attempt | None) -> Execution:
    """The execution with `progress` as its running attempt, where that is the same attempt; else as it is."""
    current = execution.current
    if current is None or progress is None or progress.number != current.number:
        return execution
    return msgspec.structs.replace(execution, current=progress)


def shown(execution: Execution, now: Instant) -> ExecutionStatus:
    """An execution as programs see it at `now`: with its id, and with what it waits for by the clock as it now is."""
    execution = as_it_waits(execution, now)
    current = execution.current
    known = msgspec.structs.asdict(execution) | {
        "id": execution.id,
        "attempts": tuple(AttemptStatus(**msgspec.structs.asdict(attempt)) for attempt in execution.attempts),
        "current": AttemptStatus(**msgspec.structs.asdict(current)) if current is not None else None,
    }
    return ExecutionStatus(**known)


def attempts_of(execution: Execution) -> tuple[Attempt, ...]:
    """All attempts of an execution, the oldest first and the running one last."""
    return execution.attempts if execution.current is None else (*execution.attempts, execution.current)
