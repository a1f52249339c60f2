"""The contract, on the stores that need no server."""

from pathlib import Path

from tests.store.store_helpers import ManualClock
from xchronos.store import Store
from xchronos.store.memory import MemoryStore
from xchronos.store.sqlite.store import SqliteStore
from xchronos.testing.store import StoreContract


class TestMemoryStore(StoreContract):
    async def open_store(self, directory: Path) -> Store:
        self.clock = ManualClock()
        return MemoryStore(self.clock)

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)


class TestSqliteStore(StoreContract):
    async def open_store(self, directory: Path) -> Store:
        self.clock = ManualClock()
        return await SqliteStore.open(directory / "store.db", clock=self.clock)

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)


class TestSqliteStoreOnTheSystemClock(StoreContract):
    ttl = 0.3

    async def open_store(self, directory: Path) -> Store:
        return await SqliteStore.open(directory / "store.db", synchronous="normal")
