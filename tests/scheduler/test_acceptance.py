"""What the change of a unit's record means, as a table: a new unit, a changed one, a new life, more and fewer copies."""

from typing import Any

import msgspec
import pytest

from tests.scheduler.deciders import MOMENT, NOW, ident, on, seen
from tests.scheduler.schedule_builders import asks, every, execution, job, s, unit
from xchronos.clock import to_datetime, to_instant
from xchronos.errors import InvalidTrigger
from xchronos.model.records import Owed, Schedule, TriggerState
from xchronos.scheduler import acceptance as module
from xchronos.scheduler.acceptance import (
    Accepted,
    CannotTell,
    EndsFirst,
    UnitChange,
    accept_change,
    is_reborn,
    is_to_accept,
)
from xchronos.scheduler.reasons import because
from xchronos.scheduler.timing.schedule import accept, turn, was_given_up
from xchronos.triggers import AtTrigger

STAMP = NOW + 1
EVERYWHERE = asks(is_global=True)


def change(it, *, revision=2, created=1, paused=False):
    return UnitChange(it, revision, created, paused)


def decided(it, old=None, *there, now=NOW, revisions=None, cancelled=None, **fields):
    view = seen(*there, revisions=revisions, cancelled=cancelled or {})
    return accept_change(change(it, **fields), old, view, now, STAMP)


def begun(it, **fields):
    """The cursor of a unit that has been accepted before."""
    return msgspec.structs.replace(accept(it, s(0), 1), **fields)


def test_a_new_unit_gets_a_cursor():
    it = unit(every(10))
    decision = decided(it)
    assert decision == Accepted(accept(it, NOW, 2))
    assert decided(it, decision.schedule).schedule == decision.schedule
    assert decided(it, paused=True).schedule.paused


def test_a_changed_unit_keeps_its_cursor_and_what_is_owed():
    it = unit(every(10))
    old = begun(it, owed=(Owed(MOMENT, "simple"),))
    decision = decided(msgspec.structs.replace(it, description="new"), old)
    assert decision.schedule == msgspec.structs.replace(old, unit_revision=2)
    assert not decision.reborn


def test_what_cannot_be_computed_here_is_not_decided(monkeypatch):
    def broken(*_, **__):
        raise InvalidTrigger("it computes nothing")

    monkeypatch.setattr(module, "reconcile", broken)
    assert decided(unit(every(10))) == CannotTell("it computes nothing")
    assert decided(unit(every(10)), begun(unit(every(10)))) == CannotTell("it computes nothing")


def given_up(**fields):
    """What the first versions wrote of a unit that one of them could not read."""
    cursor = Schedule(
        "a.service", 2, "", to_datetime(s(0)), to_datetime(s(50)), finished="the stored unit cannot be read"
    )
    return msgspec.structs.replace(cursor, **fields)


class TestGivenUp:
    """A unit that a scheduler could not read, and has ended for all: the first versions did."""

    def test_it_goes_on_and_what_was_due_since_is_late(self):
        it = unit(every(10))
        taken = decided(it, given_up()).schedule
        assert (taken.finished, taken.fingerprint) == ("", it.fingerprint)
        assert to_instant(taken.triggers[0].next) == s(50)

    def test_a_single_instant_before_that_does_not_come_again(self):
        it = unit(AtTrigger(s(40)), AtTrigger(s(60)))
        taken = decided(it, given_up()).schedule
        assert [state.next and to_instant(state.next) for state in taken.triggers] == [None, s(60)]
        assert decided(unit(AtTrigger(s(40))), given_up()).schedule.finished

    def test_what_runs_of_a_unit_that_is_kept_running_is_not_begun_again(self):
        assert decided(KEPT, given_up(), on("a", 40)).executions == ()
        assert len(decided(KEPT, given_up()).executions) == 1

    def test_only_such_a_cursor_is_taken_for_that(self):
        assert was_given_up(given_up())
        it = unit(AtTrigger(s(40)))
        assert not was_given_up(turn(it, begun(it), s(41)).schedule)
        assert not was_given_up(begun(unit()))


@pytest.mark.parametrize(
    ("cursor", "revision", "others", "expected"),
    [({}, 1, False, False), ({}, 2, False, True), ({}, 1, True, True)],
)
def test_when_a_cursor_is_to_be_fitted_to_its_unit(cursor, revision, others, expected):
    it = msgspec.structs.replace(unit(every(10)), rules="Europe/Berlin=1")
    old = begun(it, **cursor)
    assert is_to_accept(old, revision, rules_hold=not others) is expected
    other = msgspec.structs.replace(it, rules="Europe/Berlin=2") if others else it
    assert is_to_accept(old, revision, unit=other) is expected
    assert is_to_accept(given_up(), 2, unit=it)


KEPT = job(keep_running=True)
THREE = job(keep_running=True, availability=3)


@pytest.mark.parametrize(
    ("it", "old", "there", "copies", "reason"),
    [
        (KEPT, None, (), [0], "it is kept running"),
        (THREE, None, (), [0, 1, 2], "it is kept running"),
        (job(keep_running=True, requirements=EVERYWHERE), None, (), [0], "it is kept running"),
        # It has begun before: what was stopped stays so.
        (KEPT, {"fired": 1, "copies": 1}, (), [], ""),
        (THREE, {"fired": 1, "copies": 1}, (), [], ""),
        # More copies than before begin beside those that run.
        (THREE, {"fired": 1, "copies": 1}, (on("m"),), [1, 2], "Availability=3 now"),
        (THREE, {"fired": 1, "copies": 2}, (on("m"),), [2], "Availability=3 now"),
        (THREE, {"fired": 1, "copies": 2}, (on("m"), on("n", 0, 2)), [], ""),
        # A record of before the copies were counted says nothing about them.
        (THREE, {"fired": 1, "copies": 0}, (on("m"),), [], ""),
        # Nothing begins of what is paused or finished.
        (KEPT, {"paused": True}, (), [], ""),
        (job(keep_running=True, template=True), None, (), [], ""),
    ],
)
def test_what_begins(it, old, there, copies, reason):
    cursor = None if old is None else begun(it, **old)
    decision = decided(it, cursor, *there, paused=bool(old and old.get("paused")))
    assert [one.copy for one in decision.executions] == copies
    assert {one.reason for one in decision.executions} == ({reason} if copies else set())
    assert {one.fire_time for one in decision.executions} == ({to_datetime(STAMP)} if copies else set())
    if not decision.schedule.paused and not decision.schedule.finished:
        assert decision.schedule.fired == 1
        assert decision.schedule.copies == (0 if it.is_global else it.availability)


class TestFewerCopies:
    OLD = begun(KEPT, fired=1, copies=3)

    def test_those_that_are_too_many_end_first(self):
        there = [on("m"), on("n", 0, 1), on("o", 0, 2)]
        decision = decided(KEPT, self.OLD, *there)
        assert decision == EndsFirst(
            dict.fromkeys((ident(0, 1), ident(0, 2)), because("availability", count=1)), reborn=False
        )

    @pytest.mark.parametrize("asked", ["stopped", "cancelled"])
    def test_then_the_change_counts(self, asked):
        stop: dict[str, Any] = {"stop_requested": "x"} if asked == "stopped" else {}
        cancelled = {ident(0, 1): because("destroyed")} if asked == "cancelled" else {}
        decision = decided(KEPT, self.OLD, on("m"), on("n", 0, 1, **stop), cancelled=cancelled)
        assert isinstance(decision, Accepted)
        assert (decision.schedule.copies, decision.executions) == (1, ())


class TestEverywhere:
    def test_a_cursor_says_so(self):
        it = job(keep_running=True, requirements=EVERYWHERE)
        decision = decided(it)
        assert decision.everywhere
        assert decision.schedule.everywhere
        here = decided(KEPT, decision.schedule)
        assert not here.everywhere
        assert not here.schedule.everywhere

    def test_not_of_what_ends_by_itself(self):
        assert not decided(job(requirements=EVERYWHERE)).everywhere


class TestNewLife:
    """Destroyed and submitted again before anybody looked."""

    OLD = begun(unit(every(10)))

    def test_nothing_of_the_former_one_concerns_it(self):
        old = msgspec.structs.replace(self.OLD, owed=(Owed(MOMENT, "simple"),), fired=7)
        decision = decided(unit(every(10)), old, created=2)
        assert decision.reborn
        assert (decision.schedule.owed, decision.schedule.fired) == ((), 0)
        assert is_reborn(change(None, created=2), old)
        assert not is_reborn(change(None, created=1), old)
        assert not is_reborn(change(None, created=2), None)

    def test_it_begins_after_all_that_was_claimed(self):
        late = TriggerState(last=to_datetime(NOW + 50))
        old = msgspec.structs.replace(self.OLD, triggers=(late, TriggerState()))
        decision = decided(unit(every(10)), old, created=2)
        assert decision.schedule.accepted_at == to_datetime(NOW + 51)

    def test_what_is_left_of_it_ends_first(self):
        waits, runs = execution(state="waiting"), on("m", 10)
        decision = decided(unit(every(10)), self.OLD, waits, runs, created=2, revisions={waits.id: 9, runs.id: 9})
        assert decision == EndsFirst(dict.fromkeys((waits.id, runs.id), because("destroyed")), reborn=True)
        # What was asked to end is on its way.
        stopping = on("m", 10, stop_requested="the unit was destroyed")
        assert isinstance(decided(unit(every(10)), self.OLD, stopping, created=2), Accepted)
        # Without a machine nobody can be asked: it ends by the scheduler.
        idle = execution(state="waiting", stop_requested="x")
        assert isinstance(decided(unit(every(10)), self.OLD, idle, created=2), EndsFirst)

    def test_a_start_by_hand_belongs_to_the_life_in_which_it_was_written(self):
        start = execution(50, state="delayed", trigger="manual")
        after = decided(unit(every(10)), self.OLD, start, created=5, revisions={start.id: 6})
        assert isinstance(after, Accepted)
        before = decided(unit(every(10)), self.OLD, start, created=5, revisions={start.id: 4})
        assert before.cancelled == {start.id: because("destroyed")}
