import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xchronos.clock import HOUR, MILLISECOND, MINUTE, SECOND
from xchronos.errors import InvalidTrigger
from xchronos.triggers.base import Trigger
from xchronos.triggers.cron.every import EveryTrigger, parse_every
from xchronos.triggers.cron.expression import parse_cron


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("1h30m10s", HOUR + 30 * MINUTE + 10 * SECOND),
        ("500ms", 500 * MILLISECOND),
        ("1.5h", HOUR + 30 * MINUTE),
        (".5s", 500 * MILLISECOND),
        ("1.s", SECOND),
        ("+5m", 5 * MINUTE),
        ("1500us", 1500),
        ("1500\u00b5s", 1500),
        ("1500\u03bcs", 1500),
        ("2000000ns", 2 * MILLISECOND),
        ("1m1m", 2 * MINUTE),
        ("0h1m", MINUTE),
        ("1ms1ns", MILLISECOND),
        ("0.3333333333333333333h", 1_199_999_999),
        ("2562047h", 2562047 * HOUR),
    ],
)
def test_go_durations(text, interval):
    trigger = parse_cron(f"@every {text}")
    assert isinstance(trigger, EveryTrigger)
    assert trigger.interval == interval


@pytest.mark.parametrize(
    "text",
    ["", "1", "h", ".s", "5", "1d", "1H", "1h 30m", "1h-5m", "--1h", "\u0661h", "1hm", "1,5h", "P1D", "1h30", "0h0"],
)
def test_what_is_no_duration(text):
    with pytest.raises(InvalidTrigger, match="this is no duration; expected"):
        parse_every(text)


@pytest.mark.parametrize("text", ["0", "0s", "-1h", "999us", "1ns", "-0s", "+0"])
def test_an_interval_is_a_millisecond_at_least(text):
    with pytest.raises(InvalidTrigger, match="at least 1ms"):
        parse_every(text)


@pytest.mark.parametrize("text", ["2562048h", "9" * 5000 + "h"])
def test_an_interval_fits_a_go_duration(text):
    with pytest.raises(InvalidTrigger, match="longer than 292 years"):
        parse_every(text)


def test_first_fire_is_one_interval_after_the_anchor():
    trigger = parse_every("15m")
    anchor = 1_000_000_007
    assert trigger.next_after(anchor, anchor) == anchor + 15 * MINUTE
    assert trigger.next_after(anchor - HOUR, anchor) == anchor + 15 * MINUTE
    assert trigger.next_after(anchor + 15 * MINUTE, anchor) == anchor + 30 * MINUTE
    assert trigger.next_after(anchor + 15 * MINUTE - 1, anchor) == anchor + 15 * MINUTE


def test_it_is_a_trigger():
    trigger = parse_every("1s")
    assert isinstance(trigger, Trigger)
    assert (trigger.kind, trigger.count, trigger.restartable, trigger.warnings) == ("every", None, False, ())
    assert trigger.restart(5) is trigger
    assert repr(trigger) == "EveryTrigger(1000000)"


@settings(derandomize=True, deadline=None)
@given(
    interval=st.integers(1, 50), anchor=st.integers(-100, 100), after=st.integers(-300, 300), span=st.integers(0, 300)
)
def test_counting_agrees_with_iterating(interval, anchor, after, span):
    trigger = EveryTrigger(interval)
    grid = range(anchor + interval, 1000, interval)
    assert trigger.next_after(after, anchor) == next(instant for instant in grid if instant > after)
    assert trigger.count_between(after, after + span, anchor) == sum(after < i <= after + span for i in grid)


def test_fourteen_years_of_milliseconds_are_arithmetic():
    trigger = parse_every("1ms")
    years = 14 * 365 * 24 * HOUR
    assert trigger.next_after(years, 0) == years + MILLISECOND
    assert trigger.count_between(0, years, 0) == years // MILLISECOND
