"""Runs steps as processes of the host that outlive the daemon.

- Each program is the child of a small wrapper in a session of its own. The program writes directly to the log file, and
  the wrapper writes the exit status to the disk.
- A daemon that comes back finds the wrapper by pid, start time and boot id. It waits for the wrapper's end, or collects
  the status (`test_a_reused_pid_is_not_touched`).
- The wrapper claims the start by a link(2) that only one wrapper can win. So a crash at any point cannot start a
  program twice (`test_a_crash_before_the_claim_starts_it_once`).
- A claim whose wrapper is dead and has left no status is a lost step
  (`test_a_wrapper_that_died_means_lost_and_is_not_started_again`).
"""

import asyncio
import errno
import os
import signal
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from xchronos.executors.contract import FORBIDDEN, Leftover, StepExit, StepSpec
from xchronos.executors.hostfacts import boot_id, start_ticks
from xchronos.executors.logfile import trim
from xchronos.executors.process import tree, wrapper
from xchronos.executors.process.record import Claim, Home, attempt_home
from xchronos.executors.signals import signal_number

TRIM_INTERVAL = 0.5
"""Seconds between two looks at the size of the log of a running step."""

STEP_LOOK_INTERVAL = 0.005
"""Seconds between two looks at a step that is being started."""

START_LIMIT = 10.0
"""Seconds that one start may hold up the next start, and a signal may wait for the start of its step."""

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
        self._state = state
        self._children: set[int] = set()
        # Two starts for each core at a time: hundreds would starve the daemon itself and its leases
        # (`test_a_crowd_of_starts_does_not_starve_the_daemon`).
        self._gate = asyncio.Semaphore(2 * (os.cpu_count() or 1))
        self._queued: dict[tuple[str, int, str], str] = {}

    async def probe(self) -> str:
        """The kernel's release: the engine of host processes is the kernel."""
        return os.uname().release

    async def run(self, spec: StepSpec) -> StepExit:
        """Start the program, or adopt the one that an earlier daemon started. See `Executor.run`."""
        home = Home.of(self._state, spec)
        spawned = False
        while True:
            claim = home.claim
            if claim is not None:
                await self._watch(claim, spec)
                # The wrapper writes the status before it ends, so the status is read after the wrapper was seen gone.
                return home.status or StepExit(lost=True, reason="the process vanished without an exit status")
            if spawned:
                return StepExit(code=wrapper.EXEC, reason="the wrapper ended early; its words are in the log")
            self._queued[spec.identity] = ""
            try:
                async with self._gate:
                    await asyncio.to_thread(home.prepare, spec)
                    given_up = self._queued.pop(spec.identity, "")
                    if given_up:
                        home.forget()
                        return StepExit(signal=given_up, reason="given up before it was started")
                    if spec.forbidden:
                        return StepExit(lost=True, reason=FORBIDDEN)
                    begun = await self._begin(home, spec)
            finally:
                self._queued.pop(spec.identity, None)
            spawned = True
            if begun is not None:
                await self._watch(begun, spec)
            tree.reap(self._children)

    async def _begin(self, home: Home, spec: StepSpec) -> Claim | None:
        """Spawn a wrapper and wait until the start is claimed or the wrapper has gone. Returns the wrapper.

        Returns None when the wrapper ended immediately.
        """
        pid = self._spawn(home, spec.log)
        ticks = start_ticks(pid)
        if ticks is None:
            return None
        wrapper = Claim(pid, ticks, boot_id())
        with suppress(TimeoutError):
            async with asyncio.timeout(START_LIMIT):
                while wrapper.alive and home.claim is None:  # noqa: ASYNC110 - a file sets no Event
                    await asyncio.sleep(STEP_LOOK_INTERVAL)
        return wrapper

    def _spawn(self, home: Home, log: Path) -> int:
        tree.reap(self._children)
        argv = [sys.executable, "-I", "-S", wrapper.__file__, str(home.path)]
        pid = os.posix_spawn(
            sys.executable,
            argv,
            {},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self._children.add(pid)
        return pid

    async def _watch(self, claim: Claim, spec: StepSpec) -> None:
        """Return when the wrapper has gone. Keep the log within its bounds meanwhile."""
        try:
            descriptor = os.pidfd_open(claim.pid)
        except OSError as error:
            # Nothing has the number any more, or only a thread of some other process (EINVAL, since Linux 6.9 ENOENT):
            # either way the wrapper has gone (`test_a_number_that_is_a_threads_now_means_lost`).
            if error.errno not in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
                raise
            descriptor = -1
        # The pid is checked after its descriptor was opened: the descriptor cannot come to mean another process later.
        if descriptor >= 0 and claim.alive:
            loop = asyncio.get_running_loop()
            gone = asyncio.Event()
            loop.add_reader(descriptor, gone.set)
            try:
                while not gone.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(TRIM_INTERVAL):
                            await gone.wait()
                    await self._trim(spec)
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        else:
            if descriptor >= 0:
                os.close(descriptor)
            await self._trim(spec)
        with suppress(ChildProcessError):
            os.waitpid(claim.pid, os.WNOHANG)  # noqa: ASYNC222 - does not block; an adopted one may be our own child, left by an earlier executor

    @staticmethod
    async def _trim(spec: StepSpec) -> None:
        if spec.log.exists() and spec.log.stat().st_size > spec.log_limit // 2:
            await asyncio.to_thread(trim, spec.log, spec.log_limit)

    async def _leader(self, spec: StepSpec) -> int | None:
        """The pid of a running step's wrapper; None when the step does not run.

        Waits for a step that is being started, for as long as a start may take
        (`test_a_stop_that_comes_with_the_start_is_not_lost`).
        """
        home = Home.of(self._state, spec)
        until = time.monotonic() + START_LIMIT
        while time.monotonic() < until:
            if not home.path.exists() or home.status is not None:
                return None
            claim = home.claim
            if claim is not None:
                if not claim.alive:
                    return None
                if tree.main_process(claim.pid) is not None:
                    return claim.pid
            await asyncio.sleep(0.01)
        return None

    async def started(self, spec: StepSpec) -> int:
        """See `HostExecutor.started`."""
        home = Home.of(self._state, spec)
        while home.status is None:
            claim = home.claim
            if claim is not None:
                if not claim.alive:
                    break
                pid = tree.main_process(claim.pid)
                if pid is not None and tree.has_executed(pid):
                    return pid
            await asyncio.sleep(STEP_LOOK_INTERVAL)
        return 0

    async def left_behind(self, execution: str, attempt: int, signal: str = "") -> bool:
        """See `HostExecutor.left_behind`."""
        found = False
        for path in attempt_home(self._state, execution, attempt).glob("*/claim"):
            claim = Home(path.parent).claim
            if claim is None or claim.alive or self._reused(claim):
                continue
            pids = tree.members(claim.pid)
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
        if spec.identity in self._queued:
            self._queued[spec.identity] = name
            return
        leader = await self._leader(spec)
        if leader is None:
            return
        number = signal_number(name)
        if whole and number == signal.SIGKILL:
            tree.kill_all(leader)
        elif whole:
            tree.send(tree.members(leader), number)
        elif (main := tree.main_process(leader)) is not None:
            tree.send([main], number)

    async def release(self, execution: str, attempt: int) -> None:
        """End what the attempt left running, as its kill mode says, and remove its records."""
        home = attempt_home(self._state, execution, attempt)
        for path in sorted(home.glob("*/record")):
            self._end(Home(path.parent))
        _tidy(home)
        tree.reap(self._children)

    def _end(self, home: Home) -> None:
        claim = home.claim
        if claim is not None and (claim.alive or not self._reused(claim)):
            if home.record.kill_mode in _WHOLE:
                tree.kill_all(claim.pid)
            if claim.alive:
                tree.send([claim.pid], signal.SIGKILL)
        home.forget()

    @staticmethod
    def _reused(claim: Claim) -> bool:
        """Whether the wrapper's pid, and with it the number of its session, may mean another process by now.

        While a member of the old session lives, the kernel gives the session's number to no other process. So a living
        process of that pid that is not the wrapper proves that the old session is empty. Another boot proves it too.
        """
        ticks = start_ticks(claim.pid)
        return claim.boot != boot_id() or (ticks is not None and ticks != claim.ticks)

    async def leftovers(self) -> list[Leftover]:
        """Every process that has a record here."""
        found = []
        for home in Home.all(self._state):
            record, claim = home.record, home.claim
            running = claim is not None and claim.alive
            what = f"process {claim.pid}" if claim is not None else "process that was never started"
            found.append(Leftover(record.execution, record.attempt, record.step, running, what))
        return found

    async def remove(self, leftovers: Collection[Leftover]) -> None:
        """End these, whatever their kill mode, and remove their records."""
        for leftover in leftovers:
            home = Home(attempt_home(self._state, leftover.execution, leftover.attempt) / leftover.step)
            claim = home.claim
            if claim is not None and claim.alive:
                tree.kill_all(claim.pid)
            if (home.path / "record").exists():
                self._end(home)
            _tidy(home.path.parent)
        tree.reap(self._children)

    async def close(self) -> None:
        """Collect the children that have ended. What runs goes on."""
        tree.reap(self._children)


def _tidy(attempt: Path) -> None:
    """Remove an attempt's directory, if it is there and has no record of a step any more."""
    try:
        attempt.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise
