"""One attempt: systemd's order of commands and its rules of failure (UNITS.md 5), as a walk through the state table.

The walk knows nothing about containers or processes: it asks a `Steps` to run, stop or kill a step. What each step's
end means, which commands follow, and what the attempt's outcome is, is decided here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from xchronos.clock import Clock, Micros, to_datetime
from xchronos.executors.contract import StepExit
from xchronos.model.lifecycle import AttemptEvent, AttemptState, attempt_after
from xchronos.model.policies import Outcome
from xchronos.model.records import StepOutcome, StepResult
from xchronos.model.unit import Service, Step
from xchronos.unitfile.timespan import format_timespan

CLEAN_SIGNALS = frozenset(("SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE"))
"""What systemd takes for a clean end of a service that is not a oneshot."""


class Steps(Protocol):
    """Runs the steps of one attempt."""

    async def run(self, step: Step, env: Mapping[str, str]) -> StepExit:
        """Run (or adopt) a step to its end; `env` is added to its environment."""
        ...

    async def stop(self, step: Step, signal: str) -> None:
        """Send a signal to a running step."""
        ...

    async def kill(self, step: Step) -> None:
        """SIGKILL a running step."""
        ...


class Memory(Protocol):
    """What the attempt's journal remembers, so that a restarted daemon repeats nothing."""

    def result(self, step: str) -> StepResult | None:
        """The recorded result of a step that has ended."""
        ...

    def elapsed(self, step: str) -> Micros:
        """For how long a step that was begun has been running; begins it when it was not."""
        ...

    async def record(self, result: StepResult) -> None:
        """Remember a step's end. What is remembered survives a crash."""
        ...


class AttemptEnd(msgspec.Struct, frozen=True):
    """How the attempt ended. `result` is systemd's word (success, exit-code, signal, timeout, oom-kill ...)."""

    outcome: Outcome
    reason: str
    result: str
    steps: tuple[StepResult, ...]
    main: StepResult | None = None


class _Stop(Exception):  # noqa: N818 - control flow inside this module
    """The attempt was asked to stop while a step ran."""


class AttemptRun:
    """The walk. `stop` may be set at any time by somebody else, with `stop_reason` saying why."""

    def __init__(
        self,
        service: Service,
        steps: Steps,
        memory: Memory,
        clock: Clock,
        *,
        remain: bool = False,
        progress: Callable[[tuple[StepResult, ...]], None] | None = None,
    ) -> None:
        self.stop_reason = ""
        self._stop = asyncio.Event()
        self._service = service
        self._steps = steps
        self._memory = memory
        self._clock = clock
        self._remain = remain
        self._progress = progress
        self._results: list[StepResult] = []
        self._main: asyncio.Task[StepResult] | None = None
        self._main_result: StepResult | None = None
        self._result = "success"
        self._reason = ""
        self._stopping = False

    def stop(self, reason: str) -> None:
        """Ask the attempt to stop, as `systemctl stop` does; the walk goes on to its end from there."""
        if not self._stop.is_set():
            self.stop_reason = reason
            self._stop.set()

    async def run(self) -> AttemptEnd:
        """Walk to the end. Cancelling leaves a running step running: a later walk with the same memory goes on."""
        phase: AttemptState = "condition"
        walk: dict[AttemptState, Callable[[], Awaitable[AttemptEvent]]] = {
            "condition": self._condition,
            "start-pre": lambda: self._commands("start-pre", self._service.timeout_start, "TimeoutStartSec"),
            "start": self._start,
            "start-post": self._start_post,
            "running": self._running,
            "stop": lambda: self._commands("stop", self._service.timeout_stop, "TimeoutStopSec", stoppable=False),
            "signal": self._signal,
            "stop-post": lambda: self._commands("stop-post", self._service.timeout_stop, "TimeoutStopSec", stoppable=False),
        }
        try:
            while phase != "done":
                phase = attempt_after(phase, await walk[phase]())
        finally:
            if self._main is not None and not self._main.done():
                self._main.cancel()
        return self._end()

    # -- phases -----------------------------------------------------------------------------------------------------

    async def _condition(self) -> AttemptEvent:
        for step in self._service.phase("condition"):
            try:
                result = await self._one(step, self._service.timeout_start, "TimeoutStartSec")
            except _Stop:
                return "stop"
            if result.outcome in ("succeeded", "ignored"):
                continue
            if result.exit_code is not None and 1 <= result.exit_code <= 254 and result.started_at is not None:
                self._fail("exec-condition", f"{step.name}: the condition was not met ({_how(result)})")
                return "skip"
            return self._failed(result)
        return "next"

    async def _commands(
        self, phase: AttemptState, timeout: Micros | None, setting: str, *, stoppable: bool = True
    ) -> AttemptEvent:
        for step in self._service.phase(phase):
            try:
                result = await self._one(step, timeout, setting, stoppable=stoppable)
            except _Stop:
                return "stop"
            if result.outcome not in ("succeeded", "ignored"):
                return self._failed(result)
        return "next"

    async def _start(self) -> AttemptEvent:
        if self._service.type == "oneshot":
            return await self._oneshot()
        for step in self._service.phase("start"):
            self._main = asyncio.create_task(self._run_step(step), name=step.name)
        return "next"

    async def _oneshot(self) -> AttemptEvent:
        for step in self._service.phase("start"):
            timeout, setting = self._service.timeout_start, "TimeoutStartSec"
            longest = self._service.runtime_max
            if longest is not None and (timeout is None or longest < timeout):
                timeout, setting = longest, "RuntimeMaxSec"
            try:
                result = await self._one(step, timeout, setting)
            except _Stop:
                return "stop"
            if step.main:
                self._main_result = result
            if result.outcome not in ("succeeded", "ignored"):
                return self._failed(result)
        return "next"

    async def _start_post(self) -> AttemptEvent:
        event = await self._commands("start-post", self._service.timeout_start, "TimeoutStartSec")
        if event == "next" and self._main is not None and self._main.done() and self._judge_main() == "main-failed":
            return "main-failed"
        return event

    async def _running(self) -> AttemptEvent:
        if self._main is None:
            if self._remain:
                await self._stop.wait()
                return "stop"
            return "next"
        step = self._main_step()
        left = self._left(step, self._service.runtime_max)
        cause = await self._wait(self._main, left, stoppable=True)
        if cause == "stop":
            return "stop"
        if cause == "timeout":
            self._fail("timeout", f"RuntimeMaxSec={format_timespan(self._service.runtime_max or 0)} expired")
            return "stop"
        event = self._judge_main()
        if event == "next" and self._remain:
            await self._stop.wait()
            return "stop"
        return event

    async def _signal(self) -> AttemptEvent:
        """End the main process if it still runs."""
        if self._main is not None:
            if not self._main.done():
                self._stopping = True
                await self._end_step(self._main_step(), self._main)
            if self._main_result is None:
                self._main_result = await self._main
                if self._main_result.outcome == "lost":
                    self._fail("lost", self._main_result.reason)
        return "next"

    # -- one step ---------------------------------------------------------------------------------------------------

    async def _one(self, step: Step, timeout: Micros | None, setting: str, *, stoppable: bool = True) -> StepResult:
        """Run one command within its limit. Raises _Stop when the attempt was asked to stop meanwhile."""
        remembered = self._memory.result(step.name)
        if remembered is not None:
            self._note(remembered)
            return remembered
        if stoppable and self._stop.is_set():
            raise _Stop
        task = asyncio.create_task(self._exit_of(step), name=step.name)
        try:
            cause = await self._wait(task, self._left(step, timeout), stoppable=stoppable)
            if cause:
                await self._end_step(step, task)
            exit_ = await task
        except asyncio.CancelledError:
            task.cancel()
            raise
        outcome, reason = self._judge(step, exit_)
        if cause == "timeout":
            outcome = "ignored" if step.line.ignore_failure else "timed_out"
            reason = f"{setting}={format_timespan(timeout or 0)} expired"
        elif cause == "stop":
            outcome, reason = "cancelled", self.stop_reason
        result = await self._keep(step, exit_, outcome, reason)
        if cause == "stop":
            raise _Stop
        return result

    async def _run_step(self, step: Step) -> StepResult:
        """Run the main process to its end, however long that takes."""
        remembered = self._memory.result(step.name)
        if remembered is not None:
            self._note(remembered)
            return remembered
        exit_ = await self._exit_of(step)
        outcome, reason = self._judge(step, exit_)
        if self._stopping and outcome == "failed":
            outcome = "timed_out" if self._result == "timeout" else "cancelled"
        return await self._keep(step, exit_, outcome, reason)

    async def _exit_of(self, step: Step) -> StepExit:
        self._memory.elapsed(step.name)
        return await self._steps.run(step, self._extra_env(step))

    async def _wait(self, task: "asyncio.Task[object]", timeout: Micros | None, *, stoppable: bool) -> str:
        """Wait for the task: returns "" when it ended, else "stop" or "timeout"."""
        waiters: set[asyncio.Future[object]] = {task}
        stop = asyncio.ensure_future(self._stop.wait()) if stoppable else None
        timer = asyncio.ensure_future(self._clock.sleep(timeout)) if timeout is not None else None
        if stop is not None:
            waiters.add(stop)
        if timer is not None:
            waiters.add(timer)
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in (stop, timer):
                if waiter is not None:
                    waiter.cancel()
        if task.done():
            return ""
        return "stop" if stop is not None and stop.done() and not stop.cancelled() else "timeout"

    async def _end_step(self, step: Step, task: "asyncio.Task[object]") -> None:
        """The stop signal, TimeoutStopSec, then SIGKILL (unless SendSIGKILL=no)."""
        if self._service.kill_mode != "none":
            await self._steps.stop(step, self._service.kill_signal)
        if await self._wait(task, self._service.timeout_stop, stoppable=False) == "":
            return
        if self._service.send_sigkill:
            await self._steps.kill(step)
            limit = format_timespan(self._service.timeout_stop or 0)
            killed = f"it did not end within TimeoutStopSec={limit} after {self._service.kill_signal} and was killed"
            self._reason = f"{self._reason}; {killed}" if self._reason else f"{step.name}: {killed}"
        await asyncio.wait({task})

    def _left(self, step: Step, limit: Micros | None) -> Micros | None:
        return None if limit is None else max(limit - self._memory.elapsed(step.name), 0)

    # -- verdicts ---------------------------------------------------------------------------------------------------

    def _judge(self, step: Step, exit_: StepExit) -> tuple[StepOutcome, str]:
        service = self._service
        if exit_.lost:
            return "lost", exit_.reason or "what became of it cannot be known"
        signals = service.success.signals
        if service.type != "oneshot":
            signals = signals | CLEAN_SIGNALS
        # A step that never started has no status of its own: 127 there is not the program's.
        clean = exit_.started_at is not None and (
            exit_.code == 0
            or (exit_.code is not None and exit_.code in service.success.codes)
            or (bool(exit_.signal) and exit_.signal in signals)
        )
        if clean or (exit_.code == 0 and not exit_.reason):
            return "succeeded", ""
        if step.line.ignore_failure:
            return "ignored", exit_.reason or _words(exit_)
        return "failed", exit_.reason or _words(exit_)

    def _judge_main(self) -> AttemptEvent:
        assert self._main is not None
        result = self._main.result()
        self._main_result = result
        if result.outcome in ("succeeded", "ignored"):
            return "next"
        self._failed(result)
        return "main-failed"

    def _failed(self, result: StepResult) -> AttemptEvent:
        if result.outcome == "timed_out":
            kind = "timeout"
        elif result.outcome == "lost":
            kind = "lost"
        elif result.oom_killed:
            kind = "oom-kill"
        elif result.signal:
            kind = "signal"
        elif result.started_at is None and result.exit_code is None:
            kind = "resources"
        else:
            kind = "exit-code"
        self._fail(kind, f"{result.name}: {result.reason}")
        return "fail"

    def _fail(self, result: str, reason: str) -> None:
        """The first failure is the attempt's; what fails later while it is cleaned up does not hide it."""
        if self._result == "success":
            self._result = result
            self._reason = f"{reason}; {self._reason}" if self._reason else reason

    def _end(self) -> AttemptEnd:
        if self._result == "exec-condition":
            outcome = Outcome.SKIPPED
        elif self._result == "lost":
            outcome = Outcome.LOST
        elif self._stop.is_set() and (self._stopping or self._result == "success" or self._main_result is None):
            outcome = Outcome.CANCELLED
            self._reason = f"{self.stop_reason}; {self._reason}" if self._reason else self.stop_reason
        elif self._result == "timeout":
            outcome = Outcome.TIMED_OUT
        elif self._result == "success":
            outcome = Outcome.SUCCEEDED
        else:
            outcome = Outcome.FAILED
        return AttemptEnd(outcome, self._reason, self._result, tuple(self._results), self._main_result)

    # -- records ----------------------------------------------------------------------------------------------------

    async def _keep(self, step: Step, exit_: StepExit, outcome: StepOutcome, reason: str) -> StepResult:
        result = StepResult(
            name=step.name,
            command=step.text,
            outcome=outcome,
            started_at=exit_.started_at,
            ended_at=exit_.ended_at or to_datetime(self._clock.now()),
            exit_code=exit_.code,
            signal=exit_.signal,
            oom_killed=exit_.oom_killed,
            reason=reason,
            container=exit_.container,
        )
        await self._memory.record(result)
        self._note(result)
        return result

    def _note(self, result: StepResult) -> None:
        self._results.append(result)
        if self._progress is not None:
            self._progress(tuple(self._results))

    def _main_step(self) -> Step:
        return next(step for step in self._service.phase("start") if step.main)

    def _extra_env(self, step: Step) -> dict[str, str]:
        if step.phase not in ("stop", "stop-post"):
            return {}
        main = self._main_result
        env = {"SERVICE_RESULT": self._result, "EXIT_CODE": "", "EXIT_STATUS": ""}
        if main is not None and main.started_at is not None:
            if main.signal:
                env["EXIT_CODE"] = "killed"
                env["EXIT_STATUS"] = main.signal.removeprefix("SIG")
            elif main.exit_code is not None:
                env["EXIT_CODE"] = "exited"
                env["EXIT_STATUS"] = str(main.exit_code)
        return env


def _words(exit_: StepExit) -> str:
    if exit_.oom_killed:
        return "out of memory: the kernel killed it at its memory limit"
    if exit_.signal:
        return f"killed by {exit_.signal}"
    if exit_.code is None:
        return "it did not run"
    return f"exited with {exit_.code}"


def _how(result: StepResult) -> str:
    return result.reason or f"exited with {result.exit_code}"
