"""Which days a cron schedule fires on: bit masks of a month's days, and jumps from month to month.

A *day* is the number of days since 1970-01-01. The Gregorian calendar repeats every 400 years, so tables of one cycle
of 4,800 months answer for every day there is.
"""

from bisect import bisect_right
from calendar import monthrange
from datetime import date
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple, Protocol

CYCLE_DAYS = 146_097
CYCLE_MONTHS = 4_800
_FIRST_YEAR = 1970

_SHAPES = [monthrange(_FIRST_YEAR + number // 12, number % 12 + 1) for number in range(CYCLE_MONTHS)]
_STARTS = [0, *accumulate(length for _, length in _SHAPES)]
_FIRST_WEEKDAYS = [(weekday + 1) % 7 for weekday, _ in _SHAPES]
_PRESENT = [{length: (1 << length) - 1 for length in range(28, 32)}[length] for _, length in _SHAPES]

ALL_DAYS = (1 << 31) - 1
"""Every day of the month: bit 0 is the first."""
ALL_MONTHS = (1 << 12) - 1
"""Every month: bit 0 is January."""
ALL_WEEKDAYS = (1 << 7) - 1
"""Every weekday: bit 0 is Sunday."""


class Days(Protocol):
    """A set of days."""

    def next(self, day: int) -> int | None:
        """The first day of the set that is not before `day`; None when there is none any more."""
        ...

    def count(self, first: int, end: int) -> int:
        """How many days of the set are in `first <= day < end`."""
        ...


class Special(NamedTuple):
    """One of Quartz's day items.

    `kind` is `L` (the day that is `day` days before the month's last), `LW` (the Monday-to-Friday nearest to that one),
    `W` (the Monday-to-Friday nearest to `day`), `dL` (the month's last weekday `day`) or `d#` (its `nth`); 0 = Sunday.
    """

    kind: str
    day: int = 0
    nth: int = 0

    def bits(self, first_weekday: int, length: int) -> int:
        """The days meant, in a month that begins with `first_weekday` (0 = Sunday) and has `length` days."""
        if self.kind == "L":
            return 1 << (length - 1 - self.day) if self.day < length else 0
        if self.kind == "LW":
            return _nearest_working(first_weekday, length, length - self.day)
        if self.kind == "W":
            return _nearest_working(first_weekday, length, self.day)
        if self.kind == "dL":
            return 1 << (length - 1 - (first_weekday + length - 1 - self.day) % 7)
        index = (self.day - first_weekday) % 7 + 7 * (self.nth - 1)
        return 1 << index if index < length else 0


def _nearest_working(first_weekday: int, length: int, day: int) -> int:
    """The Monday-to-Friday nearest to `day` without leaving the month; nothing in a month that has no such day."""
    if not 1 <= day <= length:
        return 0
    weekday = (first_weekday + day - 1) % 7
    if weekday == 6:
        day += -1 if day > 1 else 2
    elif weekday == 0:
        day += 1 if day < length else -2
    return 1 << (day - 1)


class NoDays:
    """The set of an impossible date."""

    __slots__ = ()

    def next(self, day: int) -> int | None:  # noqa: ARG002 - the protocol's argument
        """None, at once."""
        return None

    def count(self, first: int, end: int) -> int:  # noqa: ARG002
        """0."""
        return 0


NO_DAYS = NoDays()


def _week_pattern(weekdays: int) -> tuple[int, ...]:
    endless = sum(weekdays << 7 * week for week in range(6))
    return tuple(endless >> first & ALL_DAYS for first in range(7))


_WEEKS = [_week_pattern(weekdays) for weekdays in range(ALL_WEEKDAYS + 1)]
"""By set of weekdays and by the weekday that a month begins with: the days of the month that fall on them."""

_ANY = -1
"""A mask with every bit set that, being one of the interpreter's small integers, takes no memory of its own."""


class MonthDays:
    """Days by day of the month, month and weekday: both day masks must match, or (`either`) one of them suffices."""

    __slots__ = ("_dom", "_either", "_months", "_weekdays")

    def __init__(self, dom: int, months: int, weekdays: int, *, either: bool) -> None:
        self._dom = _ANY if dom == ALL_DAYS else dom
        self._months = _ANY if months == ALL_MONTHS else months
        self._weekdays = weekdays
        self._either = either

    def bits(self, month: int) -> int:
        """The matching days of a month of the cycle, whether or not the month itself matches."""
        week = _WEEKS[self._weekdays][_FIRST_WEEKDAYS[month]]
        return (self._dom | week if self._either else self._dom & week) & _PRESENT[month]

    def next(self, day: int) -> int | None:
        """The first matching day not before `day`. A set that is empty for a whole cycle of 400 years is empty."""
        inner = day % CYCLE_DAYS
        month = bisect_right(_STARTS, inner) - 1
        months = self._months
        if months >> month % 12 & 1:
            bits = self.bits(month) >> (inner - _STARTS[month])
            if bits:
                return day + (bits & -bits).bit_length() - 1
        base = day - inner
        ring = months << 12 | months
        for _ in range(CYCLE_MONTHS):
            later = ring >> (month % 12 + 1)
            month += (later & -later).bit_length()
            if month >= CYCLE_MONTHS:
                month -= CYCLE_MONTHS
                base += CYCLE_DAYS
            bits = self.bits(month)
            if bits:
                return base + _STARTS[month] + (bits & -bits).bit_length() - 1
        return None

    def count(self, first: int, end: int) -> int:
        """Matching days in `first <= day < end`, month by month."""
        inner = first % CYCLE_DAYS
        base = first - inner
        month = bisect_right(_STARTS, inner) - 1
        total = 0
        while (start := base + _STARTS[month]) < end:
            if self._months >> month % 12 & 1:
                bits = self.bits(month)
                if start < first:
                    bits = bits >> (first - start) << (first - start)
                total += (bits & ((1 << (end - start)) - 1) if end - start < 31 else bits).bit_count()
            month += 1
            if month == CYCLE_MONTHS:
                month = 0
                base += CYCLE_DAYS
        return total


class QuartzDays(MonthDays):
    """`MonthDays` with Quartz's items beside the masks."""

    __slots__ = ("_dom_items", "_dow_items")

    def __init__(
        self,
        dom: int,
        months: int,
        weekdays: int,
        dom_items: tuple[Special, ...],
        dow_items: tuple[Special, ...],
        *,
        either: bool,
    ) -> None:
        super().__init__(dom, months, weekdays, either=either)
        self._dom_items = dom_items
        self._dow_items = dow_items

    def bits(self, month: int) -> int:
        """The matching days of a month of the cycle."""
        first, present = _FIRST_WEEKDAYS[month], _PRESENT[month]
        length = present.bit_length()
        dom, dow = self._dom, _WEEKS[self._weekdays][first]
        for item in self._dom_items:
            dom |= item.bits(first, length)
        for item in self._dow_items:
            dow |= item.bits(first, length)
        return (dom | dow if self._either else dom & dow) & present


class YearDays:
    """Another set of days, in some years only: bit 0 of `years` is 1970."""

    __slots__ = ("_days", "_years")

    def __init__(self, days: Days, years: int) -> None:
        self._days = days
        self._years = years

    def next(self, day: int) -> int | None:
        """The first day not before `day` that matches in a matching year."""
        while True:
            found = self._days.next(day)
            if found is None:
                return None
            year = max(_year(found), _FIRST_YEAR - 1)
            if year >= _FIRST_YEAR and self._years >> (year - _FIRST_YEAR) & 1:
                return found
            later = self._years >> (year + 1 - _FIRST_YEAR)
            if not later:
                return None
            day = _new_year(year + (later & -later).bit_length())

    def count(self, first: int, end: int) -> int:
        """Matching days in `first <= day < end`, year by year."""
        years = self._years
        total = 0
        while years:
            year = _FIRST_YEAR + (years & -years).bit_length() - 1
            total += self._days.count(max(first, _new_year(year)), min(end, _new_year(year + 1)))
            years &= years - 1
        return total


def _year(day: int) -> int:
    return _FIRST_YEAR + 400 * (day // CYCLE_DAYS) + (bisect_right(_STARTS, day % CYCLE_DAYS) - 1) // 12


def _new_year(year: int) -> int:
    """1 January of a year."""
    return date(year, 1, 1).toordinal() - date(_FIRST_YEAR, 1, 1).toordinal()


@lru_cache(maxsize=1 << 12)
def days_of(
    dom: int,
    months: int,
    weekdays: int,
    years: int | None,
    dom_items: tuple[Special, ...],
    dow_items: tuple[Special, ...],
    either: bool,
) -> Days | None:
    """The set of days of those masks, shared between schedules; None for every day, `NO_DAYS` when it is empty."""
    plain = not dom_items and not dow_items
    everything = dom == ALL_DAYS and weekdays == ALL_WEEKDAYS
    if either:
        everything = dom == ALL_DAYS or weekdays == ALL_WEEKDAYS
    if everything:
        if months == ALL_MONTHS and years is None:
            return None
        plain, either, dom, weekdays = True, False, ALL_DAYS, ALL_WEEKDAYS
    days: Days
    if plain:
        days = MonthDays(dom, months, weekdays, either=either)
    else:
        days = QuartzDays(dom, months, weekdays, dom_items, dow_items, either=either)
    if years is not None:
        days = YearDays(days, years)
    return NO_DAYS if days.next(0) is None else days
