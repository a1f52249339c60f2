"""Changes of the clock in examples: gaps and overlaps as Debian's cron treats them, for both field counts."""

from datetime import datetime

import pytest

from xchronos.clock import SECOND, to_datetime, to_instant
from xchronos.triggers.cron.expression import parse_cron
from xchronos.triggers.zones import Zone, zone


def fires(text, place, begin, number):
    trigger = parse_cron(text, zone=zone(place))
    after = at = to_instant(datetime.fromisoformat(begin))
    found = []
    for _ in range(number):
        at = trigger.next_after(at, 0)
        found.append(to_datetime(at).strftime("%m-%dT%H:%M:%S").removesuffix(":00"))
    assert trigger.count_between(after, at, 0) == number
    assert trigger.count_between(after, at - 1, 0) == number - 1
    return found


NEW_YORK, LORD_HOWE, APIA = "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"


@pytest.mark.parametrize(
    ("text", "place", "begin", "expected"),
    [
        # The gap 02:00-03:00 (07:00Z) of a fixed schedule: once, at its end; several collapse, with 03:00 itself too.
        ("30 2 * * *", NEW_YORK, "2024-03-09T12:00Z", ["03-10T07:00", "03-11T06:30"]),
        ("0,30 2 * * *", NEW_YORK, "2024-03-09T12:00Z", ["03-10T07:00", "03-11T06:00", "03-11T06:30"]),
        ("0 2,3 * * *", NEW_YORK, "2024-03-09T12:00Z", ["03-10T07:00", "03-11T06:00", "03-11T07:00"]),
        ("0 30 2 * * *", NEW_YORK, "2024-03-09T12:00Z", ["03-10T07:00", "03-11T06:30"]),
        ("* 30 2 * * *", NEW_YORK, "2024-03-10T06:00Z", ["03-10T07:00", "03-11T06:30", "03-11T06:30:01"]),
        ("15 3 * * *", NEW_YORK, "2024-03-09T12:00Z", ["03-10T07:15", "03-11T07:15"]),
        ("30 2 10 3 *", NEW_YORK, "2024-03-09T12:00Z", ["03-10T07:00"]),
        ("30 2 10 3 *", NEW_YORK, "2024-03-10T06:59:59Z", ["03-10T07:00"]),
        # From the gap's end on it is over.
        ("30 2 * * *", NEW_YORK, "2024-03-10T07:00Z", ["03-11T06:30"]),
        # A wildcard schedule skips the gap.
        ("*/30 2 * * *", NEW_YORK, "2024-03-09T12:00Z", ["03-11T06:00", "03-11T06:30"]),
        ("30 * * * *", NEW_YORK, "2024-03-10T06:00Z", ["03-10T06:30", "03-10T07:30"]),
        ("0 */2 * * *", NEW_YORK, "2024-03-10T04:30Z", ["03-10T05:00", "03-10T08:00"]),
        ("*/20 30 2 * * *", NEW_YORK, "2024-03-09T12:00Z", ["03-10T07:00", "03-11T06:30", "03-11T06:30:20"]),
        # The overlap 01:00-02:00 (05:00Z and 06:00Z) of a fixed schedule: its first pass.
        ("30 1 * * *", NEW_YORK, "2024-11-03T00:00Z", ["11-03T05:30", "11-04T06:30"]),
        ("30 1 * * *", NEW_YORK, "2024-11-03T06:00Z", ["11-04T06:30"]),
        ("0 0 1 * * *", NEW_YORK, "2024-11-03T00:00Z", ["11-03T05:00", "11-04T06:00"]),
        ("0 2 * * *", NEW_YORK, "2024-11-03T00:00Z", ["11-03T07:00", "11-04T07:00"]),
        ("15,45 0-2 * * *", NEW_YORK, "2024-11-03T05:00Z", ["11-03T05:15", "11-03T05:45", "11-03T07:15"]),
        # A wildcard schedule: both.
        ("*/30 1 * * *", NEW_YORK, "2024-11-03T00:00Z", ["11-03T05:00", "11-03T05:30", "11-03T06:00", "11-03T06:30"]),
        ("0 30 * * * *", NEW_YORK, "2024-11-03T05:00Z", ["11-03T05:30", "11-03T06:30", "11-03T07:30"]),
        # Half an hour: 02:00 becomes 02:30 (15:30Z), 02:00 becomes 01:30 (15:00Z).
        ("15 2 * * *", LORD_HOWE, "2024-10-05T00:00Z", ["10-05T15:30", "10-06T15:15"]),
        ("*/10 2 * * *", LORD_HOWE, "2024-10-05T15:00Z", ["10-05T15:30", "10-05T15:40", "10-05T15:50", "10-06T15:00"]),
        ("45 1 * * *", LORD_HOWE, "2024-04-06T00:00Z", ["04-06T14:45", "04-07T15:15"]),
        ("*/45 * * * *", LORD_HOWE, "2024-04-06T14:30Z", ["04-06T14:45", "04-06T15:15", "04-06T15:30"]),
        # Gaps at midnight: the day's first hour is late, the rest is kept.
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00Z", ["11-04T03:00", "11-05T02:00"]),
        ("0 12 4 11 *", "America/Sao_Paulo", "2018-11-03T12:00Z", ["11-04T14:00"]),
        ("*/15 0,1 4 11 *", "America/Sao_Paulo", "2018-11-03T12:00Z", ["11-04T03:00", "11-04T03:15"]),
        ("0 0 * * *", "Asia/Beirut", "2024-03-30T12:00Z", ["03-30T22:00", "03-31T21:00"]),
        ("30 0 26 4 *", "Africa/Cairo", "2024-04-25T12:00Z", ["04-25T22:00"]),
        ("* * 26 4 *", "Africa/Cairo", "2024-04-25T12:00Z", ["04-25T22:00", "04-25T22:01"]),
        # An overlap over midnight: 24:00 becomes 23:00.
        ("30 23 * * *", "America/Sao_Paulo", "2018-02-17T12:00Z", ["02-18T01:30", "02-19T02:30"]),
        ("0 0 18 2 *", "America/Sao_Paulo", "2018-02-17T12:00Z", ["02-18T03:00"]),
        # A day that never was.
        ("0 12 * * *", APIA, "2011-12-29T12:00Z", ["12-29T22:00", "12-30T10:00", "12-30T22:00"]),
        ("0 12 30 12 *", APIA, "2011-12-29T12:00Z", ["12-30T10:00"]),
        ("0 0 * * *", APIA, "2011-12-29T12:00Z", ["12-30T10:00", "12-31T10:00"]),
        ("0 * 30 12 *", APIA, "2011-12-29T12:00Z", ["12-29T10:00", "12-29T11:00"]),
        # Rules that changed, and rules of the far future.
        ("30 2 * * *", NEW_YORK, "2006-04-01T12:00Z", ["04-02T07:00", "04-03T06:30"]),
        ("30 2 * * *", NEW_YORK, "2199-03-09T12:00Z", ["03-10T07:00", "03-11T06:30"]),
        ("30 1 * * *", NEW_YORK, "2199-11-03T00:00Z", ["11-03T05:30", "11-04T06:30"]),
    ],
)
def test_examples(text, place, begin, expected):
    assert fires(text, place, begin, len(expected)) == expected


def test_a_search_over_many_transitions():
    assert fires("0 9 29 2 *", NEW_YORK, "2096-03-01T00:00Z", 2) == ["02-29T14:00", "02-29T14:00"]
    trigger = parse_cron("0 0 9 29 2 ? 2000-2004", zone=zone(NEW_YORK))
    last = to_instant(datetime.fromisoformat("2004-02-29T14:00Z"))
    assert trigger.next_after(last - 1, 0) == last
    assert trigger.next_after(last, 0) is None


def test_a_year_that_ends_in_an_overlap():
    """Nothing follows on the wall clock, but the clock falls back behind what it showed."""
    place = Zone("test", 0, [(1000, -600)])
    twice = parse_cron("0 */10 0 1 1 ? 1970", zone=place)
    assert [twice.next_after(900 * SECOND, 0), twice.next_after(1200 * SECOND, 0)] == [1200 * SECOND, 1800 * SECOND]
    ends = parse_cron("0 */40 0 1 1 ? 1970", zone=Zone("test", 0, [(2500, -600)]))
    assert ends.next_after(2400 * SECOND, 0) == 3000 * SECOND
    assert ends.next_after(3000 * SECOND, 0) is None
    once = parse_cron("0 40 0 1 1 ? 1970", zone=Zone("test", 0, [(2500, -600)]))
    assert once.next_after(2400 * SECOND, 0) is None


def test_transitions_close_to_each_other():
    place = Zone("test", 0, [(600, 1200), (900, -1200), (1000, 0)])
    fixed = parse_cron("0 0-59 0-23 * * *", zone=place)
    found, at = [], 0
    while len(found) < 12:
        at = fixed.next_after(at, 0)
        found.append(at // SECOND)
    # 00:10 jumps to 00:30 and runs to 00:35; falls back by 40 minutes, then forward by 20: 00:35 comes at 2100.
    assert found == [60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 660, 720]
    assert fixed.next_after(900 * SECOND - 1, 0) == 2100 * SECOND
    assert fixed.count_between(0, 2100 * SECOND, 0) == 9 + 5 + 1
