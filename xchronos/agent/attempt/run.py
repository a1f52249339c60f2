"""One attempt: systemd's order of commands and its rules of failure, as a walk through the table of phases.

The rules (systemd.service(5)), which `model/lifecycle.ATTEMPT` states as a table:

- ExecCondition, ExecStartPre, ExecStart and ExecStartPost run in this order, each command after the one before it.
- Type=oneshot runs its ExecStart commands one after the other, and its start is its run. Every other type has one main
  process. ExecStartPost follows once that is begun (Type=exec: once its program runs).
- A failure or a stop before the start is complete skips ExecStop: what runs gets the stop signal, ExecStopPost follows.
  A command whose line has `-` does not fail. An ExecCondition that says "not now" skips to ExecStopPost.
- After the start, a stop and a success of the main process run ExecStop. Then the stop signal goes to what still runs,
  and ExecStopPost follows. A failure of the main process skips ExecStop.

The walk knows nothing about containers or processes: it has a `StepRunner` run the steps. Which command follows, and
what the attempt comes to, is decided here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from xchronos.agent.attempt.exit_status import judge_recorded, unmet
from xchronos.agent.attempt.interfaces import AttemptEnd, HeldUp, Memory, Steps, never_held_up
from xchronos.agent.attempt.result import ServiceResult
from xchronos.agent.attempt.step_runner import StepRunner, StopTaken
from xchronos.agent.attempt.stop_point import StopPoint
from xchronos.agent.attempt.termination import LimitSetting, wait
from xchronos.clock import Clock
from xchronos.executors.contract import StepExit
from xchronos.model.lifecycle import AttemptEvent, AttemptState, attempt_after
from xchronos.model.records import StepResult
from xchronos.model.unit import Service, Step


class AttemptRun:
    """The walk of one attempt.

    Attributes:
        phase: Where the walk is; changes only by the table of phases.
    """

    def __init__(
        self, service: Service, steps: Steps, memory: Memory, clock: Clock, held_up: HeldUp = never_held_up
    ) -> None:
        self.phase: AttemptState = "condition"
        self._service = service
        self._phases: dict[AttemptState, list[Step]] = {}
        for step in service.steps:
            self._phases.setdefault(step.phase, []).append(step)
        # The phases in which there may be more to do than to leave them.
        self._eventful = {*self._phases, "start", "running", "signal"}
        self._memory = memory
        self._clock = clock
        self._result = ServiceResult()
        self._stop_point = StopPoint(service, memory, self._result)
        self._steps = StepRunner(service, steps, memory, clock, self._result, self._stop_point, held_up)

    @property
    def results(self) -> Sequence[StepResult]:
        """What its steps came to so far, in the order in which they ended."""
        return self._steps.results

    @property
    def stop_reason(self) -> str:
        """What it was asked to stop for; "" when it was not."""
        return self._stop_point.reason

    def stop(self, reason: str) -> None:
        """Ask the attempt to stop, as `systemctl stop` does; at any time. The walk goes on to its end from there."""
        self._stop_point.request(reason)

    async def run(self, prepare: Callable[[], Coroutine[Any, Any, str]] | None = None) -> AttemptEnd:
        """Walk to the end. Cancelling leaves a running step running: a later walk with the same memory goes on.

        `prepare` comes before the first step. It returns why nothing can be run, or "".
        """
        try:
            if prepare is not None and not await self._prepared(prepare):
                return self._end()
            while (phase := self.phase) != "done":
                eventful = phase in self._eventful or (phase == "start-post" and self._steps.main is not None)
                self.phase = attempt_after(phase, await self._pass(phase) if eventful else "next")
            self._result.fail("timeout", await self._steps.termination.clear_away())
        finally:
            await self._steps.let_go()
        return self._end()

    # -- phases -------------------------------------------------------------------------------------------------------

    def _pass(self, phase: AttemptState) -> Awaitable[AttemptEvent]:
        match phase:
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
        task = self._steps.task(prepare(), "prepare")
        if await wait({task}, self._clock, None, self._stop_point.asked):
            self._stop_point.stopped()
            return False
        trouble: str = task.result()
        self._result.fail("resources", trouble)
        return not trouble

    async def _commands(
        self, phase: AttemptState, setting: LimitSetting = "TimeoutStartSec", *, stoppable: bool = True
    ) -> AttemptEvent:
        for step in self._phases.get(phase, ()):
            try:
                result = await self._steps.run(step, setting, stoppable=stoppable)
            except StopTaken:
                return "stop"
            if phase == "condition" and unmet(result):
                self._result.fail("exec-condition", f"{step.name}: the condition was not met: {result.reason}")
                return "skip"
            if self._failed(step, result):
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
            event = await self._start_main(step)
            if event != "next":
                return event
        return "next"

    async def _start_main(self, step: Step) -> AttemptEvent:
        """Begin the main process, or adopt it, and wait until it counts as started."""
        steps, typed_exec = self._steps, self._service.type == "exec"
        adopted = self._memory.begun(step.name)
        if not adopted and await self._stop_point.comes_before(step):
            return "stop"
        main = steps.main = steps.task(steps.run_main(step), step.name)
        started = steps.started(step)
        # An adopted one has started: a stop ends it where it is in its life, with ExecStop.
        asked = None if adopted else self._stop_point.asked
        limit: LimitSetting | None = "TimeoutStartSec" if typed_exec and not adopted else None
        cause = await steps.within({main, started}, step, limit, asked)
        if cause:
            event = self._stop_point.stopped() if cause == "stop" else self._stop_point.expired(step, "TimeoutStartSec")
            await self._stop_point.keep(step)
            return event
        pid = started.result() if started.done() else None
        if pid == 0:
            await asyncio.wait({main})
        steps.main_pid = pid or 0
        if typed_exec and main.done() and main.result().started_at is None and self._main_failed():
            # Type=exec: the start is over when the program runs. One that cannot be run has not started.
            return "fail"
        return "next"

    async def _start_post(self) -> AttemptEvent:
        main = self._steps.main
        if self._service.type == "exec" and main is not None and main.done() and main.result().started_at is None:
            return "next"  # the program could not be run, which its `-` excuses: no ExecStartPost follows
        event = await self._commands("start-post")
        if event == "next" and main is not None and main.done() and self._main_failed():
            return "main-failed"
        return event

    async def _running(self) -> AttemptEvent:
        stop_point, main = self._stop_point, self._steps.main
        if stop_point.earlier is not None:
            # An earlier daemon was ending the attempt, and went away before it was through.
            return stop_point.recall(stop_point.earlier)
        if main is not None:
            step = self._main_step()
            cause = await self._steps.within({main}, step, "RuntimeMaxSec", stop_point.asked)
            if cause:
                if cause == "stop":
                    stop_point.stopped()
                else:
                    stop_point.expired(step, "RuntimeMaxSec")
                await stop_point.keep(step)
                return "stop"
            if self._main_failed():
                return "main-failed"
        if self._service.remain_after_exit:
            await asyncio.wait({stop_point.asked})
            event = stop_point.stopped()
            await stop_point.keep()
            return event
        return "next"

    async def _signal(self) -> AttemptEvent:
        """End the main process if it still runs, else what the steps have left behind."""
        stop_point, main, termination = self._stop_point, self._steps.main, self._steps.termination
        if main is None or main.done():
            self._result.fail("timeout", await termination.clear_away())
        else:
            step = self._main_step()
            stop_point.mark = stop_point.mark or ("cancelled", self._result.reason)
            await stop_point.keep(step)
            ended, trouble = await termination.end(step, main)
            self._result.fail("timeout", trouble)
            if not ended:
                await self._steps.keep(step, StepExit(), stop_point.mark[0], termination.spared)
                return "next"
        if main is not None:
            self._main_failed()
        return "next"

    # -- what has become of it ----------------------------------------------------------------------------------------

    def _main_step(self) -> Step:
        return next(step for step in self._phases["start"] if step.main)

    def _failed(self, step: Step, result: StepResult) -> bool:
        """Let a step's end count. Whether it is a failure."""
        if result.outcome == "timed_out":
            self._result.fail("timeout", f"{result.name}: {result.reason}")
            return True
        status = judge_recorded(self._service, step, result)
        if status.result == "success":
            return False
        if self._result.result == "success":
            self._result.fail(status.result, f"{result.name}: {status.words}")
        return True

    def _main_failed(self) -> bool:
        """Let the main process's end count. Whether it failed by itself."""
        assert self._steps.main is not None
        result = self._steps.main.result()
        if result.outcome in ("cancelled", "timed_out"):
            # It was ended. When its exit was unclean, systemd's word for the whole is that.
            self._result.fold(judge_recorded(self._service, self._main_step(), result).result)
            return False
        return self._failed(self._main_step(), result)

    def _end(self) -> AttemptEnd:
        return self._result.end(self._stop_point.reason, self._steps.results, self._steps.main_result)
