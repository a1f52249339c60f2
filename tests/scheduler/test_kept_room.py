"""The room of what pauses between two attempts: nobody else's, and its own when it comes back."""

import msgspec
import pytest

from tests.scheduler.schedule_builders import asks, attempt, execution, job, view
from xchronos.model.policies import Outcome
from xchronos.scheduler.placement import place, place_one
from xchronos.scheduler.ranking import Ranking
from xchronos.scheduler.view import KnownExecution, filed

KEPT_ROOM = [
    # What the machine offers, and what each of two units asks of it: there is room for one of them.
    ({"slots": 1}, {}),
    ({"total_memory": 100}, {"memory": 60}),
    ({"total_cpus": 1.0}, {"cpus": 0.6}),
    ({}, {"requirements": asks(conflicts=("a.*",))}),
]


@pytest.mark.parametrize(("offers", "wants"), KEPT_ROOM)
def test_a_pause_keeps_the_room_of_what_comes_back(offers, wants):
    it = job(keep_running=True, **wants)
    other = msgspec.structs.replace(it, name="b.service", requirements=asks(conflicts=("a.*",)))
    machine = view("m1", **offers)
    machine.take(it)
    paused = execution(state="delayed", attempts=(attempt(1, Outcome.SUCCEEDED),), home="m1")
    seen = filed({paused.id: KnownExecution(paused)}, Ranking([machine]))
    assert place_one(it, paused, seen).machines == ("m1",)
    assert place(other, [machine]).machines == ()
    # Its room is its own, and nobody's twice: somebody else's is not taken for it.
    stranger = msgspec.structs.replace(paused, home="")
    if offers:
        assert place_one(it, stranger, filed({paused.id: KnownExecution(stranger)}, Ranking([machine]))).machines == ()
    machine.release(it)
    assert place(other, [machine]).machines == ("m1",)


def test_what_needs_a_peer_finds_it_while_it_pauses():
    it, machine = job(keep_running=True), view("m1")
    machine.take(it)
    follower = job("b.service", requirements=asks(peers=("a.service",)))
    assert place(follower, [machine]).machines == ("m1",)
    assert machine.without("b.service") is machine
