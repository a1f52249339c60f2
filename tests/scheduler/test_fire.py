"""What due fire times become, as a table: Concurrency=, Availability=, Global=, RandomizedDelay=, room, machines."""

import msgspec
import pytest

from tests.scheduler.deciders import MOMENT, NOW, ident, on, seen
from tests.scheduler.schedule_builders import Grid, asks, every, execution, job, s, unit, view
from xchronos.clock import SECOND, to_datetime
from xchronos.errors import InvalidTrigger
from xchronos.model.lifecycle import IllegalEvent
from xchronos.model.policies import MisfirePolicy, Outcome
from xchronos.model.records import Owed
from xchronos.scheduler import fire as module
from xchronos.scheduler.fire import MOST_FIRES, MOST_WAITING, begun_before, due, fire, free_numbers, placed
from xchronos.scheduler.timing.schedule import accept

AB = (view("a"), view("b"))
TIME = to_datetime(NOW)


def one(**fields):
    """A unit that fires once, at NOW."""
    return job(triggers=unit(Grid(NOW, 1000 * SECOND)).triggers, fingerprint="f", **fields)


def fired(it, *executions, machines=AB, room=100, now=NOW, owed=(), **fields):
    schedule = msgspec.structs.replace(accept(it, s(0), 1), owed=owed)
    return fire(it, schedule, seen(*executions, machines=machines, **fields), now, room)


def rows(decided):
    """Each execution as (copy, state or outcome, machine, reason)."""
    return [
        (one.copy, str(one.outcome or one.state), one.current.machine if one.current else "", one.reason)
        for one in decided.executions
    ]


@pytest.mark.parametrize(
    ("it", "machines", "expected"),
    [
        (one(), AB, [(0, "placed", "a", "")]),
        (one(availability=2), AB, [(0, "placed", "a", ""), (1, "placed", "b", "")]),
        (
            one(availability=3),
            AB,
            [
                (0, "placed", "a", ""),
                (1, "placed", "b", ""),
                (2, "waiting", "", "1 unplaced: no machine is alive"),
            ],
        ),
        (one(), (), [(0, "waiting", "", "1 unplaced: no machine is alive")]),
        (one(requirements=asks(is_global=True)), AB, [(0, "placed", "a", ""), (1, "placed", "b", "")]),
        (one(requirements=asks(is_global=True)), (), [(0, "waiting", "", "1 unplaced: no machine is alive")]),
    ],
)
def test_where_the_copies_go(it, machines, expected):
    decided = fired(it, machines=machines)
    assert rows(decided) == expected
    assert {one.fire_time for one in decided.executions} == {TIME}
    assert decided.late == (0,)
    assert decided.schedule.fired == 1
    assert not decided.schedule.owed


EARLIER = on("a", 50)
QUEUED = execution(60, state="queued")


@pytest.mark.parametrize(
    ("concurrency", "there", "state", "cancelled"),
    [
        ("allow", (EARLIER,), "placed", ()),
        ("forbid", (), "placed", ()),
        ("forbid", (EARLIER,), "skipped", ()),
        ("queue", (), "placed", ()),
        ("queue", (EARLIER,), "queued", ()),
        ("queue", (QUEUED,), "queued", ()),
        ("replace", (EARLIER, QUEUED), "queued", (EARLIER.id, QUEUED.id)),
        ("replace", (), "placed", ()),
    ],
)
def test_what_is_active_already(concurrency, there, state, cancelled):
    decided = fired(one(concurrency=concurrency), *there)
    assert [row[1] for row in rows(decided)] == [state]
    assert tuple(decided.cancelled) == cancelled
    why = "replaced by the fire time 20300101T000140.000000Z"
    assert {reason.text for reason in decided.cancelled.values()} == ({why} if cancelled else set())
    # MaxRuns does not count what was skipped.
    assert decided.schedule.fired == (0 if state == "skipped" else 1)


def test_fire_times_of_one_txn_overlap_each_other():
    it = job(triggers=unit(Grid(s(98), SECOND)).triggers, concurrency="forbid", fingerprint="f")
    decided = fired(it)
    assert [row[1] for row in rows(decided)] == ["placed", "skipped", "skipped"]
    queue = fired(msgspec.structs.replace(it, concurrency="queue"))
    assert [row[1] for row in rows(queue)] == ["placed", "queued", "queued"]
    assert queue.late == (2 * SECOND, SECOND, 0)


def test_a_random_delay_moves_start_and_deadline():
    it = one(randomized_delay=10 * SECOND, start_deadline=5 * SECOND)
    (delayed,) = fired(it).executions
    assert delayed.state == "delayed"
    assert TIME < delayed.due_at < to_datetime(NOW + 10 * SECOND)
    assert (delayed.deadline - delayed.due_at).total_seconds() == 5
    assert delayed.reason == f"RandomizedDelay: starts at {delayed.due_at.isoformat()}"
    # Found later than that, it is placed: it may still start.
    (late,) = fired(it, now=NOW + 10 * SECOND).executions
    assert late.state == "placed"
    (without,) = fired(one(randomized_delay=10 * SECOND)).executions
    assert without.deadline is None


def test_who_waits_has_a_deadline_and_a_bound():
    it = one(start_deadline=5 * SECOND)
    (waits,) = fired(it, machines=()).executions
    assert waits.deadline == to_datetime(NOW + 5 * SECOND)
    crowd = [execution(n / 10, state="waiting") for n in range(MOST_WAITING)]
    (missed,) = fired(it, *crowd, machines=()).executions
    assert (missed.outcome, missed.ended_at, missed.deadline) == (Outcome.MISSED, MOMENT, None)
    assert missed.reason.startswith("100 executions of the unit wait for a machine already (1 unplaced")
    assert fired(it, *crowd[1:], machines=()).executions[0].state == "waiting"


class TestRoom:
    """What one Txn does not hold is owed."""

    def test_copies(self):
        decided = fired(one(availability=3), machines=(view("a"),), room=2)
        assert [row[:2] for row in rows(decided)] == [(0, "placed"), (1, "waiting")]
        assert [(rest.fire_time, rest.copy) for rest in decided.schedule.owed] == [(TIME, 2)]
        # The rest goes to none of the machines that the first copies have, or have had.
        again = fired(
            one(availability=3),
            on("a", 100, 0),
            owed=decided.schedule.owed,
            machines=(view("a"), view("b"), view("c")),
            ended={ident(100, 1): "b"},
        )
        assert rows(again) == [(2, "placed", "c", "")]
        assert (again.schedule.owed, again.late) == ((), ())

    def test_queued_copies(self):
        decided = fired(one(availability=3, concurrency="queue"), EARLIER, room=2)
        assert [row[:2] for row in rows(decided)] == [(0, "queued"), (1, "queued")]
        assert decided.schedule.owed[0].copy == 2

    def test_what_began_with_the_first_copies_goes_on_with_the_rest(self):
        # A start by hand came between the two Txns: the fire time has begun before it, and skips nothing of itself.
        it = one(availability=3, concurrency="forbid")
        owed = (Owed(TIME, "iso8601", 2),)
        by_hand = on("b", 99)
        decided = fired(it, on("a", 100, 0), by_hand, owed=owed, machines=(view("b"), view("c")))
        assert rows(decided) == [(2, "placed", "b", "")]
        queue = fired(msgspec.structs.replace(it, concurrency="queue"), by_hand, owed=owed)
        assert [row[:2] for row in rows(queue)] == [(2, "queued")]

    def test_of_a_global_unit(self):
        it, machines = one(requirements=asks(is_global=True)), [view(name) for name in "cab"]
        decided = fired(it, machines=machines, room=2)
        assert rows(decided) == [(0, "placed", "a", ""), (1, "placed", "b", "")]
        assert (decided.schedule.owed[0].copy, decided.schedule.owed[0].after) == (2, "b")
        again = fired(it, owed=decided.schedule.owed, machines=machines)
        assert rows(again) == [(2, "placed", "c", "")]
        assert begun_before(it, decided.schedule) == ""

    def test_fire_times(self):
        it = job(triggers=unit(Grid(s(98), SECOND)).triggers, fingerprint="f")
        decided = fired(it, room=2)
        assert len(decided.executions) == 2
        assert [rest.fire_time for rest in decided.schedule.owed] == [TIME]

    def test_what_was_put_off_is_due_by_a_clock_that_is_behind(self):
        it = one()
        decided = fired(it, now=s(0), owed=(Owed(TIME, "iso8601"),))
        assert [found.claimed_at for found in decided.executions] == [TIME]
        assert begun_before(it, decided.schedule) == ""


def test_whose_rest_is_owed():
    it = one(availability=3)
    schedule = accept(it, s(0), 1)
    assert begun_before(it, schedule) == ""
    owed = msgspec.structs.replace(schedule, owed=(Owed(TIME, "cron", 2),))
    assert begun_before(it, owed) == "a.service/20300101T000140.000000Z/"
    whole = msgspec.structs.replace(schedule, owed=(Owed(TIME, "cron"),))
    assert begun_before(it, whole) == ""


def test_a_gap_is_a_record_of_its_own():
    it = unit(Grid(s(10), 10 * SECOND), policy=MisfirePolicy.NEXT_WITH_REMAINING, threshold=0.5)
    decided = fired(it, now=s(35))
    (gap,) = decided.executions
    assert (gap.copy, gap.outcome, gap.missed.count) == (-1, Outcome.MISSED, 3)
    assert (
        gap.reason == "3 fire times were found more than MisfireThreshold late (RESCHEDULE_NEXT_WITH_REMAINING_COUNT)"
    )
    (single,) = fired(it, now=s(15)).executions
    assert single.reason.startswith("1 fire time was found")


def test_many_fire_times_are_decided_in_parts():
    it = unit(Grid(s(0), 1000), threshold=1000)
    decided = due(it, accept(it, s(-1), 1), s(2))
    assert len(decided.owed) == MOST_FIRES
    rest = due(it, decided.schedule, s(2))
    assert len(rest.owed) == MOST_FIRES
    # Misfires have a bound of their own, MisfireLimit.
    ignored = unit(Grid(s(0), 1000), threshold=0, policy=MisfirePolicy.IGNORE, limit=MOST_FIRES + 1)
    assert len(due(ignored, accept(ignored, s(-1), 1), s(2)).owed) == MOST_FIRES + 2


def test_a_trigger_that_fails_here_ends_nothing(monkeypatch):
    def broken(*_):
        raise InvalidTrigger("it computes nothing")

    monkeypatch.setattr(module, "turn", broken)
    it = one()
    decided = fired(it)
    assert (decided.executions, decided.problem) == ((), "it computes nothing")
    assert decided.schedule.finished == ""


def test_round_robin_goes_on_where_it_was():
    it = one(load_balancing="round-robin")
    decided = fired(it, last_machine="a")
    assert rows(decided) == [(0, "placed", "b", "")]
    assert decided.last_machine == decided.schedule.last_machine == "b"
    assert fired(one(), last_machine="a").last_machine == "a"


def test_numbers_that_are_taken_are_left_out():
    there = seen(on("a", 0, 1))
    assert free_numbers(ident(), there, 0, 3) == [0, 2, 3]
    assert free_numbers(ident(), there, 1, 1) == [2]


def test_only_what_waits_is_placed():
    waits = execution(state="waiting", deadline=MOMENT, due_at=MOMENT, waits_since=MOMENT, reason="x")
    moved = placed(waits, "m", 3, 2, job(), NOW)
    assert (moved.state, moved.copy, moved.current.number, moved.current.revision) == ("placed", 3, 2, "r")
    assert (moved.deadline, moved.due_at, moved.waits_since, moved.reason) == (None, None, None, "")
    with pytest.raises(IllegalEvent):
        placed(on("a"), "b", 0, 2, job(), NOW)


def test_an_interval_fires_for_its_own_instants():
    decided = fired(job(triggers=unit(every(50)).triggers, fingerprint="f"), now=s(60))
    assert [one.fire_time for one in decided.executions] == [to_datetime(s(0)), to_datetime(s(50))]
