"""One attempt on this machine: its walk, with everything that the walk needs here.

That is the steps as this machine runs them, the memory that outlives the daemon, the artifact that is fetched first,
and the guard that ends an attempt before its machine's lease does.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from xchronos.agent.attempt.artifact import fetch_once
from xchronos.agent.attempt.interfaces import AttemptEnd, Memory
from xchronos.agent.attempt.journal import AttemptJournal, ForgetfulMemory
from xchronos.agent.attempt.run import AttemptRun
from xchronos.agent.context import AgentContext
from xchronos.agent.placement_record import PlacementRecord
from xchronos.agent.retrying import PatientSteps, patiently
from xchronos.agent.steps.spec import AttemptSteps
from xchronos.errors import ExecutorUnavailable
from xchronos.model.records import StepResult
from xchronos.model.unit import Unit


class AttemptRunner:
    """Carries out the attempt of a placement that is recorded as begun.

    Attributes:
        unit: The unit, as the attempt began with it.
    """

    def __init__(
        self,
        context: AgentContext,
        record: PlacementRecord,
        unit: Unit,
        journal: AttemptJournal | None,
        *,
        resumed: bool,
    ) -> None:
        """Without a `journal`, a restarted daemon cannot go on; `resumed`: an earlier agent began the attempt."""
        self.unit = unit
        self._context = context
        self._directory = record.directory
        self._journal = journal
        self._resumed = resumed
        permitted = context.partition.permits if unit.on_partition == "stop" else None
        self._steps = AttemptSteps(context.resolved.of(unit), record.execution, record.directory, permitted)
        self._memory: Memory = journal or ForgetfulMemory(context.clock)
        patient = PatientSteps(self._steps, context.clock)
        self._run = AttemptRun(unit.service, patient, self._memory, context.clock, patient.held_up)

    @property
    def kinds(self) -> frozenset[str]:
        """The executors, by kind, that its steps need."""
        return frozenset(self._context.resolved.of(self.unit).kinds)

    @property
    def results(self) -> Sequence[StepResult]:
        """What its steps came to so far, in the order in which they ended."""
        return self._run.results

    @property
    def stop_reason(self) -> str:
        """What it was asked to stop for; "" when it was not."""
        return self._run.stop_reason

    def stop(self, reason: str) -> None:
        """End what runs, as the unit says."""
        self._run.stop(reason)

    async def run(self) -> AttemptEnd:
        """Carry the attempt out. Cancelling leaves what runs running."""
        prepare = self._fetch if self.unit.artifact else None
        if self.unit.on_partition != "stop":
            return await self._run.run(prepare)
        end = await self._context.partition.carry_out(
            self._run, prepare, self._memory, self._steps.end_all, resumed=self._resumed
        )
        # An attempt that was killed has no end of its own: what its steps had come to is kept all the same.
        return end if end.steps else msgspec.structs.replace(end, steps=tuple(self.results))

    async def _fetch(self) -> str:
        host = self._context.host
        return await fetch_once(self.unit, host.facts, self._memory, Path(self._directory) / "scratch", host.files)

    async def clean_up(self) -> None:
        """Remove what is left of the attempt. Only after its end is recorded: until then a crash needs all of it."""
        await patiently(self._context.clock, self._steps.release, what="executor", kind=ExecutorUnavailable)
        if self._journal is not None or self.unit.artifact:
            await asyncio.to_thread(self._remove_files)

    def _remove_files(self) -> None:
        AttemptJournal(Path(self._directory), self._context.clock).close()
        self._context.files.forget(self._context.directory, self.unit.name, self.unit.history_limit)
