"""What the change of a unit's record means: its new cursor, what begins with it, and what has to end before it."""

from typing import TypeAlias

import msgspec

from xchronos.clock import Instant, to_datetime, to_instant
from xchronos.errors import InvalidTrigger
from xchronos.model.records import Execution, Schedule
from xchronos.model.unit import Unit
from xchronos.scheduler.reasons import Reason, because
from xchronos.scheduler.starts import lacking, started, superfluous
from xchronos.scheduler.timing.schedule import Resumed, reconcile
from xchronos.scheduler.view import View


class UnitChange(msgspec.Struct, frozen=True):
    """A unit's record as it is stored now.

    `unit` is None, and `error` says why, when it does not compile. `revision` is the record's modification revision,
    `created` the one at which the unit's present life began; `paused`: nothing of it is to fire; `resumed`: its last
    resumption, None when there was none, or an older version made it.
    """

    name: str
    unit: Unit | None
    error: str
    revision: int
    created: int
    paused: bool
    resumed: Resumed | None = None


class Accepted(msgspec.Struct, frozen=True):
    """The change counts from now on.

    Attributes:
        schedule: The unit's cursor; equal to the old one when nothing is to be written.
        executions: What begins with it.
        reborn: It begins a new life: the history of the former one goes.
        everywhere: Machines may lack a copy of it.
        problem: Why nothing of it can fire.
    """

    schedule: Schedule
    executions: tuple[Execution, ...] = ()
    reborn: bool = False
    everywhere: bool = False
    problem: str = ""


class EndsFirst(msgspec.Struct, frozen=True):
    """Executions are to end, or to be asked to, before the change is accepted: `cancelled` by id, with the reason.

    After the acceptance nobody would look at them again, or could tell them from those of the new life.
    """

    cancelled: dict[str, Reason]
    reborn: bool


Acceptance: TypeAlias = Accepted | EndsFirst


def is_reborn(change: UnitChange, old: Schedule | None) -> bool:
    """Whether the unit was destroyed and submitted again before anybody looked."""
    return old is not None and change.created > old.unit_revision


def accept_change(change: UnitChange, old: Schedule | None, view: View, now: Instant, stamp: Instant) -> Acceptance:
    """Decide about a unit that is new or has changed.

    Nothing of a former life concerns a new one. A unit that is kept running begins with its acceptance; when its
    Availability= changes, the copies that are too many end, and those that are missing begin.

    Args:
        change: The unit as it is now.
        old: Its cursor, None when it has none.
        view: What there is of it.
        now: The wall clock.
        stamp: The fire time of what begins with the acceptance; nobody else's (see `starts.started`).
    """
    reborn = is_reborn(change, old)
    if reborn:
        left = _of_the_former_life(change, view)
        if any(not _is_asked(view, execution_id) for execution_id in left):
            return EndsFirst(dict.fromkeys(left, because("destroyed")), reborn=True)
        now, old_cursor = max(now, _last_fire(old) + 1), None
    else:
        old_cursor = old
    schedule, problem = _cursor(change, old_cursor, now)
    if old_cursor is not None and old_cursor.owed:
        schedule = msgspec.structs.replace(schedule, owed=old_cursor.owed)
    unit, executions = change.unit, []
    if unit is not None and unit.keep_running and not (schedule.paused or schedule.finished):
        running = _running(view)
        if schedule.fired and schedule.copies and unit.availability < schedule.copies:
            surplus = superfluous(unit, running)
            if surplus:
                why = because("availability", count=unit.availability)
                return EndsFirst({execution.id: why for execution in surplus}, reborn=False)
        executions = _begin(unit, schedule, running, now, stamp)
        schedule = msgspec.structs.replace(schedule, fired=1, copies=0 if unit.is_global else unit.availability)
    everywhere = unit is not None and unit.keep_running and unit.is_global and not schedule.finished
    if everywhere != schedule.everywhere:
        schedule = msgspec.structs.replace(schedule, everywhere=everywhere)
    return Accepted(schedule, tuple(executions), reborn, everywhere, problem)


def _begin(unit: Unit, schedule: Schedule, running: list[Execution], now: Instant, stamp: Instant) -> list[Execution]:
    """What of a unit that is kept running begins with the acceptance of a change."""
    if not schedule.fired:
        # From now on every end of an attempt is followed by another one.
        return started(unit, stamp, now, "kept", because("kept-running"))
    if not schedule.copies or not running or unit.availability <= schedule.copies:
        return []
    # One that was stopped stays so, and so does a single copy of it that was.
    begin = started(unit, stamp, now, "kept", because("availability", count=unit.availability))
    return [one for one in lacking(unit, begin, running) if one.copy >= schedule.copies]


def _running(view: View) -> list[Execution]:
    """What there is of a unit, but for what was asked to end, and for what a former life has left."""
    return [
        view.open[execution_id].execution
        for execution_id in view.of_unit()
        if not view.open[execution_id].execution.stop_requested and not _was_destroyed(view, execution_id)
    ]


def _was_destroyed(view: View, execution_id: str) -> bool:
    cancelled = view.cancelled.get(execution_id)
    return cancelled is not None and cancelled.code == "destroyed"


def _of_the_former_life(change: UnitChange, view: View) -> list[str]:
    """What a former life has left. Of undecided starts only their age tells whether they belong to it."""
    return [
        execution_id
        for execution_id in view.of_unit()
        if view.open[execution_id].revision < change.created or execution_id not in view.undecided
    ]


def _is_asked(view: View, execution_id: str) -> bool:
    held = view.open[execution_id]
    return bool(held.machine and held.execution.stop_requested)


def _last_fire(former: Schedule | None) -> Instant:
    """After it the new life of a unit has to begin, even if the clock was set back: no fire time is claimed twice."""
    lasts = [to_instant(cursor.last) for cursor in former.triggers if cursor.last is not None] if former else []
    return max(lasts, default=0)


def _cursor(change: UnitChange, old: Schedule | None, now: Instant) -> tuple[Schedule, str]:
    """The cursor, and why nothing of the unit can fire, if so."""
    problem = because("unreadable", error=change.error).text
    if change.unit is not None:
        try:
            kept = reconcile(change.unit, old, now, change.revision, paused=change.paused, resumed=change.resumed)
        except InvalidTrigger as error:
            problem = str(error)
        else:
            return kept, ""
    moment = to_datetime(now)
    accepted_at = old.accepted_at if old is not None else moment
    schedule = Schedule(change.name, change.revision, "", accepted_at, moment, paused=change.paused, finished=problem)
    return schedule, problem
