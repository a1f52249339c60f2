"""Where an attempt's walk has turned towards its end, and why, so that a later walk with the same memory turns there.

What is remembered comes before what follows from it: a signal to the step at which the walk turned, of which what ends
next was our doing, or the commands behind a stop.
"""

from xchronos.agent.attempt.interfaces import Memory
from xchronos.model.records import StepOutcome, StepResult
from xchronos.model.unit import Step

ENDING = "ending"
"""The memory's entry."""


class StopPoint:
    """The turn of one attempt. `earlier` is what a walk before this one has remembered of it."""

    def __init__(self, memory: Memory) -> None:
        self.earlier = memory.result(ENDING)
        self.mark: tuple[StepOutcome, str] | None = None
        """What is said of a main process that ends from now on."""
        if self.earlier is not None:
            self.mark = (self.earlier.outcome, self.earlier.reason)
        self._memory = memory

    def was_at(self, step: Step) -> StepResult | None:
        """What a walk before this one has remembered, if it was at this step that it turned."""
        return self.earlier if self.earlier is not None and self.earlier.command == step.name else None

    async def keep(self, step: Step | None = None, outcome: StepOutcome | None = None, why: str = "") -> None:
        """Remember that the walk turns at a step, or behind all of them; the first turn is what counts."""
        if outcome is None:
            assert self.mark is not None
            outcome, why = self.mark
        if self._memory.result(ENDING) is None:
            await self._memory.record(StepResult(ENDING, step.name if step is not None else "", outcome, reason=why))
