"""One-shot triggers."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xchronos.clock import SECOND, to_instant
from xchronos.errors import InvalidTrigger
from xchronos.triggers.at import parse_at
from xchronos.triggers.base import Trigger


def at(*fields):
    return to_instant(datetime(*fields).replace(tzinfo=UTC))  # noqa: DTZ001 - it gets one


@pytest.mark.parametrize(
    ("text", "expect"),
    [
        ("2030-01-31T09:00:00Z", at(2030, 1, 31, 9)),
        ("2030-01-31t09:00:00z", at(2030, 1, 31, 9)),
        ("2030-01-31 09:00:00Z", at(2030, 1, 31, 9)),
        ("2030-01-31T09:00:00+01:00", at(2030, 1, 31, 8)),
        ("2030-01-31T09:00:00-05:30", at(2030, 1, 31, 14, 30)),
        ("2030-01-31T09:00:00-00:00", at(2030, 1, 31, 9)),
        ("2030-01-31T09:00:00.5Z", at(2030, 1, 31, 9, 0, 0, 500_000)),
        ("2030-01-31T09:00:00.123456789Z", at(2030, 1, 31, 9, 0, 0, 123_456)),
        ("1937-01-01T12:00:27.87+00:20", at(1937, 1, 1, 11, 40, 27, 870_000)),
        ("1900000000", 1_900_000_000 * SECOND),
        ("1900000000123", 1_900_000_000_123_000),
        ("0000000000", 0),
    ],
)
def test_what_is_accepted(text, expect):
    assert parse_at(text).at == expect


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2030-01-31T09:00:00", "has no offset"),
        ("2030-01-31", "is not a date-time"),
        ("2030-01-31T09:00Z", "is not a date-time"),
        ("2030-01-31T09:00:00+01", "is not a date-time"),
        ("2030-01-31T09:00:00+0100", "is not a date-time"),
        ("2030-01-31T09:00:00.Z", "is not a date-time"),
        ("20300131T090000Z", "is not a date-time"),
        ("2030-01-31T09:00:00Z ", "is not a date-time"),
        ("2030-01-31T09:00:00Z\n", "is not a date-time"),
        ("", "is not a date-time"),
        ("tomorrow", "is not a date-time"),
        ("-1900000000", "is not a date-time"),
        ("1900000000.5", "is not a date-time"),
        ("\u0661" * 10, "is not a date-time"),
        ("x" * 100, "xxx...' is not a date-time"),
        ("190000000", "is a number of 9 digits: expected RFC 3339"),
        ("190000000012", "is a number of 12 digits"),
        ("1900000000123456", "is a number of 16 digits"),
        ("2030-02-30T09:00:00Z", "does not exist: day must be in 1..28"),
        ("2030-13-01T09:00:00Z", "does not exist: month must be in 1..12"),
        ("2030-01-01T24:00:00Z", "does not exist: hour must be in 0..23"),
        ("2030-01-01T09:60:00Z", "does not exist: minute must be in 0..59"),
        ("2030-01-01T09:00:61Z", "does not exist: second must be in 0..59"),
        ("0000-01-01T09:00:00Z", "does not exist: year"),
        ("2016-12-31T23:59:60Z", "is a leap second"),
        ("2030-01-31T09:00:00+24:00", "has the offset '+24:00': expected -23:59 to +23:59"),
        ("2030-01-31T09:00:00+01:60", "has the offset '+01:60'"),
        ("9999-12-31T23:00:00-02:00", "outside the years 1 to 9999"),
        ("0001-01-01T00:00:00+02:00", "outside the years 1 to 9999"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(InvalidTrigger) as caught:
        parse_at(text)
    assert message in str(caught.value)


def test_fires_once():
    trigger = parse_at("2030-01-31T09:00:00Z")
    moment = at(2030, 1, 31, 9)
    assert isinstance(trigger, Trigger)
    assert (trigger.kind, trigger.count, trigger.restartable) == ("at", 1, True)
    assert trigger.next_after(moment - 1, 0) == moment
    assert trigger.next_after(moment, 0) is None
    assert [trigger.count_between(moment + a, moment + b, 0) for a, b in ((-1, 0), (-1, 1), (0, 1), (-2, -1))] == [
        1,
        1,
        0,
        0,
    ]
    assert trigger.restart(7).next_after(0, 0) == 7


@settings(deadline=None, derandomize=True)
@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1)),  # noqa: DTZ001 - Hypothesis wants them naive
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_reads_back_every_isoformat(wall, minutes):
    moment = wall.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_at(moment.isoformat()).at == to_instant(moment)
