"""What becomes of an execution that no machine has, as a table."""

import pytest

from tests.scheduler.deciders import MOMENT, NOW, ident, on, seen
from tests.scheduler.schedule_builders import asks, attempt, every, execution, job, s, unit, view
from xchronos.clock import to_datetime
from xchronos.model.policies import Outcome
from xchronos.scheduler.pending import (
    Finish,
    PlaceNow,
    Queue,
    Stay,
    WaitForMachine,
    asks_history,
    consider,
    find_place,
    urgency,
)
from xchronos.scheduler.reasons import Reason, because

FAILED, LOST = Outcome.FAILED, Outcome.LOST
AB = (view("a"), view("b"))
EVERYWHERE = asks(is_global=True)


def considered(it, record, *others, machines=AB, txn_room=128, **fields):
    known = {name: fields.pop(name) for name in ("reached", "hopeless") if name in fields}
    return consider(it, record, seen(record, *others, machines=machines, **fields), NOW, txn_room=txn_room, **known)


def told(decision):
    """(what, where it goes or how it ends, why)."""
    match decision:
        case Finish(outcome, reason):
            return "finish", str(outcome), reason.text
        case PlaceNow(record):
            return "place", record.current.machine, record.reason
        case WaitForMachine(record, reason):
            assert record is None or (record.state, record.reason) == ("waiting", reason.text)
            return "wait", record is not None, reason.text
        case Queue(record):
            return "queue", record.state, record.reason
    return "stay", "", ""


def waits(**fields):
    return execution(state="waiting", **fields)


def started(**fields):
    """A start by hand that nobody has looked at yet."""
    return execution(50, state="delayed", trigger="manual", due_at=MOMENT, **fields)


EARLIER = on("a", 0)
DELAYED = execution(state="delayed", trigger="cron", due_at=to_datetime(NOW + 1))


@pytest.mark.parametrize(
    ("it", "record", "others", "expected"),
    [
        (job(), waits(), (), ("place", "a", "")),
        (job(), waits(stop_requested="stopped by ann"), (), ("finish", "cancelled", "stopped by ann")),
        (
            job(),
            waits(deadline=to_datetime(s(99)), reason="no room"),
            (),
            ("finish", "missed", "StartDeadline passed while it waited: no room"),
        ),
        (
            job(),
            waits(deadline=to_datetime(s(99)), attempts=(attempt(1, FAILED),)),
            (),
            ("finish", "failed", "StartDeadline passed while it waited: no machine could take it"),
        ),
        # A moment that has not come; one that has.
        (job(), DELAYED, (), ("stay", "", "")),
        (job(), execution(state="delayed", trigger="cron", due_at=MOMENT), (), ("place", "a", "")),
        # The queue is served in order, a fire time as a whole.
        (job(concurrency="queue"), execution(50, state="queued"), (EARLIER,), ("stay", "", "")),
        (job(concurrency="queue"), execution(50, state="queued"), (execution(40, state="queued"),), ("stay", "", "")),
        (job(concurrency="queue"), execution(50, 1, state="queued"), (on("a", 50),), ("place", "b", "")),
        (job(concurrency="queue"), execution(50, state="queued"), (), ("place", "a", "")),
        # A start by hand is asked what Concurrency= says of it; what has been tried is not asked again.
        (job(), started(), (EARLIER,), ("place", "a", "")),
        (
            job(concurrency="forbid"),
            started(),
            (EARLIER,),
            ("finish", "skipped", f"Concurrency=forbid: {EARLIER.id} is still active"),
        ),
        (
            job(concurrency="queue"),
            started(),
            (EARLIER,),
            ("queue", "queued", f"Concurrency=queue: {EARLIER.id} is still active"),
        ),
        (job(concurrency="forbid"), started(), (), ("place", "a", "")),
        (job(concurrency="forbid"), started(attempts=(attempt(1, FAILED, "a"),)), (EARLIER,), ("place", "b", "")),
    ],
)
def test_the_table(it, record, others, expected):
    assert told(considered(it, record, *others)) == expected


def test_whose_clock_was_set_back_goes_by_its_own():
    assert told(considered(job(), DELAYED, reached=NOW + 1))[0] == "place"
    late = waits(deadline=to_datetime(NOW + 1))
    assert told(considered(job(), late, reached=NOW + 2))[:2] == ("finish", "missed")


def test_replace_asks_what_is_older_to_end():
    queued, older, newer = execution(50, state="queued"), on("a", 0), execution(60, state="queued")
    decision = considered(job(concurrency="replace"), queued, older, newer)
    assert decision == Stay({older.id: because("replaced-by-fire", by=queued.id)})
    assert considered(job(concurrency="queue"), queued, older) == Stay({})
    decision = considered(job(concurrency="replace"), started(), older, newer)
    assert isinstance(decision, Queue)
    assert decision.cancelled == {name: because("replaced-by-fire", by=ident(50)) for name in (older.id, newer.id)}
    assert considered(job(concurrency="queue"), started(), older).cancelled == {}


@pytest.mark.parametrize(
    ("it", "record", "others", "machines", "expected"),
    [
        (job(), waits(), (), (), ("wait", True, "1 unplaced: no machine is alive")),
        (
            job(),
            waits(reason="1 unplaced: no machine is alive"),
            (),
            (),
            ("wait", False, "1 unplaced: no machine is alive"),
        ),
        # A retry goes elsewhere, and comes back where there is nothing else.
        (job(), waits(attempts=(attempt(1, FAILED, "a"),)), (), AB, ("place", "b", "")),
        (job(), waits(attempts=(attempt(1, FAILED, "a"),)), (), AB[:1], ("place", "a", "")),
        # Copies are on machines of their own, from first to last.
        (job(availability=2), waits(copy=1), (on("a"),), AB, ("place", "b", "")),
        (job(availability=2), waits(copy=1), (waits(),), AB, ("place", "a", "")),
        (job(availability=2), waits(copy=1), (waits(attempts=(attempt(1, FAILED, "a"),)),), AB, ("place", "b", "")),
        (
            job(availability=2),
            waits(copy=1),
            (on("a"),),
            AB[:1],
            ("wait", True, "1 unplaced: 1 machine already runs a copy"),
        ),
        # What is kept running stays where it is, if it can; its copies may have begun at different moments.
        (job(keep_running=True), waits(attempts=(attempt(1, FAILED, "b"),)), (), AB, ("place", "b", "")),
        (job(keep_running=True), waits(attempts=(attempt(1, FAILED, "c"),)), (), AB, ("place", "a", "")),
        (job(keep_running=True, availability=2), waits(copy=1), (on("a", 70),), AB, ("place", "b", "")),
        # A copy of a Global unit has its machine, and no other.
        (job(requirements=EVERYWHERE), waits(attempts=(attempt(1, FAILED, "b"),)), (), AB, ("place", "b", "")),
        (
            job(requirements=EVERYWHERE),
            waits(attempts=(attempt(1, FAILED, "c"),)),
            (),
            AB,
            ("finish", "failed", "c is gone"),
        ),
        (
            job(requirements=EVERYWHERE),
            waits(attempts=(attempt(1, None, "a"),)),
            (),
            (),
            ("finish", "lost", "a is gone"),
        ),
        (
            job(requirements=EVERYWHERE),
            waits(attempts=(attempt(1, FAILED, "a"),)),
            (),
            (view("a", attempts=1, slots=1),),
            ("wait", True, "a has no free slot (1 of 1 are taken)"),
        ),
        # A cordon is for a while; a drain, and the end of a fit, are for good.
        (
            job(requirements=EVERYWHERE),
            waits(attempts=(attempt(1, FAILED, "a"),)),
            (),
            (view("a", cordoned=True),),
            ("wait", True, "a is cordoned"),
        ),
        (
            job(requirements=EVERYWHERE),
            waits(attempts=(attempt(1, FAILED, "a"),)),
            (),
            (view("a", cordoned=True, drain_until=MOMENT),),
            ("finish", "failed", "a is cordoned"),
        ),
        (
            job(requirements=EVERYWHERE, keep_running=True),
            waits(attempts=(attempt(1, FAILED, "a"),)),
            (),
            (view("a", cordoned=True),),
            ("finish", "failed", "a is cordoned"),
        ),
        (
            job(requirements=EVERYWHERE),
            waits(attempts=(attempt(1, FAILED, "a"),)),
            (),
            (view("a", executors=()),),
            ("finish", "failed", "a does not allow the docker executor"),
        ),
        (job(requirements=EVERYWHERE), waits(), (), (), ("wait", True, "1 unplaced: no machine is alive")),
        (
            job(requirements=EVERYWHERE, keep_running=True),
            waits(copy=1),
            (on("a", 70),),
            AB[:1],
            ("finish", "skipped", "every machine has its copy"),
        ),
    ],
)
def test_where_it_goes(it, record, others, machines, expected):
    assert told(considered(it, record, *others, machines=machines)) == expected


def test_the_machines_of_copies_that_have_ended_are_taken():
    it = job(availability=2)
    assert told(considered(it, waits(copy=1), ended={ident(): "a"}))[1] == "b"
    assert told(considered(it, waits(copy=1), ended={ident(copy=1): "a"}))[1] == "a"
    assert asks_history(it, waits(), seen(), NOW)
    assert not asks_history(job(), waits(), seen(), NOW)
    assert not asks_history(job(availability=2, keep_running=True), waits(), seen(), NOW)
    # Who is not placed now need not know.
    assert not asks_history(it, DELAYED, seen(DELAYED), NOW)
    assert not asks_history(it, waits(stop_requested="x"), seen(), NOW)


class TestEveryMachine:
    def test_a_start_takes_all_of_them(self):
        decision = considered(job(requirements=EVERYWHERE), started(), machines=[view(name) for name in "cab"])
        assert isinstance(decision, PlaceNow)
        both = [decision.execution, *decision.also]
        assert sorted((one.copy, one.current.machine if one.current else "", one.state) for one in both) == [
            (0, "a", "placed"),
            (1, "b", "placed"),
            (2, "c", "placed"),
            (3, "", "waiting"),
        ]
        fired = considered(unit(every(10), requirements=EVERYWHERE), started(), machines=[view(name) for name in "cab"])
        assert isinstance(fired, PlaceNow)
        assert {one.state for one in fired.also} == {"placed"}

    def test_what_one_txn_does_not_hold_waits_for_the_next(self):
        machines = [view(f"m{n}") for n in range(6)]
        decision = considered(job(requirements=EVERYWHERE), started(), machines=machines, txn_room=5)
        assert [(one.state, one.copy) for one in decision.also] == [("waiting", 3), ("placed", 1), ("placed", 2)]
        assert decision.execution.state == "placed"
        assert len({one.current.machine for one in decision.also[1:]}) == 2

    def test_where_one_is_kept_running_it_is_not_begun_again(self):
        it = job(requirements=EVERYWHERE, keep_running=True)
        decision = considered(it, started(), on("a", 70), waits(copy=5, attempts=(attempt(1, FAILED, "b"),)),
                              machines=(*AB, view("c")))  # fmt: skip
        assert (decision.execution.current.machine, decision.also) == ("c", ())


def test_what_was_hopeless_a_moment_ago_is_not_tried_again():
    why = Reason("no-machine", "1 unplaced: 2 machines have no free slot")
    decision = considered(job(), waits(), hopeless=why)
    assert decision == WaitForMachine(waits(reason=why.text), why, (), shared=True)
    # What asks for something of its own is.
    assert told(considered(job(availability=2), waits(), hopeless=why))[0] == "place"
    assert told(considered(job(), waits(attempts=(attempt(1, FAILED),)), hopeless=why))[0] == "place"
    assert considered(job(), waits(), machines=()).shared
    assert not considered(job(availability=2), waits(), machines=()).shared


def test_the_next_attempt_has_the_next_number_and_goes_on_round_the_machines():
    it = job(load_balancing="round-robin")
    record = waits(attempts=(attempt(4, LOST, "x"),))
    decision = find_place(it, record, seen(record, machines=AB, last_machine="a"), NOW, txn_room=10)
    assert isinstance(decision, PlaceNow)
    assert (decision.execution.current.number, decision.last_machine) == (5, "b")


def test_the_most_urgent_first():
    low, high = job(priority=-1), job(priority=7)
    ids = ["b.service/2", "a.service/3", "a.service/1"]
    line = sorted([(urgency(low, ids[0]), 0), (urgency(high, ids[1]), 1), (urgency(None, ids[2]), 2)])
    assert [number for _, number in line] == [1, 2, 0]
    assert urgency(job(), "z.service/1") < urgency(job(), "a.service/2")
