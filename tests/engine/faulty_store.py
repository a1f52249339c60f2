"""A store that is in a bad mood: slow, refusing before or after the write, dropping watches, forgetting history."""

from random import Random

from tests.services.links import Link
from xchronos.clock import MILLISECOND, Clock
from xchronos.errors import Compacted, StoreUnavailable
from xchronos.store.memory import MemoryStore


class FaultyStore(Link):
    """One daemon's connection to `store`. While `trouble` is 0 it is only slow."""

    def __init__(self, store: MemoryStore, clock: Clock, random: Random, trouble: float = 0.0) -> None:
        super().__init__(store)
        self.clock = clock
        self.random = random
        self.trouble = trouble
        self.dead = False

    async def reach(self) -> None:
        """A question is on its way."""
        await self.clock.sleep(self.random.randrange(0, 20) * MILLISECOND)
        if self.random.random() < self.trouble:
            await self.clock.sleep(self.random.randrange(0, 2000) * MILLISECOND)
        self._fail("before")

    def _fail(self, when: str) -> None:
        if self.dead:
            raise StoreUnavailable("this daemon is dead")
        if self.random.random() < self.trouble:
            raise StoreUnavailable(f"no answer: lost {when} the write")

    async def ask(self, what, call):
        await self.reach()
        answer = await call()
        if what in ("commit", "commit_many", "renew"):
            self._fail("after")
        return answer

    async def deliver(self, batches):
        async for batch in batches:
            await self.clock.sleep(self.random.randrange(0, 30) * MILLISECOND)
            if self.random.random() < self.trouble:
                raise Compacted(batch.revision) if self.random.random() < 0.5 else StoreUnavailable("watch dropped")
            yield batch
