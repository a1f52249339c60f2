"""Watches on etcd: one stream each, taken up again on another member where the last one broke off.

The server holds events back for a watch that is not read from, and serves it from its history later, so a slow consumer
costs no memory anywhere; if compaction outruns it, it is told.
"""

import asyncio
from types import TracebackType
from typing import Any, Self

from grpc.aio import EOF, AioRpcError

from xchronos.aio import Backoff, cancel_and_wait
from xchronos.errors import Compacted, StoreError, StoreUnavailable
from xchronos.store.contract import Event, WatchBatch
from xchronos.store.etcd.client import EtcdClient, new_backoff, was_cut
from xchronos.store.etcd.codec import decode_events, prefix_range
from xchronos.store.etcd.connection import EtcdConnection, send
from xchronos.store.etcd.errors import Advice, Misconfigured, Trouble, broken, read_trouble, read_words
from xchronos.store.etcd.rpc import messages_pb2 as messages
from xchronos.store.watching import MAX_PENDING


class _EndedError(Exception):
    """The stream is of no use any more; why, is its trouble."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble


class EtcdWatch:
    """One open watch: its own context manager and its own iterator. See `Store.watch`."""

    def __init__(self, client: EtcdClient, prefix: str, revision: int, watches: "set[EtcdWatch]") -> None:
        self._client = client
        self._prefix = prefix
        self._next = revision
        self._watches = watches
        self._pending: list[Event] = []
        self._held: list[Event] = []
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._started = asyncio.Event()
        self._error: StoreError | None = None
        self._logged_in = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin. Returns once a member has taken the watch."""
        self._client.check_open()
        if not self._next:
            # A member may lag behind the others; only the cluster knows which revision is the newest.
            begin, end = prefix_range(self._prefix)
            request = messages.RangeRequest(key=begin, range_end=end, limit=1, keys_only=True)
            self._next = (await self._client.call("range", request, twice=True)).header.revision + 1
        self._task = asyncio.create_task(self._run(), name=f"watch {self._prefix}")
        self._watches.add(self)
        try:
            async with asyncio.timeout(self._client.access.timeout):
                await self._started.wait()
        except TimeoutError:
            await self._stop()
            raise StoreUnavailable(
                f"{self._client.access}: no etcd member takes the watch of {self._prefix!r}"
            ) from None
        except BaseException:
            await self._stop()
            raise
        if self._error is not None:
            await self._stop()
            raise self._error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        while not self._pending:
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()
        events, self._pending = self._pending, []
        self._room.set()
        return WatchBatch(self._next - 1, events)

    def end(self, error: StoreError) -> None:
        """Tell the consumer, once it has taken what is there."""
        self._error = self._error or error
        self._started.set()
        self._news.set()
        if self._task is not None:
            self._task.cancel()

    async def _stop(self) -> None:
        self._watches.discard(self)
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _run(self) -> None:
        try:
            await self._follow()
        except Exception as error:  # noqa: BLE001 - the consumer, who would wait for ever, gets it
            failed = StoreError(f"the watch of {self._prefix!r} has failed: {error!r}")
            failed.__cause__ = error
            self.end(failed)

    async def _follow(self) -> None:
        """Keep a stream open until there is nothing more to be had."""
        backoff = new_backoff()
        while True:
            connection, token = self._client.connection(), self._client.token
            try:
                await self._read(connection, backoff)
            except _EndedError as ended:
                trouble = ended.trouble
            except AioRpcError as error:
                trouble = read_trouble(error, connection.endpoint)
            except asyncio.CancelledError:
                if not was_cut(connection):
                    raise
                trouble = broken(connection.endpoint)
            self._held = []
            try:
                await self._client.recover(trouble, connection, backoff, token=token)
            except StoreError as error:
                self.end(error)
                return

    async def _read(self, connection: EtcdConnection, backoff: Backoff) -> None:
        """Take in what one stream tells, until it ends."""
        stream = connection.watch(metadata=self._client.metadata)
        connection.open_stream(stream)
        try:
            await send(stream, self._request(self._next))
            number, overlapping = None, False
            while True:
                response = await stream.read()
                if response is EOF:
                    raise _EndedError(broken(connection.endpoint))
                if response.created and not response.canceled:
                    if response.header.revision >= self._next > 1 and not overlapping:
                        # The past is asked for. A compaction at revision r takes the deletions of r with it, and
                        # servers tell only those who asked for r - 1: asking for one revision more makes sure.
                        overlapping = True
                        await stream.write(_stop_request(response.watch_id))
                        await stream.write(self._request(self._next - 1))
                        continue
                    number = response.watch_id
                    self._logged_in = False
                    backoff.reset()
                    self._started.set()
                elif response.canceled and (response.created or response.watch_id == number):
                    raise _EndedError(self._cancelled(response, connection.endpoint))
                elif response.watch_id == number:
                    self._take(response)
                # Left unread until the consumer has caught up.
                while len(self._pending) > MAX_PENDING:
                    self._room.clear()
                    await self._room.wait()
        finally:
            connection.close_stream(stream)

    def _request(self, revision: int) -> messages.WatchRequest:
        request = messages.WatchRequest()
        create = request.create_request
        create.key, create.range_end = prefix_range(self._prefix)
        create.start_revision = revision
        create.progress_notify = True
        create.fragment = True
        return request

    def _take(self, response: Any) -> None:
        """Add events. The parts of a response that was too big are only good together."""
        if response.events:
            self._held += decode_events(response.events, self._next)
            if response.fragment:
                return
            if self._held:
                events, self._held = self._held, []
                self._next = events[-1].mod_revision + 1
                self._pending += events
                self._news.set()
        else:
            # Sent now and then to a watch that has seen everything, so that it need not go back far.
            self._next = max(self._next, response.header.revision + 1)

    def _cancelled(self, response: Any, endpoint: str) -> Trouble:
        if response.compact_revision:
            return Trouble(Compacted(response.compact_revision + 1), Advice.GIVE_UP)
        trouble = read_words(None, response.cancel_reason, endpoint)
        if isinstance(trouble.error, Misconfigured) and not self._logged_in:
            # A watch with a stale token is told the same as one without permission.
            self._logged_in = True
            return Trouble(trouble.error, Advice.LOGIN)
        return trouble


def _stop_request(number: int) -> messages.WatchRequest:
    request = messages.WatchRequest()
    request.cancel_request.watch_id = number
    return request
