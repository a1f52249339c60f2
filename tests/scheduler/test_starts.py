"""Starts that no trigger asked for, and the copies that machines lack of a unit that is kept running on each."""

import msgspec
import pytest

from tests.scheduler.deciders import NOW, on, seen
from tests.scheduler.schedule_builders import asks, attempt, execution, job, s, view
from xchronos.clock import SECOND, to_datetime
from xchronos.model.policies import Outcome
from xchronos.scheduler.reasons import Reason
from xchronos.scheduler.starts import is_spread, lacking, off_the_grids, spread, started, superfluous
from xchronos.scheduler.timing.schedule import accept

WHY = Reason("asked", "why")
EVERYWHERE = job(keep_running=True, requirements=asks(is_global=True))
STAMP = NOW + 1


def test_a_start_has_one_execution_for_each_copy():
    it = job(availability=3, start_deadline=SECOND, on_success=("b.service",), payload="p")
    found = started(it, STAMP, NOW, "manual", WHY)
    assert [one.copy for one in found] == [0, 1, 2]
    first = found[0]
    assert (first.state, first.trigger, first.reason, first.payload) == ("delayed", "manual", "why", "p")
    assert (first.fire_time, first.deadline, first.report) == (to_datetime(STAMP), to_datetime(NOW + SECOND), True)
    (alone,) = started(EVERYWHERE, STAMP, NOW, "kept", WHY)
    assert (alone.deadline, alone.report) == (None, True)
    assert not started(job(), STAMP, NOW, "manual", WHY)[0].report


def test_what_is_lacking():
    three = started(job(availability=3), STAMP, NOW, "kept", WHY)
    runs = [on("m", 0, 1), on("n", 0, 2, stop_requested="x")]
    assert [one.copy for one in lacking(job(availability=3), three, runs)] == [0, 2]
    one = started(EVERYWHERE, STAMP, NOW, "kept", WHY)
    assert lacking(EVERYWHERE, one, [on("m", 0, 7)]) == []
    assert lacking(EVERYWHERE, one, []) == one


def test_what_is_superfluous():
    runs = [on("m", 0, 0), on("n", 0, 2), on("o", 5, 0), on("p", 0, 1)]
    assert superfluous(job(availability=2), runs) == [runs[2], runs[1]]
    assert superfluous(EVERYWHERE, runs) == []


class TestSpread:
    def on_machines(self, *there, machines, room=10, **fields):
        decided = spread(EVERYWHERE, seen(*there, **fields), machines, NOW, STAMP, room)
        return decided and [(one.copy, one.current.machine, one.state) for one in decided.executions]

    def test_each_machine_that_lacks_one_gets_a_copy(self):
        machines = [view("a"), view("b"), view("c", cordoned=True)]
        assert self.on_machines(on("a"), machines=machines) == [(0, "b", "placed")]
        waits = execution(9, state="waiting", attempts=(attempt(1, Outcome.FAILED, "b"),))
        assert self.on_machines(on("a"), waits, machines=machines) == []

    def test_not_before_a_start_has_been_placed(self):
        assert self.on_machines(execution(9, state="waiting"), machines=[view("a")]) is None

    def test_one_txn_holds_so_many(self):
        found = self.on_machines(machines=[view(name) for name in "abcd"], room=3)
        assert found == [(0, "a", "placed"), (1, "b", "placed")]

    @pytest.mark.parametrize(
        ("machine", "short"),
        [(view("a"), False), (view("a", attempts=1, slots=1), True), (view("a", cordoned=True), False)],
    )
    def test_what_passes_by_itself_is_looked_at_again(self, machine, short):
        assert spread(EVERYWHERE, seen(), [machine], NOW, STAMP, 10).short is short

    def test_round_the_machines(self):
        it = msgspec.structs.replace(EVERYWHERE, load_balancing="round-robin")
        decided = spread(it, seen(last_machine="a"), [view("a"), view("b")], NOW, STAMP, 10)
        assert decided.last_machine == "a"
        assert [one.current.machine for one in decided.executions] == ["b", "a"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"everywhere": True}, True),
        ({}, False),
        ({"everywhere": True, "paused": True}, False),
        ({"everywhere": True, "finished": "x"}, False),
    ],
)
def test_whether_it_is_spread_just_now(fields, expected):
    assert is_spread(msgspec.structs.replace(accept(EVERYWHERE, s(0), 1), **fields)) is expected


def test_no_grid_has_what_was_started():
    assert off_the_grids(1_000_000) == 1_000_001
    assert off_the_grids(1_000_001) == 1_000_001
