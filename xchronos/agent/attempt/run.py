"""One attempt: systemd's order of commands and its rules of failure (UNITS.md 5), as a walk through the state table.

The walk knows nothing about containers or processes: it asks a `Steps` to run, stop or kill a step. Which commands
follow, and what the attempt's outcome is, is decided here; what a single step's end means, in `verdicts`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from xchronos.agent.attempt.exit_status import again, exit_environment, judge, recorded, unmet
from xchronos.agent.attempt.interfaces import AttemptEnd, Memory, Steps
from xchronos.agent.attempt.result import ServiceResult
from xchronos.agent.attempt.stop_point import ENDING, StopPoint
from xchronos.agent.attempt.termination import ADOPTING, AnyTask, Cause, Termination, wait
from xchronos.clock import Clock, Micros, to_datetime
from xchronos.executors.contract import StepExit
from xchronos.model.lifecycle import AttemptEvent, AttemptState, attempt_after
from xchronos.model.records import StepOutcome, StepResult
from xchronos.model.unit import Service, Step
from xchronos.unitfile.timespan import format_timespan


class _Stop(Exception):  # noqa: N818 - control flow inside this module
    """The attempt was asked to stop while a step ran."""


class AttemptRun:
    """The walk. `stop` may be called at any time by somebody else.

    `progress` hears of every step that has ended.
    """

    def __init__(
        self,
        service: Service,
        steps: Steps,
        memory: Memory,
        clock: Clock,
        *,
        progress: Callable[[Sequence[StepResult]], None] | None = None,
    ) -> None:
        self.stop_reason = ""
        self.phase: AttemptState = "condition"
        self._asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._service = service
        self._phases: dict[AttemptState, list[Step]] = {}
        for step in service.steps:
            self._phases.setdefault(step.phase, []).append(step)
        self._steps = steps
        self._memory = memory
        self._clock = clock
        self._termination = Termination(service, steps, clock)
        self._progress = progress
        self._results: list[StepResult] = []
        self._tasks: set[AnyTask] = set()
        self._main: asyncio.Task[StepResult] | None = None
        self._main_pid = 0
        self._main_result: StepResult | None = None
        self._stop_point = StopPoint(memory)
        self._adopted = {step.name for step in service.steps if memory.begun(step.name)}
        self._result = ServiceResult()

    def stop(self, reason: str) -> None:
        """Ask the attempt to stop, as `systemctl stop` does; the walk goes on to its end from there."""
        if not self._asked.done():
            self.stop_reason = reason
            self._asked.set_result(None)

    async def run(self, prepare: Callable[[], Coroutine[Any, Any, str]] | None = None) -> AttemptEnd:
        """Walk to the end. Cancelling leaves a running step running: a later walk with the same memory goes on.

        `prepare` comes before the first step; what it returns, unless it is empty, is why nothing can be run.
        """
        try:
            if prepare is not None and not await self._prepared(prepare):
                return self._end()
            while (phase := self.phase) != "done":
                self.phase = attempt_after(phase, await self._pass(phase) if self._eventful(phase) else "next")
            self._result.fail("timeout", await self._termination.clear_away())
        finally:
            # What still has a task is being left as it is: the daemon goes, or the unit's kill mode says so.
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
        return self._end()

    # -- phases -------------------------------------------------------------------------------------------------------

    def _eventful(self, phase: AttemptState) -> bool:
        """Whether there is anything to do in a phase beside leaving it."""
        if phase in self._phases or phase in ("start", "running", "signal"):
            return True
        return phase == "start-post" and self._main is not None

    def _pass(self, phase: AttemptState) -> Awaitable[AttemptEvent]:
        match phase:
            case "condition":
                return self._condition()
            case "start":
                return self._start()
            case "start-post":
                return self._start_post()
            case "running":
                return self._running()
            case "signal":
                return self._signal()
            case "stop" | "stop-post":
                return self._commands(phase, "TimeoutStopSec", stoppable=False)
            case _:
                return self._commands(phase)

    async def _prepared(self, prepare: Callable[[], Coroutine[Any, Any, str]]) -> bool:
        task = self._task(prepare(), "prepare")
        if await wait({task}, self._clock, None, self._asked):
            self._stopped()
            return False
        trouble: str = task.result()
        self._result.fail("resources", trouble)
        return not trouble

    async def _condition(self) -> AttemptEvent:
        for step in self._phases["condition"]:
            try:
                result = await self._one(step, "TimeoutStartSec")
            except _Stop:
                return "stop"
            if unmet(result):
                self._result.fail("exec-condition", f"{step.name}: the condition was not met: {result.reason}")
                return "skip"
            if self._taken_in(step, result):
                return "fail"
        return "next"

    async def _commands(
        self, phase: AttemptState, setting: str = "TimeoutStartSec", *, stoppable: bool = True
    ) -> AttemptEvent:
        for step in self._phases.get(phase, ()):
            try:
                result = await self._one(step, setting, stoppable=stoppable)
            except _Stop:
                return "stop"
            if self._taken_in(step, result):
                return "fail"
        return "next"

    async def _start(self) -> AttemptEvent:
        service = self._service
        if service.type == "oneshot":
            # Its start is its run: whichever limit is the tighter one bounds each command.
            start, longest = service.timeout_start, service.runtime_max
            tight = longest is not None and (start is None or longest < start)
            return await self._commands("start", "RuntimeMaxSec" if tight else "TimeoutStartSec")
        for step in self._phases.get("start", ()):
            adopted = self._memory.begun(step.name)
            if not adopted and await self._turned(step):
                return "stop"
            main = self._main = self._task(self._run_main(step), step.name)
            started = self._task(self._steps.started(step), f"start of {step.name}")
            limit = self._left(step, service.timeout_start) if service.type == "exec" and not adopted else None
            # An adopted one has started: a stop ends it where it is in its life, with ExecStop.
            cause = await wait({main, started}, self._clock, limit, None if adopted else self._asked)
            if cause:
                event = self._stopped() if cause == "stop" else self._expired(step, "TimeoutStartSec")
                await self._stop_point.keep(step)
                return event
            pid = started.result() if started.done() else None
            if pid == 0:
                await asyncio.wait({main})
            self._main_pid = pid or 0
            if service.type == "exec" and main.done() and main.result().started_at is None and self._main_ended():
                # Type=exec: the start is over when the program runs; one that cannot be run has not started.
                return "fail"
        return "next"

    async def _start_post(self) -> AttemptEvent:
        main = self._main
        if self._service.type == "exec" and main is not None and main.done() and main.result().started_at is None:
            return "next"  # a program that could not be run, which its `-` excuses: nothing comes behind its start
        event = await self._commands("start-post")
        if event == "next" and self._main is not None and self._main.done() and self._main_ended():
            return "main-failed"
        return event

    async def _running(self) -> AttemptEvent:
        if self._stop_point.earlier is not None:
            # An earlier daemon was ending the attempt, and went away before it was through.
            return self._recalled(self._stop_point.earlier)
        if self._main is not None:
            step = self._main_step()
            cause = await wait({self._main}, self._clock, self._left(step, self._service.runtime_max), self._asked)
            if cause:
                if cause == "stop":
                    self._stopped()
                else:
                    self._expired(step, "RuntimeMaxSec")
                await self._stop_point.keep(step)
                return "stop"
            if self._main_ended():
                return "main-failed"
        if self._service.remain_after_exit:
            await asyncio.wait({self._asked})
            event = self._stopped()
            await self._stop_point.keep()
            return event
        return "next"

    async def _signal(self) -> AttemptEvent:
        """End the main process if it still runs, else what the steps have left behind."""
        if self._main is None or self._main.done():
            self._result.fail("timeout", await self._termination.clear_away())
        else:
            step = self._main_step()
            self._stop_point.mark = self._stop_point.mark or ("cancelled", self._result.reason)
            await self._stop_point.keep(step)
            ended, trouble = await self._termination.end(step, self._main)
            self._result.fail("timeout", trouble)
            if not ended:
                self._note(step, await self._keep(step, StepExit(), self._stop_point.mark[0], self._termination.spared))
                return "next"
        if self._main is not None:
            self._main_ended()
        return "next"

    # -- one step -----------------------------------------------------------------------------------------------------

    async def _one(self, step: Step, setting: str, *, stoppable: bool = True) -> StepResult:
        """Run one command within its limit. Raises _Stop when the attempt was asked to stop meanwhile."""
        result = self._memory.result(step.name)
        if result is not None:
            self._note(step, result)
            if result.outcome == "cancelled":
                self._recalled(result)
                self._result.fold(again(self._service, step, result).result)
                raise _Stop
            return result
        if stoppable and not self._memory.begun(step.name) and await self._turned(step):
            raise _Stop
        intended = self._stop_point.was_at(step)
        if self._stop_point.earlier is None and not self._memory.begun(step.name):
            over = self._steps.at_once(step, self._told(step))
            if over is not None:
                return await self._over(step, over)
        task = self._task(self._exit_of(step), step.name)
        left = self._left(step, self._limit(setting))
        if intended is not None:
            cause: Cause = "timeout"
            if intended.outcome == "cancelled":
                cause = "stop"
                self.stop(intended.reason)
        else:
            cause = await wait({task}, self._clock, left, self._asked if stoppable else None)
        if not cause:
            return await self._over(step, task.result())
        if cause == "stop":
            self._stopped()
        else:
            self._expired(step, setting)
        outcome: StepOutcome = "cancelled" if cause == "stop" else "timed_out"
        why = self.stop_reason if cause == "stop" else self._expiry(setting)
        await self._stop_point.keep(step, outcome, why)
        ended, trouble = await self._termination.end(step, task)
        self._result.fail("timeout", trouble)
        exit_ = task.result() if ended else StepExit()
        why = why if ended else f"{why}; {self._termination.spared}"
        result = self._note(step, await self._keep(step, exit_, outcome, why))
        if cause == "stop":
            self._result.fold(again(self._service, step, result).result)
            raise _Stop
        return result

    async def _over(self, step: Step, exit_: StepExit) -> StepResult:
        """A step has ended by itself."""
        verdict = judge(self._service, step, exit_)
        return self._note(step, await self._keep(step, exit_, verdict.outcome, verdict.words))

    async def _run_main(self, step: Step) -> StepResult:
        """Run the main process to its end, however long that takes."""
        result = self._memory.result(step.name)
        if result is not None:
            return self._note(step, result)
        exit_ = await self._exit_of(step)
        verdict = judge(self._service, step, exit_)
        outcome, why = verdict.outcome, verdict.words
        if self._stop_point.mark is not None and outcome != "lost":
            outcome, why = self._stop_point.mark
        return self._note(step, await self._keep(step, exit_, outcome, why))

    async def _exit_of(self, step: Step) -> StepExit:
        self._memory.elapsed(step.name)
        return await self._steps.run(step, self._told(step))

    def _task(self, work: Coroutine[Any, Any, Any], name: str) -> AnyTask:
        task: AnyTask = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _limit(self, setting: str) -> Micros | None:
        service = self._service
        if setting == "TimeoutStartSec":
            return service.timeout_start
        return service.timeout_stop if setting == "TimeoutStopSec" else service.runtime_max

    def _left(self, step: Step, limit: Micros | None) -> Micros | None:
        if limit is None:
            return None
        return max(limit - self._memory.elapsed(step.name), ADOPTING if step.name in self._adopted else 0)

    # -- what has become of it ----------------------------------------------------------------------------------------

    def _stopped(self) -> AttemptEvent:
        self._result.cancelled = True
        self._stop_point.mark = ("cancelled", self.stop_reason)
        return "stop"

    def _expired(self, step: Step, setting: str) -> AttemptEvent:
        expiry = self._expiry(setting)
        self._stop_point.mark = self._stop_point.mark or ("timed_out", expiry)
        self._result.fail("timeout", f"{step.name}: {expiry}")
        return "fail"

    def _expiry(self, setting: str) -> str:
        return f"{setting}={format_timespan(self._limit(setting) or 0)} expired"

    async def _turned(self, step: Step) -> bool:
        """Whether the walk turns before a step that was not begun: asked to by now, or in an earlier daemon's life."""
        turned = self._stop_point.was_at(step)
        if turned is not None:
            self._recalled(turned)
        elif self._asked.done():
            self._stopped()
            await self._stop_point.keep(step)
        else:
            return False
        return True

    def _recalled(self, result: StepResult) -> AttemptEvent:
        """Go on ending the attempt for the reason for which an earlier daemon began to."""
        if result.outcome == "timed_out":
            self._result.fail("timeout", f"{result.command if result.name == ENDING else result.name}: {result.reason}")
        else:
            self.stop(result.reason)
            self._stopped()
        return "stop"

    def _taken_in(self, step: Step, result: StepResult) -> bool:
        """Let a step's end count. Whether it is a failure."""
        if result.outcome == "timed_out":
            self._result.fail("timeout", f"{result.name}: {result.reason}")
            return True
        verdict = again(self._service, step, result)
        if verdict.result == "success":
            return False
        if self._result.result == "success":
            self._result.fail(verdict.result, f"{result.name}: {verdict.words}")
        return True

    def _main_ended(self) -> bool:
        """Let the main process's end count. Whether it failed by itself."""
        assert self._main is not None
        result = self._main.result()
        if result.outcome in ("cancelled", "timed_out"):
            # When it ended unclean, systemd's word for the whole is that.
            self._result.fold(again(self._service, self._main_step(), result).result)
            return False
        return self._taken_in(self._main_step(), result)

    def _end(self) -> AttemptEnd:
        return self._result.end(self.stop_reason, self._results, self._main_result)

    # -- records ------------------------------------------------------------------------------------------------------

    async def _keep(self, step: Step, exit_: StepExit, outcome: StepOutcome, reason: str) -> StepResult:
        result = recorded(step, exit_, outcome, reason, to_datetime(self._clock.now()))
        await self._memory.record(result)
        return result

    def _note(self, step: Step, result: StepResult) -> StepResult:
        self._results.append(result)
        if step.phase == "start":
            self._main_result = result
        if self._progress is not None:
            self._progress(self._results)
        return result

    def _main_step(self) -> Step:
        return next(step for step in self._phases["start"] if step.main)

    def _told(self, step: Step) -> dict[str, str]:
        """What a step is told of the attempt so far."""
        env: dict[str, str] = {}
        if step.phase in ("stop", "stop-post"):
            env = exit_environment(self._result.result, self._main_result)
        if self._main_pid and self._main is not None and not self._main.done():
            env["MAINPID"] = str(self._main_pid)
        return env
