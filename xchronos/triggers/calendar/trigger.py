"""Calendar events: `TriggerCalendar`, systemd.time(7) with the clock changes of Debian's cron.

Elapses are those that `systemd-analyze calendar` prints, except around changes of the clock. There, a *wildcard* event
(its hour or its minute is `*`) follows the wall clock along the UTC timeline: a gap is skipped, and an overlap elapses
in both passes. A *fixed* event elapses once for all wall times in a gap, at the first instant after the gap, and in an
overlap in the first pass only. The test `test_changes_of_the_clock` pins this.
"""

from xchronos.clock import SECOND, Instant, Micros
from xchronos.errors import InvalidTrigger, quoted
from xchronos.triggers.base import Endless
from xchronos.triggers.calendar.grid import CalendarGrid
from xchronos.triggers.calendar.text import parse_spec
from xchronos.triggers.zones import Zone, utc
from xchronos.triggers.zones import zone as zone_named


class CalendarTrigger(Endless):
    """A calendar event in a zone, immutable. `parse_calendar` makes one."""

    __slots__ = ("_grid", "_wildcard", "normalized", "text", "warnings", "zone")

    def __init__(self, text: str, normalized: str, zone: Zone, grid: CalendarGrid, *, wildcard: bool) -> None:
        self.text = text
        """The event as it was written."""
        self.normalized = normalized
        """The event as `systemd-analyze calendar` prints it."""
        self.zone = zone
        self._grid = grid
        self._wildcard = wildcard
        never = grid.next(0) is None
        self.warnings = ("there is no such date from 1970 to 2199: this never elapses",) if never else ()
        """Warnings for the author of the event, although it parses."""

    def __repr__(self) -> str:
        return f"CalendarTrigger({self.normalized!r}, {self.zone.name!r})"

    @property
    def kind(self) -> str:
        """Always `calendar`."""
        return "calendar"

    @property
    def fixed(self) -> bool:
        """Whether the event is fixed; see the module."""
        return not self._wildcard

    def fires_at_wall(self, wall: Micros) -> bool:
        """See `base.WallClock`."""
        return self._grid.next(wall) == wall

    def next_after(self, instant: Instant, anchor: Instant = 0) -> Instant | None:  # noqa: ARG002
        """The first elapse strictly after `instant`. None if there is none up to 2199. The anchor is ignored."""
        zone = self.zone
        if zone.fixed is not None:
            wall = self._grid.next(instant + 1 + zone.fixed * SECOND)
            return None if wall is None else wall - zone.fixed * SECOND
        if self._wildcard:
            return self._next_followed(instant + 1)
        wall = self._grid.next(self._settled(instant) + 1)
        if wall is None:
            return None
        second, rest = divmod(wall, SECOND)
        shown = zone.instants(second)
        return shown[0] * SECOND + rest if shown else zone.resolve(second) * SECOND

    def count_between(self, after: Instant, until: Instant, anchor: Instant = 0) -> int:  # noqa: ARG002
        """The number of elapses in (after, until], counted by months, never one by one. The anchor is ignored."""
        if until <= after:
            return 0
        zone, grid = self.zone, self._grid
        first, last = zone.segment(after // SECOND), zone.segment(until // SECOND)
        if self._wildcard:
            return sum(
                grid.count(
                    max(after + 1, zone.starts[index] * SECOND) + zone.offsets[index] * SECOND,
                    min(until + 1, zone.starts[index + 1] * SECOND) + zone.offsets[index] * SECOND,
                )
                for index in range(first, last + 1)
            )
        total = grid.count(self._settled(after) + 1, self._settled(until) + 1)
        for index in range(first + 1, last + 1):
            # All wall times in a gap, and the one at its end, are together one elapse.
            mark, end = zone.marks[index], zone.starts[index] + zone.offsets[index]
            if mark < end:
                total -= max(grid.count(mark * SECOND, end * SECOND + 1) - 1, 0)
        return total

    def _settled(self, instant: Instant) -> int:
        """The latest wall time that a fixed event has passed at `instant`: the clock showed it, or a gap skipped it."""
        index = self.zone.segment(instant // SECOND)
        return max(instant + self.zone.offsets[index] * SECOND, self.zone.marks[index] * SECOND - 1)

    def _next_followed(self, moment: Instant) -> Instant | None:
        """The first elapse not before `moment`, for a wildcard event in a zone with transitions."""
        zone, grid = self.zone, self._grid
        spread = (zone.highest - zone.lowest) * SECOND
        while True:
            index = zone.segment(moment // SECOND)
            offset = zone.offsets[index] * SECOND
            end = zone.starts[index + 1] * SECOND
            wall = grid.next(moment + offset)
            if wall is not None and wall - offset < end:
                return wall - offset
            if end - moment > spread:
                # The end of the segment is so far away that no later offset leads back to before `moment`. So the
                # search may jump over segments.
                if wall is None:
                    return None
                end = max(end, wall - zone.highest * SECOND)
            moment = end


def parse_calendar(text: str, zone: Zone | None = None) -> CalendarTrigger:
    """The trigger for a calendar event. Its zone is the one at the end of the text, else `zone`, else UTC.

    Raises:
        InvalidTrigger: the text is no calendar event. The message says where, and what was expected.
    """
    try:
        spec = parse_spec(text)
        grid = CalendarGrid(spec)
    except InvalidTrigger as error:
        raise InvalidTrigger(f"calendar event {quoted(text)}: {error}") from None
    where = zone_named(spec.zone_name) if spec.zone_name else zone or utc
    return CalendarTrigger(text, str(spec), where, grid, wildcard=not (spec.hour and spec.minute))
