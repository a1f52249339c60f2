"""One daemon's link to the common store, which can be cut (nothing gets through) or frozen (everything comes late)."""

import asyncio
from contextlib import asynccontextmanager

from xchronos.errors import StoreUnavailable


class CutStore:
    """A link to `store`. While it is cut, calls fail (after `patience` seconds) and watches are silent, then break."""

    name = "memory"

    def __init__(self, store, clock, patience: float = 0.5) -> None:
        self.inner = store
        self.clock = clock
        self.patience = patience
        self.max_operations = store.max_operations
        self.dead = False
        self._thawed: asyncio.Event | None = None
        self._cut = asyncio.Event()

    @property
    def cut(self) -> bool:
        return self._cut.is_set()

    @cut.setter
    def cut(self, cut: bool) -> None:
        if cut:
            self._cut.set()
        else:
            self._cut = asyncio.Event()

    @property
    def frozen(self) -> bool:
        return self._thawed is not None

    @frozen.setter
    def frozen(self, frozen: bool) -> None:
        """A store that is stopped: what was asked is answered when it goes on, in the order of the questions."""
        thawed, self._thawed = self._thawed, asyncio.Event() if frozen else None
        if thawed is not None:
            thawed.set()

    async def _reach(self, call):
        while self._thawed is not None:
            await self._thawed.wait()
        if self.dead:
            raise StoreUnavailable("this daemon is dead")
        if self.cut:
            await asyncio.sleep(self.patience)
            raise StoreUnavailable("the link is cut")
        answer = await call()
        if self.cut:
            raise StoreUnavailable("the link was cut before the answer came")
        return answer

    async def get(self, key):
        return await self._reach(lambda: self.inner.get(key))

    async def get_many(self, keys):
        return await self._reach(lambda: self.inner.get_many(keys))

    async def range(self, prefix, **options):
        return await self._reach(lambda: self.inner.range(prefix, **options))

    async def commit(self, txn):
        return await self._reach(lambda: self.inner.commit(txn))

    async def commit_many(self, txns):
        return await self._reach(lambda: self.inner.commit_many(txns))

    async def grant(self, ttl_seconds):
        return await self._reach(lambda: self.inner.grant(ttl_seconds))

    async def renew(self, lease):
        return await self._reach(lambda: self.inner.renew(lease))

    async def revoke(self, lease):
        return await self._reach(lambda: self.inner.revoke(lease))

    async def compact(self, revision):
        return await self._reach(lambda: self.inner.compact(revision))

    @asynccontextmanager
    async def watch(self, prefix, *, revision=0):
        async def nothing():
            pass

        await self._reach(nothing)
        async with self.inner.watch(prefix, revision=revision) as batches:
            yield self._until_cut(batches)

    async def _until_cut(self, batches):
        cut = asyncio.ensure_future(self._cut.wait())
        try:
            while True:
                following = asyncio.ensure_future(anext(batches))
                try:
                    await asyncio.wait({following, cut}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not following.done():
                        following.cancel()
                        await asyncio.wait({following})
                if cut.done():
                    await asyncio.sleep(3 * self.patience)
                    raise StoreUnavailable("the watch broke")
                while self._thawed is not None:
                    await self._thawed.wait()
                yield following.result()
        finally:
            cut.cancel()

    async def close(self):
        await self.inner.close()
