"""A store that is used from another thread than the one whose event loop it belongs to."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from xchronos.aio import Elsewhere
from xchronos.store.contract import Committed, KeyValue, Page, Store, Txn, WatchBatch


class StoreElsewhere:
    """A Store for the event loop of another thread. Every call is carried out by the loop that the store belongs to.

    Args:
        store: The store.
        loop: The loop that it belongs to.
    """

    def __init__(self, store: Store, loop: Elsewhere) -> None:
        self._store = store
        self._loop = loop

    @property
    def name(self) -> str:
        """See `Store.name`."""
        return self._store.name

    @property
    def max_operations(self) -> int:
        """See `Store.max_operations`."""
        return self._store.max_operations

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        return await self._loop.run(self._store.get(key))

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, keys_only: bool = False, revision: int = 0
    ) -> Page:
        """See `Store.range`."""
        return await self._loop.run(
            self._store.range(prefix, start=start, limit=limit, keys_only=keys_only, revision=revision)
        )

    async def commit(self, txn: Txn) -> Committed:
        """See `Store.commit`."""
        return await self._loop.run(self._store.commit(txn))

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        """See `Store.commit_many`."""
        return await self._loop.run(self._store.commit_many(txns))

    @asynccontextmanager
    async def watch(self, prefix: str, *, revision: int = 0) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        """See `Store.watch`."""
        watching = self._store.watch(prefix, revision=revision)
        batches = await self._loop.run(_entered(watching))
        try:
            yield _Batches(batches, self._loop)
        finally:
            await self._loop.run(_left(watching))

    async def grant(self, ttl_seconds: float) -> int:
        """See `Store.grant`."""
        return await self._loop.run(self._store.grant(ttl_seconds))

    async def renew(self, lease: int) -> None:
        """See `Store.renew`."""
        await self._loop.run(self._store.renew(lease))

    async def revoke(self, lease: int) -> None:
        """See `Store.revoke`."""
        await self._loop.run(self._store.revoke(lease))

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        await self._loop.run(self._store.compact(revision))

    async def close(self) -> None:
        """See `Store.close`."""
        await self._loop.run(self._store.close())


class _Batches(AsyncIterator[WatchBatch]):
    """The batches of a watch. Unlike a generator it goes on after a cancellation."""

    def __init__(self, batches: AsyncIterator[WatchBatch], loop: Elsewhere) -> None:
        self._batches = batches
        self._loop = loop

    async def __anext__(self) -> WatchBatch:
        return await self._loop.run(_next(self._batches))


async def _entered(watching: AbstractAsyncContextManager[AsyncIterator[WatchBatch]]) -> AsyncIterator[WatchBatch]:
    return await watching.__aenter__()


async def _next(batches: AsyncIterator[WatchBatch]) -> WatchBatch:
    return await anext(batches)


async def _left(watching: AbstractAsyncContextManager[AsyncIterator[WatchBatch]]) -> None:
    await watching.__aexit__(None, None, None)
