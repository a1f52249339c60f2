"""Who is suspected of being dead, and for how long."""

from xchronos.clock import SECOND, SystemClock
from xchronos.engine.shards.failure_detector import MAY_STAY_FREE, FailureDetector
from xchronos.registry.keys import Keys
from xchronos.registry.roster import Held, Roster, SchedulerMember


class Clock(SystemClock):
    time = 0

    def monotonic(self):
        return self.time


def made():
    roster = Roster(Keys())
    roster.members = {name: SchedulerMember(number, 1) for number, name in enumerate(("a", "b", "c"), 1)}
    clock = Clock()
    return FailureDetector(clock, "a"), roster, clock


def test_whoever_lets_a_free_shard_wait_is_left_out_until_heard():
    suspects, roster, clock = made()
    owners = {0: "a", 1: "b", 2: "c"}
    roster.shards = {2: Held("c", 3, 7)}
    assert not suspects.look(roster, owners)
    assert suspects.waiting
    clock.time = MAY_STAY_FREE - 1
    assert not suspects.look(roster, owners)
    clock.time = MAY_STAY_FREE
    assert suspects.look(roster, owners), "b has not taken its shard; a is ourselves, c has its own"
    assert suspects.trusted(roster) == ["a", "c"]
    suspects.heard("b")
    assert suspects.trusted(roster) == ["a", "b", "c"]
    assert not suspects.look(roster, owners), "it has its time once more"


def test_a_shard_that_is_taken_ends_the_waiting():
    suspects, roster, clock = made()
    suspects.look(roster, {1: "b"})
    roster.shards = {1: Held("b", 2, 7)}
    clock.time = 10 * SECOND
    assert not suspects.look(roster, {1: "b"})
    assert not suspects.waiting


def test_who_has_gone_and_come_back_is_not_suspected():
    suspects, roster, clock = made()
    suspects.look(roster, {1: "b"})
    clock.time = MAY_STAY_FREE
    suspects.look(roster, {1: "b"})
    member = roster.members.pop("b")
    assert suspects.trusted(roster) == ["a", "c"]
    roster.members["b"] = member
    assert suspects.trusted(roster) == ["a", "c", "b"]


def test_who_is_overlooked_says_so_once_in_a_while():
    suspects, roster, clock = made()
    roster.shards = {1: Held("b", 2, 7)}
    said = []
    for step in range(200):
        clock.time = step * SECOND // 10
        if suspects.is_overlooked(roster, {1: "a"}):
            said.append(clock.time)
    assert said == [4 * MAY_STAY_FREE * turn for turn in range(1, 10)]
    assert not suspects.is_overlooked(roster, {1: "b"})
    assert not suspects.is_overlooked(roster, {1: "a"}), "it has only begun"
