"""What the parts of the store contract's tests share: opening and closing the store, and short calls for writing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from xchronos.store.contract import Event, Operation, Put, Store, Txn, WatchBatch

MUST_COME_WITHIN = 20.0
"""Real seconds that a test waits for what must come."""


async def put(store: Store, key: str, value: bytes = b"", lease: int = 0) -> int:
    """Write one key without a guard; returns the revision."""
    return await write(store, Put(key, value, lease))


async def write(store: Store, *operations: Operation) -> int:
    """Carry out operations without guards; returns the revision."""
    committed = await store.commit(Txn((), operations))
    assert committed.succeeded
    return committed.revision


async def keys(store: Store, prefix: str = "", revision: int = 0) -> list[str]:
    """The keys of a prefix."""
    return [item.key for item in (await store.range(prefix, keys_only=True, revision=revision)).items]


async def collect(batches: AsyncIterator[WatchBatch], count: int) -> list[Event]:
    """Receive exactly `count` events, each batch of them in time, and check what holds for every batch."""
    events: list[Event] = []
    seen = 0
    while len(events) < count:
        # For each batch: how long many of them take is the machine's affair.
        async with asyncio.timeout(MUST_COME_WITHIN):
            batch = await anext(batches)
        revisions = [event.mod_revision for event in batch.events]
        assert batch.events, "a batch is never empty"
        assert revisions == sorted(revisions)
        assert revisions[0] > seen, "a revision is never split, nor repeated"
        assert batch.revision >= revisions[-1]
        seen = batch.revision
        events += batch.events
    assert len(events) == count, events
    return events


class StoreClauses:
    """The base of all clauses: the store under test, and how its time passes."""

    pytestmark = pytest.mark.asyncio
    ttl = 2.0
    """Seconds that the leases of the tests live. A store with a coarse clock may want more."""

    async def open_store(self, directory: Path) -> Store:
        """A new, empty store. `directory` is empty and belongs to the test."""
        raise NotImplementedError

    async def pass_time(self, seconds: float) -> None:
        """Let time pass for the store's leases. A test of a store with a made-up clock overrides this to move it."""
        await asyncio.sleep(seconds)

    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        """The store under test, closed afterwards."""
        store = await self.open_store(tmp_path)
        yield store
        await store.close()


__all__ = ["MUST_COME_WITHIN", "StoreClauses", "collect", "keys", "put", "write"]
