"""The daemon's side of its launcher: starts one, asks it for steps, hears of their ends, replaces one that has died."""

import asyncio
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from xchronos.errors import ExecutorUnavailable
from xchronos.executors.process.launcher import ANSWER, REQUEST

log = structlog.get_logger(__name__)

READY_LIMIT = 20.0
"""Seconds that a launcher has to be ready."""

ANSWER_LIMIT = 10.0
"""Seconds that a launcher has to start a step, before it is killed and another one is asked."""

_ROOT = str(Path(__file__).resolve().parents[3])
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); from xchronos.executors.process.launcher import main; main(sys.argv[2])"
)


class LauncherGone(Exception):  # noqa: N818 - what it says is no error of the caller's
    """The launcher has ended before it has answered. The table says what it has done."""


class LauncherClient:
    """A launcher for the table in `directory`.

    It calls `began` with the slot of each step that has a holder, and its pid, `ended` with the slot of each whose
    holder has ended, `gone` when the launcher has.
    """

    def __init__(
        self,
        directory: Path,
        began: Callable[[int, int], None],
        ended: Callable[[int], None],
        gone: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._began = began
        self._ended = ended
        self._gone = gone
        self._pid = 0
        self._link = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._coming: asyncio.Task[None] | None = None
        self._begun: dict[int, asyncio.Future[None]] = {}
        self._unread = b""
        self._unsent: list[memoryview] = []

    @property
    def alive(self) -> bool:
        """Whether there is one, as far as is known."""
        return self._link >= 0

    async def ready(self) -> None:
        """Return when a launcher runs, and none but it starts anything. Raises ExecutorUnavailable when none can.

        A caller that is cancelled leaves the work to the next one.
        """
        if self._link < 0:
            if self._coming is None:
                self._coming = asyncio.create_task(self._come(), name="launcher")
            await asyncio.shield(self._coming)

    async def _come(self) -> None:
        try:
            self._pid, link = await asyncio.to_thread(self._spawn)
        except OSError as error:
            raise ExecutorUnavailable(f"the launcher of host processes cannot be started: {error}") from error
        finally:
            self._coming = None
        self._link = link
        self._unread, self._unsent = b"", []
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(link, self._read)

    def start(self, slot: int, rest: bytes) -> "asyncio.Future[None]":
        """Ask for a step's start. The future is done when the step has begun.

        It raises LauncherGone; or ExecutorUnavailable, when nothing was started.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._link < 0:
            future.set_exception(LauncherGone())
            future.exception()  # as below
        else:
            self._begun[slot] = future
            self._send(b"S", slot, rest)
        return future

    def free(self, slot: int) -> None:
        """Give a slot back. Without a launcher nothing happens: the next claim writes over it all the same."""
        if self._link >= 0:
            self._send(b"F", slot, b"")

    def kill(self) -> None:
        """End a launcher that does not answer. `gone` is called when it has ended."""
        if self._pid:
            log.warning("the launcher of host processes does not answer and is killed", pid=self._pid)
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    async def close(self) -> None:
        """End it. What it has started goes on."""
        if self._coming is not None:
            await asyncio.wait({self._coming})
        self._cut()
        await asyncio.to_thread(self._reap)

    # -- the connection -----------------------------------------------------------------------------------------------

    def _send(self, kind: bytes, slot: int, rest: bytes) -> None:
        request = memoryview(REQUEST.pack(REQUEST.size + len(rest), kind, slot) + rest)
        self._unsent.append(request)
        if len(self._unsent) == 1:
            self._write()

    def _write(self) -> None:
        assert self._loop is not None
        try:
            while self._unsent:
                count = os.write(self._link, self._unsent[0])
                if count == len(self._unsent[0]):
                    del self._unsent[0]
                else:
                    self._unsent[0] = self._unsent[0][count:]
        except BlockingIOError:
            self._loop.add_writer(self._link, self._write)
            return
        except OSError:
            self._unsent.clear()  # it has ended, which is read of next
        self._loop.remove_writer(self._link)

    def _read(self) -> None:
        try:
            data = os.read(self._link, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        data = self._unread + data
        whole = len(data) - len(data) % ANSWER.size
        for kind, slot, number in ANSWER.iter_unpack(data[:whole]):
            if kind == b"E":
                self._ended(slot)
                continue
            future = self._begun.pop(slot)
            if kind == b"B":
                self._began(slot, number)
                future.set_result(None)
            else:
                future.set_exception(ExecutorUnavailable(f"no process can be started: {os.strerror(number)}"))
                future.exception()  # a caller that was cancelled does not ask
        self._unread = data[whole:]

    def _lost(self) -> None:
        log.warning("the launcher of host processes has ended; another one is started when it is needed", pid=self._pid)
        self._cut()
        self._reap()
        self._gone()

    def _cut(self) -> None:
        if self._link >= 0:
            assert self._loop is not None
            if not self._loop.is_closed():
                self._loop.remove_reader(self._link)
                self._loop.remove_writer(self._link)
            os.close(self._link)
            self._link = -1
        begun, self._begun = self._begun, {}
        for future in begun.values():
            future.set_exception(LauncherGone())
            future.exception()  # a caller that was cancelled does not ask

    def _reap(self) -> None:
        """Collect a launcher that has ended, or is about to."""
        if self._pid:
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = 0

    # -- the process --------------------------------------------------------------------------------------------------

    def _spawn(self) -> tuple[int, int]:
        """Start a launcher and wait until it is ready. Returns its pid, and this side of the connection."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        words = self._directory / "launcher.log"
        with suppress(FileNotFoundError):
            if words.stat().st_size:
                words.replace(words.with_name("launcher.log.1"))  # what the one before has died of
        ours, theirs = socket.socketpair()
        with ours, theirs:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", _PROGRAM, _ROOT, str(self._directory)],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, str(words), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                ],
                setsid=True,
            )
            theirs.close()
            answered = select.select([ours], [], [], READY_LIMIT)[0]
            if not answered or len(ours.recv(ANSWER.size)) < ANSWER.size:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise OSError(f"it was not ready; its words are in {words}")
            ours.setblocking(False)
            return pid, ours.detach()
