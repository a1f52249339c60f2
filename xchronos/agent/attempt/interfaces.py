"""What an attempt's walk needs of the machine that it runs on, and what it comes to."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from xchronos.clock import Micros
from xchronos.durable import Strength
from xchronos.executors.contract import StepExit
from xchronos.model.policies import Outcome
from xchronos.model.records import StepResult
from xchronos.model.unit import Step


class Steps(Protocol):
    """Runs the steps of one attempt."""

    def call(self, step: Step, env: Mapping[str, str]) -> StepExit | None:
        """Run a step that is over when this returns. None: the step is of another kind, and is `run`'s."""
        ...

    async def run(self, step: Step, env: Mapping[str, str]) -> StepExit:
        """Run (or adopt) a step to its end; `env` is added to its environment."""
        ...

    async def started(self, step: Step) -> int | None:
        """Wait until the step's program runs, and return its pid. 0: it could not be started, or it has ended.

        None, immediately, where nobody can tell.
        """
        ...

    async def stop(self, step: Step, signal: str) -> None:
        """Send a signal to a running step."""
        ...

    async def kill(self, step: Step) -> None:
        """Send SIGKILL to a running step."""
        ...

    def leaves(self, step: Step) -> bool:
        """Whether a step leaves something on this machine that has to be gone before the next one begins."""
        ...

    def remembers(self, step: Step) -> bool:
        """Whether the step's executor can tell again how it ended, after a power cut, too, until all is released."""
        ...

    async def tidy(self, step: Step) -> None:
        """Remove that, once the step has ended and its end is recorded for good."""
        ...

    async def left_behind(self, signal: str = "") -> bool:
        """Whether steps that have ended left processes running; sends these a signal when one is given."""
        ...


class HeldUp(Protocol):
    """Tells the time that a step waits for its executor from the time that it runs."""

    def __call__(self, step: Step, /) -> Micros:
        """How long a step has not been begun because its executor is, or was, away; in microseconds."""
        ...


def never_held_up(step: Step, /) -> Micros:  # noqa: ARG001 - the protocol's
    """The `HeldUp` of executors that are always there."""
    return 0


class Memory(Protocol):
    """What the attempt remembers on this machine, so that a restarted daemon repeats nothing."""

    def result(self, step: str) -> StepResult | None:
        """The recorded result of a step that has ended."""
        ...

    def begun(self, step: str) -> bool:
        """Whether a step was begun."""
        ...

    def elapsed(self, step: str) -> Micros:
        """For how long a step has been running, in microseconds. A step that was not begun is begun now."""
        ...

    def began(self) -> Micros | None:
        """When the first step was begun, on this boot's monotonic clock. None: no step was begun in this boot."""
        ...

    async def record(self, result: StepResult, strength: Strength = "file") -> bool:
        """Remember a step's end. What is remembered survives a crash; `strength` says what survives a power cut.

        Returns whether it does: a full disk has no room for it.
        """
        ...


class AttemptEnd(msgspec.Struct, frozen=True, gc=False):
    """How an attempt ended.

    Attributes:
        outcome: How it ended, in the words of the records.
        reason: Why, for people; empty when there is nothing to say.
        result: systemd's word for it: success, exit-code, signal, timeout, oom-kill ...
        steps: What its steps came to, in the order in which they ended.
        main: What its main process came to; None when there was none.
        crowded: It was lost for want of room alone.
    """

    outcome: Outcome
    reason: str
    result: str
    steps: tuple[StepResult, ...]
    main: StepResult | None = None
    crowded: bool = False
