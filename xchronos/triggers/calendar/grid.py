"""The wall times that match a calendar event. The search jumps from field to field and never walks.

A *wall time* here is what the wall clock shows, in microseconds since 1970-01-01 as if the clock were UTC. A *day* is
the number of days since 1970-01-01.
"""

from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterable, Sequence
from datetime import date

from xchronos.clock import DAY, HOUR, MINUTE
from xchronos.errors import InvalidTrigger
from xchronos.triggers.calendar.text import (
    DAY_OF_MONTH,
    EVENT_YEAR,
    EVERY_DAY,
    HOUR_OF_DAY,
    LAST_EVENT_YEAR,
    MINUTE_OF_HOUR,
    MONTH_OF_YEAR,
    SECOND_OF_MINUTE,
    CalendarField,
    CalendarSpec,
    Chain,
    Component,
)

_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_DAY = 1 - _EPOCH
_END_DAY = date(LAST_EVENT_YEAR + 1, 1, 1).toordinal() - _EPOCH

FINEST = 60_000
"""The largest number of values in a minute if the seconds are a list. A single range has no limit."""


class CalendarGrid:
    """The set of wall times that match an event, within the years 1 to 2199. Immutable."""

    __slots__ = (
        "_days",
        "_every_day",
        "_first",
        "_hours",
        "_minutes",
        "_months",
        "_seconds",
        "_weekdays",
        "_years",
    )

    def __init__(self, spec: CalendarSpec) -> None:
        self._years: Sequence[int] = (
            sorted(_values(EVENT_YEAR, spec.year)) if spec.year else range(1, LAST_EVENT_YEAR + 1)
        )
        self._days = {length: _day_mask(spec, length) for length in range(28, 32)}
        # A month without any matching day is left out. Otherwise *-02-31 would search through all centuries, which
        # `test_what_never_elapses_answers_at_once` forbids.
        self._months = _mask(
            month
            for month in _values(MONTH_OF_YEAR, spec.month)
            if self._days[29 if month == 2 else monthrange(1970, month)[1]]
        )
        self._weekdays = [
            _mask(day for day in range(1, 32) if spec.weekdays >> (day - 1 + first) % 7 & 1) for first in range(7)
        ]
        self._every_day = not (spec.year or spec.month or spec.day) and spec.weekdays == EVERY_DAY
        self._hours = _mask(_values(HOUR_OF_DAY, spec.hour))
        self._minutes = _mask(_values(MINUTE_OF_HOUR, spec.minute))
        self._seconds = _second_values(spec.second)
        self._first = _lowest(self._hours) * HOUR + _lowest(self._minutes) * MINUTE + self._seconds[0]

    def next(self, wall: int) -> int | None:
        """The first matching wall time not before `wall`. None if there is none up to the year 2199."""
        today, time = divmod(wall, DAY)
        day = self._next_day(today)
        if day == today:
            found = self._next_time(time)
            if found is not None:
                return day * DAY + found
            day = self._next_day(today + 1)
        return None if day is None else day * DAY + self._first

    def count(self, low: int, high: int) -> int:
        """The number of matching wall times in `low <= wall < high`. They are counted by months, never one by one.

        `low` may not be greater than `high`.
        """
        first, begin = divmod(low, DAY)
        last, end = divmod(high, DAY)
        total = self._count_days(first, last) * self._count_before(DAY)
        if begin and self._next_day(first) == first:
            total -= self._count_before(begin)
        if end and self._next_day(last) == last:
            total += self._count_before(end)
        return total

    def _next_day(self, day: int) -> int | None:
        """The first matching day not before `day`, or None."""
        if day >= _END_DAY or not self._months:
            return None
        if self._every_day and day >= _FIRST_DAY:
            return day
        start = date.fromordinal(max(day + _EPOCH, 1))
        month, past = start.month, start.day
        for number in range(bisect_left(self._years, start.year), len(self._years)):
            year = self._years[number]
            if year != start.year:
                month, past = 1, 1
            while months := self._months >> month:
                if not months & 1:
                    month += _lowest(months)
                    past = 1
                weekday, length = monthrange(year, month)
                days = (self._days[length] & self._weekdays[weekday]) >> past
                if days:
                    return date(year, month, past + _lowest(days)).toordinal() - _EPOCH
                month += 1
                past = 1
        return None

    def _count_days(self, first: int, end: int) -> int:
        """The number of matching days in `first <= day < end`."""
        first, end = max(first, _FIRST_DAY), min(end, _END_DAY)
        if first >= end:
            return 0
        if self._every_day:
            return end - first
        return self._count_until(end, date.fromordinal(first + _EPOCH).year) - self._count_until(
            first, date.fromordinal(first + _EPOCH).year
        )

    def _count_until(self, end: int, since: int) -> int:
        """The number of matching days from the beginning of the year `since` up to the day `end`, excluded."""
        last = date.fromordinal(end + _EPOCH)
        total = 0
        for number in range(bisect_left(self._years, since), len(self._years)):
            year = self._years[number]
            if year > last.year:
                break
            for month in range(1, 13 if year < last.year else last.month + 1):
                if self._months >> month & 1:
                    weekday, length = monthrange(year, month)
                    days = self._days[length] & self._weekdays[weekday]
                    if (year, month) == (last.year, last.month):
                        days &= (1 << last.day) - 1
                    total += days.bit_count()
        return total

    def _next_time(self, time: int) -> int | None:
        """The first matching time of a day not before `time`, or None. Both are in microseconds since midnight."""
        hour, rest = divmod(time, HOUR)
        hours = self._hours >> hour
        if hours & 1:
            minute, second = divmod(rest, MINUTE)
            minutes = self._minutes >> minute
            if minutes & 1:
                place = bisect_left(self._seconds, second)
                if place < len(self._seconds):
                    return time - second + self._seconds[place]
            minutes >>= 1
            if minutes:
                return hour * HOUR + (minute + 1 + _lowest(minutes)) * MINUTE + self._seconds[0]
        hours >>= 1
        return (hour + 1 + _lowest(hours)) * HOUR + self._first % HOUR if hours else None

    def _count_before(self, time: int) -> int:
        """The number of matching times of a day before `time`, in microseconds since midnight."""
        hour, rest = divmod(time, HOUR)
        minute, second = divmod(rest, MINUTE)
        total = (self._hours & (1 << hour) - 1).bit_count() * self._minutes.bit_count()
        inside = self._hours >> hour & 1
        if inside:
            total += (self._minutes & (1 << minute) - 1).bit_count()
        total *= len(self._seconds)
        if inside and self._minutes >> minute & 1:
            total += bisect_left(self._seconds, second)
        return total


def _span(field: CalendarField, component: Component) -> range:
    """The values of a component."""
    start, stop, repeat = component
    if not repeat:
        return range(start, start + 1)
    return range(start, (field.high if stop < 0 else stop) + 1, repeat)


def _values(field: CalendarField, chain: Chain) -> set[int]:
    """The values of a chain."""
    if not chain:
        return set(range(field.low, field.high + 1))
    return {value for component in chain for value in _span(field, component)}


def _second_values(chain: Chain) -> Sequence[int]:
    """The matching microseconds of a minute, ascending. A single range stays a range, however fine it is."""
    spans = [_span(SECOND_OF_MINUTE, component) for component in chain]
    if len(spans) == 1:
        return spans[0]
    if sum(map(len, spans)) > FINEST:
        raise InvalidTrigger(f"the list of seconds has more than {FINEST} values a minute: expected a coarser step")
    return sorted(set().union(*spans))


def _day_mask(spec: CalendarSpec, length: int) -> int:
    """The matching days of a month of `length` days. Bit 1 is the first day."""
    if not spec.from_end:
        return _mask(_values(DAY_OF_MONTH, spec.day)) & (2 << length) - 1
    days: set[int] = set()
    for start, stop, repeat in spec.day:
        first, last = length + 1 - max(start, stop), length + 1 - start
        # An open-ended step runs from its day to the month's last one.
        days.update(range(first, (length if repeat and stop < 0 else last) + 1, repeat or 1))
    return _mask(days)


def _mask(values: Iterable[int]) -> int:
    mask = 0
    for value in values:
        mask |= 1 << value
    return mask


def _lowest(mask: int) -> int:
    """The index of the lowest bit set."""
    return (mask & -mask).bit_length() - 1
