"""The fire times to come, under every count and bound of a unit: what people are shown."""

from xchronos.clock import Instant
from xchronos.model.records import Schedule
from xchronos.model.unit import Unit
from xchronos.scheduler.timing.cursor import cursors
from xchronos.scheduler.timing.schedule import accept


def preview(unit: Unit, after: Instant, n: int, schedule: Schedule | None = None) -> list[tuple[Instant, str]]:
    """The next `n` fire times with the kinds of their triggers, under every count and bound.

    With a schedule: strictly after `after`, as if everything before went as planned. Without one: as if the unit were
    accepted at `after`; then `after` itself can be the first.
    """
    if schedule is None:
        schedule, after = accept(unit, after, 0), after - 1
    if schedule.finished:
        return []
    if unit.max_runs is not None:
        n = min(n, unit.max_runs - schedule.fired)
    working = cursors(unit, schedule)
    for cursor in working:
        if cursor.is_due(after):
            cursor.charge(cursor.gap(after)[2])
            cursor.next = cursor.after(after)
    found: list[tuple[Instant, str]] = []
    while len(found) < n:
        at = min((cursor.next for cursor in working if cursor.next is not None), default=None)
        if at is None:
            break
        kinds = {cursor.kind for cursor in working if cursor.next == at}
        for cursor in working:
            if cursor.next == at:
                cursor.fire()
        found.append((at, "+".join(sorted(kinds))))
    return found
