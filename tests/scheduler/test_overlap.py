import pytest
from schedule_builders import unit

from xchronos.scheduler.overlap import Overlap, overlap

EARLIER = ("a.service/20300101T000000.000000Z/0", "a.service/20300101T000000.000000Z/1")
NEW = "a.service/20300101T001000.000000Z/0"


@pytest.mark.parametrize("concurrency", ["allow", "forbid", "replace", "queue"])
def test_nothing_active_starts(concurrency):
    assert overlap(unit(concurrency=concurrency), ()) == Overlap("start")
    assert overlap(unit(concurrency=concurrency), (), 0, execution=NEW) == Overlap("start")


@pytest.mark.parametrize(
    ("concurrency", "expected"),
    [
        ("allow", Overlap("start")),
        ("forbid", Overlap("skip", f"Concurrency=forbid: {EARLIER[0]} and 1 more are still active")),
        ("replace", Overlap("replace", f"Concurrency=replace: {EARLIER[0]} and 1 more are still active", EARLIER)),
        ("queue", Overlap("queue", f"Concurrency=queue: {EARLIER[0]} and 1 more are still active")),
    ],
)
def test_earlier_executions_are_active(concurrency, expected):
    assert overlap(unit(concurrency=concurrency), EARLIER, execution=NEW) == expected
    assert overlap(unit(concurrency=concurrency), EARLIER) == expected


@pytest.mark.parametrize("concurrency", ["allow", "forbid", "replace", "queue"])
def test_copies_of_a_fire_time_never_overlap_each_other(concurrency):
    assert overlap(unit(concurrency=concurrency), EARLIER[:1], execution=EARLIER[1]) == Overlap("start")


def test_only_the_earlier_ones_are_replaced():
    decided = overlap(unit(concurrency="replace"), (*EARLIER[:1], NEW[:-1] + "1"), execution=NEW)
    assert decided == Overlap("replace", f"Concurrency=replace: {EARLIER[0]} is still active", EARLIER[:1])


def test_the_queue_is_served_in_order():
    assert overlap(unit(concurrency="queue"), (), 1, execution=NEW) == Overlap(
        "queue", "Concurrency=queue: 1 waits in the queue"
    )
    assert overlap(unit(concurrency="queue"), EARLIER[:1], 2).reason == (
        f"Concurrency=queue: {EARLIER[0]} is still active, 2 wait in the queue"
    )
