"""What must not stay on its machine, as tables: drains, machines that fit no more, peers, units that replace others."""

import msgspec
import pytest

from tests.scheduler.deciders import MOMENT, NOW, on
from tests.scheduler.schedule_builders import asks, execution, job, view
from xchronos.clock import to_datetime
from xchronos.scheduler.eviction import (
    follows_its_peer,
    moves_away,
    must_leave,
    peer_is_elsewhere,
    peers,
    replaces_others,
    way_out,
    whom_it_replaces,
)
from xchronos.scheduler.feasibility import Running
from xchronos.scheduler.view import KnownExecution

LATER = to_datetime(NOW + 1)
PLACED, RUNS = on("m", state="placed"), on("m")


@pytest.mark.parametrize(
    ("it", "machine", "execution", "reason"),
    [
        (job(), {}, RUNS, ""),
        # A drain: immediately what was not begun and what is kept running, the rest at its end.
        (job(), {"drain_until": LATER}, RUNS, ""),
        (job(), {"drain_until": LATER}, PLACED, "m is being drained"),
        (job(keep_running=True), {"drain_until": LATER}, RUNS, "m is being drained"),
        (job(), {"drain_until": MOMENT}, RUNS, "m is being drained"),
        (None, {"drain_until": MOMENT}, RUNS, "m is being drained"),
        (job(), {"drain_until": MOMENT, "cordon_reason": "new disk"}, RUNS, "m is being drained: new disk"),
        # A cordon concerns only what is new.
        (job(), {"cordoned": True}, RUNS, ""),
        (None, {}, RUNS, ""),
        (job(requirements=asks(metadata={"disk": ("ssd",)})), {}, RUNS, "m lacks disk=ssd"),
        (job(), {"executors": ()}, RUNS, "m does not allow the docker executor"),
        # An engine that does not answer just now is no reason: its containers run on.
        (job(), {"docker": "unavailable: no answer"}, RUNS, ""),
    ],
)
def test_who_must_leave(it, machine, execution, reason):
    found = must_leave(it, view("m", **machine).machine, execution, NOW)
    assert ("" if found is None else found.text) == reason


@pytest.mark.parametrize(
    ("record", "way"),
    [
        (PLACED, "take back"),
        (RUNS, "ask"),
        (on("m", stop_requested="x"), "leaves"),
        (msgspec.structs.replace(RUNS, current=msgspec.structs.replace(RUNS.current, leave="x")), "leaves"),
        (execution(state="waiting"), "leaves"),
    ],
)
def test_how_it_leaves(record, way):
    assert way_out(record) == way


def test_whom_a_unit_replaces():
    it = job(requirements=asks(replaces=("old.*",)))
    there = view("m", {"old.service": Running(asks()), "b.service": Running(asks())})
    gone, reason = whom_it_replaces(it, there)
    assert gone == {"old.service"}
    assert reason.text == "a.service replaces it (Replaces=)"
    assert replaces_others(it)
    assert not replaces_others(job())
    assert not replaces_others(None)


def test_what_follows_a_peer():
    it = job(requirements=asks(peers=("db.service",)), keep_running=True)
    assert peers(it) == ("db.service",)
    assert peers(None) == ()
    assert follows_its_peer(it)
    assert not follows_its_peer(msgspec.structs.replace(it, keep_running=False))
    assert not follows_its_peer(None)
    assert peer_is_elsewhere("db.service").text == "db.service is on another machine now (MachineOf)"


@pytest.mark.parametrize(
    ("here", "elsewhere", "expected"),
    [
        ([RUNS], [], False),
        ([RUNS], ["n"], False),
        ([on("m", stop_requested="x")], [], False),
        ([on("m", stop_requested="x")], ["n"], True),
        ([on("m", stop_requested="x"), RUNS], ["n"], False),
        ([], ["n"], True),
        ([], [""], False),
    ],
)
def test_a_unit_that_moves_away(here, elsewhere, expected):
    held = [KnownExecution(one, "m") for one in here] + [KnownExecution(RUNS, machine) for machine in elsewhere]
    assert moves_away(held, "m") is expected
