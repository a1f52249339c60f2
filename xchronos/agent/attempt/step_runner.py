"""One step of an attempt: run within its time limit, brought to an end when that expires, and remembered.

Which step comes next is the walk's (`run`); what a step's end means is `exit_status`'s.
"""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

from xchronos.agent.attempt.exit_status import exit_environment, judge, judge_recorded, recorded
from xchronos.agent.attempt.interfaces import HeldUp, Memory, Steps
from xchronos.agent.attempt.result import ServiceResult
from xchronos.agent.attempt.stop_point import StopPoint
from xchronos.agent.attempt.termination import (
    ADOPTION_GRACE,
    AnyTask,
    EndCause,
    LimitSetting,
    Termination,
    limit_of,
    wait,
)
from xchronos.aio import cancel_and_wait
from xchronos.clock import SECOND, Clock, Micros, to_datetime
from xchronos.durable import Strength
from xchronos.executors.contract import StepExit
from xchronos.limits import ENGINE_AWAY_SECONDS
from xchronos.model.records import StepOutcome, StepResult
from xchronos.model.unit import Service, Step

_LONGEST_HOLD_UP: Micros = int(ENGINE_AWAY_SECONDS * SECOND)


class StopTaken(Exception):  # noqa: N818 - control flow between the walk and its steps
    """A command has ended, or was not begun, because the attempt was asked to stop."""


class StepRunner:
    """Runs the steps of one attempt, each at most once over all lives of the daemon.

    Attributes:
        results: What the steps came to, in the order in which they ended.
        main: The task that runs the main process; None before it is begun, and in a oneshot.
        main_pid: The main process's pid; 0 when it is not known.
        main_result: What the last command of the start phase came to.
    """

    def __init__(
        self,
        service: Service,
        steps: Steps,
        memory: Memory,
        clock: Clock,
        result: ServiceResult,
        stop_point: StopPoint,
        held_up: HeldUp,
    ) -> None:
        self.results: list[StepResult] = []
        self.main: asyncio.Task[StepResult] | None = None
        self.main_pid = 0
        self.main_result: StepResult | None = None
        self.termination = Termination(service, steps, clock)
        self._service = service
        self._steps = steps
        self._memory = memory
        self._clock = clock
        self._result = result
        self._stop_point = stop_point
        self._held_up = held_up
        self._adopted = {step.name for step in service.steps if memory.begun(step.name)}
        self._tasks: set[AnyTask] = set()

    # -- a command ----------------------------------------------------------------------------------------------------

    async def run(self, step: Step, setting: LimitSetting, *, stoppable: bool = True) -> StepResult:
        """Run one command within the limit of a setting. Raises StopTaken when it ends for a stop of the attempt."""
        result = self._memory.result(step.name)
        if result is not None:
            await self._tidy(step)
            self._note(step, result)
            if result.outcome == "cancelled":
                self._stop_point.recall(result)
                self._result.fold(judge_recorded(self._service, step, result).result)
                raise StopTaken
            return result
        if stoppable and not self._memory.begun(step.name) and await self._stop_point.comes_before(step):
            raise StopTaken
        turned = self._stop_point.was_at(step)
        if self._stop_point.earlier is None and not self._memory.begun(step.name):
            exit_ = self._steps.call(step, self._told(step))
            if exit_ is not None:
                return await self._ended(step, exit_)
        task = self.task(self._exit_of(step), step.name)
        if turned is not None:
            cause: EndCause = "timeout"
            if turned.outcome == "cancelled":
                cause = "stop"
                self._stop_point.request(turned.reason)
        else:
            cause = await self.within({task}, step, setting, self._stop_point.asked if stoppable else None)
        if not cause:
            return await self._ended(step, task.result())
        return await self._cut_short(step, setting, task, cause)

    async def _cut_short(self, step: Step, setting: LimitSetting, task: AnyTask, cause: EndCause) -> StepResult:
        """End a command before its time, and let its end count. Raises StopTaken for a stop of the attempt."""
        outcome: StepOutcome
        if cause == "stop":
            self._stop_point.stopped()
            outcome, why = "cancelled", self._stop_point.reason
        else:
            self._stop_point.expired(step, setting)
            outcome, why = "timed_out", self._stop_point.expiry(setting)
        await self._stop_point.keep(step, outcome, why)
        ended, trouble = await self.termination.end(step, task)
        self._result.fail("timeout", trouble)
        exit_ = task.result() if ended else StepExit()
        why = why if ended else f"{why}; {self.termination.spared}"
        result = await self.keep(step, exit_, outcome, why)
        if cause == "stop":
            self._result.fold(judge_recorded(self._service, step, result).result)
            raise StopTaken
        return result

    async def _ended(self, step: Step, exit_: StepExit) -> StepResult:
        """A step has ended by itself."""
        status = judge(self._service, step, exit_)
        return await self.keep(step, exit_, status.outcome, status.words)

    # -- the main process ---------------------------------------------------------------------------------------------

    async def run_main(self, step: Step) -> StepResult:
        """Run the main process to its end, however long that takes."""
        result = self._memory.result(step.name)
        if result is not None:
            await self._tidy(step)
            return self._note(step, result)
        exit_ = await self._exit_of(step)
        status = judge(self._service, step, exit_)
        outcome, why = status.outcome, status.words
        # Read after the end: a turn that was remembered before the signal is what has brought it about.
        if self._stop_point.mark is not None and outcome != "lost":
            outcome, why = self._stop_point.mark
        return await self.keep(step, exit_, outcome, why)

    def started(self, step: Step) -> "asyncio.Task[int | None]":
        """A task that waits for the main process to be started: see `Steps.started`."""
        return self.task(self._steps.started(step), f"start of {step.name}")

    async def _exit_of(self, step: Step) -> StepExit:
        self._memory.elapsed(step.name)  # it is begun now
        return await self._steps.run(step, self._told(step))

    async def within(
        self,
        tasks: Collection[AnyTask],
        step: Step,
        setting: LimitSetting | None,
        asked: "asyncio.Future[None] | None" = None,
    ) -> EndCause:
        """As `wait`, for the time that a setting leaves a step. None, or a setting without a value: any time.

        A step's time begins when its executor can begin it. While the executor is away nothing runs that a limit could
        end, so that is no time of the step: up to ENGINE_AWAY_SECONDS, so that a stop does not wait for ever.
        """
        limit = limit_of(self._service, setting) if setting is not None else None
        if limit is None:
            return await wait(tasks, self._clock, None, asked)
        began = self._clock.monotonic()
        allowed = max(limit - self._memory.elapsed(step.name), ADOPTION_GRACE if step.name in self._adopted else 0)
        left = allowed
        while True:
            cause = await wait(tasks, self._clock, left, asked)
            if cause != "timeout":
                return cause
            left = allowed + min(self._held_up(step), _LONGEST_HOLD_UP) - (self._clock.monotonic() - began)
            if left <= 0:
                return cause

    # -- tasks and records --------------------------------------------------------------------------------------------

    def task(self, work: Coroutine[Any, Any, Any], name: str) -> AnyTask:
        """A task that is cancelled with the walk."""
        task: AnyTask = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def let_go(self) -> None:
        """Wait for nothing any more. What still runs is left running: the daemon goes, or the kill mode says so."""
        await cancel_and_wait(*self._tasks)

    async def keep(self, step: Step, exit_: StepExit, outcome: StepOutcome, reason: str) -> StepResult:
        """Remember a step's end, remove what the next step must not meet, and let the end be seen."""
        result = recorded(step, exit_, outcome, reason, to_datetime(self._clock.now()))
        strength: Strength = "directory" if self._steps.leaves(step) else "file"
        if self._steps.remembers(step):
            strength = "none"
        if await self._memory.record(result, strength):
            await self._tidy(step)
        return self._note(step, result)

    async def _tidy(self, step: Step) -> None:
        """Remove what a step has left whose end is recorded (`test_a_killed_daemon_removes_what_a_step_has_left`)."""
        if self._steps.leaves(step):
            await self._steps.tidy(step)

    def _note(self, step: Step, result: StepResult) -> StepResult:
        self.results.append(result)
        if step.phase == "start":
            self.main_result = result
        return result

    def _told(self, step: Step) -> dict[str, str]:
        """What a step is told of the attempt so far."""
        env: dict[str, str] = {}
        if step.phase in ("stop", "stop-post"):
            env = exit_environment(self._result.result, self.main_result)
        if self.main_pid and self.main is not None and not self.main.done():
            env["MAINPID"] = str(self.main_pid)
        return env
