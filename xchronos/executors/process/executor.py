"""Runs steps as processes of the host that outlive the daemon.

- A launcher, started once, forks a holder for each step (`launcher`, `wrapper`). The holder is the parent of the
  program, which writes directly to the log file.
- What is known of a step stands in a table on the disk (`table`): the launcher claims the start there before it forks
  anything, the holder says that it is there, and how the program ended.
- A daemon that comes back finds the holder by pid, start time and boot id. It waits for the holder's end, or collects
  what it has written (`test_a_reused_pid_is_not_touched`).
- Only one launcher at a time writes claims, so a crash at any point cannot start a program twice
  (`test_a_launcher_that_dies_at_any_point_starts_each_step_once`).
- A claim whose holder is dead and has not written how the program ended is a lost step
  (`test_a_holder_that_died_means_lost_and_is_not_started_again`).
"""

import asyncio
import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from xchronos.errors import ExecutorUnavailable
from xchronos.executors.contract import FORBIDDEN, Leftover, StepExit, StepSpec
from xchronos.executors.process import tree
from xchronos.executors.process.held import HeldStep, HeldSteps, request_of
from xchronos.executors.process.launching import ANSWER_LIMIT, LauncherClient, LauncherGone
from xchronos.executors.process.trimming import LogTrimmer
from xchronos.executors.signals import signal_number

STEP_LOOK_INTERVAL = 0.005
"""Seconds between two looks at a step that is being started."""

STARTS_AT_ONCE = 16
"""How many steps the launcher is asked to start at a time."""

START_LIMIT = 10.0
"""Seconds that a signal may wait for the start of its step."""

DEATH_LIMIT = 5.0
"""Seconds for which a holder that was sent SIGKILL is waited for."""

_WHOLE = ("control-group", "mixed")


class ProcessExecutor:
    """Host processes. `state` is a directory of this executor alone; it is made when it is missing.

    What a step's kill mode means:

    - `stop` signals every process of the step with `control-group`, the main process with `mixed` and `process`, and
      nobody with `none` (`test_stop_reaches_whom_the_kill_mode_says`).
    - `kill` ends every process with `control-group` and `mixed`, the main process with the others.
    - `release` ends what the attempt left running with `control-group` and `mixed`.
    """

    name = "process"
    recoverable = True

    def __init__(self, state: Path) -> None:
        self._steps = HeldSteps(state)
        self._launcher = LauncherClient(state, self._steps.began, self._steps.ended, self._steps.orphaned)
        self._trimmer = LogTrimmer()
        self._opening = asyncio.Lock()
        # So many share a write of the disk. Hundreds would starve the daemon itself and its leases
        # (`test_a_crowd_of_starts_does_not_starve_the_daemon`).
        self._gate = asyncio.Semaphore(STARTS_AT_ONCE)
        self._queued: dict[tuple[str, int, str], str] = {}
        self._starting: dict[tuple[str, int, str], asyncio.Future[None]] = {}

    async def probe(self) -> str:
        """The kernel's release: the engine of host processes is the kernel."""
        return os.uname().release

    async def _ready(self) -> None:
        """Return when there is a launcher and what it has to know is known. Raises ExecutorUnavailable."""
        if self._launcher.alive and self._steps.known:
            return
        async with self._opening:
            await self._launcher.ready()
            # What the table says holds only from here on: no former launcher starts anything any more.
            if not self._steps.known:
                try:
                    await self._steps.open()
                except OSError as error:
                    raise ExecutorUnavailable(f"the table of host processes cannot be read: {error}") from error

    # -- running ------------------------------------------------------------------------------------------------------

    async def run(self, spec: StepSpec) -> StepExit:
        """Start the program, or adopt the one that an earlier daemon started. See `Executor.run`."""
        if not self._steps.known:
            await self._ready()
        while True:
            step = self._steps.of(spec.identity)
            if step is None or not step.begun:
                end = await self._start(spec)
                if end is not None:
                    return end
                continue
            over = step.over
            with self._trimmer.watching(spec.log, spec.log_limit):
                await asyncio.shield(over)
            if over is not step.over:
                continue
            # The holder writes down how it ended before it ends, so that is read after it was seen gone.
            ended = step.outcome()
            if ended.output < 0 or ended.output > spec.log_limit // 2:
                await self._trimmer.trim(spec.log, spec.log_limit)
            return ended.exit

    async def _start(self, spec: StepSpec) -> StepExit | None:
        """Have the step begun, once it is its turn. None: look again. Its exit, when it is not begun at all."""
        other = self._starting.get(spec.identity)
        if other is not None:
            await asyncio.shield(other)
            return None
        turn = self._starting[spec.identity] = asyncio.get_running_loop().create_future()
        self._queued[spec.identity] = ""
        try:
            async with self._gate:
                await self._ready()
                return await self._launch(spec)
        finally:
            self._queued.pop(spec.identity, None)
            del self._starting[spec.identity]
            turn.set_result(None)

    async def _launch(self, spec: StepSpec) -> StepExit | None:
        """Ask the launcher, unless it was asked and answers yet."""
        step = self._steps.of(spec.identity)
        if step is not None and step.answer is None:
            self._steps.find_again(step)
        elif step is None:
            step = await self._take(spec)
        if not step.begun and step.answer is None:
            asked = time.monotonic_ns()  # before the question: who forbids it later than this is heard by the holder
            given_up = self._queued.pop(spec.identity, "")
            if given_up or spec.forbidden:
                self._forget(step)
                if given_up:
                    return StepExit(signal=given_up, reason="given up before it was started")
                return StepExit(lost=True, reason=FORBIDDEN)
            step.answer = self._launcher.start(step.slot, request_of(spec, asked))
        if step.answer is not None:
            await self._answered(step, step.answer)
        return None

    async def _take(self, spec: StepSpec) -> HeldStep:
        try:
            return await self._steps.take(spec)
        except OSError as error:
            raise ExecutorUnavailable(f"the table of host processes cannot grow: {error.strerror}") from error

    async def _answered(self, step: HeldStep, answer: "asyncio.Future[None]") -> None:
        """Wait for the launcher's answer, or for its end. Raises ExecutorUnavailable."""
        if not (await asyncio.wait({answer}, timeout=ANSWER_LIMIT))[0]:
            self._launcher.kill()
            await asyncio.wait({answer})
        try:
            answer.result()
        except LauncherGone:
            step.answer, step.unsure = None, True
        except ExecutorUnavailable:
            step.answer = None
            self._forget(step)
            raise

    def _forget(self, step: HeldStep) -> None:
        if self._steps.forget(step):
            self._launcher.free(step.slot)

    # -- signals ------------------------------------------------------------------------------------------------------

    async def _running(self, spec: StepSpec) -> HeldStep | None:
        """A step whose program runs; None when it does not run.

        Waits for a step that is being started, for as long as a start may take
        (`test_a_stop_that_comes_with_the_start_is_not_lost`).
        """
        until = time.monotonic() + START_LIMIT
        while time.monotonic() < until:
            step = self._steps.of(spec.identity)
            if step is None or step.over.done():
                return None
            if step.begun and step.program():
                return step
            await asyncio.sleep(STEP_LOOK_INTERVAL)
        return None

    async def started(self, spec: StepSpec) -> int:
        """See `HostExecutor.started`."""
        while (step := self._steps.of(spec.identity)) is None or not step.over.done():
            if step is not None and step.begun and (pid := step.program()):
                return pid
            await asyncio.sleep(STEP_LOOK_INTERVAL)
        return 0

    async def left_behind(self, execution: str, attempt: int, signal: str = "") -> bool:
        """See `HostExecutor.left_behind`."""
        found = False
        for step in self._steps.of_attempt(execution, attempt):
            if step.may_have_left():
                pids = await asyncio.to_thread(tree.members, step.pid)
                found = found or bool(pids)
                if signal:
                    tree.send(pids, signal_number(signal))
        return found

    async def stop(self, spec: StepSpec, signal: str) -> None:
        """Send a signal, as the kill mode says. See `Executor.stop`."""
        if spec.kill_mode != "none":
            await self._signal(spec, signal, whole=spec.kill_mode == "control-group")

    async def kill(self, spec: StepSpec) -> None:
        """SIGKILL the whole tree, or only the main process if the kill mode says so. See `Executor.kill`."""
        await self._signal(spec, "SIGKILL", whole=spec.kill_mode in _WHOLE)

    async def _signal(self, spec: StepSpec, name: str, *, whole: bool) -> None:
        if not self._steps.known:
            await self._ready()  # behind a start that waits for the same
        if spec.identity in self._queued:
            self._queued[spec.identity] = name
            return
        step = await self._running(spec)
        if step is None:
            return
        number = signal_number(name)
        if whole and number == signal.SIGKILL:
            await asyncio.to_thread(tree.kill_all, step.pid)
        elif whole:
            tree.send(await asyncio.to_thread(tree.members, step.pid), number)
        elif (program := step.program()) and tree.is_child(program, step.pid):
            tree.send([program], number)

    # -- what is left -------------------------------------------------------------------------------------------------

    async def release(self, execution: str, attempt: int) -> None:
        """End what the attempt left running, as its kill mode says, and forget its steps."""
        for step in self._steps.of_attempt(execution, attempt):
            await self._end(step, whole=step.kill_mode in _WHOLE)

    async def leftovers(self) -> list[Leftover]:
        """Every step that the table knows."""
        if not self._steps.known:
            await self._ready()
        return [
            Leftover(*step.identity, running=step.begun and not step.over.done(), what=step.what)
            for step in self._steps.all()
        ]

    async def remove(self, leftovers: Collection[Leftover]) -> None:
        """End these, whatever their kill mode, and forget them."""
        for leftover in leftovers:
            step = self._steps.of((leftover.execution, leftover.attempt, leftover.step))
            if step is not None:
                await self._end(step, whole=not step.over.done() or step.kill_mode in _WHOLE)

    async def _end(self, step: HeldStep, *, whole: bool) -> None:
        await self._settled(step)
        if step.begun and not step.over.done():
            if whole:
                await asyncio.to_thread(tree.kill_all, step.pid)
            if not step.over.done():
                tree.send([step.pid], signal.SIGKILL)
            # A slot is given back only after nobody writes into it any more.
            with suppress(TimeoutError):
                async with asyncio.timeout(DEATH_LIMIT):
                    await asyncio.shield(step.over)
        # A program that its holder was just about to start is found only now, by its session.
        if whole and step.may_have_left():
            await asyncio.to_thread(tree.kill_all, step.pid)
        self._forget(step)
        if step.slot < 0:
            await asyncio.to_thread(step.forget_home)

    async def _settled(self, step: HeldStep) -> None:
        """Wait until a step that the launcher was asked for has begun, or is known not to."""
        while not step.begun and (step.answer is not None or step.unsure):
            if step.answer is not None:
                with suppress(ExecutorUnavailable):
                    await self._answered(step, step.answer)
            else:
                await self._ready()
                self._steps.find_again(step)

    async def close(self) -> None:
        """Let the launcher end. What runs goes on."""
        self._steps.close()
        await self._launcher.close()
