"""Why, and at which step, the walk of an attempt turns towards its end.

An attempt turns because somebody asks it to stop, or because a time limit has expired. The turn is written into the
attempt's memory before anything follows from it: before the signal to the step at which the walk turned, and before the
commands that come after a stop. A later walk with the same memory (the daemon was restarted meanwhile) turns at the
same step for the same reason, although nobody asks it again. Only the first turn counts.
Pinned by `test_a_stop_that_nobody_repeats_is_not_forgotten`.
"""

import asyncio

from xchronos.agent.attempt.interfaces import Memory
from xchronos.agent.attempt.result import ServiceResult
from xchronos.agent.attempt.termination import LimitSetting, limit_of
from xchronos.model.lifecycle import AttemptEvent
from xchronos.model.records import StepOutcome, StepResult
from xchronos.model.unit import Service, Step
from xchronos.unitfile.timespan import format_timespan

TURN_ENTRY = "ending"
"""The turn's entry in the memory, which is kept by step name. No step is called so."""


class StopPoint:
    """The turn of one attempt.

    Attributes:
        reason: What the attempt was asked to stop for. Set once, by `request`; "" before that.
        asked: Done when the attempt was asked to stop.
        earlier: The turn that an earlier walk remembered; None when there was none.
        mark: The outcome and the reason of a main process that ends from now on. None: its exit status says them.
    """

    def __init__(self, service: Service, memory: Memory, result: ServiceResult) -> None:
        self.reason = ""
        self.asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.earlier = memory.result(TURN_ENTRY)
        self.mark: tuple[StepOutcome, str] | None = None
        if self.earlier is not None:
            self.mark = (self.earlier.outcome, self.earlier.reason)
        self._service = service
        self._memory = memory
        self._result = result

    # -- why ----------------------------------------------------------------------------------------------------------

    def request(self, reason: str) -> None:
        """Somebody asks the attempt to stop. The first reason stays."""
        if not self.asked.done():
            self.reason = reason
            self.asked.set_result(None)

    def stopped(self) -> AttemptEvent:
        """The walk does what was asked."""
        self._result.cancelled = True
        self.mark = ("cancelled", self.reason)
        return "stop"

    def expired(self, step: Step, setting: LimitSetting) -> AttemptEvent:
        """A step has used up its time."""
        expiry = self.expiry(setting)
        self.mark = self.mark or ("timed_out", expiry)
        self._result.fail("timeout", f"{step.name}: {expiry}")
        return "fail"

    def expiry(self, setting: LimitSetting) -> str:
        """What is said of a step that has used up its time: `TimeoutStartSec=1min 30s expired`."""
        return f"{setting}={format_timespan(limit_of(self._service, setting) or 0)} expired"

    def recall(self, result: StepResult) -> AttemptEvent:
        """Go on ending the attempt, for the reason for which an earlier walk began to."""
        if result.outcome == "timed_out":
            name = result.command if result.name == TURN_ENTRY else result.name
            self._result.fail("timeout", f"{name}: {result.reason}")
        else:
            self.request(result.reason)
            self.stopped()
        return "stop"

    # -- where --------------------------------------------------------------------------------------------------------

    def was_at(self, step: Step) -> StepResult | None:
        """The turn that an earlier walk remembered, if it was at this step."""
        return self.earlier if self.earlier is not None and self.earlier.command == step.name else None

    async def comes_before(self, step: Step) -> bool:
        """Whether the walk turns before a step that was not begun: it was asked to by now, or by an earlier daemon."""
        turned = self.was_at(step)
        if turned is not None:
            self.recall(turned)
        elif self.asked.done():
            self.stopped()
            await self.keep(step)
        else:
            return False
        return True

    async def keep(self, step: Step | None = None, outcome: StepOutcome | None = None, why: str = "") -> None:
        """Remember that the walk turns at a step (None: after all of them). Without an outcome, `mark` says why."""
        if outcome is None:
            assert self.mark is not None
            outcome, why = self.mark
        if self._memory.result(TURN_ENTRY) is None:
            name = step.name if step is not None else ""
            await self._memory.record(StepResult(TURN_ENTRY, name, outcome, reason=why))
