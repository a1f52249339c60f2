"""The two state tables: an execution's and an attempt's. Total, in one file; the diagram is drawn from them.

An event that a state does not know raises `IllegalEvent` and leaves the state as it was. Rooms
that carry decisions out move a record on through `advance`, the deciders in `scheduler/` ask `execution_after`. By its
name a state is written only into an execution that is new (`test_no_state_is_written_by_its_name`). The tables allow
more than today's deciders do: what is legal is the record's affair, what is done is theirs.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec

from xchronos.errors import XchronosError
from xchronos.model.records import Execution, ExecutionState

ExecutionEvent = Literal[
    "wait",  # no machine can take it now
    "enqueue",  # Concurrency=queue: an earlier one is still active
    "delay",  # RandomizedDelay, or the pause before a retry
    "place",  # a machine was chosen: the durable claim
    "start",  # the agent has recorded that it starts the attempt
    "report",  # the agent has recorded how the attempt ended; the scheduler decides what follows
    "lose",  # the machine is gone: the attempt is lost and not charged
    "end",  # an outcome was recorded: nothing follows
]

EXECUTION: Mapping[ExecutionState, Mapping[ExecutionEvent, ExecutionState]] = {
    "waiting": {"wait": "waiting", "place": "placed", "end": "ended"},
    "queued": {"wait": "waiting", "delay": "delayed", "place": "placed", "end": "ended"},
    "delayed": {"wait": "waiting", "enqueue": "queued", "place": "placed", "end": "ended"},
    "placed": {"start": "running", "report": "reported", "lose": "waiting", "end": "ended"},
    "running": {"report": "reported", "lose": "waiting", "end": "ended"},
    "reported": {"delay": "delayed", "wait": "waiting", "place": "placed", "end": "ended"},
    "ended": {},
}

AttemptState = Literal[
    "condition", "start-pre", "start", "start-post", "running", "stop", "signal", "stop-post", "done"
]
AttemptEvent = Literal[
    "next",  # every command of this phase is done (or there is none)
    "skip",  # a condition said: quietly not
    "fail",  # a command failed without `-`, or a start time-out
    "main-failed",  # the main process ended badly by itself, after the start was over
    "stop",  # stopped by a person, by replacement, or by RuntimeMaxSec
]

ATTEMPT: Mapping[AttemptState, Mapping[AttemptEvent, AttemptState]] = {
    # systemd.service(5): a failure before the start is complete skips ExecStop, never ExecStopPost.
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


class IllegalEvent(XchronosError):  # noqa: N818
    """The state does not know the event: a defect of the caller, or a record that somebody else has changed."""


def execution_after(state: ExecutionState, event: ExecutionEvent) -> ExecutionState:
    """The execution's state after `event`. Raises IllegalEvent, leaving the caller's state as it was."""
    try:
        return EXECUTION[state][event]
    except KeyError:
        raise IllegalEvent(f"an execution that is {state} cannot take the event {event!r}") from None


def advance(execution: Execution, event: ExecutionEvent, **changes: Any) -> Execution:
    """The execution after `event`, with those other fields changed that change together with its state.

    Raises IllegalEvent: then nothing has changed.
    """
    return msgspec.structs.replace(execution, state=execution_after(execution.state, event), **changes)


def attempt_after(state: AttemptState, event: AttemptEvent) -> AttemptState:
    """The attempt's phase after `event`. Raises IllegalEvent, leaving the caller's state as it was."""
    try:
        return ATTEMPT[state][event]
    except KeyError:
        raise IllegalEvent(f"an attempt in phase {state} cannot take the event {event!r}") from None


def diagram(which: Literal["execution", "attempt"]) -> str:
    """The table as a Mermaid state diagram, for packaging/CONTRIBUTING.md; a test keeps the two equal."""
    table: Mapping[str, Mapping[str, str]] = EXECUTION if which == "execution" else ATTEMPT  # type: ignore[assignment]
    names = get_args(ExecutionState if which == "execution" else AttemptState)
    arrows: dict[tuple[str, str], list[str]] = {}
    for state in names:
        for event, target in table[state].items():
            arrows.setdefault((state, target), []).append(event)
    lines = ["stateDiagram-v2"]
    lines += [
        f"    {source.replace('-', '_')} --> {target.replace('-', '_')}: {', '.join(events)}"
        for (source, target), events in arrows.items()
    ]
    return "\n".join(lines)
