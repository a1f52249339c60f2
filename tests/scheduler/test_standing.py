"""A start of a Global unit that stands for machines to come: what it takes, what ends it, and what holds nobody up."""

import msgspec
import pytest

from tests.scheduler.deciders import NOW, on, seen
from tests.scheduler.schedule_builders import asks, every, execution, job, s, unit, view
from xchronos.clock import to_datetime
from xchronos.model.policies import Outcome
from xchronos.scheduler.explain import explain
from xchronos.scheduler.pending import Finish, PlaceNow, WaitForMachine, consider
from xchronos.scheduler.placement import stands
from xchronos.scheduler.reasons import because
from xchronos.scheduler.view import file_of

EVERYWHERE = asks(is_global=True)
IT = job(requirements=EVERYWHERE)
STANDS = because("stands").text


def start(**fields):
    """A start by hand that nobody has looked at yet."""
    return execution(50, state="delayed", trigger="manual", due_at=to_datetime(s(50)), **fields)


def standing(seconds=50, copy=2, **fields):
    return execution(seconds, copy, state="waiting", trigger="manual", reason=STANDS, stands=True, **fields)


def considered(it, record, *others, machines="ab", txn_room=128, **fields):
    known = seen(record, *others, machines=[view(name) for name in machines], **fields)
    return consider(it, record, known, NOW, txn_room=txn_room)


@pytest.mark.parametrize(
    ("it", "so"),
    [
        (IT, True),
        (job(), False),
        (job(requirements=EVERYWHERE, keep_running=True), False),
        (unit(every(10), requirements=EVERYWHERE), False),
    ],
)
def test_whose_starts_stand(it, so):
    assert stands(it) is so


@pytest.mark.parametrize(
    ("machines", "room", "copies"),
    [
        ("ab", 128, [("a", 0), ("b", 1), ("", 2)]),
        ("a", 128, [("a", 0), ("", 1)]),
        # What the Txn cannot hold is left to what stands.
        ("abcd", 4, [("a", 0), ("b", 1), ("", 2)]),
    ],
)
def test_a_start_leaves_one_that_stands(machines, room, copies):
    deadline = to_datetime(s(9999))
    decision = considered(IT, start(deadline=deadline), machines=machines, txn_room=room)
    assert isinstance(decision, PlaceNow)
    found = [decision.execution, *sorted(decision.also, key=lambda one: one.copy)]
    assert [(one.current.machine if one.current else "", one.copy) for one in found] == copies
    last = found[-1]
    assert (last.state, last.stands, last.reason, last.deadline) == ("waiting", True, STANDS, None)
    assert not any(one.stands for one in found[:-1])


def test_it_takes_machines_that_have_had_none():
    decision = considered(IT, standing(), on("a", 50), ended={"a.service/x/1": "b"}, machines="abc")
    assert isinstance(decision, PlaceNow)
    assert (decision.execution.current.machine, decision.execution.copy, decision.execution.stands) == ("c", 2, False)
    assert [(one.copy, one.stands) for one in decision.also] == [(3, True)]
    # While there are none it waits, and says so once.
    waits = considered(IT, standing(), ended={"a.service/x/0": "a", "a.service/x/1": "b"})
    assert isinstance(waits, WaitForMachine)
    assert (waits.execution, waits.reason.code) == (None, "stands")


def test_what_ends_it():
    asked = considered(IT, standing(stop_requested="enough"))
    assert asked == Finish(Outcome.CANCELLED, because("asked", why="enough"))
    assert considered(job(), standing()) == Finish(Outcome.CANCELLED, because("stands-for-nothing"))
    later = standing(60)
    assert considered(IT, standing(), later) == Finish(Outcome.CANCELLED, because("started-again", by=later.id))
    older = standing(40)
    decision = considered(IT, start(), older)
    assert isinstance(decision, PlaceNow)
    assert decision.cancelled == {older.id: because("started-again", by=start().id)}


@pytest.mark.parametrize("concurrency", ["forbid", "queue", "replace"])
def test_it_holds_nobody_up(concurrency):
    it = msgspec.structs.replace(IT, concurrency=concurrency)
    assert isinstance(considered(it, start(), standing(40)), PlaceNow)
    assert file_of(standing()) == "standing"


def test_explain_says_what_it_is():
    lines = explain(IT, None, [standing()], [view("a", cordoned=True)], NOW)
    assert lines[1] == f"{standing().id} stands: {STANDS}"
    assert lines[2] == "  a is cordoned"
