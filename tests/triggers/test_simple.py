"""Simple triggers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xchronos.clock import DAY, MINUTE, SECOND
from xchronos.errors import InvalidTrigger
from xchronos.triggers.base import Trigger
from xchronos.triggers.simple import SimpleTrigger

NOON = 1_900_000_000 * SECOND


def test_the_first_slot_is_the_anchor_itself():
    trigger = SimpleTrigger(2 * SECOND, 9)
    assert isinstance(trigger, Trigger)
    assert (trigger.kind, trigger.count, trigger.restartable) == ("simple", 10, True)
    assert trigger.next_after(NOON - 1, NOON) == NOON
    assert trigger.next_after(NOON, NOON) == NOON + 2 * SECOND
    assert trigger.next_after(NOON + 2 * SECOND - 1, NOON) == NOON + 2 * SECOND
    assert trigger.next_after(-(10**18), NOON) == NOON


@pytest.mark.parametrize(("repeat_count", "count"), [(-1, None), (0, 1), (1, 2), (9, 10)])
def test_fires_one_more_time_than_it_repeats(repeat_count, count):
    assert SimpleTrigger(SECOND, repeat_count).count == count


def test_zero_interval_is_a_one_shot():
    trigger = SimpleTrigger(0, 0)
    assert trigger.next_after(NOON - 1, NOON) == NOON
    assert trigger.next_after(NOON, NOON) is None
    assert trigger.count_between(NOON - 1, NOON + DAY, NOON) == 1
    assert trigger.count_between(NOON, NOON + DAY, NOON) == 0


@pytest.mark.parametrize(
    ("interval", "repeat_count", "message"),
    [
        (0, -1, "the repeat interval is 0, yet the trigger shall repeat for ever: expected at least 1 ms"),
        (0, 3, "the repeat interval is 0, yet the trigger shall repeat 3 more times: expected at least 1 ms"),
        (999, 0, "the repeat interval is 0.999 ms: expected at least 1 ms"),
        (-SECOND, 3, "the repeat interval is -1000 ms: expected at least 1 ms"),
        (SECOND, -2, "the repeat count is -2: expected -1 (for ever), 0 (fire once) or a positive number"),
    ],
)
def test_nonsense_is_refused(interval, repeat_count, message):
    with pytest.raises(InvalidTrigger) as caught:
        SimpleTrigger(interval, repeat_count)
    assert str(caught.value) == message


def test_one_millisecond_is_allowed():
    assert SimpleTrigger(1000).next_after(NOON, NOON) == NOON + 1000


def test_a_restarted_grid_forgets_the_anchor():
    trigger = SimpleTrigger(2 * SECOND, 9).restart(NOON + 13 * SECOND)
    assert trigger.count == 10
    assert trigger.next_after(NOON, NOON) == NOON + 13 * SECOND
    assert trigger.next_after(NOON + 13 * SECOND, NOON) == NOON + 15 * SECOND
    assert trigger.count_between(NOON, NOON + 15 * SECOND, NOON) == 2
    assert trigger.restart(NOON).next_after(NOON, 0) == NOON + 2 * SECOND


def test_nothing_beyond_the_year_9999():
    assert SimpleTrigger(10_000 * 366 * DAY).next_after(NOON, NOON) is None


def test_fourteen_years_of_minutes_are_arithmetic():
    trigger = SimpleTrigger(MINUTE)
    assert trigger.count_between(NOON, NOON + 14 * 365 * DAY, NOON) == 14 * 365 * 1440


@settings(deadline=None, derandomize=True)
@given(
    interval=st.integers(1000, 10_000),
    anchor=st.integers(-(10**6), 10**6),
    after=st.integers(-(10**6), 10**6),
    length=st.integers(-1000, 200_000),
)
def test_agrees_with_brute_force(interval, anchor, after, length):
    trigger = SimpleTrigger(interval)
    until = after + length
    slots = [t for t in range(anchor, after + length + 2 * interval, interval) if t > after]
    following = trigger.next_after(after, anchor)
    assert following is not None
    assert following > after
    if slots:
        assert following == slots[0]
    assert trigger.count_between(after, until, anchor) == sum(t <= until for t in slots)
