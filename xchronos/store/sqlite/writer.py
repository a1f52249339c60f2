"""The one thread that writes a SQLite store. It makes one group of all that waits, and one SQL transaction of a group.

For a group it reads every row that the requests name, carries the requests out in memory one after another, writes the
net result, and commits. So many callers share one fsync (`test_callers_share_transactions`).
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

import msgspec

from xchronos.clock import Micros
from xchronos.errors import LeaseLost, StoreError, StoreUnavailable
from xchronos.store.contract import Committed, DeleteRange, KeyValue, Txn
from xchronos.store.recent import LruCache
from xchronos.store.sqlite.file import explain, read_keys, read_lease_keys, read_range, write_rows
from xchronos.store.transactions import Change, apply, prefix_end, remove

MAX_GROUP = 4000
"""A group takes no further request once it has so many operations. This bounds how long its callers wait."""

RECENT_ROWS = 32_768
"""How many rows that were written once are kept in memory."""

RECENT_BYTES = 16 * 1024 * 1024
"""How many bytes of memory the rows may take that were written more than once."""

_ROW_OVERHEAD = 300


class CommitRequest(msgspec.Struct, frozen=True):
    """Carry out Txns; the answer is a list of Committed."""

    txns: Sequence[Txn]


class GrantRequest(msgspec.Struct, frozen=True):
    """Make a lease of `ttl` microseconds; the answer is its number."""

    ttl: Micros


class RevokeRequest(msgspec.Struct, frozen=True):
    """End a lease; the answer is the store's revision."""

    lease: int


Request: TypeAlias = CommitRequest | GrantRequest | RevokeRequest
Pending: TypeAlias = tuple[Request, asyncio.Future[Any]]
RequestAnswer: TypeAlias = list[Committed] | int | StoreError


class WriteResult(msgspec.Struct, frozen=True):
    """What became of one group: the answers in the order of its requests, and the changes up to `revision`."""

    answers: list[RequestAnswer]
    changes: list[Change]
    revision: int


class Writer:
    """Owns the writing connection from `start` until `stop` has returned.

    It calls `settle` on the event loop once per group, after the group's transaction is durable or has failed.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        revision: int,
        leases: set[int],
        settle: Callable[[list[Pending], WriteResult], None],
    ) -> None:
        self._connection = connection
        self._path = path
        self._revision = revision
        self._leases = leases
        self._recent = _Recent()
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Pending | None] = SimpleQueue()
        # A daemon thread, so that a process that never closes its store can still end.
        self._thread = threading.Thread(target=self._run, name=f"xchronos store {path.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, request: Request) -> asyncio.Future[Any]:
        """Queue a request. The future is set on the event loop; cancelling it does not stop the request."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put((request, future))
        return future

    def stop(self) -> None:
        """Finish what is queued, then return. Blocks, so never call it on the event loop."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            group: list[Pending] = []
            size = 0
            pending = self._queue.get()
            try:
                while pending is not None:
                    group.append(pending)
                    size += _size(pending[0])
                    if size >= MAX_GROUP:
                        break
                    pending = self._queue.get_nowait()
                stopping = pending is None
            except Empty:
                pass
            if group:
                outcome = self._carry_out([request for request, _ in group])
                self._loop.call_soon_threadsafe(self._settle, group, outcome)

    def _carry_out(self, requests: list[Request]) -> WriteResult:
        try:
            try:
                return self._transact(requests)
            except sqlite3.Error as error:
                if not isinstance(explain(self._path, error), StoreUnavailable):
                    raise
                # Most likely the disk is full. A checkpoint copies the write-ahead log into the database, and SQLite
                # then writes the log from its beginning, in the space that it has. That leaves room for rewriting keys
                # and for the deletions that make more room (`test_a_full_disk_refuses_whole_groups_and_heals`).
                self._roll_back()
                self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
                return self._transact(requests)
        except Exception as error:  # noqa: BLE001 - the callers must be told of any error, and the thread must go on
            with suppress(sqlite3.Error):  # the next group tries it again, and its callers are told
                self._roll_back()
            # Each caller gets an exception of its own: one for all would gather the tracebacks of all.
            return WriteResult([explain(self._path, error) for _ in requests], [], self._revision)

    def _transact(self, requests: list[Request]) -> WriteResult:
        """Carry out one group: read the rows it names, decide in memory, write the net result, make it durable."""
        self._roll_back()  # an earlier group could not, if the disk failed then
        self._connection.execute("BEGIN IMMEDIATE")
        batch = _Batch(self._connection, self._recent, requests, self._leases, self._revision)
        answers = [batch.answer(request) for request in requests]
        batch.write()
        self._connection.execute("COMMIT")
        batch.committed()
        self._revision = batch.revision
        self._leases = batch.leases
        return WriteResult(answers, batch.changes, batch.revision)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _size(request: Request) -> int:
    if isinstance(request, CommitRequest):
        return sum([len(txn.guards) + len(txn.operations) for txn in request.txns])
    return 1


class _Recent:
    """Rows as the file has them: those that were used last, since a row that was written is often soon written again.

    There are two caches, because most rows are written once and never again. Those few that were written more than once
    must not be pushed out by them.
    """

    def __init__(self) -> None:
        self._new = LruCache[str, KeyValue](RECENT_ROWS)
        self._changed = LruCache[str, KeyValue](RECENT_BYTES, lambda row: len(row.value) + _ROW_OVERHEAD)

    def get(self, key: str) -> KeyValue | None:
        """The row, if it is in memory."""
        return self._changed.get(key) or self._new.get(key)

    def put(self, row: KeyValue) -> None:
        """The file has this row from now on."""
        if row.create_revision == row.mod_revision:
            if row.key in self._changed:  # removed and written anew
                self._changed.pop(row.key)
            self._new.put(row.key, row)
        else:
            self._new.pop(row.key)
            self._changed.put(row.key, row)

    def drop(self, key: str) -> None:
        """The file does not have this row any more, or has another one of that key."""
        if self._new.pop(key) is None:
            self._changed.pop(key)


class _Batch:
    """The rows that a group names: first as they are in the file, then as the group changes them."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        recent: _Recent,
        requests: list[Request],
        leases: set[int],
        revision: int,
    ) -> None:
        self._connection = connection
        self._recent = recent
        self._rows: dict[str, KeyValue] = {}
        self.leases = leases
        self.revision = revision
        self.changes: list[Change] = []
        self._living: list[KeyValue] = []
        self._dead: list[str] = []
        keys: set[str] = set()
        for request in requests:
            if isinstance(request, CommitRequest):
                for txn in request.txns:
                    keys.update([guard.key for guard in txn.guards])
                    for operation in txn.operations:
                        if isinstance(operation, DeleteRange):
                            prefix = operation.prefix
                            self._load(read_range(connection, prefix, prefix_end(prefix)))
                        else:
                            keys.add(operation.key)
            elif isinstance(request, RevokeRequest):
                self._load(read_lease_keys(connection, request.lease))
        absent: list[str] = []
        for key in keys:
            row = recent.get(key)
            if row is None:
                absent.append(key)
            else:
                self._rows[key] = row
        self._load(read_keys(connection, absent))

    def answer(self, request: Request) -> RequestAnswer:
        """Carry out one request in memory."""
        if isinstance(request, CommitRequest):
            return self._commit(request.txns)
        if isinstance(request, GrantRequest):
            lease = self._connection.execute("INSERT INTO lease (ttl) VALUES (?)", (request.ttl,)).lastrowid
            assert lease is not None
            self.leases = self.leases | {lease}
            return lease
        return self._revoke(request.lease)

    def write(self) -> None:
        """Write the net result: a key that changed several times is written once."""
        if not self.changes:
            return
        for key in sorted({event.key for event, _ in self.changes}):
            row = self._rows.get(key)
            if row is None:
                self._dead.append(key)
            else:
                self._living.append(row)
        write_rows(self._connection, self._living, self._dead, self.revision)

    def committed(self) -> None:
        """The transaction is committed: the file has what was written."""
        for key in self._dead:
            self._recent.drop(key)
        for row in self._living:
            self._recent.put(row)

    def _load(self, rows: list[KeyValue]) -> None:
        for row in rows:
            self._rows[row.key] = row

    def _commit(self, txns: Sequence[Txn]) -> list[Committed] | StoreError:
        results: list[Committed] = []
        lost: LeaseLost | None = None
        for txn in txns:
            try:
                changes = apply(txn, self._rows, self.leases, self._keys_under, self.revision + 1)
            except LeaseLost as error:
                lost = lost or error
                continue
            if changes:
                self.revision += 1
                self.changes += changes
            results.append(Committed(changes is not None, self.revision))
        return lost or results

    def _revoke(self, lease: int) -> int | StoreError:
        if lease not in self.leases:
            return LeaseLost(f"the lease {lease} has expired or was revoked")
        self.leases = self.leases - {lease}
        self._connection.execute("DELETE FROM lease WHERE id = ?", (lease,))
        keys = sorted(key for key, row in self._rows.items() if row.lease == lease)
        if keys:
            self.revision += 1
            self.changes += remove(keys, self._rows, self.revision)
        return self.revision

    def _keys_under(self, prefix: str) -> list[str]:
        return sorted(key for key in self._rows if key.startswith(prefix))
