"""The process that serves the API of a daemon: what its clients ask for takes no time from what schedules.

The daemon starts it (`api_supervisor`) with two descriptors: the connection to the daemon, and the socket on which the
API listens. It ends with the daemon, however that ends.
"""

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from xchronos.agent.attempt.journal import attempt_directory, logs_in
from xchronos.agent.steps.host_facts import host_facts
from xchronos.aio import Workshop, cancel_and_wait, first
from xchronos.api.app import create_app, create_inner_app
from xchronos.api.ports import DaemonReport, Services
from xchronos.api.serving.admission import Room
from xchronos.api.serving.aside import AsideAnswer, AsideRequest, answered
from xchronos.api.serving.listening import Listener
from xchronos.api.serving.server import serve
from xchronos.clock import SystemClock
from xchronos.daemon.api_calls import (
    ANSWER,
    CHANGE,
    METRICS,
    PROGRESS,
    READY,
    REPORT,
    START,
    STOP,
    WHERE,
    WORKING,
    ApiChange,
    ApiStart,
    StoreAccess,
)
from xchronos.daemon.api_worker import ApiWorker
from xchronos.daemon.read_paths import read_warnings
from xchronos.daemon.stores import open_store
from xchronos.errors import ConfigError, Problem
from xchronos.hostfiles import HostFiles
from xchronos.ipc import Channel, Disconnected
from xchronos.limits import SWITCH_SECONDS, WORKER_NICENESS
from xchronos.logs import configure_logging
from xchronos.model.records import Attempt
from xchronos.model.unit import Unit
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.contract import Store
from xchronos.store.remote import RemoteStore
from xchronos.store.sqlite.replica import SqliteReplica

log = structlog.get_logger(__name__)

TIDY_SECONDS = 5.0
"""How often it is looked whether there is memory to give back."""

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = 300
"""When memory runs out, the kernel ends this process before the one that schedules."""


class DaemonCalls:
    """The daemon as the API sees it: what it says of itself, and what runs on this machine."""

    def __init__(self, channel: Channel, directory: Path) -> None:
        """`directory` is where attempts keep their files: output stays readable when there is no agent any more."""
        self._channel = channel
        self._directory = directory

    async def report(self) -> DaemonReport:
        """See `DaemonView`."""
        return await self._channel.call(REPORT, None)

    async def metrics(self) -> bytes:
        """See `DaemonView`."""
        return await self._channel.call(METRICS, None)

    async def progress(self, execution_id: str) -> Attempt | None:
        """See `LocalSteps`."""
        return await self._channel.call(PROGRESS, execution_id)

    async def logs(self, unit: str, fire_time: datetime, copy: int, attempt: int) -> list[tuple[str, Path]]:
        """See `LocalSteps`."""
        where = attempt_directory(self._directory, unit, fire_time, copy, attempt)
        return await asyncio.to_thread(logs_in, where)

    async def machine_of(self, execution_id: str) -> str | None:
        """See `Whereabouts`."""
        return await self._channel.call(WHERE, execution_id)


async def _store(channel: Channel, start: ApiStart) -> Store:
    access: StoreAccess = start.store
    if access.servers:
        return await open_store(start.settings, SystemClock())
    if access.file:
        return SqliteReplica(channel, Path(access.file))
    return RemoteStore(channel, access.name, access.max_operations)


async def answer(channel: Channel, listener: Listener | None) -> None:
    """Serve the API until the daemon asks to end it; without a listener be its worker, until it has no more need."""
    try:
        start = await channel.call(START, None)
    except ConfigError:
        return  # the daemon tells it
    settings = start.settings
    configure_logging(settings.log_format, settings.log_level)
    store = await _store(channel, start)
    calls = DaemonCalls(channel, settings.state_directory / "attempts")
    facts, files = host_facts(start.machine), HostFiles()
    computing, making, compiling = Workshop("answers"), Workshop("lists"), Workshop("units")
    files.paths = start.paths

    async def warnings(unit: Unit) -> tuple[Problem, ...]:
        return await read_warnings(unit, files, facts)

    services = Services(
        registry=Registry(store, Keys(settings.namespace), calls, compiling),
        clock=SystemClock(),
        machine_id=start.machine,
        steps=calls,
        daemon=calls,
        unit_warnings=warnings,
        token=start.token,
        names=start.names,
        offload=computing,
        making=making,
    )
    worker = ApiWorker(channel) if listener is not None else None

    async def change(told: ApiChange) -> None:
        services.token, files.paths = told.token, told.paths
        configure_logging(told.log_format, told.log_level)
        if worker is not None:
            await worker.change(told)

    channel.serve(CHANGE, change)
    try:
        if listener is None or worker is None:
            await work(channel, services)
        else:
            await serve_until_stopped(channel, listener, services, worker, settings.api_connections)
    finally:
        for workshop in (computing, making, compiling):
            workshop.close()
        await store.close()


async def work(channel: Channel, services: Services) -> None:
    """Answer the requests that the process with the connections passes on."""
    app: Any = create_inner_app(services)

    async def one(request: AsideRequest) -> AsideAnswer:
        return await answered(app, request)

    channel.serve(ANSWER, one)
    await channel.call(WORKING, None)
    await asyncio.Event().wait()


async def serve_until_stopped(
    channel: Channel, listener: Listener, services: Services, worker: ApiWorker, connections: int
) -> None:
    """Have the connections, until the daemon says that it ends."""
    stopping, stopped, room = asyncio.Event(), asyncio.Event(), Room()

    async def stop(_: None) -> None:
        stopping.set()
        await stopped.wait()

    channel.serve(STOP, stop)
    ready: set[asyncio.Task[None]] = set()

    def tell(address: str) -> None:
        ready.add(asyncio.create_task(channel.call(READY, address), name="ready"))

    tidying = asyncio.create_task(tidy(room), name="tidy")
    try:
        app = create_app(services, room, worker)
        await first(serve(app, listener, tell, connections), stopping.wait())
    finally:
        stopped.set()
        await cancel_and_wait(tidying)
        await worker.close()


async def tidy(room: Room) -> None:
    """Give memory back to the system when requests were answered and none is under way."""
    library, seen = ctypes.CDLL(None), 0
    while True:
        await asyncio.sleep(TIDY_SECONDS)
        if room.answered != seen and not room.busy:
            seen = room.answered
            gc.collect()
            library.malloc_trim(0)


async def _run(channel_end: socket.socket, listener: Listener | None) -> None:
    channel = Channel(channel_end)
    carrying = asyncio.create_task(channel.run(), name="channel")
    answering = asyncio.create_task(answer(channel, listener), name="API")
    await asyncio.wait((carrying, answering), return_when=asyncio.FIRST_COMPLETED)
    if not answering.done():
        os._exit(0)  # the daemon is gone: nobody may find its address taken for one moment more
    try:
        await answering
    except Disconnected:
        pass  # it went while this process was about to begin
    finally:
        await cancel_and_wait(carrying)


def _become_helper() -> None:
    """End with the daemon, leave its signals to it, and let it have the memory."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the daemon hears them too, and says when it is over
    with suppress(OSError):  # no such file in some containers
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")


def main() -> None:
    """The entry point: `python -m xchronos.daemon.api_process CONNECTION [LISTENER]`, descriptors."""
    channel_end, *listeners = sys.argv[1:]
    connection = socket.socket(fileno=int(channel_end))
    listener = Listener(fileno=int(listeners[0])) if listeners else None
    _become_helper()
    if listener is None:
        os.nice(WORKER_NICENESS)
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        asyncio.run(_run(connection, listener))
    except ConfigError as error:
        log.error("the API cannot be served", reason=str(error))  # noqa: TRY400 - the reason tells it
        sys.exit(1)


if __name__ == "__main__":
    main()
