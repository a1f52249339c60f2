"""Cron arithmetic against slow walkers, and against croniter and cronsim wherever their rules are ours."""

import zoneinfo
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources

import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xchronos.clock import DAY, MINUTE, SECOND, to_datetime, to_instant
from xchronos.triggers.cron.expression import parse_cron
from xchronos.triggers.zones import zone

repeatable = settings(derandomize=True, deadline=None)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LIMITS = {"minute": (0, 59), "hour": (0, 23), "dom": (1, 31), "month": (1, 12), "dow": (0, 6)}


@st.composite
def fields(draw, name, *, stars=True):
    """A field's text and the set of its values."""
    low, high = LIMITS[name]
    forms = ["value", "range", "step", "list", *(["star", "star", "star/n"] if stars else [])]
    form = draw(st.sampled_from(forms))
    numbers = st.integers(low, high)
    if form == "star":
        return "*", set(range(low, high + 1))
    if form == "star/n":
        step = draw(st.integers(2, max(high // 2, 2)))
        return f"*/{step}", set(range(low, high + 1, step))
    if form == "value":
        value = draw(numbers)
        return str(value), {value}
    if form == "list":
        values = draw(st.lists(numbers, min_size=1, max_size=4))
        return ",".join(map(str, values)), set(values)
    first, last = sorted((draw(numbers), draw(numbers)))
    assume(first < last)  # croniter reads `5-5` as the whole field
    if form == "range":
        return f"{first}-{last}", set(range(first, last + 1))
    step = draw(st.integers(1, 20))
    return f"{first}-{last}/{step}", set(range(first, last + 1, step))


@st.composite
def expressions(draw, *, six=False, midnight=False):
    """Five or six fields: the text, and a function that says whether a wall-clock minute matches."""
    drawn = {name: draw(fields(name)) for name in LIMITS}
    if midnight:
        drawn |= {"minute": ("0", {0}), "hour": ("0", {0})}
    text = " ".join(drawn[name][0] for name in LIMITS)
    sets = {name: values for name, (_, values) in drawn.items()}
    days = drawn["dom"][0], drawn["dow"][0]
    # Debian: a day field that begins with `*` does not widen; robfig: only a bare `*` does not.
    both = "*" in days or (not six and any(day.startswith("*") for day in days))

    def matches(moment):
        if moment.minute not in sets["minute"] or moment.hour not in sets["hour"] or moment.month not in sets["month"]:
            return False
        dom, dow = moment.day in sets["dom"], moment.isoweekday() % 7 in sets["dow"]
        return dom and dow if both else dom or dow

    return ("0 " + text if six else text), matches


BEGINS = st.datetimes(datetime(1990, 1, 1), datetime(2120, 1, 1))  # noqa: DTZ001 - hypothesis adds no zone


@repeatable
@given(expression=st.booleans().flatmap(lambda six: expressions(six=six)), begin=BEGINS)
def test_a_walk_minute_by_minute_finds_the_same(expression, begin):
    text, matches = expression
    trigger = parse_cron(text)
    after = to_instant(begin.replace(tzinfo=UTC))
    until = after + DAY
    first = begin.replace(second=0, microsecond=0, tzinfo=UTC)
    walked = [
        to_instant(moment)
        for moment in (first + timedelta(minutes=number) for number in range(1, 24 * 60 + 1))
        if matches(moment) and to_instant(moment) <= until
    ]
    at, found = after, []
    while (at := trigger.next_after(at, 0)) is not None and at <= until:
        found.append(at)
    assert found == walked
    assert trigger.count_between(after, until, 0) == len(walked)


@repeatable
@given(expression=st.booleans().flatmap(lambda six: expressions(six=six, midnight=True)), begin=BEGINS)
def test_a_walk_day_by_day_finds_the_same(expression, begin):
    text, matches = expression
    trigger = parse_cron(text)
    midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    walked = [
        to_instant(moment)
        for moment in (midnight + timedelta(days=number) for number in range(1, 800))
        if matches(moment)
    ]
    after, until = to_instant(midnight), to_instant(midnight) + 799 * DAY
    at, found = after, []
    while (at := trigger.next_after(at, 0)) is not None and at <= until:
        found.append(at)
    assert found == walked
    assert trigger.count_between(after, until, 0) == len(walked)


@repeatable
@given(expression=expressions(), begin=BEGINS, number=st.integers(1, 300))
def test_counting_agrees_with_iterating(expression, begin, number):
    trigger = parse_cron(expression[0], zone=zone("Europe/Berlin"))
    after = to_instant(begin.replace(tzinfo=UTC))
    at = after
    for _ in range(number):
        following = trigger.next_after(at, 0)
        if following is None:
            break
        assert following > at
        assert trigger.next_after(following - 1, 0) == following
        at = following
    else:
        assert trigger.count_between(after, at, 0) == number
        assert trigger.count_between(after, at - 1, 0) == number - 1


@repeatable
@given(expression=expressions(), begin=BEGINS, place=st.sampled_from(["UTC", "Asia/Tokyo"]))
def test_cronsim_agrees(expression, begin, place):
    text = expression[0]
    trigger = parse_cron(text, zone=zone(place))
    assume(trigger.next_after(0, 0) is not None)
    start = begin.replace(tzinfo=UTC).astimezone(zoneinfo.ZoneInfo(place) if place != "UTC" else UTC)
    theirs = CronSim(text, start)
    at = to_instant(start)
    for _ in range(10):
        at = trigger.next_after(at, 0)
        assert to_datetime(at) == next(theirs)


@repeatable
@given(expression=expressions(), begin=BEGINS)
def test_croniter_agrees(expression, begin):
    text = expression[0]
    dom, _, dow = text.split()[2:]
    # croniter's `*/n` restricts a day field (an option imitates Debian's rule, not for AND-ed steps of both).
    assume("*" in (dom, dow) or not (dom.startswith("*") or dow.startswith("*")))
    trigger = parse_cron(text)
    assume(trigger.next_after(0, 0) is not None)
    theirs = croniter(text, begin.replace(microsecond=0, tzinfo=UTC), ret_type=datetime, max_years_between_matches=60)
    at = to_instant(begin.replace(microsecond=0, tzinfo=UTC))
    for _ in range(10):
        at = trigger.next_after(at, 0)
        assert to_datetime(at) == theirs.get_next()


QUARTZ = st.one_of(
    st.tuples(st.sampled_from(["L", "LW"]), st.just("*")),
    st.tuples(st.just("*"), st.builds("{}L".format, st.integers(0, 6))),
    st.tuples(st.just("*"), st.builds("{}#{}".format, st.integers(0, 6), st.integers(1, 5))),
)


@repeatable
@given(items=QUARTZ, begin=BEGINS)
def test_cronsim_agrees_on_quartz_days(items, begin):
    text = f"0 30 9 {items[0]} * {items[1]}"
    trigger = parse_cron(text)
    theirs = CronSim(text, begin.replace(tzinfo=UTC))
    at = to_instant(begin.replace(tzinfo=UTC))
    for _ in range(10):
        at = trigger.next_after(at, 0)
        assert to_datetime(at) == next(theirs)


@repeatable
@given(day=st.integers(1, 31), begin=BEGINS)
def test_the_nearest_weekday_is_the_nearest(day, begin):
    trigger = parse_cron(f"0 0 0 {day}W * ?")
    at = to_instant(begin.replace(tzinfo=UTC))
    for _ in range(12):
        at = trigger.next_after(at, 0)
        found = to_datetime(at)
        length = monthrange(found.year, found.month)[1]
        working = [number for number in range(1, length + 1) if found.replace(day=number).weekday() < 5]
        assert day <= length
        assert found.day == min(working, key=lambda number: abs(number - day))


@cache
def reference(name):
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file, key=name)


def debian(text, matches, name, begin, minutes):
    """Debian's cron, slowly: its virtual time follows the wall clock minute by minute and never runs twice.

    The walk begins two days early, so that the virtual time is right at `begin`.
    """
    wildcard = any(field.startswith("*") for field in text.split()[-5:-3])
    there = reference(name)
    virtual = None
    fires = []
    for number in range(-2 * 24 * 60, minutes):
        moment = begin + timedelta(minutes=number)
        wall = moment.astimezone(there).replace(tzinfo=None)
        if wildcard:
            due = matches(wall)
        else:
            virtual = virtual or wall - timedelta(minutes=1)
            missed = range(1, (wall - virtual) // timedelta(minutes=1) + 1)
            due = any(matches(virtual + timedelta(minutes=step)) for step in missed)
            virtual = max(virtual, wall)
        if due and number >= 0:
            fires.append(to_instant(moment))
    return fires


PLACES = [
    "Africa/Cairo",
    "America/New_York",
    "America/Sao_Paulo",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Kwajalein",
]


@settings(repeatable, max_examples=100)
@given(six=st.booleans(), name=st.sampled_from(PLACES), data=st.data())
def test_transitions_are_debians(six, name, data):
    text, matches = data.draw(expressions(six=six))
    starts = [start for start in zone(name).starts[1:-1] if start > 0 and start % 60 == 0]
    transition = data.draw(st.sampled_from(starts))
    begin = EPOCH + timedelta(seconds=transition, minutes=-data.draw(st.integers(1, 24 * 60)))
    minutes = 2 * 24 * 60
    expected = debian(text, matches, name, begin, minutes)
    trigger = parse_cron(text, zone=zone(name))
    after = to_instant(begin) - 1
    until = after + minutes * MINUTE
    at, found = after, []
    while (at := trigger.next_after(at, 0)) is not None and at <= until:
        found.append(at)
    assert [str(to_datetime(at)) for at in found] == [str(to_datetime(at)) for at in expected]
    assert trigger.count_between(after, until, 0) == len(expected)


@pytest.mark.parametrize("text", ["*/7 * * * * *", "3,5 1-50/7 */3 * * *", "59 59 23 L * ?"])
def test_seconds_are_walked_too(text):
    second, minute, hour, *_ = (set(range(60)), set(range(60)), set(range(24)))
    if text.startswith("*/7"):
        second = set(range(0, 60, 7))
    elif text.startswith("3,5"):
        second, minute, hour = {3, 5}, set(range(1, 51, 7)), set(range(0, 24, 3))
    else:
        second, minute, hour = {59}, {59}, {23}
    trigger = parse_cron(text)
    begin = to_instant(datetime(2024, 2, 28, 23, 30, tzinfo=UTC))
    at, found = begin, []
    while (at := trigger.next_after(at, 0)) <= begin + DAY:
        found.append(at)
    moments = (to_datetime(begin + number * SECOND) for number in range(1, 86_401))
    last_day = text.startswith("59")
    assert found == [
        to_instant(moment)
        for moment in moments
        if moment.second in second
        and moment.minute in minute
        and moment.hour in hour
        and (not last_day or moment.day == 29)
    ]
