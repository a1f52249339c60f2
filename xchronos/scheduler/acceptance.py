"""What the change of a unit's record means: its new cursor, what begins with it, and what has to end before it."""

from typing import TypeAlias

import msgspec

from xchronos.clock import Instant, to_instant
from xchronos.errors import InvalidTrigger
from xchronos.model.records import Execution, Schedule
from xchronos.model.unit import Unit
from xchronos.scheduler.reasons import Reason, because
from xchronos.scheduler.starts import lacking, started, superfluous
from xchronos.scheduler.timing.rule_changes import are_others
from xchronos.scheduler.timing.schedule import Resumed, reconcile, was_given_up
from xchronos.scheduler.view import View


class UnitChange(msgspec.Struct, frozen=True):
    """A unit's record as it is stored now.

    `revision` is the record's modification revision, `created` the one at which the unit's present life began;
    `paused`: nothing of it is to fire; `resumed`: its last resumption, None when there was none, or an older version
    made it. A unit that cannot be read is none of these: nothing is decided about it.
    """

    unit: Unit
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
    """

    schedule: Schedule
    executions: tuple[Execution, ...] = ()
    reborn: bool = False
    everywhere: bool = False


class EndsFirst(msgspec.Struct, frozen=True):
    """Executions are to end, or to be asked to, before the change is accepted: `cancelled` by id, with the reason.

    After the acceptance nobody would look at them again, or could tell them from those of the new life.
    """

    cancelled: dict[str, Reason]
    reborn: bool


class CannotTell(msgspec.Struct, frozen=True):
    """This process cannot compute the unit's fire times, and another one may: nothing of the unit is changed."""

    why: str


Acceptance: TypeAlias = Accepted | EndsFirst | CannotTell


def is_to_accept(schedule: Schedule, unit_revision: int, *, unit: Unit | None = None, rules_hold: bool = True) -> bool:
    """Whether a cursor has to be fitted to its unit before anything is decided by it.

    Without the `unit`, which takes a while to compile, `rules_hold` says whether the zone rules that the cursor names
    are those of now. Of a cursor that names none only the unit can tell.
    """
    others = are_others(unit, schedule) if unit is not None else not rules_hold
    return schedule.unit_revision != unit_revision or others or was_given_up(schedule)


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
    try:
        schedule = reconcile(
            change.unit, old_cursor, now, change.revision, paused=change.paused, resumed=change.resumed
        )
    except InvalidTrigger as error:
        return CannotTell(str(error))
    if old_cursor is not None and old_cursor.owed:
        schedule = msgspec.structs.replace(schedule, owed=old_cursor.owed)
    unit, executions = change.unit, []
    if unit.keep_running and not (schedule.paused or schedule.finished):
        running = _running(view)
        if schedule.fired and schedule.copies and unit.availability < schedule.copies:
            surplus = superfluous(unit, running)
            if surplus:
                why = because("availability", count=unit.availability)
                return EndsFirst({execution.id: why for execution in surplus}, reborn=False)
        executions = _begin(unit, schedule, running, now, stamp)
        schedule = msgspec.structs.replace(schedule, fired=1, copies=0 if unit.is_global else unit.availability)
    everywhere = unit.keep_running and unit.is_global and not schedule.finished
    if everywhere != schedule.everywhere:
        schedule = msgspec.structs.replace(schedule, everywhere=everywhere)
    return Accepted(schedule, tuple(executions), reborn, everywhere)


def _begin(unit: Unit, schedule: Schedule, running: list[Execution], now: Instant, stamp: Instant) -> list[Execution]:
    """What of a unit that is kept running begins with the acceptance of a change."""
    if not schedule.fired:
        # From now on every end of an attempt is followed by another one. What runs already is of a cursor that was lost
        # (`schedule.was_given_up`).
        return lacking(unit, started(unit, stamp, now, "kept", because("kept-running")), running)
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
