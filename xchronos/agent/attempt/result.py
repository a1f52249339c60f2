"""What an attempt comes to: its first failure, what else was said on the way, and systemd's word for the whole."""

from collections.abc import Sequence

from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.model.policies import Outcome
from xchronos.model.records import StepResult


class ServiceResult:
    """Gathers what the steps of an attempt come to.

    Attributes:
        result: systemd's word: success, exit-code, timeout ... The first that is not success stays.
        reason: What went wrong, for people; the first failure first.
        cancelled: The attempt was asked to stop, and the walk turned for it.
    """

    def __init__(self) -> None:
        self.result = "success"
        self.reason = ""
        self.cancelled = False

    def fail(self, result: str, reason: str) -> None:
        """Something failed; "" is no failure. The first failure is the attempt's, later reasons are added to it."""
        if not reason:
            return
        self.fold(result)
        if reason not in self.reason:
            self.reason = f"{self.reason}; {reason}" if self.reason else reason

    def fold(self, result: str) -> None:
        """Something ended so. It counts if nothing has failed before."""
        if self.result == "success":
            self.result = result

    def end(self, stop_reason: str, steps: Sequence[StepResult], main: StepResult | None) -> AttemptEnd:
        """The attempt's end. `stop_reason` is what it was asked to stop for, if it was."""
        reason = self.reason
        if self.result == "exec-condition":
            outcome = Outcome.SKIPPED
        elif self.result == "lost":
            outcome = Outcome.LOST
        elif self.cancelled:
            outcome = Outcome.CANCELLED
            reason = f"{stop_reason}; {reason}" if reason else stop_reason
        elif self.result == "timeout":
            outcome = Outcome.TIMED_OUT
        elif self.result == "success":
            outcome = Outcome.SUCCEEDED
        else:
            outcome = Outcome.FAILED
        return AttemptEnd(outcome, reason, self.result, tuple(steps), main)
