"""A daemon's way to a store that lives in the test's own process, through which tests interfere."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any


class Link:
    """As much of a `Store` as a daemon needs. Every call goes through `ask`, and what watches bring through `deliver`."""

    def __init__(self, store: Any) -> None:
        self.inner = store
        self.name = store.name
        self.max_operations = store.max_operations

    async def ask(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Carry out `call`; `what` is the method's name."""
        return await call()

    def deliver(self, batches: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """What a watch brings."""
        return batches

    async def get(self, key: str) -> Any:
        return await self.ask("get", lambda: self.inner.get(key))

    async def range(self, prefix: str, **options: Any) -> Any:
        return await self.ask("range", lambda: self.inner.range(prefix, **options))

    async def commit(self, txn: Any) -> Any:
        return await self.ask("commit", lambda: self.inner.commit(txn))

    async def commit_many(self, txns: Any) -> Any:
        return await self.ask("commit_many", lambda: self.inner.commit_many(txns))

    async def grant(self, ttl_seconds: float) -> Any:
        return await self.ask("grant", lambda: self.inner.grant(ttl_seconds))

    async def renew(self, lease: int) -> Any:
        return await self.ask("renew", lambda: self.inner.renew(lease))

    async def revoke(self, lease: int) -> Any:
        return await self.ask("revoke", lambda: self.inner.revoke(lease))

    async def compact(self, revision: int) -> Any:
        return await self.ask("compact", lambda: self.inner.compact(revision))

    @asynccontextmanager
    async def watch(self, prefix: str, *, revision: int = 0) -> AsyncIterator[Any]:
        await self.ask("watch", _nothing)
        async with self.inner.watch(prefix, revision=revision) as batches:
            yield self.deliver(batches)

    async def close(self) -> None:
        await self.inner.close()


async def _nothing() -> None:
    pass


async def before(event: asyncio.Event, batches: AsyncIterator[Any]) -> AsyncGenerator[Any]:
    """What a watch brings before the event is set, which ends it in the midst of waiting."""
    over = asyncio.ensure_future(event.wait())
    try:
        while True:
            following = asyncio.ensure_future(anext(batches))
            try:
                await asyncio.wait({following, over}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.wait({following})
            if over.done():
                return
            yield following.result()
    finally:
        over.cancel()
