"""What is the SQLite store's own: restarts, groups, other connections' view, and an event loop that never waits."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.store.store_helpers import ManualClock
from xchronos.errors import Compacted, LeaseLost, StoreError
from xchronos.store import Delete, Guard, Put, Txn
from xchronos.store.sqlite.store import SqliteStore


async def put(store: SqliteStore, key: str, value: bytes = b"", lease: int = 0) -> int:
    return (await store.commit(Txn((), [Put(key, value, lease)]))).revision


async def test_a_restart_keeps_keys_and_revisions_and_forgets_events(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    created = await put(store, "/a", b"1")
    changed = await put(store, "/a", b"2")
    await put(store, "/b")
    last = (await store.commit(Txn((), [Delete("/b")]))).revision
    await store.close()

    store = await SqliteStore.open(str(tmp_path / "store.db"))
    page = await store.range("")
    assert page.revision == last
    assert [(i.key, i.value, i.create_revision, i.mod_revision) for i in page.items] == [("/a", b"2", created, changed)]
    with pytest.raises(Compacted) as caught:
        async with store.watch("/", revision=last):
            raise AssertionError("the events are gone")
    assert caught.value.revision == last + 1
    async with store.watch("/", revision=last + 1) as batches:
        assert await put(store, "/c") == last + 1
        assert (await anext(batches)).revision == last + 1
    assert (await store.range("", revision=last)).items == page.items
    with pytest.raises(Compacted):
        await store.range("", revision=last - 1)
    await store.close()


async def test_a_lease_survives_a_restart_with_a_whole_ttl(tmp_path: Path) -> None:
    clock = ManualClock()
    store = await SqliteStore.open(tmp_path / "store.db", clock=clock)
    gone, kept = await store.grant(10), await store.grant(10)
    await put(store, "/gone", b"", gone)
    await put(store, "/kept", b"", kept)
    await clock.advance(9)
    await store.revoke(gone)
    await store.close()
    await clock.advance(100)

    store = await SqliteStore.open(tmp_path / "store.db", clock=clock)
    with pytest.raises(LeaseLost):
        await store.renew(gone)
    await clock.advance(9)
    await store.renew(kept)
    assert await store.grant(10) not in (gone, kept)
    await clock.advance(9)
    assert [item.key for item in (await store.range("")).items] == ["/kept"]
    async with store.watch("/kept") as batches:
        await clock.advance(2)
        assert (await anext(batches)).events[0].kind == "delete"
    await store.close()


async def test_lease_numbers_are_never_used_again(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    lease = await store.grant(10)
    await store.revoke(lease)
    await store.close()
    store = await SqliteStore.open(tmp_path / "store.db")
    assert await store.grant(10) > lease
    await store.close()


async def test_callers_share_transactions(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    statements: list[str] = []
    store._file.connection.set_trace_callback(statements.append)
    results = await asyncio.gather(*(put(store, f"/{number}") for number in range(200)))
    assert sorted(results) == list(range(2, 202))
    assert 1 <= statements.count("COMMIT") < 20
    await store.close()


async def test_a_group_of_failed_guards_writes_nothing(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    statements: list[str] = []
    store._file.connection.set_trace_callback(statements.append)
    assert not (await store.commit(Txn([Guard("/a", 5)], [Put("/a", b"")]))).succeeded
    assert not [text for text in statements if text.startswith(("INSERT", "UPDATE", "DELETE"))]
    await store.close()


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
async def test_the_writing_connection_is_as_durable_as_asked(tmp_path: Path, synchronous, level: int) -> None:
    store = await SqliteStore.open(tmp_path / "store.db", synchronous=synchronous)
    connection = store._file.connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await store.close()


async def test_durable_means_seen_by_another_connection(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    other = sqlite3.connect(tmp_path / "store.db")
    for number in range(20):
        await put(store, "/a", b"%d" % number)
        assert other.execute("SELECT value FROM kv").fetchall() == [(b"%d" % number,)]
    other.close()
    await store.close()


async def test_neither_a_slow_disk_nor_a_big_read_stops_the_event_loop(tmp_path: Path, monkeypatch) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    write_rows = __import__("xchronos.store.sqlite.writer", fromlist=["write_rows"]).write_rows
    await put(store, "/a", b"old")

    read = threading.Event()

    def slowly(*args):
        assert read.wait(60)
        write_rows(*args)

    monkeypatch.setattr("xchronos.store.sqlite.writer.write_rows", slowly)
    writing = asyncio.create_task(put(store, "/a", b"new"))
    for _ in range(20):
        item = await store.get("/a")  # reads do not wait for the write either
        assert item is not None
        assert item.value == b"old"
        await asyncio.sleep(0.001)
    assert not writing.done()
    read.set()
    await writing
    await store.close()


async def test_close_finishes_what_was_asked(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    tasks = [asyncio.create_task(put(store, f"/{number}")) for number in range(50)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    assert sorted(await asyncio.gather(*tasks)) == list(range(2, 52))
    with pytest.raises(StoreError, match="closed"):
        await put(store, "/x")
    store = await SqliteStore.open(tmp_path / "store.db")
    assert len((await store.range("")).items) == 50
    await store.close()


async def test_a_cancelled_grant_still_expires(tmp_path: Path) -> None:
    clock = ManualClock()
    store = await SqliteStore.open(tmp_path / "store.db", clock=clock)
    task = asyncio.create_task(store.grant(5))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await put(store, "/a")
    assert len(store._writer._leases) == 1
    await clock.advance(6)
    await put(store, "/b")
    assert store._writer._leases == set()
    await store.close()


async def test_a_hundred_thousand_keys_come_in_pages(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db", synchronous="normal", history_events=1000)
    value = bytes(300)
    for base in range(0, 100_000, 10_000):
        names = [f"/k/{number:06d}" for number in range(base, base + 10_000)]
        await store.commit_many(
            [Txn((), [Put(n, value) for n in names[at : at + 100]]) for at in range(0, 10_000, 100)]
        )
    seen, start, revision, more = 0, "", 0, True
    while more:
        page = await store.range("/k/", start=start, limit=1000, revision=revision)
        assert len(page.items) == 1000
        assert page.items[0].key == f"/k/{seen:06d}"
        seen, start, revision, more = seen + 1000, page.items[-1].key + "\0", page.revision, page.more
    assert seen == 100_000
    await store.close()
