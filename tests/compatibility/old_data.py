"""The fixtures, opened: rows of an old store into any store of today, and an old state directory where a daemon finds it."""

import asyncio
import base64
import contextlib
import json
import shutil
import sqlite3
import time
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from xchronos.clock import SECOND, Instant, Micros, to_instant
from xchronos.store.contract import Delete, Put, Store, Txn

FIXTURES = Path(__file__).parent / "fixtures"
ROOT = "/var/lib/xchronos-before"
"""Where the fixtures say that they were."""

LEASES = 30
"""The TTL, in seconds, of the leases in the fixtures."""


class Row(NamedTuple):
    """A key as it was: its value and revisions, and which of the old leases it was bound to (0: none)."""

    key: str
    value: bytes
    created: int
    modified: int
    lease: int

    @property
    def record(self) -> dict[str, Any]:
        return json.loads(self.value)


def rows(fixture: str) -> list[Row]:
    """The rows of a fixture's store, by key."""
    return [_row(json.loads(line)) for line in (FIXTURES / fixture / "store.jsonl").read_text().splitlines()]


def _row(line: dict[str, Any]) -> Row:
    if "json" in line:
        value = json.dumps(line["json"], ensure_ascii=False, separators=(",", ":")).encode()
    else:
        value = line["text"].encode() if "text" in line else base64.b64decode(line["base64"])
    return Row(line["key"], value, line["created"], line["modified"], line.get("lease", 0))


def readings(fixture: str) -> dict[str, Any]:
    """What people could read there at last, and when it was killed."""
    return json.loads((FIXTURES / fixture / "readings.json").read_text())


def killed_at(fixture: str) -> Instant:
    """When the last daemon of a fixture was killed."""
    return to_instant(datetime.fromisoformat(readings(fixture)["killed_at"]))


async def replay(store: Store, old: list[Row]) -> None:
    """Bring a new store to where the old one was: the same keys at the same revisions, bound to leases as they were.

    Revisions are part of what is kept: a cursor names that of the unit's record which it was last reconciled with.
    """
    leases = {number: await store.grant(LEASES) for number in sorted({row.lease for row in old} - {0})}
    writes = [(row.created, row) for row in old if row.created != row.modified]
    writes += [(row.modified, row) for row in old]
    writes.sort(key=lambda write: write[0])
    revision = (await store.range("/nothing")).revision
    filler = 0
    for wanted, group in groupby(writes, key=lambda write: write[0]):
        while revision < wanted - 1:
            filler += 1
            pad = Put("/filler", b"") if filler % 2 else Delete("/filler")
            revision = (await store.commit(Txn((), (pad,)))).revision
        puts = tuple(Put(row.key, row.value, leases.get(row.lease, 0)) for _, row in group)
        revision = (await store.commit(Txn((), puts))).revision
        assert revision == wanted
    if filler % 2:
        await store.commit(Txn((), (Delete("/filler"),)))
    for item in (await store.range("/xchronos/")).items:
        found = next(row for row in old if row.key == item.key)
        assert (item.value, item.create_revision, item.mod_revision) == (found.value, found.created, found.modified)


def restore(source: Path, target: Path) -> None:
    """Lay out what a fixture kept of a machine below `target`, as if it had been there from the beginning."""
    for path in source.rglob("*"):
        if path.is_file() and path.name not in ("store.jsonl", "store.sql", "readings.json"):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes().replace(f"{ROOT}/{source.name}".encode(), str(target).encode()))
    # Empty directories are not kept with the fixtures; an attempt that runs always has one.
    for running in {to_directory(row) for row in rows(source.name)} - {""}:
        (target / "state/attempts" / running / "scratch").mkdir(exist_ok=True)


def to_directory(row: Row) -> str:
    """The attempt's directory of a placement that runs."""
    _, _, rest = row.key.partition("/var/placements/")
    if not rest or row.record["state"] != "running":
        return ""
    _, unit, fire, copy = rest.split("/")
    return f"{unit}/{fire}-{copy}-{row.record['current']['number']}"


def restore_sqlite(fixture: str, target: Path, root: Path) -> None:
    """Write an old store's file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(target)) as connection:
        connection.executescript((FIXTURES / fixture / "store.sql").read_text())
        moved = (
            row._replace(value=row.value.replace(f"{ROOT}/{fixture}".encode(), str(root).encode()))
            for row in rows(fixture)
        )
        connection.executemany("INSERT INTO kv VALUES (?, ?, ?, ?, ?)", moved)
        connection.commit()


class QuickClock:
    """A clock that begins at an instant of the past and goes `speed` times as fast as the machine's."""

    def __init__(self, start: Instant, speed: int) -> None:
        self._start = start
        self._speed = speed
        self._began = time.monotonic_ns() // 1_000

    def now(self) -> Instant:
        return self._start + self.monotonic()

    def monotonic(self) -> Micros:
        return (time.monotonic_ns() // 1_000 - self._began) * self._speed

    async def sleep(self, length: Micros) -> None:
        await asyncio.sleep(max(length, 0) / SECOND / self._speed)


def copy_state(machine: str, target: Path) -> Path:
    """The attempts of one of the cluster's machines, copied to where an agent may go on with them."""
    home = target / machine
    shutil.copytree(FIXTURES / "cluster" / machine / "state/attempts", home)
    return home
