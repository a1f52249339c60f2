"""The contract, on a store that another process has: all of it over the connection, and with the file read directly."""

import asyncio
from pathlib import Path

import pytest

from xchronos.errors import StoreUnavailable
from xchronos.ipc import Channel, pair
from xchronos.store import Store
from xchronos.store.contract import Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.store.remote import RemoteStore, serve_store
from xchronos.store.sqlite import replica
from xchronos.store.sqlite.replica import SqliteReplica
from xchronos.store.sqlite.store import SqliteStore
from xchronos.testing.store import StoreContract
from xchronos.testing.store_base import keys, put, write


class Both:
    """The two sides of a connection in this process, and the store behind the other one."""

    def __init__(self, store: Store) -> None:
        self.store = store
        here, there = pair()
        self.channel, self._other = Channel(here), Channel(there)
        self._served = serve_store(self._other, store)
        self._runs = [asyncio.create_task(each.run()) for each in (self.channel, self._other)]

    async def close(self) -> None:
        """End the other process: first its store, then its side of the connection."""
        await self.store.close()

    async def cut(self) -> None:
        """The other process is gone."""
        self._runs[1].cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)


class _Remote(RemoteStore):
    def __init__(self, both: Both) -> None:
        super().__init__(both.channel, both.store.name, both.store.max_operations)
        self._both = both

    async def close(self) -> None:
        await self._both.close()


class _Replica(SqliteReplica):
    def __init__(self, both: Both, path: Path) -> None:
        super().__init__(both.channel, path)
        self._both = both

    async def close(self) -> None:
        await super().close()
        await self._both.close()


class TestRemoteStore(StoreContract):
    ttl = 0.3

    async def open_store(self, directory: Path) -> Store:
        return _Remote(Both(await SqliteStore.open(directory / "store.db", synchronous="normal")))


class TestSqliteReplica(StoreContract):
    ttl = 0.3

    async def open_store(self, directory: Path) -> Store:
        path = directory / "store.db"
        return _Replica(Both(await SqliteStore.open(path, synchronous="normal")), path)


async def test_a_store_whose_process_is_gone_is_unavailable():
    both = Both(MemoryStore())
    store = RemoteStore(both.channel, "memory", 128)
    async with store.watch("/") as batches:
        await put(store, "/a")
        assert (await anext(batches)).events[0].key == "/a"
        await both.cut()
        with pytest.raises(StoreUnavailable):
            await anext(batches)
        with pytest.raises(StoreUnavailable):
            await store.commit(Txn((), (Put("/b", b""),)))


async def test_the_pages_of_a_list_are_read_from_the_file_while_others_write(tmp_path):
    path = tmp_path / "store.db"
    both = Both(await SqliteStore.open(path, synchronous="normal"))
    store = SqliteReplica(both.channel, path)
    await write(store, *(Put(f"/k/{number:03d}", b"old") for number in range(100)))
    first = await store.range("/k/", limit=40)
    await put(store, "/k/050", b"new")
    await put(store, "/k/0500", b"more")
    await both.cut()  # from here on nobody but the file can answer
    second = await store.range("/k/", start=first.items[-1].key + "\0", limit=40, revision=first.revision)
    third = await store.range("/k/", start=second.items[-1].key + "\0", limit=40, revision=first.revision)
    found = [*first.items, *second.items, *third.items]
    assert [item.key for item in found] == [f"/k/{number:03d}" for number in range(100)]
    assert {item.value for item in found} == {b"old"}
    assert (first.more, second.more, third.more) == (True, True, False)
    await store.close()
    await both.close()


async def test_a_past_that_is_not_kept_open_is_asked_of_the_other_process(tmp_path, monkeypatch):
    monkeypatch.setattr(replica, "SNAPSHOT_SECONDS", 0.0)
    path = tmp_path / "store.db"
    both = Both(await SqliteStore.open(path, synchronous="normal"))
    store = SqliteReplica(both.channel, path)
    await write(store, Put("/k/1", b""), Put("/k/2", b""), Put("/k/3", b""))
    first = await store.range("/k/", limit=1)
    await put(store, "/k/4")
    rest = await store.range("/k/", start="/k/1\0", revision=first.revision)
    assert [item.key for item in rest.items] == ["/k/2", "/k/3"]
    assert await keys(store, "/k/") == ["/k/1", "/k/2", "/k/3", "/k/4"]
    await store.close()
    await both.close()


async def test_the_log_of_a_file_that_is_always_read_does_not_grow_without_end(tmp_path, monkeypatch):
    limit = 2 * 1024 * 1024
    monkeypatch.setattr(replica, "LOG_BYTES", limit)
    monkeypatch.setattr(replica, "CALM_EVERY", 0.0)
    path = tmp_path / "store.db"
    opened = await SqliteStore.open(path, synchronous="normal")
    opened._file.connection.execute("PRAGMA wal_autocheckpoint = 100")
    opened._file.connection.execute(f"PRAGMA journal_size_limit = {limit // 4}")
    both = Both(opened)
    store = SqliteReplica(both.channel, path)
    await write(store, *(Put(f"/k/{number:03d}", b"") for number in range(100)))
    over = asyncio.Event()

    async def read() -> None:
        while not over.is_set():
            page = await store.range("/k/", limit=30)
            while page.more:
                page = await store.range("/k/", start=page.items[-1].key + "\0", limit=30, revision=page.revision)

    readers = [asyncio.create_task(read()) for _ in range(6)]
    log, largest = path.with_name("store.db-wal"), 0
    for number in range(400):
        await put(store, f"/w/{number % 7}", b"x" * 40_000)  # 16 MB in all
        largest = max(largest, log.stat().st_size)
    over.set()
    await asyncio.gather(*readers)
    assert limit <= largest < 5 * limit
    await store.close()
    await both.close()
