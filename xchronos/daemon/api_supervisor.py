"""Keeps the process that serves the API: starts it, answers what it asks, starts it anew when it dies.

The listening socket is the daemon's. So its address is known to be free before anything runs, and while the process is
started anew connections wait instead of being refused.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from xchronos.aio import Backoff, cancel_and_wait
from xchronos.api.ports import DaemonReport
from xchronos.api.serving.listening import begin, forget, reserve
from xchronos.clock import SECOND, Clock, Micros
from xchronos.daemon.api_calls import (
    CHANGE,
    METRICS,
    PROGRESS,
    READY,
    REPORT,
    START,
    STOP,
    WHERE,
    ApiChange,
    ApiStart,
)
from xchronos.errors import ConfigError
from xchronos.ipc import Channel, Disconnected, pair
from xchronos.limits import API_STOP_SECONDS
from xchronos.model.records import Attempt
from xchronos.store.contract import Store
from xchronos.store.remote import serve_store

log = structlog.get_logger(__name__)

PAUSE: Micros = SECOND
LONGEST_PAUSE: Micros = 30 * SECOND
"""The pauses before the process is started anew, in microseconds: the first, and the longest."""

_MEMORY = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""What keeps a long answer from staying in the process' memory (mallopt(3)), unless the environment says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonAnswers:
    """What the daemon answers to the process that serves its API."""

    start: Callable[[], ApiStart]
    """What the process is built of. Asked anew for each one."""

    store: Store
    """The job store."""

    ready: Callable[[str], None]
    """Called once, with the API's address, when the first process answers requests."""

    report: Callable[[], DaemonReport]
    """What the daemon says of itself."""

    metrics: Callable[[], Awaitable[bytes]]
    """What the daemon has counted, in Prometheus' text format."""

    progress: Callable[[str], Awaitable[Attempt | None]]
    """See `LocalSteps.progress`."""

    machine_of: Callable[[str], Awaitable[str | None]]
    """See `Whereabouts.machine_of`."""


class ApiSupervisor:
    """The API of a daemon, as the daemon has it.

    Args:
        host: See `listening.reserve`.
        port: See there.
        answers: What the process asks for. The process is started before it is there, and answers nobody until then.
        clock: Measures the pauses between two processes.

    Raises:
        ConfigError: nobody can listen on the address.
    """

    def __init__(self, host: str, port: int, answers: asyncio.Future[DaemonAnswers], clock: Clock) -> None:
        self._host = host
        self._listener = reserve(host, port)
        self._answers = answers
        self._backoff = Backoff(clock, PAUSE, LONGEST_PAUSE)
        self._channel: Channel | None = None
        self._is_ready = False
        self._refused: ConfigError | None = None

    async def change(self, told: ApiChange) -> None:
        """Tell the process what the settings say anew. One that is started later asks for it."""
        if self._channel is not None:
            try:
                await self._channel.call(CHANGE, told)
            except Disconnected:
                log.debug("the API's process was not told of the settings: it has ended")

    async def run(self) -> None:
        """Have the API served until cancelled. Then requests under way end, in bounded time.

        Raises:
            ConfigError: nobody can listen on the address.
            RuntimeError: the first process ended before it was ready. Its log says why.
        """
        try:
            while True:
                code = await self._one()
                if self._refused is not None:
                    raise self._refused
                if not self._is_ready:
                    raise RuntimeError(f"the API's process ended with {code} before it was ready")
                log.error("the API's process has ended, and is started anew", code=code)
                await self._backoff.pause()
        finally:
            self._listener.close()
            forget(self._host)

    async def _one(self) -> int:
        """Run one process until it ends; its exit code. When cancelled, ask it to end, and wait for that."""
        ours, theirs = pair()
        descriptors = (theirs.fileno(), self._listener.fileno())
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "xchronos.daemon.api_process",
                *map(str, descriptors),
                pass_fds=descriptors,
                stdin=asyncio.subprocess.DEVNULL,
                env=environment(os.environ, sys.path),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        channel = self._channel = Channel(ours)
        async with AsyncExitStack() as watches:
            self._serve(channel, watches)
            carrying = asyncio.create_task(channel.run(), name="API channel")
            try:
                return await process.wait()
            except asyncio.CancelledError:
                await self._end(channel, process)
                raise
            finally:
                self._channel = None
                await cancel_and_wait(carrying)

    async def _end(self, channel: Channel, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(API_STOP_SECONDS):
                if self._is_ready:
                    await channel.call(STOP, None)
                    await process.wait()
        except (TimeoutError, Disconnected):
            log.warning("the API's process does not end by itself")
        if process.returncode is None:
            process.kill()
            await process.wait()

    def _serve(self, channel: Channel, watches: AsyncExitStack) -> None:
        served: list[AsyncExitStack] = []

        async def start(_: None) -> ApiStart:
            answers = await asyncio.shield(self._answers)
            try:
                begin(self._listener, self._host)
            except ConfigError as error:
                self._refused = error
                raise
            if not served:  # its worker asks as well
                served.append(await watches.enter_async_context(serve_store(channel, answers.store)))
                self._serve_all(channel, answers)
            return answers.start()

        channel.serve(START, start)

    def _serve_all(self, channel: Channel, answers: DaemonAnswers) -> None:
        async def ready(address: str) -> None:
            self._backoff.reset()
            if not self._is_ready:
                self._is_ready = True
                answers.ready(address)

        async def report(_: None) -> DaemonReport:
            return answers.report()

        async def metrics(_: None) -> bytes:
            return await answers.metrics()

        channel.serve(READY, ready)
        channel.serve(REPORT, report)
        channel.serve(METRICS, metrics)
        channel.serve(PROGRESS, answers.progress)
        channel.serve(WHERE, answers.machine_of)


def environment(environ: Mapping[str, str], path: list[str]) -> dict[str, str]:
    """The environment of the API's process: it finds the same modules, and is no service of its own for systemd."""
    kept = {name: value for name, value in environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    return {**_MEMORY, **kept, "PYTHONPATH": os.pathsep.join(each for each in path if each)}
