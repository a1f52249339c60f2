"""The days on which a cron schedule fires: bit masks of a month's days, and jumps from month to month.

A *day* is the number of days since 1970-01-01. The Gregorian calendar repeats every 400 years, so tables of one cycle
of 4,800 months are enough for all days.
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
        """The first day of the set that is not before `day`. None if there is none."""
        ...

    def count(self, first: int, end: int) -> int:
        """The number of days of the set in `first <= day < end`."""
        ...


class Special(NamedTuple):
    """One of Quartz's day items. The values of `kind` are these.

    - `L`: the day that is `day` days before the last day of the month.
    - `LW`: the day from Monday to Friday that is nearest to that one.
    - `W`: the day from Monday to Friday that is nearest to the day `day` of the month.
    - `dL`: the last weekday `day` of the month. 0 is Sunday.
    - `d#`: the `nth` weekday `day` of the month. 0 is Sunday.
    """

    kind: str
    day: int = 0
    nth: int = 0

    def bits(self, first_weekday: int, length: int) -> int:
        """The mask of the item's days in a month of `length` days that begins with `first_weekday` (0 is Sunday)."""
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
    """The mask of the day from Monday to Friday nearest to `day` within the month. 0 if the month has no such day."""
    if not 1 <= day <= length:
        return 0
    weekday = (first_weekday + day - 1) % 7
    if weekday == 6:
        day += -1 if day > 1 else 2
    elif weekday == 0:
        day += 1 if day < length else -2
    return 1 << (day - 1)


class NoDays:
    """The empty set, for a date that does not exist in any year."""

    __slots__ = ()

    def next(self, day: int) -> int | None:  # noqa: ARG002 - the protocol's argument
        """None, without a search."""
        return None

    def count(self, first: int, end: int) -> int:  # noqa: ARG002
        """0."""
        return 0


NO_DAYS = NoDays()


def _week_pattern(weekdays: int) -> tuple[int, ...]:
    endless = sum(weekdays << 7 * week for week in range(6))
    return tuple(endless >> first & ALL_DAYS for first in range(7))


_WEEKS = [_week_pattern(weekdays) for weekdays in range(ALL_WEEKDAYS + 1)]
"""The mask of a month's days, by the mask of weekdays and by the weekday with which the month begins."""

_ANY = -1
"""A mask with every bit set. The interpreter shares its small integers, so this one takes no memory.

`test_a_schedule_weighs_no_more_than_400_bytes` pins the memory of a schedule.
"""


class MonthDays:
    """Days by day of the month, month and weekday. Both day masks must match, or with `either` one of them."""

    __slots__ = ("_dom", "_either", "_months", "_weekdays")

    def __init__(self, dom: int, months: int, weekdays: int, *, either: bool) -> None:
        self._dom = _ANY if dom == ALL_DAYS else dom
        self._months = _ANY if months == ALL_MONTHS else months
        self._weekdays = weekdays
        self._either = either

    def bits(self, month: int) -> int:
        """The mask of matching days in the month number `month` of the cycle. The mask of months is not looked at."""
        week = _WEEKS[self._weekdays][_FIRST_WEEKDAYS[month]]
        return (self._dom | week if self._either else self._dom & week) & _PRESENT[month]

    def next(self, day: int) -> int | None:
        """The first matching day not before `day`.

        None if a whole cycle of 400 years has no matching day, because then there is none at all. The tests
        `test_the_search_has_no_horizon` and `test_an_impossible_date_never_fires` pin this.
        """
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
        """The number of matching days in `first <= day < end`, counted by months."""
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
    """`MonthDays` with Quartz's day items in addition to the masks."""

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
        """The mask of matching days in the month number `month` of the cycle."""
        first, present = _FIRST_WEEKDAYS[month], _PRESENT[month]
        length = present.bit_length()
        dom, dow = self._dom, _WEEKS[self._weekdays][first]
        for item in self._dom_items:
            dom |= item.bits(first, length)
        for item in self._dow_items:
            dow |= item.bits(first, length)
        return (dom | dow if self._either else dom & dow) & present


class YearDays:
    """Another set of days, restricted to some years. Bit 0 of `years` is 1970."""

    __slots__ = ("_days", "_years")

    def __init__(self, days: Days, years: int) -> None:
        self._days = days
        self._years = years

    def next(self, day: int) -> int | None:
        """The first day not before `day` that is in the other set and in a matching year. None if there is none."""
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
        """The number of matching days in `first <= day < end`, counted by years."""
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
    """The day of 1 January of a year."""
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
    """The set of days for these masks and items. None means every day, and `NO_DAYS` is the empty set.

    Schedules with equal arguments share one object (`test_schedules_share_what_they_can`).
    """
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
