"""The log in Consul: reading the whole store, following what others append, appending.

Every request may be sent twice without harm:

- The Txn that appends an entry compares and swaps the head, so Consul takes equal entries at most once. A client that
  had no answer recognises its own entry in the log by its `writer` (`test_a_lost_answer_is_found_out`).
- The name of a part of a long entry or value belongs to one content only.
- To renew a lease twice is to renew it.
"""

import asyncio
import secrets
from collections.abc import Sequence
from enum import Enum

import msgspec
import structlog

from xchronos.errors import StoreError
from xchronos.store.consul.http import MAX_CONSUL_OPERATIONS, Agents, Item, Op
from xchronos.store.consul.layout import (
    Entry,
    Fold,
    Head,
    Layout,
    decode_entry,
    decode_fold,
    decode_head,
    decode_row,
    encode_entry,
    entry_in_parts,
    parts_of,
    pieces,
)
from xchronos.store.consul.mirror import Mirror
from xchronos.store.contract import KeyValue
from xchronos.store.transactions import Change

log = structlog.get_logger(__name__)

_LONGEST_WHOLE_ENTRY = 300 * 1024  # bytes; a longer entry is written in parts


class Appended(Enum):
    """What became of an entry that a client tried to append."""

    YES = "it is the newest entry"
    NO = "another one came first"
    REFUSED = "one of the operations that came with it did not hold"
    UNKNOWN = "the log was folded before anybody could look"


class ConsulLog:
    """One client's access to the log; keeps the mirror up to date with it."""

    def __init__(self, agents: Agents, layout: Layout, mirror: Mirror) -> None:
        self.agents = agents
        self.layout = layout
        self.mirror = mirror
        self._name = secrets.token_hex(6)
        self._written = 0
        self._catching_up = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._next_reading: asyncio.Task[None] | None = None
        self.heard = asyncio.Event()
        """Set when an entry is read from the log, which is most often another client's. The writer clears it."""

    async def load(self) -> None:
        """Read the whole store, or begin an empty one where there is none. The mirror is at the head afterwards.

        Raises StoreError when the store is damaged or from another release.
        """
        while True:
            found = {item.key: item for item in await self.agents.all(self.layout.prefix, bulk=True)}
            if self.layout.head in found:
                self._begin(found)
                return
            if any(key.startswith((self.layout.keys, self.layout.log)) for key in found):
                raise StoreError(f"{self.layout.head} is missing in Consul, but not what belongs to it: restore it")
            first = [
                Op("cas", self.layout.head, msgspec.json.encode(Head(0, 1)), 0),
                Op("set", self.layout.fold, msgspec.json.encode(Fold())),
            ]
            await self.agents.txn(first)  # refused when another client was quicker, which is as good

    async def current(self) -> None:
        """Return when the mirror is not older than the store was at the call.

        Callers of the same moment share one request. It begins after the call of each of them, or its answer could be
        older than what a caller has seen.
        """
        task = self._next_reading
        if task is None:
            task = self._next_reading = asyncio.create_task(self._read_after(self._reading), name="read the head")
        await asyncio.shield(task)

    async def _read_after(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        self._reading, self._next_reading = self._next_reading, None
        known = self.mirror.head.sequence
        head = await self.agents.get(self.layout.head)
        await self.catch_up(head)
        if head is not None and decode_head(head.value or b"").sequence < known:
            raise self._gone_back()

    async def catch_up(self, head: Item | None) -> None:
        """Bring the mirror to the head that was read, or further.

        Raises StoreError when somebody removed the store or restored an older state of it.
        """
        if head is None or head.value is None:
            raise StoreError(
                f"{self.layout.head} has vanished from Consul: the store was removed; start the daemon anew"
            )
        wanted = decode_head(head.value)
        async with self._catching_up:
            while self.mirror.head.sequence < wanted.sequence:
                await self._read_on(wanted.sequence)
        if self.mirror.head.sequence == wanted.sequence:
            if self.mirror.head != wanted:
                raise StoreError(f"{self.layout.head} in Consul does not fit its log: {wanted}, not {self.mirror.head}")
            self.mirror.head_index = head.modify_index

    async def append(self, entry: Entry, head: Head, changes: list[Change], others: Sequence[Op]) -> Appended:
        """Try to make this the newest entry. Consul carries out the `others` together with it, or nothing at all.

        Raises StoreUnavailable when nobody knows whether it happened. The caller may then make the same call again,
        with the same entry.
        """
        sequence = head.sequence
        data = encode_entry(entry)
        size = len(data)
        if size > _LONGEST_WHOLE_ENTRY:
            parts = pieces(data)
            for number, part in enumerate(parts):
                await self.agents.put(self.layout.part(sequence, entry.writer, number), part)
            data = entry_in_parts(len(parts), entry.writer)
        operations = [
            Op("cas", self.layout.head, msgspec.json.encode(head), self.mirror.head_index),
            Op("set", self.layout.entry(sequence), data),
            *others,
        ]
        answer = await self.agents.txn(operations)
        if answer.failures:
            if all(failure.at for failure in answer.failures):
                return Appended.REFUSED
            return await self._whose(sequence, entry.writer)
        if self.mirror.head.sequence < sequence:  # otherwise the task that follows the log has read it already
            self.mirror.take(entry, size, changes)
        if self.mirror.head.sequence == sequence:
            self.mirror.head_index = answer.items[0].modify_index
        return Appended.YES

    def new_writer(self) -> str:
        """A `writer` that no other entry has."""
        self._written += 1
        return f"{self._name}-{self._written}"

    async def _whose(self, sequence: int, writer: str) -> Appended:
        """Whose entry has this number, after the head was found moved: our own, sent once before, or another's?

        UNKNOWN when the entry was folded and deleted before (`test_a_fate_that_nobody_can_tell_any_more`).
        """
        operations = [Op("get", self.layout.head), Op("get", self.layout.entry(sequence))]
        answer = await self.agents.txn(operations, consistent=True)
        found = None if answer.failures else await self._entry(sequence, answer.items[1])
        if found is None:
            await self.current()
            return Appended.UNKNOWN
        entry, size = found
        if self.mirror.head.sequence == sequence - 1:
            self.mirror.take(entry, size)
            self.heard.set()
        await self.catch_up(answer.items[0])
        return Appended.YES if entry.writer == writer else Appended.NO

    async def _read_on(self, until: int) -> None:
        """Read the next entries, as many as one Txn can read. Read the whole store when they are deleted already."""
        begin = self.mirror.head.sequence + 1
        numbers = range(begin, min(until + 1, begin + MAX_CONSUL_OPERATIONS))
        # `consistent` is needed: a leader that has just restarted has not applied all that it knows, and without it an
        # entry may be missing from its answer.
        operations = [Op("get", self.layout.entry(number)) for number in numbers]
        answer = await self.agents.txn(operations, consistent=True)
        if answer.failures:
            await self._reload()
            return
        for number, item in zip(numbers, answer.items, strict=True):
            found = await self._entry(number, item)
            if found is None:
                await self._reload()
                return
            # `append` may have put its own entry into the mirror meanwhile.
            if number == self.mirror.head.sequence + 1:
                self.mirror.take(*found)
                self.heard.set()

    async def _reload(self) -> None:
        was = self.mirror.head.sequence
        await self.load()
        log.warning("read the whole store anew: the log was folded before it was read", was=was, now=self.mirror.head)

    async def _entry(self, sequence: int, item: Item) -> tuple[Entry, int] | None:
        """The entry and its size in bytes; None when the log was folded and parts of the entry are deleted."""
        data = item.value or b""
        in_parts = parts_of(data)
        if in_parts is not None:
            count, writer = in_parts
            found = [await self.agents.get(self.layout.part(sequence, writer, number)) for number in range(count)]
            if None in found:
                return None
            data = b"".join([part.value or b"" for part in found if part is not None])
        return decode_entry(data), len(data)

    def _gone_back(self) -> StoreError:
        return StoreError(f"{self.layout.head} in Consul has gone back in time: restored? Start every daemon anew")

    def _begin(self, found: dict[str, Item]) -> None:
        """Make the mirror from all keys in Consul as they were at one moment."""
        layout, mirror = self.layout, self.mirror
        values = {key: item.value or b"" for key, item in found.items()}
        head = decode_head(values[layout.head])
        fold = decode_fold(values.get(layout.fold, b""))
        if head.sequence < mirror.head.sequence:
            raise self._gone_back()
        if fold.target > head.sequence:
            raise StoreError(
                f"{layout.fold} in Consul is ahead of {layout.head} ({fold.target}, {head.sequence}): restore the store"
            )
        entries: dict[int, tuple[Entry, int]] = {}
        for number in range(fold.checkpoint + 1, head.sequence + 1):
            data = values.get(layout.entry(number))
            if data is None:
                raise StoreError(f"the log in Consul is damaged: {layout.entry(number)} is missing; restore the store")
            in_parts = parts_of(data)
            if in_parts is not None:
                count, writer = in_parts
                data = b"".join([values[layout.part(number, writer, part)] for part in range(count)])
            entries[number] = decode_entry(data), len(data)
        rows: dict[str, KeyValue] = {}
        for key, data in values.items():
            if key.startswith(layout.keys):
                row = decode_row(data, layout, values)
                rows[row.key] = row
        # A fold may have been under way, so some keys may be as of its target already. Carrying out its entries once
        # more brings all of them there (`test_a_fold_that_is_broken_off_is_gone_over`).
        changed: set[str] = set()
        for number in range(fold.checkpoint + 1, fold.target + 1):
            _go_over(entries[number][0], rows, changed)
        leases = {int(key.removeprefix(layout.leases)) for key in values if key.startswith(layout.leases)}
        rest = [entries[number] for number in range(fold.target + 1, head.sequence + 1)]
        revision = rest[0][0].revision if rest else head.revision
        mirror.begin(rows, leases, Head(fold.target, revision, head.lease), fold.checkpoint, changed)
        for entry, size in rest:
            mirror.take(entry, size)
        mirror.head_index = found[layout.head].modify_index


def _go_over(entry: Entry, rows: dict[str, KeyValue], changed: set[str]) -> None:
    revision = entry.revision
    for written in entry.revisions:
        revision += 1
        for key, value, created, lease in written:
            changed.add(key)
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = KeyValue(key, value, created, revision, lease)
