"""Compiled units by name, read from the store when they are needed and kept while they are in use."""

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias

import msgspec
import structlog

from xchronos.aio import Offload, inline
from xchronos.errors import Problem, StoreError, UnitFileError
from xchronos.limits import HEAVY_BYTES, RECORD_BYTES
from xchronos.model.compile.unit import compile_unit
from xchronos.model.features import reading_of, rules_hold, unread
from xchronos.model.records import DropIn, Reading, Schedule, UnitRecord
from xchronos.model.unit import Unit
from xchronos.registry.codec import BadRecord, decode, readable
from xchronos.registry.keys import Keys
from xchronos.store.contract import KeyValue, Store
from xchronos.store.reading import read_some
from xchronos.store.recent import LruCache
from xchronos.triggers.zones import ZoneDatabase, database, rules_of
from xchronos.unitfile.names import is_valid_name

log = structlog.get_logger(__name__)

AT_ONCE = 128
"""How many units are looked up before others get a turn."""

CACHED = 32_768
"""How many compiled units are kept: 4 to 5 KB each. Many of them may be due in the same second."""


NEAR = 16_384
"""How many records are kept that came along with others: who is behind will ask for them next."""


class Loaded(msgspec.Struct, frozen=True):
    """A unit with the record that it was compiled from.

    `revision` is the record's, `created` the one at which its life began.
    """

    name: str
    record: UnitRecord
    unit: Unit
    revision: int
    created: int


class Unreadable(msgspec.Struct, frozen=True):
    """A stored unit that this process cannot read: of a newer version, say, or in a time zone that it does not know.

    It is no `Loaded`, so whoever decides about units cannot take it for one. Another process may be able to read it:
    nothing of it is ended, given up or written because this one is not. `revision` is the record's.
    """

    name: str
    revision: int
    why: str


Found: TypeAlias = Loaded | Unreadable
"""A unit that exists."""


class Submitted(msgspec.Struct, frozen=True):
    """What became of a submission. `warnings` are the unit's."""

    unit: str
    revision: str
    result: Literal["created", "changed", "unchanged"]
    warnings: tuple[Problem, ...] = ()


class Stored(msgspec.Struct, frozen=True):
    """A unit's record with its cursor and the store's revision of the record.

    `schedule` is None until a scheduler has accepted the unit. `unreadable` says why the record or the cursor cannot be
    read; then the one that cannot be is as if it were empty.
    """

    name: str
    record: UnitRecord
    revision: int
    schedule: Schedule | None
    unreadable: str = ""


def stored_unit(name: str, item: KeyValue, cursor: Schedule | BadRecord | None) -> Stored:
    """A unit as a list has it, also where it cannot be read."""
    bad: list[BadRecord] = []
    known = readable([item], UnitRecord, bad)
    problem = bad[0].reason if bad else ""
    if not is_valid_name(name):
        problem = problem or f"the key {item.key} names no unit"
    schedule = cursor if isinstance(cursor, Schedule) else None
    if isinstance(cursor, BadRecord):
        problem = problem or cursor.reason
    return Stored(name, known[0][1] if known else UnitRecord(), item.mod_revision, schedule, problem)


class UnitReader:
    """Reads stored units: what they mean to this process.

    `zones` are the zone rules that it computes with (None: those that are installed), `reading` what it says that it
    reads (None: all that this program does). Two of them in one process can be two versions.
    """

    def __init__(self, zones: ZoneDatabase | None = None, reading: Reading | None = None) -> None:
        self._own = zones is None and reading is None
        self.zones = zones or database()
        self.reading = reading or reading_of(self.zones)

    def compile(self, name: str, record: UnitRecord) -> Unit:
        """The meaning of a stored unit. Raises UnitFileError when this process cannot read it."""
        if self._own:
            return compile_record(name, record)
        with rules_of(self.zones):
            unit = _compiled.__wrapped__(name, text_of(record), record.drop_ins)
        lacking = unread(self.reading, unit)
        if lacking:
            raise UnitFileError([Problem(f"not known: {', '.join(lacking)}", name)])
        return unit

    def holds(self, rules: str) -> bool:
        """Whether the rules that a cursor names are those that this process has."""
        with rules_of(self.zones):
            return rules_hold(rules)


class UnitCache:
    """The most recently used units, compiled. Whoever learns that a unit has changed says so."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        size: int = CACHED,
        offload: Offload = inline,
        reader: UnitReader | None = None,
    ) -> None:
        self._offload = offload
        self._store = store
        self._keys = keys
        self._reader = reader or UnitReader()
        self._loaded = LruCache[str, Found](size)
        self.unreadable: dict[str, Unreadable] = {}
        """Every unit that was met and could not be read, until its record is another one."""
        self.on_unreadable: Callable[[], None] = lambda: None
        """Is called when `unreadable` has changed."""
        self._fresh: dict[str, KeyValue] = {}
        self._near = LruCache[str, KeyValue](NEAR)
        self._wanted: set[str] = set()
        self._answer: asyncio.Task[dict[str, Found]] | None = None

    def peek(self, name: str) -> Found | None:
        """The unit if it is at hand. One that is dear to compile is not, before `get` or `get_many` has compiled it."""
        fresh = self._fresh.get(name)
        if fresh is not None:
            if is_heavy(fresh):
                return None
            del self._fresh[name]
            return self.learn(name, fresh)
        found = self._loaded.get(name)
        if found is not None:
            return found
        near = self._near.pop(name)
        return self.learn(name, near) if near is not None and not is_heavy(near) else None

    async def get(self, name: str) -> Found | None:
        """The unit as the store has it; None when there is none. Raises StoreError.

        Units that are asked for in the same moment, as when thousands are placed at once, are read together.
        """
        found = self.peek(name)
        if found is not None:
            return found
        if self._answer is None or not self._wanted:
            self._answer = asyncio.create_task(self._read_wanted(), name="read units")
            # Everybody who asked may have been cancelled.
            self._answer.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._wanted.add(name)
        return (await asyncio.shield(self._answer)).get(name)

    async def _read_wanted(self) -> dict[str, Found]:
        wanted, self._wanted = self._wanted, set()
        return await self.get_many(sorted(wanted))

    async def get_many(self, names: Sequence[str]) -> dict[str, Found]:
        """Those of the units that exist; those at hand cost nothing, the others few requests. Raises StoreError."""
        found: dict[str, Found] = {}
        absent: list[str] = []
        for index, name in enumerate(names, 1):
            loaded = self.peek(name)
            if loaded is None:
                absent.append(name)
            else:
                found[name] = loaded
            if index % AT_ONCE == 0:
                # To compile so many takes a while.
                await asyncio.sleep(0)
        if absent:
            near: dict[str, KeyValue] = {}
            read = await self._read_warm(absent, near)
            self._keep_near(near)
            for index, (name, item) in enumerate(read.items(), 1):
                fresh = self._fresh.pop(name, item)
                found[name] = self.learn(name, max(fresh, item, key=lambda each: each.mod_revision))
                if index % AT_ONCE == 0:
                    await asyncio.sleep(0)
        return found

    async def _read_warm(self, names: Sequence[str], near: dict[str, KeyValue]) -> dict[str, KeyValue]:
        """The records as they are now. Those that are dear to compile were compiled before they were read again."""
        warm: dict[str, int] = {}
        while True:
            read = await read_some(self._store, self._keys.jobs, names, near)
            heavy = [(name, item) for name, item in read.items() if is_heavy(item)]
            cold = [(name, item) for name, item in heavy if warm.get(name) != item.mod_revision]
            if not cold:
                return read
            for name, item in cold:
                await self._offload(partial(_warm, name, item))
                warm[name] = item.mod_revision

    def _keep_near(self, near: dict[str, KeyValue]) -> None:
        for name, item in near.items():
            if name not in self._loaded and name not in self._fresh:
                self._near.put(name, item)

    def learn(self, name: str, item: KeyValue) -> Found:
        """Take in a record that was just read."""
        known = self._loaded.get(name)
        if known is not None and known.revision >= item.mod_revision:
            return known
        found = self._compile(name, item, known)
        self._loaded.put(name, found)
        if isinstance(found, Unreadable):
            if name not in self.unreadable:
                log.warning("a stored unit cannot be read here; it is left alone", unit=name, reason=found.why)
            self.unreadable[name] = found
            self.on_unreadable()
        elif self.unreadable.pop(name, None) is not None:
            self.on_unreadable()
        return found

    def changed(self, name: str, item: KeyValue) -> None:
        """The unit's record is a new one; it is compiled when it is asked for."""
        self._fresh[name] = item
        self._near.pop(name)

    def read_again(self, name: str) -> None:
        """Have a unit read anew that could not be read. Until that has happened it counts as it did."""
        self._loaded.pop(name)
        self._near.pop(name)

    def forget(self, name: str) -> None:
        """The unit is gone, or is to be read again."""
        if self.unreadable.pop(name, None) is not None:
            self.on_unreadable()
        self._loaded.pop(name)
        self._fresh.pop(name, None)
        self._near.pop(name)

    def _compile(self, name: str, item: KeyValue, known: Found | None) -> Found:
        revision, created = item.mod_revision, item.create_revision
        try:
            record = decode(item, UnitRecord)
            if isinstance(known, Loaded) and known.record.revision == record.revision:
                return Loaded(name, record, known.unit, revision, created)
            return Loaded(name, record, self._reader.compile(name, record), revision, created)
        except (StoreError, UnitFileError, binascii.Error) as error:
            return Unreadable(name, revision, str(error))


def is_heavy(item: KeyValue) -> bool:
    """Whether a unit's record may take so long to compile that it is not done on the event loop."""
    return len(item.value) > HEAVY_BYTES


def _warm(name: str, item: KeyValue) -> None:
    """Compile a record, in another thread. What is wrong with it is told when it is learnt: that costs little then."""
    with suppress(StoreError, UnitFileError, binascii.Error):
        compile_record(name, decode(item, UnitRecord))


def compile_record(name: str, record: UnitRecord) -> Unit:
    """The meaning of a stored unit. Raises UnitFileError."""
    return _compiled(name, text_of(record), record.drop_ins)


_accepted: dict[tuple[str, bytes, tuple[DropIn, ...]], Unit] = {}
"""Units that were compiled to be accepted, on their way into the cache."""


def compile_new(name: str, text: bytes, drop_ins: Sequence[DropIn], path: str) -> Unit:
    """The meaning of a file that is to become a unit. `path` is what problems call it. Raises UnitFileError.

    Who reads the unit in this process after that does not compile it again.
    """
    unit = compile_unit(name, text, [(dropin.name, dropin.text) for dropin in drop_ins], path)
    if path in ("", name) or not _names_its_file(unit):
        given = (name, text, tuple(drop_ins))
        _accepted[given] = unit
        try:
            _compiled(*given)
        finally:
            _accepted.pop(given, None)
    return unit


def _names_its_file(unit: Unit) -> bool:
    """Whether it shows in a unit what its file was called. A stored unit's file is called as the unit is."""
    return bool(unit.warnings) or (unit.container is not None and bool(unit.container.options))


@lru_cache(maxsize=CACHED)
def _compiled(name: str, text: bytes, drop_ins: tuple[DropIn, ...]) -> Unit:
    # A Unit is a value: scheduler, agent and API of one process share what any of them has compiled.
    accepted = _accepted.get((name, text, drop_ins))
    if accepted is not None:
        return accepted
    return compile_unit(name, text, [(dropin.name, dropin.text) for dropin in drop_ins], stored=True)


def text_of(record: UnitRecord) -> bytes:
    """The file as it was submitted, byte for byte."""
    return base64.b64decode(record.text_base64) if record.text_base64 else record.text.encode()


def record_of(text: bytes, unit: Unit, drop_ins: Iterable[DropIn] = ()) -> UnitRecord:
    """The record of a unit file that compiled."""
    try:
        return UnitRecord(text=text.decode(), revision=unit.revision, drop_ins=tuple(drop_ins))
    except UnicodeDecodeError:
        encoded = base64.b64encode(text).decode("ascii")
        return UnitRecord(text_base64=encoded, revision=unit.revision, drop_ins=tuple(drop_ins))


def wanted_of(record: UnitRecord) -> dict[str, Any]:
    """The fields of a unit's record that people have set apart from its text: a new text keeps them."""
    return {"desired": record.desired, "resumed_at": record.resumed_at, "skip_missed": record.skip_missed}


def refuse_large(size: int, file: str) -> None:
    """Raise UnitFileError for a file whose record has so many bytes, if these are too many."""
    if size > RECORD_BYTES:
        message = (
            f"the unit is too large: with its drop-ins it is stored as {size} bytes, and {RECORD_BYTES} are the most; "
            "have its steps fetch what is long (Artifact=, an image, a volume)"
        )
        raise UnitFileError([Problem(message, file)])
