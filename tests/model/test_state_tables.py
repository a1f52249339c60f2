"""The two state tables: total, every illegal event refused, every state reachable, the diagram true."""

from datetime import UTC, datetime
from typing import get_args

import pytest

from xchronos.errors import XchronosError
from xchronos.model.lifecycle import (
    ATTEMPT,
    EXECUTION,
    AttemptEvent,
    AttemptState,
    ExecutionEvent,
    IllegalEvent,
    advance,
    attempt_after,
    diagram,
    execution_after,
)
from xchronos.model.records import Attempt, Execution, ExecutionState

EXECUTION_STATES, EXECUTION_EVENTS = get_args(ExecutionState), get_args(ExecutionEvent)
ATTEMPT_STATES, ATTEMPT_EVENTS = get_args(AttemptState), get_args(AttemptEvent)

# Every legal pair, written out once more: a change of the table has to be meant.
EXECUTION_AFTER = {
    "waiting": {"wait": "waiting", "place": "placed", "end": "ended"},
    "queued": {"wait": "waiting", "delay": "delayed", "place": "placed", "end": "ended"},
    "delayed": {"wait": "waiting", "enqueue": "queued", "place": "placed", "end": "ended"},
    "placed": {"start": "running", "report": "reported", "lose": "waiting", "end": "ended"},
    "running": {"report": "reported", "lose": "waiting", "end": "ended"},
    "reported": {"delay": "delayed", "wait": "waiting", "place": "placed", "end": "ended"},
    "ended": {},
}
ATTEMPT_AFTER = {
    "condition": {"next": "start-pre", "skip": "stop-post", "fail": "signal", "stop": "signal"},
    "start-pre": {"next": "start", "fail": "signal", "stop": "signal"},
    "start": {"next": "start-post", "fail": "signal", "stop": "signal"},
    "start-post": {"next": "running", "fail": "signal", "main-failed": "signal", "stop": "signal"},
    "running": {"next": "stop", "main-failed": "signal", "stop": "stop"},
    "stop": {"next": "signal", "fail": "signal"},
    "signal": {"next": "stop-post"},
    "stop-post": {"next": "done", "fail": "done"},
    "done": {},
}


@pytest.mark.parametrize("event", EXECUTION_EVENTS)
@pytest.mark.parametrize("state", EXECUTION_STATES)
def test_every_event_in_every_state_of_an_execution(state, event):
    expected = EXECUTION_AFTER[state].get(event)
    if expected is not None:
        assert execution_after(state, event) == expected
        return
    with pytest.raises(IllegalEvent, match=f"an execution that is {state} cannot take the event '{event}'"):
        execution_after(state, event)
    assert EXECUTION == EXECUTION_AFTER


def test_a_record_changes_with_its_state_or_not_at_all():
    placed = Execution("a.service", datetime(2030, 1, 1, tzinfo=UTC), state="placed", current=Attempt(1, "m1"))
    begun = advance(placed, "start", current=Attempt(1, "m1", revision="r"))
    assert (begun.state, begun.current, begun.id) == ("running", Attempt(1, "m1", revision="r"), placed.id)
    with pytest.raises(IllegalEvent, match="an execution that is running cannot take the event 'start'"):
        advance(begun, "start", current=None)
    assert (begun.state, begun.current.revision) == ("running", "r")


@pytest.mark.parametrize("event", ATTEMPT_EVENTS)
@pytest.mark.parametrize("state", ATTEMPT_STATES)
def test_every_event_in_every_phase_of_an_attempt(state, event):
    expected = ATTEMPT_AFTER[state].get(event)
    if expected is not None:
        assert attempt_after(state, event) == expected
        return
    with pytest.raises(IllegalEvent, match=f"an attempt in phase {state} cannot take the event '{event}'"):
        attempt_after(state, event)
    assert ATTEMPT == ATTEMPT_AFTER


@pytest.mark.parametrize(
    ("table", "states", "events"),
    [(EXECUTION, EXECUTION_STATES, EXECUTION_EVENTS), (ATTEMPT, ATTEMPT_STATES, ATTEMPT_EVENTS)],
    ids=["execution", "attempt"],
)
def test_the_tables_are_total_and_speak_only_of_known_words(table, states, events):
    assert set(table) == set(states)
    assert {event for row in table.values() for event in row} <= set(events)
    assert {target for row in table.values() for target in row.values()} <= set(states)


@pytest.mark.parametrize(
    ("table", "starts", "end"),
    [(EXECUTION, ("waiting", "queued", "delayed", "placed"), "ended"), (ATTEMPT, ("condition",), "done")],
    ids=["execution", "attempt"],
)
def test_every_state_is_reached_and_leads_to_the_end(table, starts, end):
    def reach(origin):
        seen, todo = set(), [origin]
        while todo:
            state = todo.pop()
            if state not in seen:
                seen.add(state)
                todo += table[state].values()
        return seen

    assert set().union(*(reach(start) for start in starts)) == set(table)
    assert all(end in reach(state) for state in table)
    assert table[end] == {}


def test_every_event_leads_somewhere():
    assert {event for row in EXECUTION.values() for event in row} == set(EXECUTION_EVENTS)
    assert {event for row in ATTEMPT.values() for event in row} == set(ATTEMPT_EVENTS)


def test_an_execution_can_be_ended_from_everywhere_but_its_end():
    assert all("end" in row for state, row in EXECUTION.items() if state != "ended")


def test_stop_commands_are_skipped_only_before_the_start_is_complete():
    # systemd.service(5): ExecStop after a stop or a success; a failure goes straight to the signal, and to ExecStopPost.
    assert attempt_after("running", "next") == attempt_after("running", "stop") == "stop"
    for phase in ("condition", "start-pre", "start", "start-post"):
        assert attempt_after(phase, "fail") == attempt_after(phase, "stop") == "signal"
    assert attempt_after("signal", "next") == "stop-post"


@pytest.mark.parametrize(("which", "table"), [("execution", EXECUTION), ("attempt", ATTEMPT)])
def test_the_diagram_draws_the_whole_table(which, table):
    header, *lines = diagram(which).splitlines()
    assert header == "stateDiagram-v2"
    drawn = set()
    for line in lines:
        arrow, _, events = line.strip().partition(": ")
        source, _, target = arrow.partition(" --> ")
        drawn |= {(source, event, target) for event in events.split(", ")}
    assert drawn == {
        (state.replace("-", "_"), event, target.replace("-", "_"))
        for state, row in table.items()
        for event, target in row.items()
    }


def test_the_error_is_one_of_ours():
    assert issubclass(IllegalEvent, XchronosError)
