"""Cron schedules: arithmetic on bit masks and on segments of constant offset.

Around changes of the clock, expressions of every number of fields behave as in Debian's cron:

- A *wildcard* schedule, whose minute or hour field begins with `*`, follows the wall clock along the UTC timeline. It
  skips a gap and fires in both passes of an overlap.
- A *fixed* schedule fires once for all its wall times in a gap, at the first instant after the gap. In an overlap it
  fires in the first pass only.

The tests `test_examples` and `test_transitions_are_debians` pin this, also for gaps at midnight, for shifts of half an
hour and for zones that changed their rules.
"""

from xchronos.clock import SECOND, Instant, Micros
from xchronos.triggers.base import Endless
from xchronos.triggers.cron.days import NO_DAYS, Days
from xchronos.triggers.cron.dialects import differences
from xchronos.triggers.limits import LATEST
from xchronos.triggers.zones import Zone

_LAST = LATEST // SECOND


class CronTrigger(Endless):
    """A cron expression in a zone. `parse_cron` makes one.

    It is an immutable set of wall times, in whole seconds. It holds a bit mask for each field, a few hundred bytes in
    all. `_first` and `_last` are the first and the last matching second of a day.
    """

    __slots__ = (
        "_both_days",
        "_days",
        "_first",
        "_hours",
        "_last",
        "_minutes",
        "_seconds",
        "_wildcard",
        "text",
        "zone",
    )

    def __init__(
        self,
        text: str,
        zone: Zone,
        times: tuple[int, int, int],
        days: Days | None,
        *,
        wildcard: bool,
        both_days: bool = False,
    ) -> None:
        """`times` are the masks of seconds, minutes and hours; none is empty. `days` None means every day.

        `both_days` says that a five-field expression restricts both day fields and a day must match both.
        """
        self.text = text
        """The expression as it was written."""
        self.zone = zone
        self._seconds, self._minutes, self._hours = times
        self._days = days
        self._wildcard = wildcard
        self._both_days = both_days
        self._first = _lowest(self._hours) * 3600 + _lowest(self._minutes) * 60 + _lowest(self._seconds)
        last = _highest(self._hours) * 3600 + _highest(self._minutes) * 60 + _highest(self._seconds)
        self._last = self._first if self._first == last else last

    @property
    def kind(self) -> str:
        """Always `cron`."""
        return "cron"

    @property
    def fixed(self) -> bool:
        """Whether the schedule is fixed; see the module."""
        return not self._wildcard

    def fires_at_wall(self, wall: Micros) -> bool:
        """See `base.WallClock`."""
        return wall % SECOND == 0 and self._next_wall(wall // SECOND) == wall // SECOND

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the author of the expression, although it parses. They are made anew each time."""
        found = list(differences(self.text))
        if self._both_days:
            dom, _, dow = self.text.split()[-3:]
            found.append(
                f"day-of-month {dom!r} and day-of-week {dow!r}: one of them begins with '*', so a day must match both; "
                "without it, either would suffice"
            )
        if self._days is NO_DAYS:
            found.append("there is no such date in any year: this never fires")
        return tuple(found)

    def __repr__(self) -> str:
        return f"CronTrigger({self.text!r}, {self.zone.name!r})"

    def next_after(self, instant: Instant, anchor: Instant = 0) -> Instant | None:  # noqa: ARG002
        """The first fire time strictly after `instant`. None if there is none. The anchor is ignored."""
        moment = instant // SECOND + 1
        offset = self.zone.fixed
        if offset is None:
            found = self._next_second(moment)
        else:
            wall = self._next_wall(moment + offset)
            found = None if wall is None else wall - offset
        return None if found is None or found > _LAST else found * SECOND

    def count_between(self, after: Instant, until: Instant, anchor: Instant = 0) -> int:  # noqa: ARG002
        """The number of fire times in (after, until], counted by days, never one by one. The anchor is ignored."""
        zone = self.zone
        moment, end = after // SECOND + 1, min(until // SECOND, _LAST) + 1
        index = zone.segment(moment)
        total = 0
        while moment < end:
            offset = zone.offsets[index]
            index += 1
            stop = min(zone.starts[index], end)
            wall = moment + offset
            if not self._wildcard:
                mark = zone.marks[index - 1]
                if mark > wall:
                    wall = mark
                elif moment == zone.starts[index - 1] and self._collapses(mark, wall):
                    total += 1
                    wall += 1
            if wall < stop + offset:
                total += self._count_walls(wall, stop + offset)
            moment = stop
        return total

    def _next_second(self, moment: int) -> int | None:
        """The first second not before `moment` at which the schedule fires, in a zone with transitions."""
        zone = self.zone
        starts, offsets = zone.starts, zone.offsets
        index = zone.segment(moment)
        spread = zone.highest - zone.lowest
        while True:
            offset = offsets[index]
            wall = moment + offset
            if not self._wildcard:
                mark = zone.marks[index]
                if mark > wall:
                    wall = mark
                elif moment == starts[index] and self._collapses(mark, wall):
                    return moment
            found = self._next_wall(wall)
            index += 1
            end = starts[index]
            if found is not None and found - offset < end:
                return found - offset
            # There is no fire before `end`. If `end` is so far away that no later offset leads back to before `wall`,
            # the search may jump over segments.
            if end - moment > spread:
                if found is None:
                    return None
                if found - zone.highest > end:
                    moment = found - zone.highest
                    index = zone.segment(moment)
                    continue
            moment = end

    def _collapses(self, mark: int, wall: int) -> bool:
        """Whether a wall time in the gap `mark <= w < wall` matches. The schedule then fires at the end of the gap."""
        found = self._next_wall(mark) if mark < wall else None
        return found is not None and found < wall

    def _next_wall(self, wall: int) -> int | None:
        """The first matching wall time not before `wall`. None if there is none."""
        day, second = divmod(wall, 86_400)
        days = self._days
        if second > self._last:
            day += 1
        elif days is None or (found := days.next(day)) == day:
            hour, rest = divmod(second, 3600)
            hours = self._hours >> hour
            if hours & 1:
                minute, second = divmod(rest, 60)
                minutes = self._minutes >> minute
                if minutes & 1:
                    seconds = self._seconds >> second
                    if seconds:
                        return wall + (seconds & -seconds).bit_length() - 1
                minutes >>= 1
                if minutes:
                    seconds = self._seconds
                    return wall - second + 60 * (minutes & -minutes).bit_length() + _lowest(seconds)
            hours >>= 1
            return wall - rest + 3600 * (hours & -hours).bit_length() + self._first % 3600
        elif found is None:
            return None
        else:
            return found * 86_400 + self._first
        if days is None:
            return day * 86_400 + self._first
        found = days.next(day)
        return None if found is None else found * 86_400 + self._first

    def _count_walls(self, low: int, high: int) -> int:
        """The number of matching wall times in `low <= w < high`."""
        days = self._days
        first, second = divmod(low, 86_400)
        last, end = divmod(high, 86_400)
        whole = last - first if days is None else days.count(first, last)
        total = whole * (self._seconds.bit_count() * self._minutes.bit_count() * self._hours.bit_count())
        if second and (days is None or days.next(first) == first):
            total -= self._count_before(second)
        if end and (days is None or days.next(last) == last):
            total += self._count_before(end)
        return total

    def _count_before(self, second: int) -> int:
        """The number of matching times of a day before its second number `second`."""
        hour, rest = divmod(second, 3600)
        minute, second = divmod(rest, 60)
        total = (self._hours & (1 << hour) - 1).bit_count() * self._minutes.bit_count()
        if self._hours >> hour & 1:
            total += (self._minutes & (1 << minute) - 1).bit_count()
        total *= self._seconds.bit_count()
        if self._hours >> hour & 1 and self._minutes >> minute & 1:
            total += (self._seconds & (1 << second) - 1).bit_count()
        return total


def _lowest(mask: int) -> int:
    """The index of the lowest bit set."""
    return (mask & -mask).bit_length() - 1


def _highest(mask: int) -> int:
    """The index of the highest bit set."""
    return mask.bit_length() - 1
