"""Runs a unit of the lifecycle samples for real: compiled, walked through and executed as host processes."""

import asyncio
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from xchronos.agent.attempt.conditions import unmet_conditions
from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.agent.attempt.journal import AttemptJournal
from xchronos.agent.attempt.run import AttemptRun
from xchronos.agent.steps.host_facts import host_facts
from xchronos.agent.steps.resolved_unit import HostContext, ResolvedUnit
from xchronos.agent.steps.spec import AttemptSteps
from xchronos.clock import SECOND, SystemClock, to_instant
from xchronos.executors.process.executor import ProcessExecutor
from xchronos.model.compile.unit import compile_unit
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution, UnitRecord
from xchronos.model.unit import Unit
from xchronos.scheduler.policies.retry import Again, after_attempt
from xchronos.unitfile.dropins import select_dropins
from xchronos.unitfile.names import UnitName

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
LONG = 20.0


@dataclass
class Ran:
    """What became of a unit."""

    trace: list[str] = field(default_factory=list)
    start_rc: list[int] = field(default_factory=list)
    ends: list[AttemptEnd] = field(default_factory=list)
    active: bool = False


class Machine:
    """One unit on one machine."""

    def __init__(self, case: dict[str, Any], where: Path) -> None:
        self.where = where
        self.trace = where / "trace"
        self.trace.touch()
        self.unit = self._compile(case)
        self.clock = SystemClock()
        self.executor = ProcessExecutor(where / "state")
        self.ran = Ran()
        self._starts = 0
        self._task: asyncio.Task[None] | None = None
        self._run: AttemptRun | None = None
        self._steps: AttemptSteps | None = None

    def _fill(self, text: str) -> str:
        return text.replace("@TRACE@", str(self.trace)).replace("@DIR@", str(self.where))

    def _compile(self, case: dict[str, Any]) -> Unit:
        directories: dict[str, list[str]] = {}
        for name, text in case.get("files", {}).items():
            path = self.where / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._fill(text))
            directories.setdefault(os.path.dirname(name), []).append(os.path.basename(name))  # noqa: PTH119, PTH120
        chosen = select_dropins(UnitName.parse(case["unit"]), directories)
        dropins = [(path, (self.where / path).read_text()) for path in chosen]
        return compile_unit(case["unit"], self._fill(case["text"]), dropins)

    # -- actions --

    async def start(self) -> int:
        if self._task is not None and not self._task.done():
            return 0  # it is active: nothing happens
        before = len(self.ran.ends)
        self.begin()
        assert self._task is not None
        await asyncio.sleep(0)
        oneshot = self.unit.service.type == "oneshot" and not self.unit.service.remain_after_exit
        async with asyncio.timeout(LONG):
            while not self._task.done() and len(self.ran.ends) == before:
                if not oneshot and self._run is not None and self._run.phase == "running":
                    break
                await asyncio.sleep(0.005)
        if self._task.done():
            self._task.result()
        if len(self.ran.ends) == before:
            return 0
        end = self.ran.ends[before]
        if end.result in ("success", "exec-condition") or end.outcome is Outcome.SKIPPED:
            return 0
        return int(self.unit.service.type == "oneshot" or _failed_starting(self.unit, end))

    def begin(self) -> None:
        """Start, and wait for nothing."""
        self._starts += 1
        self._task = asyncio.create_task(self._rounds())

    async def stop(self) -> int:
        if self._task is not None:
            if self._run is not None:
                self._run.stop("asked to")
            async with asyncio.timeout(LONG):
                await self._task
        return 0

    async def kill(self, signal: str) -> None:
        if self._steps is not None:
            for step in self.unit.service.phase("start"):
                await self._steps.stop(step, signal)

    async def settle(self, *, active: bool) -> Ran:
        """Wait for the end (for a while, if it is to stay active) and read the trace."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=0.3 if active else LONG)
            self.ran.active = not self._task.done()
            if self._task.done():
                self._task.result()
        self.ran.trace = self.trace.read_text().splitlines()
        return self.ran

    async def close(self) -> None:
        await self.stop()
        await self.executor.remove(await self.executor.leftovers())
        await self.executor.close()

    # -- rounds --

    async def _rounds(self) -> None:
        execution = Execution(self.unit.name, BEGIN + timedelta(seconds=self._starts), state="running")
        burst = self.unit.retry.max_attempts or 3
        for number in range(1, burst + 1):
            execution = msgspec.structs.replace(
                execution, current=Attempt(number, "here", started_at=datetime.now(UTC))
            )
            end = await self._one(execution)
            self.ran.ends.append(end)
            attempt = msgspec.structs.replace(
                execution.current, outcome=end.outcome, reason=end.reason, steps=end.steps, ended_at=datetime.now(UTC)
            )
            execution = msgspec.structs.replace(execution, attempts=(*execution.attempts, attempt), current=None)
            if end.outcome is Outcome.CANCELLED:
                return
            now = self.clock.now()
            follows = after_attempt(self.unit, execution, attempt, now)
            if not isinstance(follows, Again):
                return
            # What is measured is whether it runs again, not how far a failing service backs off.
            await self.clock.sleep(min(max(follows.due_at - now, 0), SECOND // 10))

    async def _one(self, execution: Execution) -> AttemptEnd:
        assert execution.current is not None
        host = HostContext("here", host_facts("here"), dict(os.environ), self.where / "secrets", 1 << 20)
        unmet = unmet_conditions(self.unit, host.facts)
        if unmet is not None:
            return unmet
        directory = self.where / f"attempt-{to_instant(execution.fire_time)}-{execution.current.number}"
        journal = AttemptJournal(directory, self.clock)
        journal.create(UnitRecord())
        steps = self._steps = AttemptSteps(
            ResolvedUnit(self.unit, host, {"process": self.executor}), execution, str(directory)
        )
        run = self._run = AttemptRun(self.unit.service, steps, journal, self.clock)
        try:
            return await run.run()
        finally:
            await steps.release()
            self._run = self._steps = None


def _failed_starting(unit: Unit, end: AttemptEnd) -> bool:
    early = ("condition", "start-pre", "start-post")
    for result in end.steps:
        if result.outcome in ("failed", "timed_out") and result.name.rpartition("-")[0] in early:
            return True
    return unit.service.type == "exec" and (end.main is None or end.main.started_at is None)


def same_trace(expected: list[str], seen: list[str]) -> bool:
    """Whether the lines are those expected, where `<pid>` stands for any number."""
    patterns = [re.escape(line).replace("<pid>", r"\d+") for line in expected]
    return len(expected) == len(seen) and all(
        re.fullmatch(pattern, line) for pattern, line in zip(patterns, seen, strict=True)
    )
