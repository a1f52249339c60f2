"""A container's output by attachment, for log drivers that cannot give it back: see `process`, which holds it."""

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from xchronos.aio import cancel_and_wait
from xchronos.executors.docker.attachment import process
from xchronos.executors.docker.attachment.process import ATTACHED, ENDED, REFUSED
from xchronos.executors.docker.client import DockerClient
from xchronos.executors.logfile import BoundedLog

ATTACH_LIMIT = 60.0
"""Seconds after which a container is started although nobody is attached to it yet."""

END_LIMIT = 30.0
"""Seconds after a container's end after which nobody waits for its output any more: its reader stands still."""

WATCH_INTERVAL = 2.0
"""Seconds between two looks whether the process that is attached still lives."""

LOOK_INTERVAL = 0.01

_ROOT = str(Path(process.__file__).resolve().parents[4])
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from xchronos.executors.docker.attachment.process import main; main(sys.argv[2])"
)


class AttachedOutput:
    """The output of one container, written into the step's log by a process that is attached to it.

    `begin` is called before the container starts. The log is written by that process; `log` goes on after it once the
    output has ended.
    """

    def __init__(self, client: DockerClient, container: str, log: BoundedLog, *, tty: bool) -> None:
        self._log = log
        self._lock = log.path.with_name(f".{log.path.name}.attached")
        self._settings: dict[str, Any] = {
            **client.connection(),
            "container": container,
            "log": str(log.path),
            "limit": log.limit,
            "lock": str(self._lock),
            "tty": tty,
            "late": False,
        }
        self._child: subprocess.Popen[bytes] | None = None

    async def begin(self, *, started: bool) -> None:
        """Have a process attached, unless one is or has been to the end. `started`: the container may have written."""
        if self._said() == ENDED or self._held():
            return
        await self._attach(late=started)

    async def _attach(self, *, late: bool) -> None:
        if not late:
            self._lock.unlink(missing_ok=True)
        await asyncio.to_thread(self._spawn, late)
        until = time.monotonic() + ATTACH_LIMIT
        while time.monotonic() < until and self._child is not None and self._child.poll() is None:
            if self._said() == ATTACHED:
                return
            await asyncio.sleep(LOOK_INTERVAL)
        said = self._said()
        if said != ENDED:
            self._log.note(f"the output is not kept: {said.removeprefix(REFUSED) or 'nobody could be attached'}")

    def _spawn(self, late: bool) -> None:
        self._lock.touch()
        os.truncate(self._lock, 0)
        self._child = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", "-c", _PROGRAM, _ROOT, json.dumps(self._settings | {"late": late})],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={},
        )

    def _said(self) -> str:
        try:
            return self._lock.read_text()
        except FileNotFoundError:
            return ""

    def _held(self) -> bool:
        """Whether a process is attached, or about to be."""
        if self._child is not None and self._child.poll() is None:
            return True
        try:
            lock = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    async def follow(self) -> None:
        """See that somebody is attached for as long as the container runs."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            if not self._held() and self._said() == ATTACHED:
                await self._attach(late=True)

    async def finish(self, follower: asyncio.Task[None]) -> None:
        """The container has ended: return when its output is in the log."""
        await cancel_and_wait(follower)
        until = time.monotonic() + END_LIMIT
        while self._held() and time.monotonic() < until:  # noqa: ASYNC110 - a lock sets no Event
            await asyncio.sleep(LOOK_INTERVAL)
        self._log.reopen()
        if self._said() == ATTACHED:
            why = "who was attached stands still" if self._held() else "nobody was attached at the end"
            self._log.note(f"the end of the output may be missing: {why}")
