"""The SQLite store for a second process of the same daemon: it reads the file by itself, and has all else done.

So whoever asks for long lists costs the process that schedules nothing. Writes, leases and watches are the first
process's: they are carried out there (`store.remote`).
"""

import asyncio
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from xchronos.errors import StoreError
from xchronos.ipc import Channel
from xchronos.store.contract import MAX_OPERATIONS, KeyValue, Page
from xchronos.store.paging import cut
from xchronos.store.remote import RemoteStore
from xchronos.store.sqlite.file import explain, read_keys, read_range, read_revision
from xchronos.store.transactions import check_key, prefix_end

T = TypeVar("T")

READERS = 8
"""How many reads are under way together."""

SNAPSHOTS = 32
"""How many states of the file are kept open. The one that was used least lately goes first."""

SNAPSHOT_SECONDS = 2.0
"""How long each is kept open: the pages that follow, and whatever else is read as of the same revision, come from it.
What is asked for later comes from the process that has the store."""

LOG_BYTES = 64 * 1024 * 1024
"""When the write-ahead log is as large, no snapshot is begun before all have ended, and a moment more. While anybody
reads an old state, SQLite cannot begin the log anew, and it would grow without end under readers that overlap."""

CALM_SECONDS = 0.05
"""How long that moment is: the next writes begin the log anew."""

CALM_EVERY = 5.0
"""How often there is such a moment at most, in seconds."""


class SqliteReplica(RemoteStore):
    """A Store that reads the file of another process's SqliteStore.

    Args:
        channel: The connection to that process.
        path: The file.
    """

    def __init__(self, channel: Channel, path: Path) -> None:
        super().__init__(channel, "sqlite", MAX_OPERATIONS)
        self._path = path
        self._log = path.with_name(path.name + "-wal")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store reader")
        self._local = threading.local()
        self._threads: list[sqlite3.Connection] = []
        self._idle: list[sqlite3.Connection] = []
        self._snapshots: OrderedDict[int, _Snapshot] = OrderedDict()
        self._open = 0
        """The states that are being read or kept, those whose end is under way included."""
        self._calm_from = 0.0
        self._calm = asyncio.Event()
        self._calm.set()
        self._closed = False

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        check_key(key)
        rows = await self._run(lambda: self._present(key))
        return rows[0] if rows else None

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, keys_only: bool = False, revision: int = 0
    ) -> Page:
        """See `Store.range`."""
        begin, end, wanted = max(start, prefix), prefix_end(prefix), limit + 1 if limit else 0
        while True:
            snapshot = self._snapshots.get(revision) or await self._begin()
            if revision not in (0, snapshot.revision):
                return await super().range(prefix, start=start, limit=limit, keys_only=keys_only, revision=revision)
            if snapshot.revision in self._snapshots:
                self._snapshots.move_to_end(snapshot.revision)
            try:
                items = await self._read(
                    snapshot, lambda connection: read_range(connection, begin, end, wanted, keys_only=keys_only)
                )
            except _Over:
                continue
            return cut(items, snapshot.revision, limit, keys_only=False)

    async def close(self) -> None:
        """Close what reads the file."""
        self._closed = True
        self._end_all()
        await asyncio.to_thread(self._readers.shutdown)
        for connection in (*self._idle, *self._threads):
            connection.close()
        self._idle.clear()

    # -- snapshots ----------------------------------------------------------------------------------------------------

    async def _begin(self) -> "_Snapshot":
        """Begin to read the state that the file has now."""
        self._make_room()
        await self._calm.wait()
        connection = self._idle.pop() if self._idle else await self._run(self._connect)
        self._open += 1
        snapshot = _Snapshot(connection)
        try:
            await self._read(snapshot, snapshot.begin)
        except BaseException:
            self._end(snapshot)
            raise
        same = self._snapshots.get(snapshot.revision)
        if same is not None or self._closed:
            self._end(snapshot)
            return same or snapshot
        self._snapshots[snapshot.revision] = snapshot
        while len(self._snapshots) > SNAPSHOTS:
            self._end(self._snapshots.popitem(last=False)[1])
        asyncio.get_running_loop().call_later(SNAPSHOT_SECONDS, self._expire, snapshot)
        return snapshot

    def _make_room(self) -> None:
        """See to it that the write-ahead log can be begun anew."""
        if self._open and time.monotonic() >= self._calm_from and _size(self._log) >= LOG_BYTES:
            self._calm_from = time.monotonic() + CALM_EVERY
            self._calm.clear()
            self._end_all()

    def _end_all(self) -> None:
        while self._snapshots:
            self._end(self._snapshots.popitem()[1])

    def _expire(self, snapshot: "_Snapshot") -> None:
        if self._snapshots.get(snapshot.revision) is snapshot:
            self._end(self._snapshots.pop(snapshot.revision))

    def _end(self, snapshot: "_Snapshot") -> None:
        """Let go of a state when whoever reads it now has read it."""
        ending = self._readers.submit(snapshot.end)
        loop = asyncio.get_running_loop()
        ending.add_done_callback(lambda _: loop.call_soon_threadsafe(self._ended, snapshot))

    def _ended(self, snapshot: "_Snapshot") -> None:
        self._open -= 1
        if not self._open and not self._calm.is_set():
            asyncio.get_running_loop().call_later(CALM_SECONDS, self._calm.set)
        if snapshot.connection.in_transaction or self._closed:
            snapshot.connection.close()
        else:
            self._idle.append(snapshot.connection)

    # -- the file -----------------------------------------------------------------------------------------------------

    async def _read(self, snapshot: "_Snapshot", query: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(lambda: snapshot.read(query))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise StoreError(f"{self._path}: the store is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, work)
        except sqlite3.Error as error:
            raise explain(self._path, error) from error

    def _present(self, key: str) -> list[KeyValue]:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            self._threads.append(connection)
        return read_keys(connection, [key])

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=ro", uri=True, isolation_level=None, timeout=5, check_same_thread=False
        )
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA query_only = 1")
        return connection


class _Over(Exception):  # noqa: N818 - it is no error, but a race that was lost
    """The state is not kept any more."""


class _Snapshot:
    """A connection, and the state of the file that it reads. Several threads may use it, one at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.revision = 0
        self._lock = threading.Lock()
        self._over = False

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Ask a question. Raises _Over when `end` was faster."""
        with self._lock:
            if self._over:
                raise _Over
            return query(self.connection)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin to read the present state, and go on with it."""
        connection.execute("BEGIN")
        self.revision = read_revision(connection)

    def end(self) -> None:
        """Let go of it."""
        with self._lock:
            self._over = True
            if self.connection.in_transaction:
                self.connection.execute("COMMIT")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
