"""A store that is in a bad mood: slow, refusing before or after the write, dropping watches, forgetting history."""

from contextlib import asynccontextmanager
from random import Random

from xchronos.clock import MILLISECOND, Clock
from xchronos.errors import Compacted, StoreUnavailable
from xchronos.store.memory import MemoryStore


class FaultyStore:
    """One daemon's connection to `store`. While `trouble` is 0 it is only slow."""

    name = "memory"

    def __init__(self, store: MemoryStore, clock: Clock, random: Random, trouble: float = 0.0) -> None:
        self.inner = store
        self.clock = clock
        self.random = random
        self.trouble = trouble
        self.dead = False
        self.max_operations = store.max_operations

    async def _reach(self) -> None:
        await self.clock.sleep(self.random.randrange(0, 20) * MILLISECOND)
        if self.random.random() < self.trouble:
            await self.clock.sleep(self.random.randrange(0, 2000) * MILLISECOND)
        self._fail("before")

    def _fail(self, when: str) -> None:
        if self.dead:
            raise StoreUnavailable("this daemon is dead")
        if self.random.random() < self.trouble:
            raise StoreUnavailable(f"no answer: lost {when} the write")

    async def get(self, key):
        await self._reach()
        return await self.inner.get(key)

    async def range(self, prefix, **options):
        await self._reach()
        return await self.inner.range(prefix, **options)

    async def commit(self, txn):
        await self._reach()
        done = await self.inner.commit(txn)
        self._fail("after")
        return done

    async def commit_many(self, txns):
        await self._reach()
        done = await self.inner.commit_many(txns)
        self._fail("after")
        return done

    @asynccontextmanager
    async def watch(self, prefix, *, revision=0):
        await self._reach()
        async with self.inner.watch(prefix, revision=revision) as batches:
            yield self._deliver(batches)

    async def _deliver(self, batches):
        async for batch in batches:
            await self.clock.sleep(self.random.randrange(0, 30) * MILLISECOND)
            if self.random.random() < self.trouble:
                raise Compacted(batch.revision) if self.random.random() < 0.5 else StoreUnavailable("watch dropped")
            yield batch

    async def grant(self, ttl_seconds):
        await self._reach()
        return await self.inner.grant(ttl_seconds)

    async def renew(self, lease):
        await self._reach()
        await self.inner.renew(lease)
        self._fail("after")

    async def revoke(self, lease):
        await self._reach()
        await self.inner.revoke(lease)

    async def compact(self, revision):
        await self.inner.compact(revision)

    async def close(self):
        await self.inner.close()
