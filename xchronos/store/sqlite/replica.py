"""The SQLite store for a second process of the same daemon: it reads the file by itself, and has all else done.

So whoever asks for long lists costs the process that schedules nothing. Writes, leases and watches are the first
process's: they are carried out there (`store.remote`).
"""

import asyncio
import sqlite3
import time
from collections import deque
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

READERS = 4
"""How many reads are under way together."""

SNAPSHOTS = 16
"""How many past revisions are kept open for the pages that follow. The oldest one goes first."""

SNAPSHOT_SECONDS = 2.0
"""How long one is kept open. Pages that are asked for later come from the process that has the store."""

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
        self._idle: deque[sqlite3.Connection] = deque()
        self._snapshots: dict[int, _Snapshot] = {}
        self._reading = 0
        self._calm_from = 0.0
        self._calm = asyncio.Event()
        self._calm.set()
        self._closed = False

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        check_key(key)
        rows = await self._read(lambda connection: read_keys(connection, [key]))
        return rows[0] if rows else None

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, keys_only: bool = False, revision: int = 0
    ) -> Page:
        """See `Store.range`."""
        begin, end, wanted = max(start, prefix), prefix_end(prefix), limit + 1 if limit else 0
        self._drop_old()
        snapshot = self._snapshots.pop(revision, None) or await self._begin()
        if revision not in (0, snapshot.revision):
            self._end(snapshot)
            return await super().range(prefix, start=start, limit=limit, keys_only=keys_only, revision=revision)
        try:
            items = await self._run(
                lambda: read_range(snapshot.connection, begin, end, wanted, keys_only=keys_only), snapshot
            )
        except BaseException:
            self._end(snapshot)
            raise
        page = cut(items, snapshot.revision, limit, keys_only=False)
        if page.more and not self._closed:
            self._keep(snapshot)
        else:
            self._end(snapshot)
        return page

    async def close(self) -> None:
        """Close what reads the file."""
        self._closed = True
        for revision in list(self._snapshots):
            self._end(self._snapshots.pop(revision))
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    # -- snapshots ----------------------------------------------------------------------------------------------------

    async def _begin(self) -> "_Snapshot":
        if self._reading and time.monotonic() >= self._calm_from and _size(self._log) >= LOG_BYTES:
            self._calm_from = time.monotonic() + CALM_EVERY
            self._calm.clear()
            for revision in list(self._snapshots):
                self._end(self._snapshots.pop(revision))
        await self._calm.wait()
        connection = self._idle.pop() if self._idle else await self._run(self._connect)
        snapshot = _Snapshot(connection)
        self._reading += 1
        try:
            await self._run(snapshot.begin, snapshot)
        except BaseException:
            self._end(snapshot)
            raise
        return snapshot

    def _keep(self, snapshot: "_Snapshot") -> None:
        """For the next page. Of two of the same revision one is enough."""
        if snapshot.revision in self._snapshots or not self._calm.is_set():
            self._end(snapshot)
            return
        while len(self._snapshots) >= SNAPSHOTS:
            self._end(self._snapshots.pop(next(iter(self._snapshots))))
        self._snapshots[snapshot.revision] = snapshot
        asyncio.get_running_loop().call_later(SNAPSHOT_SECONDS, self._drop_old)

    def _drop_old(self) -> None:
        now = time.monotonic()
        for revision in [each for each, kept in self._snapshots.items() if now - kept.began >= SNAPSHOT_SECONDS]:
            self._end(self._snapshots.pop(revision))

    def _end(self, snapshot: "_Snapshot") -> None:
        """End its transaction. It is used by nobody by now, or by a thread whose caller was cancelled."""
        self._reading -= 1
        if not self._reading and not self._calm.is_set():
            asyncio.get_running_loop().call_later(CALM_SECONDS, self._calm.set)
        if snapshot.busy:
            snapshot.abandoned = True
            return
        self._give_back(snapshot)

    def _give_back(self, snapshot: "_Snapshot") -> None:
        try:
            snapshot.end()
        except sqlite3.Error:
            snapshot.connection.close()
        else:
            self._idle.append(snapshot.connection)

    # -- the file -----------------------------------------------------------------------------------------------------

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._idle.pop() if self._idle else await self._run(self._connect)
        snapshot = _Snapshot(connection)
        try:
            return await self._run(lambda: query(connection), snapshot)
        finally:
            if snapshot.busy:
                snapshot.abandoned = True
            else:
                self._idle.append(connection)

    async def _run(self, work: Callable[[], T], snapshot: "_Snapshot | None" = None) -> T:
        """Do the work in a thread. A caller that is cancelled meanwhile leaves its connection to the thread's end."""
        if self._closed:
            raise StoreError(f"{self._path}: the store is closed")
        future = asyncio.get_running_loop().run_in_executor(self._readers, work)
        if snapshot is not None:
            snapshot.busy = True
            future.add_done_callback(lambda _: self._finished(snapshot))
        try:
            return await asyncio.shield(future)
        except sqlite3.Error as error:
            raise explain(self._path, error) from error

    def _finished(self, snapshot: "_Snapshot") -> None:
        snapshot.busy = False
        if snapshot.abandoned:
            self._give_back(snapshot)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=ro", uri=True, isolation_level=None, timeout=5, check_same_thread=False
        )
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA query_only = 1")
        return connection


class _Snapshot:
    """A connection, and the state of the file that it reads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.began = time.monotonic()
        self.revision = 0
        self.busy = False
        self.abandoned = False

    def begin(self) -> None:
        """Begin to read the present state, and go on with it."""
        self.connection.execute("BEGIN")
        self.revision = read_revision(self.connection)

    def end(self) -> None:
        """Let go of it."""
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
