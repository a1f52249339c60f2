"""Time zones whose rules have changed since a cursor was written: what follows is computed anew from what has fired.

A cursor says by which rules its next fire times were computed (`Schedule.rules`), and of the last one which wall time
it was (`TriggerState.offset`). When the rules are others, the next fire time is the first one by the new rules after
the last that has fired. A fixed expression (`0 9 * * *`, not `*/10 * * * *`) fires for wall times: it does not fire
again for one that it has fired for by the old rules, even if the clock shows that one once more. Nothing else is
changed: not what has fired, and no trigger that depends on no zone whose rules are others.
"""

from collections.abc import Iterable

import msgspec

from xchronos.clock import DAY, MINUTE, SECOND, Instant, Micros, to_instant
from xchronos.model.features import NO_RULES
from xchronos.model.records import Schedule, TriggerState
from xchronos.model.unit import Unit
from xchronos.scheduler.timing.cursor import TriggerCursor, cursors, offset_at
from xchronos.triggers.base import WallClock, wall_clock_of

FARTHEST: Micros = 2 * DAY
"""No change of rules moves a wall time so far. What lies farther before the next fire time was decided upon before."""

_SHIFTS = [0, *(sign * 15 * MINUTE * step for step in range(1, 13) for sign in (1, -1))]
"""By how much rules may have changed that are not known: the least first."""


def are_others(unit: Unit, schedule: Schedule) -> bool:
    """Whether a cursor was computed by other rules than those that the unit's zones have now, or may have been."""
    return schedule.rules != unit.rules and not (schedule.rules == "" and unit.rules == NO_RULES)


def renewed(unit: Unit, schedule: Schedule) -> Schedule:
    """The cursor by the rules of now."""
    same = set(schedule.rules.split())
    anchor = to_instant(schedule.anchor)
    accepted = max(to_instant(schedule.accepted_at), anchor - 1)
    states: list[TriggerState] = []
    for cursor, state in zip(cursors(unit, schedule), schedule.triggers, strict=True):
        place = getattr(cursor.trigger, "zone", None)
        if place is None or not place.rules or f"{place.name}={place.rules}" in same:
            states.append(state)
            continue
        if cursor.next is None:
            # Nobody has noted the offset with the first versions' cursors: it is taken for that of now.
            offset = state.offset if schedule.rules else offset_at(cursor.trigger, cursor.last)
            states.append(msgspec.structs.replace(state, offset=offset))
            continue
        offset = state.offset if schedule.rules else _offset(cursor)
        cursor.offset = offset
        floor = max(accepted if cursor.last is None else cursor.last, cursor.next - FARTHEST)
        if unit.not_before is not None:
            floor = max(floor, unit.not_before - 1)
        cursor.next = following(cursor, floor)
        states.append(cursor.state())
    return msgspec.structs.replace(schedule, triggers=tuple(states), rules=unit.rules)


def following(cursor: TriggerCursor, floor: Instant) -> Instant | None:
    """The first fire time after `floor` that has not fired; of a fixed expression, for no wall time that it has.

    `cursor` knows the offset at its last fire time, as after `renewed`.
    """
    return _after(cursor, floor, None if cursor.last is None else cursor.last + cursor.offset * SECOND)


def _after(cursor: TriggerCursor, floor: Instant, fired: Micros | None) -> Instant | None:
    """The first fire time after `floor`, of a fixed expression the first for a wall time after `fired`."""
    wall, at = wall_clock_of(cursor.trigger), cursor.after(floor)
    if wall is None or fired is None:
        return at
    while at is not None:
        offset = wall.zone.offset_at(at // SECOND) * SECOND
        if at + offset > fired:
            break
        at = cursor.after(fired - offset)
    return at


def _offset(cursor: TriggerCursor) -> int:
    """The offset at the last fire time, in seconds, by rules that nobody has noted.

    The next fire time is known that followed from them. Where the clock shows no time of the expression then, by the
    rules of now, those were others, by as much as makes it one.
    """
    wall = wall_clock_of(cursor.trigger)
    if wall is None or cursor.last is None or cursor.next is None:
        return 0
    now = wall.zone.offset_at(cursor.last // SECOND)
    shift = _shift(wall, cursor.next + wall.zone.offset_at(cursor.next // SECOND) * SECOND, _SHIFTS)
    return now + _shift(wall, cursor.last + now * SECOND, (shift, 0)) // SECOND


def _shift(wall: WallClock, time: Micros, shifts: Iterable[Micros]) -> Micros:
    """The first shift that makes a wall time one of the expression's; 0 if none does."""
    return next((shift for shift in shifts if wall.fires_at_wall(time + shift)), 0)
