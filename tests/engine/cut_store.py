"""One daemon's link to the common store, which can be cut (nothing gets through) or frozen (everything comes late)."""

import asyncio
from contextlib import aclosing

from tests.services.links import Link, before
from xchronos.errors import StoreUnavailable


class CutStore(Link):
    """A link to `store`. While it is cut, calls fail (after `patience` seconds) and watches are silent, then break."""

    def __init__(self, store, clock, patience: float = 0.5) -> None:
        super().__init__(store)
        self.clock = clock
        self.patience = patience
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

    async def ask(self, what, call):
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

    async def deliver(self, batches):
        async with aclosing(before(self._cut, batches)) as going:
            async for batch in going:
                while self._thawed is not None:
                    await self._thawed.wait()
                yield batch
        await asyncio.sleep(3 * self.patience)
        raise StoreUnavailable("the watch broke")
