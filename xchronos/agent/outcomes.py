"""How an attempt ends that did not run, and what an execution becomes when nothing follows its attempt."""

from datetime import datetime

import msgspec

from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.model.lifecycle import advance
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution


def failed(reason: str) -> AttemptEnd:
    """The attempt could not be carried out."""
    return AttemptEnd(Outcome.FAILED, reason, "resources", ())


def lost(reason: str, *, crowded: bool = False) -> AttemptEnd:
    """The attempt is for another machine to try, and not charged. `crowded`: for want of room alone."""
    return AttemptEnd(Outcome.LOST, reason, "success", (), crowded=crowded)


def fate_unknown(reason: str) -> AttemptEnd:
    """The attempt was begun, and nobody can tell any more what became of it."""
    return AttemptEnd(Outcome.LOST, f"what became of it cannot be known: {reason}", "lost", ())


def cancelled(reason: str) -> AttemptEnd:
    """Somebody wants the attempt not to be."""
    return AttemptEnd(Outcome.CANCELLED, reason, "success", ())


def hindered(machine: str, error: Exception, *, begun: bool) -> AttemptEnd:
    """The machine was in the way (its disk is full, say), or a defect.

    What the machine has not begun is for another machine; what it has begun has failed, as has what a defect stopped.
    """
    if not isinstance(error, OSError):
        return failed("this agent could not carry out the attempt: see its log")
    what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    reason = f"{machine} cannot keep the attempt's files: {what}"
    return failed(reason) if begun else lost(reason)


def ended(attempt: Attempt, end: AttemptEnd, at: datetime) -> Attempt:
    """The attempt's record with its end."""
    return msgspec.structs.replace(
        attempt, ended_at=at, outcome=end.outcome, reason=end.reason, steps=end.steps, crowded=end.crowded
    )


def concluded(execution: Execution, attempt: Attempt) -> Execution:
    """The execution's last record, when nothing follows the attempt. Raises IllegalEvent if it has ended already."""
    return advance(
        execution,
        "end",
        attempts=(*execution.attempts, attempt),
        current=None,
        outcome=attempt.outcome,
        reason=attempt.reason,
        ended_at=attempt.ended_at,
    )
