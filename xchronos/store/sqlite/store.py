"""The store contract on one SQLite file: no server, one daemon.

- A write is durable when it returns (with `synchronous="full"`). A thread of its own gathers the writes that wait and
  makes them durable with one fsync.
- Reads use other connections and never wait for a write.
- Watches are served inside the process, from a bounded history in memory. So after a restart everything before it
  counts as compacted.
- Revision and leases survive a restart. The TTL of each lease starts anew when the store is opened, as etcd does it
  after a change of leader (`test_a_lease_survives_a_restart_with_a_whole_ttl`).
"""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Self, TypeVar

from xchronos.clock import Clock, Micros, SystemClock
from xchronos.errors import LeaseLost, StoreError
from xchronos.store.contract import MAX_OPERATIONS, Committed, KeyValue, Page, Txn, WatchBatch
from xchronos.store.history import MAX_BYTES, MAX_EVENTS, History
from xchronos.store.leases import LeaseTable, parse_ttl
from xchronos.store.paging import cut
from xchronos.store.sqlite.file import (
    Snapshot,
    Synchronous,
    connect,
    explain,
    lock,
    prepare,
    read_keys,
    read_leases,
    read_range,
    read_revision,
)
from xchronos.store.sqlite.writer import (
    CommitRequest,
    GrantRequest,
    Pending,
    Request,
    RevokeRequest,
    Writer,
    WriteResult,
)
from xchronos.store.transactions import check_key, check_txn, prefix_end
from xchronos.store.watching import WatchHub

_READERS = 2
_T = TypeVar("_T")


class SqliteStore:
    """A `Store` in one file. Made by `SqliteStore.open`, and used on the event loop that opened it."""

    name = "sqlite"
    max_operations = MAX_OPERATIONS

    def __init__(self, file: "_File", clock: Clock, history: History) -> None:
        self._file = file
        self._history = history
        self._hub = WatchHub(history)
        self._deadlines = LeaseTable(clock, self._end_lease)
        self._closing: asyncio.Task[None] | None = None
        self._fault = ""
        self._writer = Writer(file.connection, file.path, file.revision, set(file.leases), self._settle)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix=f"xchronos store {file.path.name} reader")
        for lease, ttl in file.leases.items():
            self._deadlines.add(lease, ttl)
        self._writer.start()

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        clock: Clock | None = None,
        synchronous: Synchronous = "full",
        history_events: int = MAX_EVENTS,
        history_bytes: int = MAX_BYTES,
    ) -> Self:
        """Open the file, or create it in a directory that exists.

        Args:
            path: the file. Beside it SQLite keeps `-wal` and `-shm`, and the lock file ends in `.lock`.
            clock: tells when leases run out.
            synchronous: `full` or `normal`. With `normal` it is faster, but when the machine dies (not just the
                process) it may lose the last commits, never a part of one. Starts at most once need `full`.
            history_events: how many events a watch can go back, at most.
            history_bytes: how many bytes of memory these events may take.

        Raises:
            StoreError: another process has the file open; or the file is damaged, no store, or from another release.
            StoreUnavailable: the file cannot be read or written for now.
        """
        file = await asyncio.to_thread(_File, Path(path), synchronous)
        history = History(file.revision, max_events=history_events, max_bytes=history_bytes)
        return cls(file, clock or SystemClock(), history)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        check_key(key)
        rows = await self._read(lambda connection: read_keys(connection, [key]))
        return rows[0] if rows else None

    async def range(
        self, prefix: str, *, start: str = "", limit: int = 0, keys_only: bool = False, revision: int = 0
    ) -> Page:
        """See `Store.range`."""
        begin, end = max(start, prefix), prefix_end(prefix)
        if revision:
            return await self._range_then(begin, end, limit, revision, keys_only=keys_only)
        wanted = limit + 1 if limit else 0  # one more tells whether there are more
        seen = await self._snapshot(begin, end, wanted, keys_only=keys_only)
        return cut(seen.items, seen.revision, limit, keys_only=False)

    async def commit(self, txn: Txn) -> Committed:
        """See `Store.commit`."""
        check_txn(txn, self.max_operations)
        (result,) = await self._write(CommitRequest((txn,)))
        committed: Committed = result
        return committed

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        """See `Store.commit_many`."""
        for txn in txns:
            check_txn(txn, self.max_operations)
        results: list[Committed] = await self._write(CommitRequest(tuple(txns)))
        return results

    def watch(self, prefix: str, *, revision: int = 0) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """See `Store.watch`."""
        return self._hub.watch(prefix, revision)

    async def grant(self, ttl_seconds: float) -> int:
        """See `Store.grant`."""
        lease: int = await self._write(GrantRequest(parse_ttl(ttl_seconds)))
        return lease

    async def renew(self, lease: int) -> None:
        """See `Store.renew`."""
        self._check_open()
        self._deadlines.renew(lease)

    async def revoke(self, lease: int) -> None:
        """See `Store.revoke`."""
        await self._end_lease(lease)

    async def end_leases(self) -> None:
        """Revoke every lease that was in the file when it was opened, and delete its keys.

        For a daemon that has just opened the store. No other process can have the file open, so the holders of these
        leases are gone, and nobody has to wait for a TTL.
        """
        for lease in list(self._file.leases):
            await self._end_lease(lease)

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        self._check_open()
        self._history.compact(revision)

    def faults(self) -> list[str]:
        """See `Reporting.faults`: why the last write failed, such as a full disk. Empty once a write succeeds again."""
        return [self._fault] if self._fault else []

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="close the store")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._deadlines.close()
        await asyncio.to_thread(self._shut_down)
        self._hub.close()

    def _shut_down(self) -> None:
        self._readers.shutdown()
        self._writer.stop()
        self._file.close()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise StoreError(f"{self._file.path}: the store is closed")

    async def _end_lease(self, lease: int) -> None:
        await self._write(RevokeRequest(lease))

    async def _write(self, request: Request) -> Any:
        self._check_open()
        return await self._writer.submit(request)

    def _settle(self, group: list[Pending], outcome: WriteResult) -> None:
        """Publish what a group changed, and only then answer: so a caller's watches have its own writes already."""
        first = outcome.answers[0]  # a group that could not be written has an error for every request
        self._fault = str(first) if isinstance(first, StoreError) and not isinstance(first, LeaseLost) else ""
        if outcome.changes:
            self._hub.publish(outcome.changes, outcome.revision)
        for (request, future), answer in zip(group, outcome.answers, strict=True):
            failed = isinstance(answer, StoreError)
            # The deadlines have to agree with the file even when nobody waits for the answer any more
            # (`test_a_cancelled_grant_still_expires`).
            if isinstance(request, GrantRequest) and isinstance(answer, int):
                self._deadlines.add(answer, request.ttl)
            elif isinstance(request, RevokeRequest) and not failed:
                self._deadlines.remove(request.lease)
            if future.done():
                continue
            if isinstance(answer, StoreError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._file.read, query)

    async def _snapshot(self, begin: str, end: str | None, limit: int, *, keys_only: bool) -> Snapshot:
        def query(connection: sqlite3.Connection) -> Snapshot:
            connection.execute("BEGIN")
            try:
                revision = read_revision(connection)
                return Snapshot(read_range(connection, begin, end, limit, keys_only=keys_only), revision)
            finally:
                connection.execute("COMMIT")

        seen = await self._read(query)
        # A reader may see a commit a moment before the event loop has published it. What a caller reads must not be
        # newer than what its watches are told (`test_a_waiting_reader_is_let_go_when_its_revision_is_published`).
        await self._hub.reached(seen.revision)
        return seen

    async def _range_then(self, begin: str, end: str | None, limit: int, revision: int, *, keys_only: bool) -> Page:
        """A page of the past: read the present in pieces, and undo in each piece what happened since."""
        items: list[KeyValue] = []
        while True:
            wanted = limit + 1 - len(items) if limit else 0
            seen = await self._snapshot(begin, end, wanted, keys_only=keys_only)
            self._history.check_state(revision)
            whole = not limit or len(seen.items) < wanted
            # This piece says nothing about the keys after its last one.
            border = end if whole else seen.items[-1].key + "\0"
            items += self._history.rewind(seen.items, revision, begin, border)
            if border is None or whole or len(items) > limit:
                break
            begin = border
        return cut(items, revision, limit, keys_only=keys_only)


class _File:
    """The opened file: its lock, its writing connection and one reading connection per reader thread."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self.path = path
        self._lock = lock(path)
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        try:
            self.connection = connect(path, synchronous)
            try:
                prepare(self.connection, path)
                self.revision = read_revision(self.connection)
                self.leases: dict[int, Micros] = read_leases(self.connection)
            except BaseException:
                self.connection.close()
                raise
        except BaseException as error:
            self._lock.release()
            if isinstance(error, sqlite3.Error):
                raise explain(path, error) from error
            raise

    def read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a query on the connection of the calling thread."""
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = connect(self.path)
                self._readers.append(connection)
            return query(connection)
        except sqlite3.Error as error:
            raise explain(self.path, error) from error

    def close(self) -> None:
        """Close every connection, the writing one last, and release the lock."""
        for connection in [*self._readers, self.connection]:
            connection.close()
        self._lock.release()
