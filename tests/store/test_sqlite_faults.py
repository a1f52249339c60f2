"""What dies, fills up or is damaged around the SQLite store, and what must be left of it."""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.store.crashing_writer import PARTS
from xchronos.errors import StoreError, StoreUnavailable
from xchronos.store import Put, Txn
from xchronos.store.sqlite.store import SqliteStore

HERE = Path(__file__).parent
ROUNDS = 8


def _run_and_kill(path: Path, first: int, seconds: float) -> list[bytes]:
    child = subprocess.Popen([sys.executable, HERE / "crashing_writer.py", path, str(first)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as pipe:
        lines = [pipe.readline()]  # it has begun
        time.sleep(seconds)
        child.kill()
        lines += pipe.readlines()
    assert child.wait() == -9
    return lines


async def test_kill_9_loses_no_acknowledged_txn_and_tears_none(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    moments = random.Random(20300101)
    acknowledged: dict[int, int] = {}
    first, revision = 0, 0
    for _ in range(ROUNDS):
        lines = _run_and_kill(path, first, moments.uniform(0.0, 0.15))
        for line in lines:
            if line.endswith(b"\n"):  # the last may be cut
                number, at = map(int, line.split())
                acknowledged[number] = at

        store = await SqliteStore.open(path)
        page = await store.range("/t/")
        parts: dict[int, list[tuple[int, bytes]]] = {}
        for item in page.items:
            parts.setdefault(int(item.key.split("/")[2]), []).append((item.mod_revision, item.value))
        for number, rows in parts.items():
            assert len(rows) == PARTS, f"Txn {number} is torn"
            assert len(set(rows)) == 1, f"Txn {number} has two revisions"
        for number, at in acknowledged.items():
            assert parts[number][0] == (at, b"%d" % number * 50), f"Txn {number} was acknowledged"
        assert page.revision >= max(revision, *acknowledged.values())
        assert (await store.commit(Txn((), [Put("/x", b"")]))).revision == page.revision + 1
        first, revision = max(parts) + 1, page.revision + 1
        await store.close()
    assert len(acknowledged) > 50 * ROUNDS


def test_a_full_disk_refuses_whole_groups_and_heals(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, HERE / "starving_writer.py", tmp_path / "store.db"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.startswith("healed after ")


async def test_no_more_pages_is_unavailable_with_the_reason(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    await store.commit(Txn((), [Put("/a", b"1")]))
    store._file.connection.execute("PRAGMA max_page_count = 20")
    big = Txn((), [Put("/a", b"2"), Put("/b", bytes(200_000))])
    answers = await asyncio.gather(*(store.commit(big) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    assert "store.db: database or disk is full (SQLITE_FULL)" in str(answers[0])
    assert store.faults() == [str(answers[0])]
    page = await store.range("")
    assert [(item.key, item.value, item.mod_revision) for item in page.items] == [("/a", b"1", page.revision)]
    store._file.connection.execute("PRAGMA max_page_count = 100000")
    assert (await store.commit(big)).revision == page.revision + 1
    assert store.faults() == []
    await store.close()


async def test_a_failed_expiry_is_tried_again(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    lease = await store.grant(0.05)
    await store.commit(Txn((), [Put("/a", b"", lease)]))
    store._file.connection.execute("PRAGMA query_only = ON")
    await asyncio.sleep(0.2)
    assert await store.get("/a") is not None
    with pytest.raises(StoreError):
        await store.renew(lease)
    store._file.connection.execute("PRAGMA query_only = OFF")
    async with asyncio.timeout(10), store.watch("/a") as batches:
        assert [event.kind for event in (await anext(batches)).events] == ["delete"]
    await store.close()


async def test_an_unexpected_failure_is_told_and_does_not_end_the_writer(tmp_path: Path, monkeypatch) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    with monkeypatch.context() as patch:
        patch.setattr("xchronos.store.sqlite.writer.write_rows", lambda *_: 1 // 0)
        with pytest.raises(StoreError, match="ZeroDivisionError") as caught:
            await store.commit(Txn((), [Put("/a", b"")]))
        assert not isinstance(caught.value, StoreUnavailable)
    assert (await store.commit(Txn((), [Put("/a", b"")]))).revision == 2
    await store.close()


async def test_a_second_process_is_told_who_has_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    with pytest.raises(StoreError, match=rf"{path}: the store is in use by the process {os.getpid()}: "):
        await SqliteStore.open(path)
    await store.close()
    await (await SqliteStore.open(path)).close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"This is a text and no database at all. " * 200,
        lambda data: data[:100] + b"\xff" * (len(data) - 100),
        lambda data: data[:5000],
    ],
    ids=["text", "garbage", "cut"],
)
async def test_a_damaged_file_is_named(tmp_path: Path, damage) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    await store.commit(Txn((), [Put(f"/a/{n}", bytes(1000)) for n in range(100)]))
    await store.close()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StoreError, match=r"store\.db: the file is damaged or is no job store: .*restore it"):
        await SqliteStore.open(path)


async def test_damage_found_while_reading_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    for at in range(0, 1000, 100):
        await store.commit(Txn((), [Put(f"/a/{n}", bytes(1000)) for n in range(at, at + 100)]))
    await store.close()
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    path.write_bytes(data)
    store = await SqliteStore.open(path)
    with pytest.raises(StoreError, match=r"store\.db: the file is damaged"):
        await store.range("")
    with pytest.raises(StoreError, match=r"store\.db: the file is damaged"):
        await store.commit(Txn((), [Put(f"/a/{n}", b"") for n in range(900, 1000)]))
    await store.close()


async def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StoreError, match="no job store"):
        await SqliteStore.open(path)
    connection = sqlite3.connect(path)
    assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == ["theirs"]
    connection.close()


@pytest.mark.parametrize("change", ["UPDATE meta SET value = 2 WHERE name = 'schema'", "DELETE FROM meta"])
async def test_another_schema_version_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "store.db"
    await (await SqliteStore.open(path)).close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(StoreError, match=r"schema version (2|None), this release reads version 1"):
        await SqliteStore.open(path)


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"nowhere/store\.db\.lock: cannot be locked: No such file"):
        await SqliteStore.open(tmp_path / "nowhere" / "store.db")


async def test_a_path_that_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "store.db").mkdir()
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        await SqliteStore.open(tmp_path / "store.db")
    (tmp_path / "store.db").rmdir()
    await (await SqliteStore.open(tmp_path / "store.db")).close()  # the lock was let go
