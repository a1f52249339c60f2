"""Readers of ISO 8601 durations and date-times. They are strict, and exact to the microsecond.

isodate is not used, because it computes with floats and accepts fractions anywhere, week 0 and month 0. The tests
`test_durations_read_as_isodate_reads_them` and `test_date_times_read_as_isodate_reads_them` compare the two where both
accept a text.
"""

import re
from datetime import date
from typing import NamedTuple

from xchronos.clock import DAY, HOUR, MINUTE, SECOND, Micros
from xchronos.errors import InvalidTrigger, quoted
from xchronos.triggers.limits import out_of_range

_N = r"([0-9]{1,15}(?:[.,][0-9]+)?)"
_DURATION = re.compile(rf"([+-]?)P(?:{_N}Y)?(?:{_N}M)?(?:{_N}W)?(?:{_N}D)?(T(?:{_N}H)?(?:{_N}M)?(?:{_N}S)?)?")
_ALTERNATIVE = re.compile(
    r"([+-]?)P([0-9]{4})(-?)([0-9]{2})\3([0-9]{2})T([0-9]{2})(:?)([0-9]{2})\7([0-9]{2}(?:[.,][0-9]+)?)"
)
_MOMENT = re.compile(
    r"(?P<year>[0-9]{4})"
    r"(?:(-?)(?P<month>[0-9]{2})\2(?P<day>[0-9]{2})|(-?)W(?P<week>[0-9]{2})\5(?P<weekday>[0-9])|-?(?P<ordinal>[0-9]{3}))"
    r"(?:T(?P<hour>[0-9]{2})(?:(?P<colon>:?)(?P<minute>[0-9]{2})(?:(?P=colon)(?P<second>[0-9]{2}))?)?(?:[.,](?P<part>[0-9]+))?"
    r"(?P<offset>Z|(?P<sign>[+-])(?P<ahead>[0-9]{2})(?::?(?P<minutes>[0-9]{2}))?)?)?"
)
_EPOCH = date(1970, 1, 1).toordinal()


class Duration(NamedTuple):
    """A length of time. All three parts have the same sign, or are 0."""

    months: int
    """Months on the wall clock. A year is 12 of them."""
    days: int
    """Days on the wall clock. A week is 7 of them."""
    elapsed: Micros
    """Elapsed time, in microseconds."""


class Moment(NamedTuple):
    """A wall time, with its offset if the text has one."""

    wall: Micros
    """Microseconds since 1970-01-01, as if the clock were UTC."""
    offset: int | None
    """Seconds that the clock is ahead of UTC. None if the text has no offset."""


def is_duration(text: str) -> bool:
    """Whether the text begins as a duration does: with `P`, after an optional sign."""
    return text.lstrip("+-").startswith("P")


def parse_duration(text: str) -> Duration:
    """Read `P1Y2M3W4DT5H6M7.8S` or the alternative form `P0001-02-03T04:05:06`.

    Only the last part may have a fraction, and only if it is not years or months. The fraction of a day that is left of
    a fraction of days or weeks is elapsed time.

    Raises:
        InvalidTrigger: the text is no duration.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        return _alternative(text)
    sign, *dates, clock, hours, minutes, seconds = found.groups()
    parts = [*dates, hours, minutes, seconds]
    given = [part for part in parts if part is not None]
    if not given or clock == "T":
        where = " behind its T" if clock else ""
        raise InvalidTrigger(f"the period {quoted(text)} is empty{where}: expected such as PT10M")
    if any("." in part or "," in part for part in given[:-1]):
        raise InvalidTrigger(f"the period {quoted(text)} has a fraction in the middle: only its last part may have one")
    if any("." in part or "," in part for part in dates[:2] if part):
        raise InvalidTrigger(f"the period {quoted(text)} has a fraction of a year or month: no such length is defined")
    years, months, weeks, days, *times = (part or "0" for part in parts)
    whole = _scaled(weeks, 7 * DAY) + _scaled(days, DAY)
    elapsed = sum(_scaled(part, unit) for part, unit in zip(times, (HOUR, MINUTE, SECOND), strict=True))
    return _signed(sign, int(years) * 12 + int(months), whole // DAY, whole % DAY + elapsed)


def _alternative(text: str) -> Duration:
    found = _ALTERNATIVE.fullmatch(text)
    if found is None:
        raise InvalidTrigger(
            f"the period {quoted(text)} does not parse: expected PnYnMnWnDTnHnMnS in this order, such as P1D or PT10M"
        )
    sign, years, _, months, days, hours, _, minutes, seconds = found.groups()
    parts = ((months, 12), (days, 31), (hours, 24), (minutes, 60), (seconds[:2], 60))
    if any(int(part) > most for part, most in parts):
        raise InvalidTrigger(
            f"the period {quoted(text)} has a part out of range: "
            "expected up to 12 months, 31 days, 24 hours, 60 minutes, 60 seconds"
        )
    elapsed = int(hours) * HOUR + int(minutes) * MINUTE + _scaled(seconds, SECOND)
    return _signed(sign, int(years) * 12 + int(months), int(days), elapsed)


def _signed(sign: str, months: int, days: int, elapsed: Micros) -> Duration:
    return Duration(-months, -days, -elapsed) if sign == "-" else Duration(months, days, elapsed)


def _scaled(number: str, unit: Micros) -> Micros:
    """A decimal number of units, in microseconds. Digits below a microsecond are dropped."""
    whole, _, part = number.replace(",", ".").partition(".")
    return int(whole) * unit + (_fraction(part) * unit // 10**18 if part else 0)


def _fraction(digits: str) -> int:
    """The digits after a decimal point, in units of 10^-18."""
    return int(digits[:18].ljust(18, "0"))


def parse_moment(text: str) -> Moment:
    """Read a date, in calendar, week or ordinal form, basic or extended. A time and an offset may follow.

    Without a time, it is midnight. `24:00` is the end of the day. The last part of the time may have a fraction.

    Raises:
        InvalidTrigger: the text is no date-time, or no such date-time exists.
    """
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise InvalidTrigger(
            f"{quoted(text)} is not a date-time: expected such as 2030-01-31T09:00:00Z or 20300131T090000+0100"
        )
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    unit = SECOND if found["second"] else MINUTE if found["minute"] else HOUR
    part = _fraction(found["part"]) * unit // 10**18 if found["part"] else 0
    if second == 60:
        raise InvalidTrigger(f"{quoted(text)} is a leap second: unix time has none, expected seconds 00 to 59")
    if minute > 59 or second > 60 or hour > 24 or (hour == 24 and (minute or second or part)):
        raise InvalidTrigger(f"{quoted(text)} has no such time of day: expected 00:00:00 to 24:00:00")
    wall = (_ordinal(text, found) - _EPOCH) * DAY + hour * HOUR + minute * MINUTE + second * SECOND + part
    if not found["sign"]:
        return Moment(wall, 0 if found["offset"] else None)
    ahead, minutes = int(found["ahead"]), int(found["minutes"] or 0)
    if ahead > 23 or minutes > 59:
        raise InvalidTrigger(f"{quoted(text)} has the offset {found['offset']!r}: expected -23:59 to +23:59")
    seconds = ahead * 3600 + minutes * 60
    return Moment(wall, -seconds if found["sign"] == "-" else seconds)


def _ordinal(text: str, found: re.Match[str]) -> int:
    """The proleptic Gregorian ordinal of the date, as `date.toordinal` counts. Raises InvalidTrigger."""
    year, month, of_month = int(found["year"]), int(found["month"] or 1), int(found["day"] or 1)
    wrong = out_of_range(year, month, of_month)
    if wrong:
        raise InvalidTrigger(f"{quoted(text)} does not exist: {wrong}")
    if found["month"]:
        return date(year, month, of_month).toordinal()
    if found["week"]:
        try:
            return date.fromisocalendar(year, int(found["week"]), int(found["weekday"])).toordinal()
        except ValueError:
            week = f"W{found['week']}-{found['weekday']}"
            raise InvalidTrigger(f"{quoted(text)} does not exist: the year {year} has no day {week}") from None
    first, last = date(year, 1, 1).toordinal(), date(year, 12, 31).toordinal()
    day = first + int(found["ordinal"]) - 1
    if not first <= day <= last:
        raise InvalidTrigger(f"{quoted(text)} does not exist: the year {year} has no day {found['ordinal']}")
    return day
