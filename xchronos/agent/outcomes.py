"""How an attempt ends that nothing was run of, and what an execution is that ends with its attempt."""

from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.model.lifecycle import advance
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution


def failed(reason: str) -> AttemptEnd:
    """It could not be carried out."""
    return AttemptEnd(Outcome.FAILED, reason, "resources", ())


def lost(reason: str, *, crowded: bool = False) -> AttemptEnd:
    """It is for another machine to try, or another attempt: not charged. `crowded`: for want of room alone."""
    return AttemptEnd(Outcome.LOST, reason, "success", (), crowded=crowded)


def hindered(machine: str, error: Exception, *, begun: bool) -> AttemptEnd:
    """The machine was in the way (its disk is full, say), or a defect. What has not begun there is for another one."""
    if not isinstance(error, OSError):
        return failed("this agent could not carry out the attempt: see its log")
    what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    reason = f"{machine} cannot keep the attempt's files: {what}"
    return failed(reason) if begun else lost(reason)


def cancelled(reason: str) -> AttemptEnd:
    """Somebody wants it not to be."""
    return AttemptEnd(Outcome.CANCELLED, reason, "success", ())


def concluded(execution: Execution, attempt: Attempt) -> Execution:
    """The execution's last record, when nothing follows the attempt."""
    return advance(
        execution,
        "end",
        attempts=(*execution.attempts, attempt),
        current=None,
        outcome=attempt.outcome,
        reason=attempt.reason,
        ended_at=attempt.ended_at,
    )
