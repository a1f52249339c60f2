import pytest

from tests.scheduler.schedule_builders import unit
from xchronos.scheduler.policies.overlap import Overlap, overlap
from xchronos.scheduler.reasons import NONE, because

EARLIER = ("a.service/20300101T000000.000000Z/0", "a.service/20300101T000000.000000Z/1")
NEW = "a.service/20300101T001000.000000Z/0"


def decided(action, policy, why):
    return Overlap(action, because("overlap", policy=policy, why=why))


@pytest.mark.parametrize("concurrency", ["allow", "forbid", "replace", "queue"])
def test_nothing_active_starts(concurrency):
    assert overlap(unit(concurrency=concurrency), ()) == Overlap("start")
    assert overlap(unit(concurrency=concurrency), (), 0, execution=NEW) == Overlap("start")


@pytest.mark.parametrize(
    ("concurrency", "expected"),
    [
        ("allow", Overlap("start")),
        ("forbid", decided("skip", "forbid", f"{EARLIER[0]} and 1 more are still active")),
        ("replace", decided("replace", "replace", f"{EARLIER[0]} and 1 more are still active")),
        ("queue", decided("queue", "queue", f"{EARLIER[0]} and 1 more are still active")),
    ],
)
def test_earlier_executions_are_active(concurrency, expected):
    assert overlap(unit(concurrency=concurrency), EARLIER, execution=NEW) == expected
    assert overlap(unit(concurrency=concurrency), EARLIER) == expected


@pytest.mark.parametrize("concurrency", ["allow", "forbid", "replace", "queue"])
def test_copies_of_a_fire_time_never_overlap_each_other(concurrency):
    assert overlap(unit(concurrency=concurrency), EARLIER[:1], execution=EARLIER[1]) == Overlap("start")


def test_only_the_earlier_ones_are_replaced():
    both = (*EARLIER[:1], NEW[:-1] + "1")
    expected = decided("replace", "replace", f"{EARLIER[0]} is still active")
    assert overlap(unit(concurrency="replace"), both, execution=NEW) == expected
    assert expected.reason.text == f"Concurrency=replace: {EARLIER[0]} is still active"


def test_the_queue_is_served_in_order():
    assert overlap(unit(concurrency="queue"), (), 1, execution=NEW) == decided("queue", "queue", "1 waits in the queue")
    assert overlap(unit(concurrency="queue"), EARLIER[:1], 2) == decided(
        "queue", "queue", f"{EARLIER[0]} is still active, 2 wait in the queue"
    )


def test_a_plain_start_needs_no_words():
    assert overlap(unit(), EARLIER).reason == NONE
