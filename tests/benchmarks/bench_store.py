"""How many put and delete operations per second the stores carry out, each beside a reference measured in the same run.

SQLite is compared with bare `sqlite3.executemany` that writes as many rows in transactions of the same size, without
guards, events or watches. The etcd store runs against a real etcd that is started here (its data in memory where it can
be), beside the bare protocol: the same requests and watches on the generated stubs without any client.
"""

import asyncio
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from tests.benchmarks.bare import Bare
from tests.benchmarks.rows import Row
from tests.services import etcd
from xchronos.store import Delete, Guard, Put, Store, Txn
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.store import EtcdStore
from xchronos.store.memory import MemoryStore
from xchronos.store.sqlite.store import SqliteStore

EXECUTIONS = 10_000
BATCH = 100
VALUE = b'{"v":1,"unit":"backup@db1.service","state":"running","machine":"9f0c","attempt":1}'.ljust(400, b" ")
OPERATIONS = 5
"""What is put and deleted for each execution."""

ROWS = 100_000
SERVICES = frozenset(["etcd"])
TINY = {"executions": 400, "rows": 1_000}
PREFIXES = [f"/xchronos/var/placements/m{number}/" for number in range(2)]


def load(executions: int) -> Iterator[list[Txn]]:
    """What the engine and two agents write: per execution a claim (2 guards, 2 puts), an update, a put and a delete.

    The executions of one turn share Txns of about 100 operations, and each call of commit_many takes BATCH executions
    through one of their three stages.
    """
    for base in range(0, executions, BATCH):
        names = [f"m{n % 2}/e-{n:08d}" for n in range(base, base + BATCH)]
        halves = [names[:50], names[50:]]
        yield [
            Txn(
                [
                    guard
                    for name in half
                    for guard in (
                        Guard(f"/xchronos/var/schedules/{name}", 0),
                        Guard(f"/xchronos/var/placements/{name}", 0),
                    )
                ],
                [
                    put
                    for name in half
                    for put in (
                        Put(f"/xchronos/var/schedules/{name}", VALUE),
                        Put(f"/xchronos/var/placements/{name}", VALUE),
                    )
                ],
            )
            for half in halves
        ]
        yield [Txn((), [Put(f"/xchronos/var/placements/{name}", VALUE) for name in names])]
        yield [
            Txn(
                (),
                [
                    operation
                    for name in half
                    for operation in (
                        Put(f"/xchronos/var/executions/{name}", VALUE),
                        Delete(f"/xchronos/var/placements/{name}"),
                    )
                ],
            )
            for half in halves
        ]


async def _count(store: "Store | Bare", prefix: str, expected: int, ready: asyncio.Event) -> None:
    seen = 0
    async with store.watch(prefix) as batches:
        ready.set()
        async for batch in batches:
            seen += len(batch.events)
            if seen == expected:
                return


async def measure(store: "Store | Bare", executions: int, in_flight: int = 4) -> float:
    """Operations per second through `commit_many`, with two watchers on narrow prefixes counting every event."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        watchers = []
        for prefix in PREFIXES:
            ready = asyncio.Event()
            watchers.append(asyncio.create_task(_count(store, prefix, 3 * executions // 2, ready)))
            await ready.wait()
        calls = list(load(executions))
        # An execution's three stages follow one another; the lanes are independent callers.
        lanes = [
            [call for turn in range(3 * lane, len(calls), 3 * in_flight) for call in calls[turn : turn + 3]]
            for lane in range(in_flight)
        ]

        async def drive(lane: list[list[Txn]]) -> None:
            for txns in lane:
                assert all(result.succeeded for result in await store.commit_many(txns))

        begin = time.perf_counter()
        await asyncio.gather(*map(drive, lanes))
        await asyncio.gather(*watchers)
        return OPERATIONS * executions / (time.perf_counter() - begin)


def measure_bare(directory: Path, executions: int) -> float:
    """Rows per second of bare sqlite3, with the same durability and rows per transaction."""
    connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE kv (key TEXT NOT NULL UNIQUE, value BLOB NOT NULL)")
    rows = [(f"/xchronos/var/placements/m{n % 2}/e-{n:08d}", VALUE) for n in range(OPERATIONS * executions)]
    size = 4 * 2 * BATCH
    begin = time.perf_counter()
    for at in range(0, len(rows), size):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO kv VALUES (?, ?)", rows[at : at + size])
        connection.execute("COMMIT")
    seconds = time.perf_counter() - begin
    connection.close()
    return len(rows) / seconds


async def measure_etcd(
    endpoint: str, make: Callable[[str], Awaitable[Store | Bare]], executions: int
) -> tuple[float, float]:
    """Operations per second, and microseconds of this process's CPU time for each, its watches included."""
    store = await make(endpoint)
    began = time.process_time()
    rate = await measure(store, executions)
    return rate, (time.process_time() - began) / (OPERATIONS * executions) * 1e6


async def _open_etcd(endpoint: str) -> EtcdStore:
    return await EtcdStore.open(EtcdAccess(endpoints=(endpoint,)))


async def _open_bare(endpoint: str) -> Bare:
    return Bare(endpoint)


def etcd_rows(executions: int) -> list[Row]:
    """The etcd store beside the bare protocol; nothing where there is no etcd."""
    if etcd.missing():
        return []
    with tempfile.TemporaryDirectory(prefix="bench-etcd-", dir=etcd.fast_directory()) as directory:
        cluster = etcd.EtcdCluster(Path(directory)).start()
        try:
            endpoint = cluster.endpoints[0].partition("//")[2]
            found = {}
            for _ in range(2):  # the first round warms up
                for make in (_open_bare, _open_etcd):
                    cluster.ctl("del", "", "--prefix")
                    found[make] = asyncio.run(measure_etcd(endpoint, make, executions))
        finally:
            cluster.stop()
    (bare_rate, bare_cpu), (rate, cpu) = found[_open_bare], found[_open_etcd]
    name, reference = "store: etcd, commit_many and watches", "the bare protocol"
    return [
        Row(name, rate, "operations/s", reference=reference, ratio=rate / bare_rate),
        Row("the same, CPU of each", cpu, "us", reference=reference, ratio=cpu / bare_cpu, ratio_goal="<= 2"),
    ]


async def measure_pages(directory: Path, rows: int) -> float:
    """Keys per second of a prefix of so many keys with values, read in pages of 1,000."""
    store = await SqliteStore.open(directory / "pages.db", synchronous="normal")
    keys = [f"/xchronos/var/executions/{n:08d}" for n in range(rows)]
    await store.commit_many(
        [Txn((), [Put(key, VALUE) for key in keys[at : at + 100]]) for at in range(0, len(keys), 100)]
    )
    begin = time.perf_counter()
    seen, start, revision, more = 0, "", 0, True
    while more:
        page = await store.range("/xchronos/var/executions/", start=start, limit=1000, revision=revision)
        seen, start, revision, more = seen + len(page.items), page.items[-1].key + "\0", page.revision, page.more
    seconds = time.perf_counter() - begin
    assert seen == rows
    await store.close()
    return rows / seconds


def run(executions: int = EXECUTIONS, rows: int = ROWS) -> list[Row]:
    """The rows of the table."""
    directory = Path(tempfile.mkdtemp(prefix="bench-store-", dir=os.environ.get("XCHRONOS_BENCH_DIR")))
    try:

        async def sqlite() -> float:
            return await measure(await SqliteStore.open(directory / "store.db"), executions)

        async def memory() -> float:
            return await measure(MemoryStore(), executions)

        by_memory = asyncio.run(memory())
        by_sqlite = asyncio.run(sqlite())
        bare = measure_bare(directory, executions)
        pages = asyncio.run(measure_pages(directory, rows))
    finally:
        shutil.rmtree(directory)
    return [
        Row("store: memory, commit_many", by_memory, "operations/s"),
        Row(
            "store: SQLite, commit_many, synchronous=full", by_sqlite, "operations/s",
            reference="bare executemany", ratio=by_sqlite / bare,
        ),
        Row("store: SQLite, pages of 1,000 keys", pages, "keys/s"),
        *etcd_rows(executions),
    ]  # fmt: skip
