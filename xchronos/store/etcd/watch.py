"""Watches on etcd: one stream each. A watch that breaks goes on from the same revision on another member.

A slow consumer costs no memory: the watch stops reading, and the server then holds its events back and serves them from
its history later (`test_a_slow_consumer_stops_the_stream_not_the_memory`). If a compaction removes them before that,
the consumer gets Compacted.
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
    """The stream is of no use any more; `trouble` says why."""

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
        """Begin. Returns after a member has accepted the watch."""
        self._client.check_open()
        if not self._next:
            # A member may lag behind the others: only a read that all agree on tells the newest revision.
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
        """Raise an error to the consumer, after it has taken the events that are there."""
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
        except Exception as error:  # noqa: BLE001 - without it the consumer would wait for ever
            failed = StoreError(f"the watch of {self._prefix!r} has failed: {error!r}")
            failed.__cause__ = error
            self.end(failed)

    async def _follow(self) -> None:
        """Keep a stream open, one after another, until an error comes that no other stream can heal."""
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
        """Take the events of one stream, until it ends."""
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
                        # The watch asks for the past. A compaction at revision r also removes the deletions of r, but
                        # servers say "compacted" only to a watch from r - 1. So this watch asks for one revision more
                        # (`test_a_watch_that_was_away_during_a_compaction_says_so`).
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
                # The stream is left unread until the consumer has caught up.
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
        """Add events. A response that was too big comes in fragments, which are held until the last one is there.

        Only so is a revision never torn (`test_revisions_too_big_for_one_message_are_not_torn`).
        """
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
            # A progress message: the server sends it now and then to a watch that has seen everything, so that the
            # watch need not go far back when it breaks (`test_an_idle_watch_is_told_of_progress`).
            self._next = max(self._next, response.header.revision + 1)

    def _cancelled(self, response: Any, endpoint: str) -> Trouble:
        if response.compact_revision:
            return Trouble(Compacted(response.compact_revision + 1), Advice.GIVE_UP)
        trouble = read_words(None, response.cancel_reason, endpoint)
        if isinstance(trouble.error, Misconfigured) and not self._logged_in:
            # etcd says the same to a watch with a stale token and to one without permission. So log in once, and
            # believe the second answer.
            self._logged_in = True
            return Trouble(trouble.error, Advice.LOGIN)
        return trouble


def _stop_request(number: int) -> messages.WatchRequest:
    request = messages.WatchRequest()
    request.cancel_request.watch_id = number
    return request
