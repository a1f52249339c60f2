"""ISO 8601 recurrences."""

import json
import os
import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import isodate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xchronos.clock import DAY, HOUR, MINUTE, SECOND, to_instant
from xchronos.errors import InvalidTrigger
from xchronos.triggers.base import Trigger
from xchronos.triggers.iso8601.text import Duration, parse_duration, parse_moment
from xchronos.triggers.iso8601.trigger import parse_iso8601
from xchronos.triggers.zones import zone

CASES = json.loads(
    Path(os.environ.get("XCHRONOS_CONFORMANCE") or Path(__file__).parent.parent / "conformance")
    .joinpath("iso8601_repeat.json")
    .read_text()
)
NOON = to_instant(datetime(2024, 1, 31, 12, tzinfo=UTC))


def at(text):
    return to_instant(datetime.fromisoformat(text).replace(tzinfo=UTC))


def fires(trigger, start, number, anchor=NOON):
    found = []
    for _ in range(number):
        start = trigger.next_after(start, anchor)
        if start is None:
            break
        found.append(start)
    return found


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_conformance(case):
    if case.get("expect_error"):
        with pytest.raises(InvalidTrigger):
            parse_iso8601(case["expr"])
        return
    trigger = parse_iso8601(case["expr"], zone(case["tz"]) if case.get("tz") else None)
    # The grid alone is endless: the Schedule spends the count. Instants "at or after from" are asked for.
    start = to_instant(datetime.fromisoformat(case["from"])) - 1
    spent = trigger.count_between(at("0001-01-02"), start, start)
    left = case["n"] if trigger.count is None else max(min(case["n"], trigger.count - spent), 0)
    found = fires(trigger, start, left, start)
    assert found == [to_instant(datetime.fromisoformat(text)) for text in case["expect"]]


def test_what_it_is():
    trigger = parse_iso8601("R5/2030-01-01T00:00:00Z/PT10M")
    assert isinstance(trigger, Trigger)
    assert (trigger.kind, trigger.count, trigger.restartable) == ("iso8601", 5, True)
    assert repr(trigger) == "Iso8601Trigger('R5/2030-01-01T00:00:00Z/PT10M', 'UTC')"
    endless = parse_iso8601("R/2030-01-01T00:00:00Z/PT10M")
    assert (endless.count, endless.restartable) == (None, False)
    assert endless.restart(5) is endless


def test_an_empty_start_is_the_anchor():
    trigger = parse_iso8601("R3//PT1H")
    assert fires(trigger, NOON - 1, 3) == [NOON, NOON + HOUR, NOON + 2 * HOUR]
    assert fires(trigger, NOON - 1, 1, NOON + 5) == [NOON + 5]
    monthly = parse_iso8601("R//P1M")
    assert fires(monthly, NOON, 3) == [at("2024-02-29T12:00"), at("2024-03-31T12:00"), at("2024-04-30T12:00")]


def test_a_restarted_grid_begins_anew():
    trigger = parse_iso8601("R3/2024-01-31T12:00:00Z/P1M").restart(at("2024-05-31T08:00"))
    assert trigger.count == 3
    assert fires(trigger, at("2020-01-01"), 3) == [
        at("2024-05-31T08:00"),
        at("2024-06-30T08:00"),
        at("2024-07-31T08:00"),
    ]
    assert fires(parse_iso8601("R3/P1D/2024-01-31T12:00:00Z").restart(NOON + 5), 0, 2) == [NOON + 5, NOON + DAY + 5]
    assert parse_iso8601("R3//PT1H").restart(7).next_after(0, NOON) == 7


def test_no_repeats_are_no_fires():
    for text in ("R0/2024-01-31T12:00:00Z/P1D", "R0//PT0S", "R0/P1D/2024-01-31T12:00:00Z"):
        trigger = parse_iso8601(text)
        assert trigger.count == 0
        assert trigger.next_after(0, NOON) is None
        assert trigger.count_between(0, 2 * NOON, NOON) == 0


@pytest.mark.parametrize("period", ["PT0S", "-P1D", "P0Y", "PT0.0001S"])
def test_one_repeat_may_have_any_period(period):
    trigger = parse_iso8601(f"R1/2024-01-31T12:00:00Z/{period}")
    assert fires(trigger, 0, 1) == [NOON]
    assert trigger.count_between(NOON - 1, NOON, 0) == 1
    if period != "PT0.0001S":
        assert trigger.next_after(NOON, 0) is None
        assert trigger.count_between(NOON, NOON + DAY, 0) == 0


@pytest.mark.parametrize(
    ("text", "start", "expect"),
    [
        ("R/2024-01-31T00:00:00Z/P1M", "2024-01-31", ["2024-02-29", "2024-03-31", "2024-04-30"]),
        ("R/2023-01-31T00:00:00Z/P1M", "2023-01-31", ["2023-02-28", "2023-03-31"]),
        ("R/2024-02-29T00:00:00Z/P1Y", "2024-02-29", ["2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]),
        ("R/2024-02-29T00:00:00Z/P1Y1M", "2024-02-29", ["2025-03-29", "2026-04-29"]),
        ("R/2024-01-31T00:00:00Z/P1M1D", "2024-01-31", ["2024-03-01", "2024-04-02", "2024-05-03"]),
        ("R/2024-01-01T00:00:00Z/P1W", "2024-01-01", ["2024-01-08", "2024-01-15"]),
        ("R/2024-01-01T00:00:00Z/P1W2D", "2024-01-01", ["2024-01-10", "2024-01-19"]),
        ("R/2024-01-01T00:00:00Z/P0.5W", "2024-01-01", ["2024-01-04T12:00", "2024-01-08"]),
        ("R/2024-01-01T00:00:00Z/P1.5D", "2024-01-01", ["2024-01-02T12:00", "2024-01-04"]),
        ("R/2024-01-01T00:00:00Z/PT1,5H", "2024-01-01", ["2024-01-01T01:30", "2024-01-01T03:00"]),
        ("R/2024-01-01T00:00:00Z/PT0.1S", "2024-01-01", ["2024-01-01T00:00:00.1", "2024-01-01T00:00:00.2"]),
        ("R/20240101T000000Z/+PT36H", "2024-01-01", ["2024-01-02T12:00"]),
        ("R/2024-01-01T00:00:00Z/P0001-02-03T04:05:06", "2024-01-01", ["2025-03-04T04:05:06"]),
        ("R/2024-01-01T00:00:00Z/P00000001T000000.5", "2024-01-01", ["2024-01-02T00:00:00.5"]),
        ("R/2024-01-01T00:00:00Z/2024-01-01T08:00:00Z", "2024-01-01", ["2024-01-01T08:00", "2024-01-01T16:00"]),
        ("R/2024-01-01T00:00:00+02:00/2024-01-01T08:00:00", "2023-12-31T22:00", ["2024-01-01T06:00"]),
        ("R3/P1D/2024-01-10T00:00:00Z", "2000-01-01", ["2024-01-08", "2024-01-09", "2024-01-10"]),
        ("R3/P1M/2024-05-31T00:00:00Z", "2000-01-01", ["2024-03-31", "2024-04-30", "2024-05-31"]),
        ("R1/P1M/2024-05-31T00:00:00Z", "2000-01-01", ["2024-05-31"]),
        # The day's end in the start's own offset: February has 29 days there.
        ("R/2024-01-31T00:30:00+05:00/P1M", "2024-01-30T19:30", ["2024-02-28T19:30", "2024-03-30T19:30"]),
        ("R/2024-01-31T23:30:00-0530/P1M", "2024-02-01T05:00", ["2024-03-01T05:00", "2024-04-01T05:00"]),
        ("R/2024-01-01/P1M", "2024-01-31T12:00", ["2024-02-01", "2024-03-01"]),
        ("R/2024-W01-1/P1D", "2023-12-31", ["2024-01-01", "2024-01-02"]),
        ("R/2024W017T10/P1D", "2023-12-31", ["2024-01-07T10:00"]),
        ("R/2024-366T24:00Z/P1D", "2023-12-31", ["2025-01-01"]),
    ],
)
def test_slots(text, start, expect):
    trigger = parse_iso8601(text)
    assert fires(trigger, at(start), len(expect)) == [at(moment) for moment in expect]
    assert trigger.count_between(at(start), at(expect[-1]), 0) == len(expect)


def test_an_endless_recurrence_up_to_an_end():
    trigger = parse_iso8601("R/P1M/2024-05-31T00:00:00Z")
    assert fires(trigger, at("2024-03-15"), 9) == [at("2024-03-31"), at("2024-04-30"), at("2024-05-31")]
    assert trigger.count_between(at("2023-05-31"), at("2034-01-01"), 0) == 12
    assert trigger.count_between(at("2025-05-31"), at("2034-01-01"), 0) == 0
    assert trigger.next_after(at("0001-01-01") - DAY, 0) == at("0001-01-31")
    assert parse_iso8601("R99999/P1Y/2024-05-31T00:00:00Z").next_after(at("0001-01-01"), 0) == at("0001-05-31")


@pytest.mark.parametrize(
    ("text", "start", "expect"),
    [
        # Berlin: 2021-03-28 has no 02:30, 2021-10-31 has two.
        ("R/2021-03-27T02:30:00/P1D", "2021-03-27", ["2021-03-27T01:30", "2021-03-28T01:00", "2021-03-29T00:30"]),
        ("R/2021-03-28T02:30:00/P1D", "2021-03-27", ["2021-03-28T01:00", "2021-03-29T00:30"]),
        ("R/2021-03-27T02:30:00/PT24H", "2021-03-27", ["2021-03-27T01:30", "2021-03-28T01:30", "2021-03-29T01:30"]),
        ("R/2021-10-30T02:30:00.5/P1D", "2021-10-30T12:00", ["2021-10-31T00:30:00.5", "2021-11-01T01:30:00.5"]),
        ("R/2021-10-31T02:30:00+01:00/P1D", "2021-10-31T00:45", ["2021-10-31T01:30", "2021-11-01T01:30"]),
        ("R/2021-03-27T12:00:00Z/P1DT1H", "2021-03-27T12:00", ["2021-03-28T12:00", "2021-03-29T13:00"]),
    ],
)
def test_days_keep_the_wall_clock_and_hours_elapse(text, start, expect):
    trigger = parse_iso8601(text, zone("Europe/Berlin"))
    assert fires(trigger, at(start), len(expect)) == [at(moment) for moment in expect]


def test_a_day_that_never_was():
    trigger = parse_iso8601("R/2011-12-28T00:00:00/P1D", zone("Pacific/Apia"))
    found = fires(trigger, at("2011-12-28"), 4)
    assert found == [at("2011-12-28T10:00"), at("2011-12-29T10:00"), at("2011-12-30T10:00"), at("2011-12-31T10:00")]
    assert trigger.count_between(at("2011-12-28"), found[-1], 0) == 4
    assert trigger.count_between(found[1], found[2], 0) == 1
    assert trigger.count_between(at("1970-01-01"), at("2012-12-28"), 0) == 366


def test_nothing_beyond_the_year_9999():
    for text in ("R/2024-01-01/P8000Y", "R/2024-01-01/P3000000D", "R/2024-01-01/PT99999999H"):
        trigger = parse_iso8601(text)
        assert trigger.next_after(at("2024-01-01"), 0) is None
        assert trigger.next_after(1 << 62, 0) is None
        assert trigger.count_between(at("2023-12-31"), 1 << 62, 0) == 1
    assert parse_iso8601("R/P3000000D/2024-01-01").next_after(-(1 << 62), 0) == at("2024-01-01")


def test_distance_costs_nothing():
    minutely = parse_iso8601("R/2010-01-01T00:00:00Z/PT1M")
    daily = parse_iso8601("R/1971-01-01T00:00:00/P1D", zone("Europe/Berlin"))
    begin = time.thread_time()
    for _ in range(200):
        assert minutely.next_after(at("2024-01-01T00:00:30"), 0) == at("2024-01-01T00:01")
        assert minutely.count_between(at("2010-01-01"), at("2024-01-01"), 0) == 5113 * 1440
        assert daily.next_after(at("2024-01-01"), 0) == at("2024-01-01T23:00")
    assert time.thread_time() - begin < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has 1 parts: expected three"),
        ("R5", "it has 1 parts"),
        ("R5/P1D", "it has 2 parts"),
        ("R5/2024-01-01T00:00:00Z/P1D/", "it has 4 parts"),
        ("5/2024-01-01T00:00:00Z/P1D", "it begins with '5'"),
        ("R-1/2024-01-01T00:00:00Z/P1D", "it begins with 'R-1'"),
        ("R1.5/2024-01-01T00:00:00Z/P1D", "it begins with 'R1.5'"),
        ("r5/2024-01-01T00:00:00Z/P1D", "it begins with 'r5'"),
        ("R\u0665/2024-01-01T00:00:00Z/P1D", "it begins with"),
        (" R5/2024-01-01T00:00:00Z/P1D", "it begins with ' R5'"),
        ("R5/2024-01-01T00:00:00Z/", "its last part is empty"),
        ("R5//", "its last part is empty"),
        ("R5/P1D/", "its last part is empty"),
        ("R5/P1D/P1D", "it has two periods"),
        ("R5//2024-01-01", "its start is empty"),
        ("R5/2024-01-01T00:00:00Z/PT0S", "the period 'PT0S' is zero"),
        ("R/2024-01-01T00:00:00Z/P0D", "the period 'P0D' is zero"),
        ("R//-P1D", "the period '-P1D' is negative"),
        ("R2/-PT1H/2024-01-01", "the period '-PT1H' is negative"),
        ("R2/2024-01-01/2024-01-01", "the period 'from 2024-01-01 to 2024-01-01' is zero"),
        ("R2/2024-01-02/2024-01-01", "is negative"),
        ("R2//PT0.0009S", "is below 1 ms"),
        ("R2//P", "the period 'P' is empty: expected"),
        ("R2//PT", "the period 'PT' is empty behind its T"),
        ("R2//P1DT", "the period 'P1DT' is empty behind its T"),
        ("R2//PT1D", "the period 'PT1D' does not parse"),
        ("R2//P1H", "does not parse"),
        ("R2//P1S", "does not parse"),
        ("R2//P1D1Y", "does not parse"),
        ("R2//P1D1D", "does not parse"),
        ("R2//PT1H30", "does not parse"),
        ("R2//P1D ", "does not parse"),
        ("R2//P1DT1H\n", "does not parse"),
        ("R2//P-1D", "does not parse"),
        ("R2//PT.5S", "does not parse"),
        ("R2//PT5.S", "does not parse"),
        ("R2//--P1D", "does not parse"),
        ("R2//1D", "its start is empty"),
        ("R2//p1d", "its start is empty"),
        ("R2//P1.5Y", "a fraction of a year or month"),
        ("R2//P0.5M", "a fraction of a year or month"),
        ("R2//P1.5DT1H", "a fraction in the middle"),
        ("R2//P1.5Y1D", "a fraction in the middle"),
        ("R2//P0001-13-00T00:00:00", "a part out of range"),
        ("R2//P0001-01-00T00:61:00", "a part out of range"),
        ("R2//P0001-0100T00:00:00", "does not parse"),
        ("R3 1981-04-05 P1D", "it has 1 parts"),
        ("R5/2024-13-01T00:00:00Z/P1D", "does not exist: month must be in 1..12"),
        ("R5/2024-00-01T00:00:00Z/P1D", "does not exist"),
        ("R5/2023-02-29T00:00:00Z/P1D", "does not exist: day"),
        ("R5/0000-01-01T00:00:00Z/P1D", "does not exist: year"),
        ("R5/2024-W54-1/P1D", "does not exist"),
        ("R5/2024-W00-1/P1D", "does not exist"),
        ("R5/2024-W01-8/P1D", "does not exist"),
        ("R5/2024-000/P1D", "the year 2024 has no day 000"),
        ("R5/2023-366/P1D", "the year 2023 has no day 366"),
        ("R5/0000-001/P1D", "does not exist: year"),
        ("R5/2024-01-01T25:00:00Z/P1D", "no such time of day"),
        ("R5/2024-01-01T24:00:01Z/P1D", "no such time of day"),
        ("R5/2024-01-01T10:60:00Z/P1D", "no such time of day"),
        ("R5/2024-01-01T10:00:61Z/P1D", "no such time of day"),
        ("R5/2016-12-31T23:59:60Z/P1D", "is a leap second"),
        ("R5/2024-01-01T10:00:00+24:00/P1D", "the offset '+24:00'"),
        ("R5/2024-01-01T10:00:00+01:60/P1D", "the offset '+01:60'"),
        ("R5/2024-01-01 10:00:00Z/P1D", "is not a date-time"),
        ("R5/2024-01-01T/P1D", "is not a date-time"),
        ("R5/2024-01-01Z/P1D", "is not a date-time"),
        ("R5/2024-0101/P1D", "is not a date-time"),
        ("R5/2024-01-01T10:0000Z/P1D", "is not a date-time"),
        ("R5/2024-1-1/P1D", "is not a date-time"),
        ("R5/2024/P1D", "is not a date-time"),
        ("R5/2024-01/P1D", "is not a date-time"),
        ("R5/tomorrow/P1D", "is not a date-time"),
        ("R5/9999-12-31T24:00:00Z/P1D", "outside the years 1 to 9999"),
        ("R5/0001-01-01T00:00:00+01:00/P1D", "outside the years 1 to 9999"),
        ("R5/" + "9" * 80 + "/P1D", "999...': "),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(InvalidTrigger) as caught:
        parse_iso8601(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("ISO 8601 recurrence '" if "\n" not in text else "ISO")


@settings(deadline=None, derandomize=True)
@given(
    years=st.integers(0, 99),
    months=st.integers(0, 99),
    days=st.integers(0, 999),
    hours=st.integers(0, 99),
    seconds=st.decimals(0, 999, places=3),
)
def test_durations_read_as_isodate_reads_them(years, months, days, hours, seconds):
    text = f"P{years}Y{months}M{days}DT{hours}H{seconds}S"
    found = isodate.parse_duration(text, as_timedelta_if_possible=False)
    assert parse_duration(text) == Duration(
        int(found.years * 12 + found.months),
        days,
        (found.tdelta - timedelta(days=days)) // timedelta(microseconds=1),
    )


@settings(deadline=None, derandomize=True)
@given(
    moment=st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001 - Hypothesis wants them naive
    form=st.sampled_from(
        [
            "%Y-%m-%dT%H:%M:%S.%fZ",
            "%Y%m%dT%H%M%S+0100",
            "%Y-%jT%H:%M-05",
            "%Y%jT%H",
            "%G-W%V-%uT%H%M",
            "%G%m%dT%H:%M:%S,%fZ",
        ]
    ),
)
def test_date_times_read_as_isodate_reads_them(moment, form):
    if "%G%m" in form:
        form = form.replace("%G", "%Y")
    text = moment.strftime(form)
    wanted = isodate.parse_datetime(text)
    found = parse_moment(text)
    assert found.wall == to_instant(wanted.replace(tzinfo=UTC))
    assert found.offset == (None if wanted.tzinfo is None else wanted.utcoffset().total_seconds())


def shifted(start, months):
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    for day in (start.day, 30, 29, 28):
        try:
            return start.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue
    raise AssertionError


@settings(deadline=None, derandomize=True)
@given(
    months=st.integers(0, 30),
    days=st.integers(0, 40),
    minutes=st.integers(0, 5000),
    start=st.dates(date(1990, 1, 1), date(2020, 12, 31)),
    name=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia", "Australia/Lord_Howe"]),
    ahead=st.integers(-5000 * DAY, 9000 * DAY),
)
def test_agrees_with_brute_force(months, days, minutes, start, name, ahead):
    if not (months or days or minutes):
        minutes = 1
    where = zone(name)
    period = f"P{months}M{days}DT{minutes}M"
    trigger = parse_iso8601(f"R/{start}T02:15/{period}", where)
    slots = []
    for number in range(400):
        day = shifted(start, number * months) + timedelta(days=number * days)
        wall = (day - date(1970, 1, 1)).days * 86_400 + 8100
        slots.append(where.resolve(wall) * SECOND + number * minutes * MINUTE)
    distinct = sorted(set(slots))
    found = fires(trigger, distinct[0] - 1, 300)
    assert found == distinct[:300]
    assert all(before < after for before, after in pairwise(found))
    assert trigger.count_between(distinct[0] - 1, distinct[299], 0) == 300
    point = min(distinct[0] + ahead, distinct[299])
    following = trigger.next_after(point, 0)
    assert following == next(slot for slot in distinct if slot > point)
    assert trigger.count_between(point, distinct[299], 0) == sum(point < slot <= distinct[299] for slot in distinct)
