"""The agent's side of its guardian: puts the deadline off with every renewal, and sees to it that a guardian runs."""

import asyncio
import json
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from xchronos.agent.guardian import process
from xchronos.clock import Micros
from xchronos.durable import write_whole
from xchronos.executors.hostfacts import boot_id
from xchronos.executors.process import tree

log = structlog.get_logger(__name__)

START_LIMIT = 20.0
"""Seconds that a guardian has to be ready."""

LOCK_TRIES, LOCK_PAUSE = 100, 0.05
"""How often, and after how many seconds each, the agent's lock is tried for. An old guardian that is about to end holds
it for a moment, so that nobody relies on it any more."""

_ROOT = str(Path(process.__file__).resolve().parents[3])
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); from xchronos.agent.guardian.process import main; main(sys.argv[2])"
)


class KillDeadline(Protocol):
    """What the guardian's deadline follows: the lease clock, of which nothing more is needed here."""

    @property
    def kills_in(self) -> Micros | None:
        """How long until killing begins, in microseconds; not positive once it has begun. None: it never begins."""
        ...

    def listen(self, changed: Callable[[], None]) -> None:
        """Have `changed` called immediately whenever that has moved."""
        ...


class GuardianClient:
    """A guardian in `directory`, started when it is first needed: a `Watchman` (`lease.partition`).

    `docker` is the engine's address as DOCKER_HOST is written, `namespace` and `owner` say whose containers are
    guarded, and `processes` is the process executor's directory. The guardian itself is `process.Guardian`.
    """

    def __init__(self, directory: Path, *, docker: str, namespace: str, owner: str, processes: Path | None) -> None:
        self._directory = directory
        self._docker = docker
        self._settings = json.dumps(
            {
                "directory": str(directory),
                "docker": docker,
                "namespace": namespace,
                "owner": owner,
                "processes": str(processes or ""),
            }
        )
        self._deadline: KillDeadline | None = None
        self._boot = boot_id().replace("-", "")
        self._state = self._agent = self._lock = self._mark = -1
        self._struck = False
        self._children: set[int] = set()
        self._starting = asyncio.Lock()
        self._again: asyncio.Task[None] | None = None

    @property
    def struck(self) -> bool:
        """See `Watchman.struck`; known once it is ready."""
        return self._struck

    def struck_since(self, at: Micros) -> bool:
        """See `Watchman.struck_since`."""
        if self._mark < 0:
            return False
        mark = process.marked(self._mark, self._boot)
        return mark is not None and mark // 1000 >= at

    def follow(self, lease_clock: KillDeadline) -> None:
        """Let the deadline be what the lease clock says."""
        self._deadline = lease_clock
        lease_clock.listen(self._put_off)

    async def ready(self) -> None:
        """Return when everything that is started from now on is guarded. Raises OSError when it cannot be."""
        if self._state < 0 or not self._alive():
            async with self._starting:
                if self._state < 0:
                    await asyncio.to_thread(self._open)
                if not self._alive():
                    await asyncio.to_thread(self._start)

    async def revive(self) -> None:
        """Start a guardian for the deadline of an agent before this one, while the store has not answered yet."""
        try:
            state = os.open(self._directory / "state", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        known = process.read(state)
        os.close(state)
        if known is not None and not known[1] and known[2] == self._boot:
            try:
                await asyncio.to_thread(self._start)
            except OSError as error:
                log.error("no guardian can be started", reason=str(error))  # noqa: TRY400 - nothing of ours failed

    def end(self) -> None:
        """Nothing is left to guard. The guardian ends."""
        if self._state >= 0:
            self._write(over=True)
            for descriptor in (self._state, self._agent, self._lock, self._mark):
                os.close(descriptor)
            self._state = self._mark = -1
        tree.reap(self._children)

    # -- the file -----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._docker.startswith("https") or (self._docker.startswith("tcp") and os.environ.get("DOCKER_TLS_VERIFY")):
            raise OSError(f"the guardian does not speak TLS with the Docker engine at {self._docker}")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._agent = os.open(self._directory / "agent", flags, 0o600)
        self._take_agents_lock()
        self._lock = os.open(self._directory / "guardian", flags, 0o600)
        self._mark = os.open(self._directory / "mark", flags, 0o600)
        self._leave_settings()
        state = os.open(self._directory / "state", flags, 0o600)
        before = process.read(state)
        self._state = state
        self._write()
        if before is not None and not before[1]:
            # Looked at after the new deadline was written: an old one that has not passed by now is never struck for.
            self._struck = before[2] != self._boot or before[0] <= process.now()

    def _leave_settings(self) -> None:
        """Write the settings down, for a guardian that stands by outside of this container (`standby`)."""
        write_whole(self._directory / "settings", self._settings.encode(), "none", mode=0o600)

    def _take_agents_lock(self) -> None:
        for _ in range(LOCK_TRIES):
            if process.locked(self._agent):
                return
            select.select([], [], [], LOCK_PAUSE)
        raise OSError(f"another agent uses {self._directory}")

    def _put_off(self) -> None:
        if self._state < 0:
            return
        try:
            self._write()
        except OSError as error:
            log.error("the guardian's deadline cannot be put off; it will strike", reason=str(error))  # noqa: TRY400
        if not self._alive() and (self._again is None or self._again.done()):
            log.warning("the guardian is gone; another one is started")
            self._again = asyncio.create_task(self._restart(), name="guardian")

    async def _restart(self) -> None:
        try:
            await self.ready()
        except OSError as error:
            log.error("no guardian can be started", reason=str(error))  # noqa: TRY400

    def _write(self, *, over: bool = False) -> None:
        left = 0 if self._deadline is None else self._deadline.kills_in or 0
        deadline = process.now() + left * 1000
        os.pwrite(self._state, process.written(max(deadline, 1), over=over, boot=self._boot), 0)

    # -- the process --------------------------------------------------------------------------------------------------

    def _alive(self) -> bool:
        """Whether a guardian runs, whoever has started it: it holds the lock."""
        if self._lock < 0:
            return False
        if not process.locked(self._lock):
            return True
        process.unlock(self._lock)
        return False

    def _start(self) -> None:
        tree.reap(self._children)
        receive, report = os.pipe()
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _PROGRAM, _ROOT, self._settings],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, report, 1),
                    (
                        os.POSIX_SPAWN_OPEN, 2, str(self._directory / "guardian.log"),
                        os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600,
                    ),
                ],
                setsid=True,
            )  # fmt: skip
        finally:
            os.close(report)
        self._children.add(pid)
        try:
            if not select.select([receive], [], [], START_LIMIT)[0] or not os.read(receive, 16):
                raise OSError(f"the guardian has not started; its words are in {self._directory / 'guardian.log'}")
        finally:
            os.close(receive)
