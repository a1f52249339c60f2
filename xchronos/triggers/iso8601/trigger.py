"""ISO 8601 recurrences: `TriggerISO8601`.

The forms are `Rn/start/period`, `Rn/start/end` and `Rn/period/end`. `Rn` is n fires in all, the first at the start. `R`
has no end, and `R0` no fire. With an empty start, the recurrence starts at the unit's acceptance.

Slot k is base + k * period. It is counted from the base, not from the slot before: 31 January + `P1M` gives
28 February, then 31 March. A period is added in this order:

1. Months and years are added together, and the day is cut to the month's length: 29 February + `P1Y1M` is 29 March.
2. Days and weeks are added on the wall clock, so `P1D` keeps the time of the day when the clock changes.
3. Hours, minutes and seconds elapse. So the time of the day may differ after a `PT24H`.

A wall time in a gap means the first instant after the gap. In an overlap it means the first pass. A zero or negative
period is an error if it is repeated. Fractions of months and years are errors. The tests `test_slots` and
`test_days_keep_the_wall_clock_and_hours_elapse` pin these rules.
"""

import re
from calendar import monthrange
from datetime import date
from typing import Self

from xchronos.clock import DAY, MILLISECOND, SECOND, Instant, Micros
from xchronos.errors import InvalidTrigger, quoted
from xchronos.triggers.base import too_often
from xchronos.triggers.iso8601.text import Duration, Moment, is_duration, parse_duration, parse_moment
from xchronos.triggers.limits import EARLIEST, LATEST
from xchronos.triggers.zones import Zone, utc

_REPEATS = re.compile(r"R([0-9]{0,18})")
_EPOCH = date(1970, 1, 1).toordinal()
_LAST_ORDINAL = date.max.toordinal()
_MONTH: Micros = 2_629_746 * SECOND
"""The mean month of the Gregorian calendar, in microseconds. It is used in estimates only."""
_FAR = 1 << 100
"""The instant of a slot after the year 9999, later than all others. A slot before the year 1 has `-_FAR`."""


class Iso8601Trigger:
    """A recurrence, immutable. `parse_iso8601` makes one.

    The base, slot 0, is the start. In `Rn/period/end` it is the end, and the other slots have negative numbers. With an
    empty start it is the anchor. Wall times are those of `zone`.
    """

    __slots__ = ("_base", "_count", "_first", "_last", "_length", "_period", "text", "zone")

    def __init__(
        self,
        text: str,
        zone: Zone,
        period: Duration,
        count: int | None,
        base: tuple[Instant, Micros] | None,
        *,
        first: int | None = 0,
        last: int | None = None,
    ) -> None:
        """`base` is the instant and the wall time of slot 0; None: the anchor.

        Slots with a number below `first` or above `last` do not exist. None is no bound.
        """
        self.text = text
        """The recurrence as it was written."""
        self.zone = zone
        self._period = period
        self._count = count
        self._base = base
        self._first, self._last = first, last
        self._length = period.months * _MONTH + period.days * DAY + period.elapsed

    def __repr__(self) -> str:
        return f"Iso8601Trigger({self.text!r}, {self.zone.name!r})"

    @property
    def kind(self) -> str:
        """Always `iso8601`."""
        return "iso8601"

    @property
    def fixed(self) -> bool:
        """Whether the slots are days or months apart, and so wall times. What elapses in hours is none."""
        return bool(self._period.months or self._period.days) and not self._period.elapsed

    def fires_at_wall(self, wall: Micros) -> bool:
        """See `base.WallClock`. A recurrence whose start is the anchor names none by itself."""
        if self._base is None:
            return False
        instant = _resolved(self.zone, wall)
        return self.next_after(instant - 1, 0) == instant

    @property
    def count(self) -> int | None:
        """The n of `Rn`, which is the number of fires in all. None for `R`."""
        return self._count

    @property
    def restartable(self) -> bool:
        """Whether the recurrence has a count."""
        return self._count is not None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the author of the recurrence, although it parses."""
        return () if self._count in (0, 1) else too_often(self._length)

    def restart(self, at: Instant) -> Self:
        """The same period and count with slot 0 at `at`. An endless recurrence returns itself."""
        if self._count is None:
            return self
        base = (at, at + self.zone.offset_at(at // SECOND) * SECOND)
        return type(self)(self.text, self.zone, self._period, self._count, base)

    def next_after(self, instant: Instant, anchor: Instant) -> Instant | None:
        """The first slot strictly after `instant`, as if there were no count. `R0` has no slots at all."""
        base, wall = self._origin(anchor)
        if self._count == 0:
            return None
        if self._length <= 0:
            return base if instant < base else None
        if instant >= LATEST:
            return None
        number = self._number_after(instant, base, wall)
        if self._first is not None and number < self._first:
            number = self._first
        if self._last is not None and number > self._last:
            return None
        moment = self._slot(number, base, wall)
        return moment if moment <= LATEST else None

    def count_between(self, after: Instant, until: Instant, anchor: Instant) -> int:
        """The number of slots in (after, until]. Slots with the same instant count once."""
        base, wall = self._origin(anchor)
        until = min(until, LATEST)
        if until <= after or self._count == 0:
            return 0
        if self._length <= 0:
            return int(after < base <= until)
        low, high = self._number_after(after, base, wall), self._number_after(until, base, wall)
        if self._first is not None:
            low = max(low, self._first)
        if self._last is not None:
            high = min(high, self._last + 1)
        if high <= low:
            return 0
        return high - low - self._collapsed(low, high, base, wall)

    def _origin(self, anchor: Instant) -> tuple[Instant, Micros]:
        """The instant and the wall time of slot 0."""
        if self._base is not None:
            return self._base
        return anchor, anchor + self.zone.offset_at(anchor // SECOND) * SECOND

    def _slot(self, number: int, base: Instant, wall: Micros) -> Instant:
        """The instant of a slot. `_FAR` or `-_FAR` if it lies outside the years 1 to 9999."""
        months, days, elapsed = self._period
        if number == 0:
            return base
        if not months and not days:
            return base + number * elapsed
        day, time = divmod(wall, DAY)
        ordinal = day + _EPOCH
        if months:
            start = date.fromordinal(ordinal)
            year, month = divmod(start.year * 12 + start.month - 1 + number * months, 12)
            if not 1 <= year <= 9999:
                return _FAR if number > 0 else -_FAR
            ordinal = date(year, month + 1, min(start.day, monthrange(year, month + 1)[1])).toordinal()
        ordinal += number * days
        if not 1 <= ordinal <= _LAST_ORDINAL:
            return _FAR if number > 0 else -_FAR
        return _resolved(self.zone, (ordinal - _EPOCH) * DAY + time) + number * elapsed

    def _number_after(self, instant: Instant, base: Instant, wall: Micros) -> int:
        """The number of the first slot strictly after `instant`. It is estimated, then corrected by a step or two."""
        instant = max(instant, EARLIEST)
        number = (instant - base) // self._length + 1
        if not self._period.months and not self._period.days:
            return number
        while self._slot(number, base, wall) <= instant:
            number += 1
        while self._slot(number - 1, base, wall) > instant:
            number -= 1
        return number

    def _collapsed(self, low: int, high: int, base: Instant, wall: Micros) -> int:
        """The number of slots `low <= k < high` that have the same instant as the slot before them.

        That happens when a gap of a day or more moves a slot to its end (`test_a_day_that_never_was`).
        """
        zone = self.zone
        begin, end = self._slot(low, base, wall), self._slot(high - 1, base, wall)
        total = 0
        for index in range(zone.segment(begin // SECOND), zone.segment(end // SECOND) + 1):
            if zone.starts[index] + zone.offsets[index] - zone.marks[index] >= DAY // SECOND and index:
                number = self._number_after(zone.starts[index] * SECOND, base, wall) - 1
                while number > low and self._slot(number - 1, base, wall) == self._slot(number, base, wall):
                    total += 1
                    number -= 1
        return total


def _resolved(zone: Zone, wall: Micros) -> Instant:
    """The instant of a wall time: in an overlap the first pass, in a gap the first instant after the gap."""
    if zone.fixed is not None:
        return wall - zone.fixed * SECOND
    second, rest = divmod(wall, SECOND)
    shown = zone.instants(second)
    return shown[0] * SECOND + rest if shown else zone.resolve(second) * SECOND


def parse_iso8601(text: str, zone: Zone | None = None) -> Iso8601Trigger:
    """The trigger for `Rn/start/period`, `Rn/start/end` or `Rn/period/end`.

    `zone` is the unit's `TimeZone`. If it is None, days and months follow the offset of the start, or UTC without one.
    A start or end without an offset is read in the zone. An end without an offset has the start's.

    Raises:
        InvalidTrigger: the text does not parse, or its period cannot be repeated.
    """
    try:
        return _parse(text, zone)
    except InvalidTrigger as error:
        raise InvalidTrigger(f"ISO 8601 recurrence {quoted(text)}: {error}") from None


def _parse(text: str, zone: Zone | None) -> Iso8601Trigger:
    parts = text.split("/")
    if len(parts) != 3:
        raise InvalidTrigger(
            f"it has {len(parts)} parts: expected three between slashes, such as R5/2030-01-01T00:00:00Z/PT10M"
        )
    repeats = _REPEATS.fullmatch(parts[0])
    if repeats is None:
        raise InvalidTrigger(f"it begins with {quoted(parts[0])}: expected R (endless repeats), or R5 (five in all)")
    count = int(repeats[1]) if repeats[1] else None
    left, right = parts[1:]
    if not right:
        raise InvalidTrigger("its last part is empty: expected a period such as PT10M, or an end")
    if is_duration(left):
        if is_duration(right):
            raise InvalidTrigger("it has two periods: expected a start or an end beside the period")
        period, end = parse_duration(left), parse_moment(right)
        _check(left, period, count)
        where = _zone_of(end, zone)
        first = None if count is None else min(1 - count, 0)
        return Iso8601Trigger(
            text, where, period, count, _base(end, where), first=first, last=0 if count is None else None
        )
    if not left:
        if not is_duration(right):
            raise InvalidTrigger(f"its start is empty: expected a period such as PT10M behind it, not {quoted(right)}")
        period = parse_duration(right)
        _check(right, period, count)
        return Iso8601Trigger(text, zone or utc, period, count, None)
    start = parse_moment(left)
    where = _zone_of(start, zone)
    base = _base(start, where)
    if is_duration(right):
        period = parse_duration(right)
        _check(right, period, count)
    else:
        end = parse_moment(right)
        until, _ = _base(end if end.offset is not None else Moment(end.wall, start.offset), where)
        period = Duration(0, 0, until - base[0])
        _check(f"from {left} to {right}", period, count)
    return Iso8601Trigger(text, where, period, count, base)


def _zone_of(moment: Moment, zone: Zone | None) -> Zone:
    """The zone of wall times: the unit's zone, else the moment's own offset, else UTC."""
    if zone is not None or not moment.offset:
        return zone or utc
    hours, minutes = divmod(abs(moment.offset) // 60, 60)
    return Zone(f"{'-' if moment.offset < 0 else '+'}{hours:02d}:{minutes:02d}", moment.offset, [])


def _base(moment: Moment, zone: Zone) -> tuple[Instant, Micros]:
    """The instant of a moment, and the wall time of the zone at that instant. Raises InvalidTrigger out of range."""
    if moment.offset is None:
        instant, wall = _resolved(zone, moment.wall), moment.wall
    else:
        instant = moment.wall - moment.offset * SECOND
        wall = instant + zone.offset_at(instant // SECOND) * SECOND
    if min(instant, wall) < EARLIEST or max(instant, wall) > LATEST:
        raise InvalidTrigger("its start or end lies outside the years 1 to 9999")
    return instant, wall


def _check(shown: str, period: Duration, count: int | None) -> None:
    """Raise InvalidTrigger for a period that is not positive or below 1 ms, unless there is nothing to repeat."""
    if count is not None and count <= 1:
        return
    length = period.months * _MONTH + period.days * DAY + period.elapsed
    if length <= 0:
        what = "negative" if length else "zero"
        raise InvalidTrigger(f"the period {quoted(shown)} is {what}, so it cannot repeat: expected a positive one")
    if length < MILLISECOND:
        raise InvalidTrigger(f"the period {quoted(shown)} is below 1 ms: expected at least that for repeats")
