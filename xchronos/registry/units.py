"""Compiled units by name, read from the store when they are needed and kept while they are in use."""

import asyncio
import base64
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache, partial

import msgspec
import structlog

from xchronos.aio import Offload, inline
from xchronos.errors import StoreError, UnitFileError
from xchronos.limits import HEAVY_BYTES
from xchronos.model.compile.unit import compile_unit
from xchronos.model.records import DropIn, UnitRecord
from xchronos.model.unit import Unit
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys
from xchronos.store.contract import KeyValue, Store
from xchronos.store.reading import read_some
from xchronos.store.recent import LruCache

log = structlog.get_logger(__name__)

AT_ONCE = 128
"""How many units are looked up before others get a turn."""

CACHED = 32_768
"""How many compiled units are kept: 4 to 5 KB each. Many of them may be due in the same second."""


NEAR = 16_384
"""How many records are kept that came along with others: who is behind will ask for them next."""


class Loaded(msgspec.Struct, frozen=True):
    """A unit with the record that it was compiled from.

    `unit` is None, and `error` says why, when the record does not compile any more. `revision` is the record's,
    `created` the one at which its life began.
    """

    name: str
    record: UnitRecord
    unit: Unit | None
    revision: int
    created: int
    error: str = ""


class UnitCache:
    """The most recently used units, compiled. Whoever learns that a unit has changed says so."""

    def __init__(self, store: Store, keys: Keys, size: int = CACHED, offload: Offload = inline) -> None:
        self._offload = offload
        self._store = store
        self._keys = keys
        self._loaded = LruCache[str, Loaded](size)
        self._fresh: dict[str, KeyValue] = {}
        self._near = LruCache[str, KeyValue](NEAR)
        self._wanted: set[str] = set()
        self._answer: asyncio.Task[dict[str, Loaded]] | None = None

    def peek(self, name: str) -> Loaded | None:
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

    async def get(self, name: str) -> Loaded | None:
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

    async def _read_wanted(self) -> dict[str, Loaded]:
        wanted, self._wanted = self._wanted, set()
        return await self.get_many(sorted(wanted))

    async def get_many(self, names: Sequence[str]) -> dict[str, Loaded]:
        """Those of the units that exist; those at hand cost nothing, the others few requests. Raises StoreError."""
        found: dict[str, Loaded] = {}
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

    def learn(self, name: str, item: KeyValue) -> Loaded:
        """Take in a record that was just read."""
        known = self._loaded.get(name)
        if known is not None and known.revision >= item.mod_revision:
            return known
        loaded = self._compile(name, item, known)
        self._loaded.put(name, loaded)
        return loaded

    def changed(self, name: str, item: KeyValue) -> None:
        """The unit's record is a new one; it is compiled when it is asked for."""
        self._fresh[name] = item
        self._near.pop(name)

    def forget(self, name: str) -> None:
        """The unit is gone."""
        self._loaded.pop(name)
        self._fresh.pop(name, None)
        self._near.pop(name)

    @staticmethod
    def _compile(name: str, item: KeyValue, known: Loaded | None) -> Loaded:
        revision, created = item.mod_revision, item.create_revision
        try:
            record = decode(item, UnitRecord)
        except StoreError as error:
            log.warning("stored unit is unreadable", unit=name, reason=str(error))
            return Loaded(name, UnitRecord(), None, revision, created, str(error))
        if known is not None and known.unit is not None and known.record.revision == record.revision:
            return Loaded(name, record, known.unit, revision, created)
        try:
            return Loaded(name, record, compile_record(name, record), revision, created)
        except UnitFileError as error:
            # It was checked when it was submitted, so this is a record that another version accepted.
            log.warning("stored unit does not compile", unit=name, problems=[str(p) for p in error.problems])
            return Loaded(name, record, None, revision, created, str(error))


def is_heavy(item: KeyValue) -> bool:
    """Whether a unit's record may take so long to compile that it is not done on the event loop."""
    return len(item.value) > HEAVY_BYTES


def _warm(name: str, item: KeyValue) -> None:
    """Compile a record, in another thread. What is wrong with it is told when it is learnt: that costs little then."""
    with suppress(StoreError, UnitFileError):
        compile_record(name, decode(item, UnitRecord))


def compile_record(name: str, record: UnitRecord) -> Unit:
    """The meaning of a stored unit. Raises UnitFileError."""
    return _compiled(name, text_of(record), record.drop_ins)


@lru_cache(maxsize=CACHED)
def _compiled(name: str, text: bytes, drop_ins: tuple[DropIn, ...]) -> Unit:
    # A Unit is a value: scheduler, agent and API of one process share what any of them has compiled.
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
