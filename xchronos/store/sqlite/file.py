"""The SQLite store's file: who may open it, which tables it has, all SQL, and what SQLite's errors mean."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias

import msgspec

from xchronos.clock import Micros
from xchronos.errors import StoreError, StoreUnavailable
from xchronos.filelock import FileLock, InUse
from xchronos.store.contract import KeyValue

Synchronous: TypeAlias = Literal["full", "normal"]

SCHEMA_VERSION = 1

# `kv` is a table by rowid with an index on the key, not one WITHOUT ROWID. So records of one to four KiB stay within
# one page (an index b-tree would spill them to overflow pages), and an update does not touch the index. Measured on
# random updates it is 1.1 times (400 bytes) to 1.5 times (1,500 bytes) as fast.
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE kv (
    key TEXT NOT NULL UNIQUE,
    value BLOB NOT NULL,
    create_revision INTEGER NOT NULL,
    mod_revision INTEGER NOT NULL,
    lease INTEGER NOT NULL
);
CREATE INDEX kv_by_lease ON kv (lease) WHERE lease <> 0;
CREATE TABLE lease (id INTEGER PRIMARY KEY AUTOINCREMENT, ttl INTEGER NOT NULL);
INSERT INTO meta VALUES ('revision', 1);
"""
_COLUMNS = "SELECT key, value, create_revision, mod_revision, lease FROM kv"
_NO_VALUES = "SELECT key, x'', create_revision, mod_revision, 0 FROM kv"
_REVISION = "SELECT value FROM meta WHERE name = 'revision'"
_MANY = 512
"""The most keys that one statement names."""

_MANY_ROWS = 128
"""The most rows that one statement writes."""

_ROW = "(?, ?, ?, ?, ?)"
_UPSERT = (
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value, create_revision = excluded.create_revision,"
    " mod_revision = excluded.mod_revision, lease = excluded.lease"
)
_CACHE_KIB = 32 * 1024
_CHECKPOINT_PAGES = 4000  # of 4 KiB: the log is copied into the database whenever it has grown by 16 MiB
_LOG_KEPT = 32 * 1024 * 1024
"""The bytes of the write-ahead log that are kept when it is begun anew, after it has grown under long readers."""

_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PASSING = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
}


def explain(path: Path, error: Exception) -> StoreError:
    """What an exception of SQLite means for the store: StoreUnavailable if it may pass, else StoreError."""
    if not isinstance(error, sqlite3.Error):
        return StoreError(f"{path}: the store failed unexpectedly: {error!r}")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the high bits only add detail
    if code in _PASSING:
        return StoreUnavailable(f"{path}: {error} ({getattr(error, 'sqlite_errorname', 'no code')})")
    if code in _BROKEN:
        return StoreError(f"{path}: the file is damaged or is no job store: {error}; restore it, or move it away")
    return StoreError(f"{path}: SQLite refused: {error}")


def lock(path: Path) -> FileLock:
    """Lock `<file>.lock`: the right to use the file. Raises StoreError when another process has it.

    Raises StoreUnavailable when the lock file cannot be opened.
    """
    place = path.with_name(path.name + ".lock")
    try:
        return FileLock(place)
    except InUse as error:
        raise StoreError(f"{path}: the store is in use by the process {error.holder}: only one may open it") from error
    except OSError as error:
        raise StoreUnavailable(f"{place}: cannot be locked: {error.strerror}") from error


def connect(path: Path, synchronous: Synchronous = "full") -> sqlite3.Connection:
    """A connection in autocommit mode. One thread at a time may use it."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            _refuse(f"{path}: SQLite keeps no write-ahead log there (it says {mode!r}): expected a local file system")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_KEPT}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables of a new file. Raises StoreError for a file that is not ours or has another schema version."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            for statement in _SCHEMA.split(";")[:-1]:
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES ('schema', ?)", (SCHEMA_VERSION,))
        elif not {"meta", "kv", "lease"} <= tables:
            _refuse(f"{path}: an SQLite file, but no job store: expected an empty or a new file")
        found = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        if found is None or found[0] != SCHEMA_VERSION:
            version = None if found is None else found[0]
            _refuse(f"{path}: the store has schema version {version}, this release reads version {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _refuse(message: str) -> NoReturn:
    raise StoreError(message)


def read_revision(connection: sqlite3.Connection) -> int:
    """The store's revision."""
    (revision,) = connection.execute(_REVISION).fetchone()
    return int(revision)


def read_leases(connection: sqlite3.Connection) -> dict[int, Micros]:
    """The TTL of every lease that is neither revoked nor expired."""
    return dict(connection.execute("SELECT id, ttl FROM lease"))


def read_keys(connection: sqlite3.Connection, keys: Sequence[str]) -> list[KeyValue]:
    """Those of `keys` that exist, in no order. Reading many together is several times as fast as one by one."""
    found = []
    for at in range(0, len(keys), _MANY):
        part = _filled(keys[at : at + _MANY])
        found += connection.execute(f"{_COLUMNS} WHERE key IN (?{',?' * (len(part) - 1)})", part).fetchall()
    return [KeyValue(*row) for row in found]


def read_lease_keys(connection: sqlite3.Connection, lease: int) -> list[KeyValue]:
    """The keys that are bound to a lease."""
    rows = connection.execute(f"{_COLUMNS} WHERE lease = ? AND lease <> 0", (lease,))
    return [KeyValue(*row) for row in rows]


def read_range(
    connection: sqlite3.Connection, begin: str, end: str | None, limit: int = 0, *, keys_only: bool = False
) -> list[KeyValue]:
    """The keys of [begin, end) in order, at most `limit` of them unless that is 0; `end` None: to the end."""
    query = f"{_NO_VALUES if keys_only else _COLUMNS} WHERE key >= ?"
    values: list[str | int] = [begin]
    if end is not None:
        query += " AND key < ?"
        values.append(end)
    query += " ORDER BY key"
    if limit:
        query += " LIMIT ?"
        values.append(limit)
    return [KeyValue(*row) for row in connection.execute(query, values)]


class Snapshot(msgspec.Struct, frozen=True):
    """What one read saw, and at which revision."""

    items: list[KeyValue]
    revision: int


def write_rows(connection: sqlite3.Connection, living: Sequence[KeyValue], dead: Sequence[str], revision: int) -> None:
    """Bring the tables from one revision to another, within a transaction of the caller.

    One statement writes many rows. Each statement releases the interpreter's lock and then waits to get it back, and
    under load that wait is longer than the writing.
    """
    for at in range(0, len(dead), _MANY):
        keys = _filled(dead[at : at + _MANY])
        connection.execute(f"DELETE FROM kv WHERE key IN (?{',?' * (len(keys) - 1)})", keys)  # noqa: S608 - marks only
    at = 0
    while at < len(living):
        # The greatest power of two that fits: so there are few different statements, and all stay prepared.
        size = min(1 << ((len(living) - at).bit_length() - 1), _MANY_ROWS)
        values: list[str | bytes | int] = []
        for row in living[at : at + size]:
            values += (row.key, row.value, row.create_revision, row.mod_revision, row.lease)
        connection.execute(f"INSERT INTO kv VALUES {_ROW}{f',{_ROW}' * (size - 1)}{_UPSERT}", values)  # noqa: S608
        at += size
    connection.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (revision,))


def _filled(keys: Sequence[str]) -> list[str]:
    """The keys, filled up to a power of two by repeating the last one.

    So there are few different statements, and all stay prepared.
    """
    size = 1 << (len(keys) - 1).bit_length()
    return [*keys, *[keys[-1]] * (size - len(keys))]
