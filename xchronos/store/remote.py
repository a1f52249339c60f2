"""A store of another process of the same daemon: every call is carried out there.

One process has the store and calls `serve_store`; the other one uses a `RemoteStore`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from typing import TypeVar

import msgspec

from xchronos.errors import StoreUnavailable
from xchronos.ipc import Channel, Disconnected, Method
from xchronos.store.contract import Committed, KeyValue, Page, Store, Txn, WatchBatch
from xchronos.store.transactions import check_txn

Q = TypeVar("Q")
A = TypeVar("A")


class RangeQuestion(msgspec.Struct, frozen=True):
    """The arguments of `Store.range`."""

    prefix: str
    start: str
    limit: int
    keys_only: bool
    revision: int


class WatchQuestion(msgspec.Struct, frozen=True):
    """The arguments of `Store.watch`."""

    prefix: str
    revision: int


GET: Method[str, KeyValue | None] = Method("store.get", str, KeyValue | None)
RANGE: Method[RangeQuestion, Page] = Method("store.range", RangeQuestion, Page)
COMMIT: Method[list[Txn], list[Committed]] = Method("store.commit", list[Txn], list[Committed])
WATCH: Method[WatchQuestion, int] = Method("store.watch", WatchQuestion, int)
NEXT: Method[int, WatchBatch] = Method("store.next", int, WatchBatch)
UNWATCH: Method[int, None] = Method("store.unwatch", int, None)
GRANT: Method[float, int] = Method("store.grant", float, int)
RENEW: Method[int, None] = Method("store.renew", int, None)
REVOKE: Method[int, None] = Method("store.revoke", int, None)
COMPACT: Method[int, None] = Method("store.compact", int, None)


class RemoteStore:
    """A Store that another process has. When that process is gone, every call raises StoreUnavailable.

    Args:
        channel: The connection to it.
        name: See `Store.name`.
        max_operations: See `Store.max_operations`.
    """

    def __init__(self, channel: Channel, name: str, max_operations: int) -> None:
        self._channel = channel
        self.name = name
        self.max_operations = max_operations

    async def _call(self, method: Method[Q, A], question: Q) -> A:
        try:
            return await self._channel.call(method, question)
        except Disconnected as error:
            raise StoreUnavailable(str(error)) from error

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        return await self._call(GET, key)

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, keys_only: bool = False, revision: int = 0
    ) -> Page:
        """See `Store.range`."""
        return await self._call(RANGE, RangeQuestion(prefix, start, limit, keys_only, revision))

    async def commit(self, txn: Txn) -> Committed:
        """See `Store.commit`."""
        check_txn(txn, self.max_operations)
        (committed,) = await self._call(COMMIT, [txn])
        return committed

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        """See `Store.commit_many`."""
        for txn in txns:
            check_txn(txn, self.max_operations)
        return await self._call(COMMIT, list(txns))

    @asynccontextmanager
    async def watch(self, prefix: str, *, revision: int = 0) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        """See `Store.watch`."""
        watching = await self._call(WATCH, WatchQuestion(prefix, revision))
        try:
            yield _Batches(lambda: self._call(NEXT, watching))
        finally:
            with suppress(StoreUnavailable):  # then there is nothing to leave any more
                await self._call(UNWATCH, watching)

    async def grant(self, ttl_seconds: float) -> int:
        """See `Store.grant`."""
        return await self._call(GRANT, ttl_seconds)

    async def renew(self, lease: int) -> None:
        """See `Store.renew`."""
        await self._call(RENEW, lease)

    async def revoke(self, lease: int) -> None:
        """See `Store.revoke`."""
        await self._call(REVOKE, lease)

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        await self._call(COMPACT, revision)

    async def close(self) -> None:
        """Nothing is closed: the store belongs to the other process."""


class _Batches(AsyncIterator[WatchBatch]):
    """The batches of a watch. Unlike a generator it goes on after a cancellation."""

    def __init__(self, following: Callable[[], Awaitable[WatchBatch]]) -> None:
        self._following = following

    async def __anext__(self) -> WatchBatch:
        return await self._following()


def serve_store(channel: Channel, store: Store) -> AsyncExitStack:
    """Carry out the calls of a RemoteStore. The stack has its watches: it is to be closed with the channel."""
    watches: dict[int, tuple[AsyncExitStack, AsyncIterator[WatchBatch]]] = {}
    numbers = count(1)
    whole = AsyncExitStack()

    async def page(asked: RangeQuestion) -> Page:
        return await store.range(
            asked.prefix, start=asked.start, limit=asked.limit, keys_only=asked.keys_only, revision=asked.revision
        )

    async def commit(txns: list[Txn]) -> list[Committed]:
        return [await store.commit(txns[0])] if len(txns) == 1 else await store.commit_many(txns)

    async def watch(asked: WatchQuestion) -> int:
        async with AsyncExitStack() as opened:
            batches = await opened.enter_async_context(store.watch(asked.prefix, revision=asked.revision))
            number = next(numbers)
            watches[number] = (opened.pop_all(), batches)
        return number

    async def following(number: int) -> WatchBatch:
        return await anext(watches[number][1])

    async def unwatch(number: int) -> None:
        if number in watches:
            await watches.pop(number)[0].aclose()

    async def unwatch_all() -> None:
        for number in list(watches):
            await unwatch(number)

    whole.push_async_callback(unwatch_all)
    channel.serve(GET, store.get)
    channel.serve(RANGE, page)
    channel.serve(COMMIT, commit)
    channel.serve(WATCH, watch)
    channel.serve(NEXT, following)
    channel.serve(UNWATCH, unwatch)
    channel.serve(GRANT, store.grant)
    channel.serve(RENEW, store.renew)
    channel.serve(REVOKE, store.revoke)
    channel.serve(COMPACT, store.compact)
    return whole
