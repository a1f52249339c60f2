"""The second process of the API, for lists and for compiling: there while it is needed, and gone a while later.

One request at a time is answered by the process that has the connections. When another one comes meanwhile, a worker is
started, and answers them all; what asks for one unit then shares its interpreter with none of them. When nobody has
asked for a while, the worker ends, and all memory that long answers took goes with it.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from xchronos.aio import cancel_and_wait
from xchronos.api.serving.aside import Answering, AsideAnswer, AsideRequest
from xchronos.daemon.api_calls import ANSWER, CHANGE, WORKING, ApiChange
from xchronos.ipc import Channel, Disconnected, pair
from xchronos.limits import WORKER_IDLE_SECONDS

log = structlog.get_logger(__name__)

MODULE = "xchronos.daemon.api_process"


class ApiWorker:
    """See `Aside`.

    Args:
        daemon: The connection to the daemon, to which the worker's questions are passed on.
    """

    def __init__(self, daemon: Channel) -> None:
        self._daemon = daemon
        self._channel: Channel | None = None
        self._running: asyncio.Task[None] | None = None
        self._inside = 0
        self._used = 0.0
        self._here = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Answering | None]:
        """See `Aside.place`."""
        self._inside += 1
        here = False
        try:
            if self._inside > 1 and self._running is None:
                self._running = asyncio.create_task(self._run(), name="API worker")
            async with self._changed:
                await self._changed.wait_for(lambda: self._channel is not None or not self._here)
            if self._channel is None:
                self._here = here = True
                yield None
            else:
                yield self._answer
        finally:
            self._inside -= 1
            self._used = asyncio.get_running_loop().time()
            if here:
                self._here = False
                await self._tell()

    async def change(self, told: ApiChange) -> None:
        """Tell the worker what the settings say anew; one that is started later asks for it."""
        if self._channel is not None:
            try:
                await self._channel.call(CHANGE, told)
            except Disconnected:
                log.debug("the API's worker was not told of the settings: it has ended")

    async def close(self) -> None:
        """End the worker."""
        if self._running is not None:
            await cancel_and_wait(self._running)

    async def _answer(self, request: AsideRequest) -> AsideAnswer:
        if self._channel is None:
            raise Disconnected("the API's worker has ended")
        return await self._channel.call(ANSWER, request)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _run(self) -> None:
        ours, theirs = pair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL, env=os.environ,
            )  # fmt: skip
        except OSError as error:
            log.error("the API's worker cannot be started", reason=str(error))  # noqa: TRY400 - nothing of ours failed
            ours.close()
            self._running = None
            return
        finally:
            theirs.close()
        channel = Channel(ours)
        channel.forward(self._daemon)

        async def working(_: None) -> None:
            self._channel = channel
            await self._tell()

        channel.serve(WORKING, working)
        carrying = asyncio.create_task(channel.run(), name="worker channel")
        try:
            await self._until_idle(carrying)
        finally:
            self._channel = self._running = None
            await cancel_and_wait(carrying)  # the worker ends with the connection
            if process.returncode is None:
                try:
                    await asyncio.wait_for(process.wait(), 1)
                except TimeoutError:
                    process.kill()
                    await process.wait()
            await self._tell()

    async def _until_idle(self, carrying: "asyncio.Task[None]") -> None:
        """Return when the worker has ended, or when nobody has needed it for a while."""
        loop = asyncio.get_running_loop()
        self._used = loop.time()
        while not carrying.done():
            await asyncio.wait((carrying,), timeout=WORKER_IDLE_SECONDS / 4)
            if not self._inside and loop.time() - self._used >= WORKER_IDLE_SECONDS:
                return
        log.warning("the API's worker has ended")
