"""What the store keeps in Consul, key by key, and how each is written. Pure.

Under the prefix of the store::

    head                       the newest entry's sequence, the revision, the last lease's number (JSON)
    log/<sequence>             one entry: what one of Consul's Txns changed (msgpack)
    keys/<key>                 a living key as of the last fold: a line of JSON about it, then its value, as it is
    fold                       how far the log is folded into the keys, and trimmed (JSON)
    leases/<number>            a living lease, rewritten by each renewal (JSON)
    parts/<sequence>-<id>/<n>  an entry that is too long for one key
    big/<revision>-<hash>/<n>  a value that is too long for one key
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import TypeAlias

import msgspec

from xchronos.errors import StoreError
from xchronos.store.contract import KeyValue

FORMAT = 1

PIECE = 256 * 1024
"""Bytes of an entry, a value or a Txn: with a third more for base64 they stay below Consul's 512 KiB."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9_./-]|(?<![^/.])[./]|/\Z")

Written: TypeAlias = tuple[str, bytes | None, int, int]
"""A change as the log has it: the key, its value (None: deleted), its create revision, its lease."""


class Head(msgspec.Struct, frozen=True):
    """Where the store is. Whoever writes compares and swaps this, so it orders all writers."""

    sequence: int
    revision: int
    lease: int = 0
    format: int = FORMAT


class Fold(msgspec.Struct, frozen=True):
    """The keys are as of the entry `checkpoint`, some perhaps already as of `target`; entries to `trimmed` are gone."""

    checkpoint: int = 0
    target: int = 0
    trimmed: int = 0


class LeaseRecord(msgspec.Struct, frozen=True):
    """A living lease. `renewed` differs with each renewal: Consul takes no notice of an equal value."""

    ttl: float
    renewed: str


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What one write did: whole revisions, numbered on from `revision`, and leases that began and ended.

    `writer` is unique, so that whoever was left without an answer can tell its own entry.
    """

    writer: str
    revision: int
    revisions: list[list[Written]]
    granted: list[int] = []
    ended: list[int] = []
    compacted: int = 0


class _RowHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    key: str
    created: int
    modified: int
    lease: int = 0
    parts: int = 0


_ENTRY_DECODER = msgspec.msgpack.Decoder(Entry)
_ROW_HEADER_DECODER = msgspec.json.Decoder(_RowHeader)
_WHOLE, _PACKED, _IN_PARTS = b"E", b"Z", b"P"
_WORTH_PACKING = 2048  # bytes; below, it is the number of requests that counts


class Layout:
    """The names of Consul's keys below one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix + "/"
        self.head = self.prefix + "head"
        self.fold = self.prefix + "fold"
        self.log = self.prefix + "log/"
        self.keys = self.prefix + "keys/"
        self.leases = self.prefix + "leases/"
        self.parts = self.prefix + "parts/"
        self.big = self.prefix + "big/"

    def entry(self, sequence: int) -> str:
        """The key of one entry of the log."""
        return f"{self.log}{sequence:016x}"

    def lease(self, lease: int) -> str:
        """The key of one lease."""
        return f"{self.leases}{lease}"

    def key(self, key: str) -> str:
        """The key under which one of the store's keys is kept.

        Newer agents refuse `..` and much else in a name, and a URL does not keep `//`: what is not plain is escaped.
        The slash that keys begin with is left out; a key that has none is marked.
        """
        plain = key[1:] if key.startswith("/") else None
        name = (key if plain is None else plain).encode()
        escaped = _UNSAFE.sub(_escape, name).decode()
        return f"{self.keys}{'' if plain is not None else '=/'}{escaped or '='}"

    def part(self, sequence: int, writer: str, number: int) -> str:
        """A piece of the entry that `writer` wants to have as `sequence`."""
        return f"{self.parts}{sequence:016x}-{writer}/{number:04d}"

    def big_part(self, key: str, revision: int, number: int) -> str:
        """A piece of a long value, which the key got at `revision`."""
        return f"{self.big}{big_name(key, revision)}/{number:04d}"


def _escape(match: re.Match[bytes]) -> bytes:
    return b"".join([b"=%02X" % byte for byte in match.group()])


def big_name(key: str, revision: int) -> str:
    """What names a long value: it never changes."""
    return f"{revision:016x}-{sha256(key.encode()).hexdigest()[:16]}"


def decode_head(data: bytes) -> Head:
    """Where the store is. Raises StoreError when this release cannot tell."""
    try:
        head = msgspec.json.decode(data, type=Head)
    except msgspec.MsgspecError as error:
        raise StoreError(f"the head of the store in Consul cannot be read ({data[:100]!r}): {error}") from error
    if head.format != FORMAT:
        raise StoreError(f"the store in Consul has format {head.format}, this release reads format {FORMAT}")
    return head


def decode_fold(data: bytes) -> Fold:
    """How far the log is folded. Raises StoreError when it cannot be read."""
    try:
        return msgspec.json.decode(data, type=Fold)
    except msgspec.MsgspecError as error:
        raise StoreError(f"how far the log in Consul is folded cannot be read ({data[:100]!r}): {error}") from error


def decode_ttl(data: bytes) -> float | None:
    """The TTL of a lease, in seconds; None when somebody has written something else into its key."""
    try:
        return msgspec.json.decode(data, type=LeaseRecord).ttl
    except msgspec.MsgspecError:
        return None


def pieces(data: bytes) -> list[bytes]:
    """The data cut to what one of Consul's keys can hold."""
    return [data[at : at + PIECE] for at in range(0, len(data), PIECE)]


def encode_entry(entry: Entry) -> bytes:
    """The entry as it is kept, of any length. Records are alike: packed they are a tenth, which is sent and synced."""
    data = msgspec.msgpack.encode(entry)
    return _WHOLE + data if len(data) < _WORTH_PACKING else _PACKED + zlib.compress(data, level=1)


def entry_in_parts(count: int, writer: str) -> bytes:
    """What is kept in the place of an entry that is in parts."""
    return _IN_PARTS + b"%d %s" % (count, writer.encode())


def parts_of(data: bytes) -> tuple[int, str] | None:
    """How many parts an entry is in, and whose they are; None when it is whole."""
    if not data.startswith(_IN_PARTS):
        return None
    count, _, writer = data[1:].partition(b" ")
    return int(count), writer.decode()


def decode_entry(data: bytes) -> Entry:
    """An entry that is whole. Raises StoreError when it cannot be read."""
    if data[:1] not in (_WHOLE, _PACKED):
        raise StoreError(f"an entry of the log in Consul begins with {data[:1]!r}: written by a newer release?")
    body = memoryview(data)[1:]
    try:
        return _ENTRY_DECODER.decode(zlib.decompress(body) if data.startswith(_PACKED) else body)
    except (msgspec.MsgspecError, zlib.error) as error:
        raise StoreError(f"an entry of the log in Consul cannot be read: {error}") from error


def encode_row(row: KeyValue) -> tuple[bytes, list[bytes]]:
    """A living key as it is kept, and the pieces of its value when that is too long to be in the same place."""
    parts = pieces(row.value) if len(row.value) > PIECE else []
    header = _RowHeader(row.key, row.create_revision, row.mod_revision, row.lease, len(parts))
    return msgspec.json.encode(header) + b"\n" + (b"" if parts else row.value), parts


def decode_row(data: bytes, layout: Layout, parts: Mapping[str, bytes]) -> KeyValue:
    """A living key; `parts` has the pieces of long values. Raises StoreError when it cannot be read."""
    line, _, value = data.partition(b"\n")
    try:
        header = _ROW_HEADER_DECODER.decode(line)
        if header.parts:
            names = [layout.big_part(header.key, header.modified, number) for number in range(header.parts)]
            value = b"".join([parts[name] for name in names])
    except (msgspec.MsgspecError, KeyError) as error:
        raise StoreError(f"a key of the store in Consul cannot be read ({line[:100]!r}): {error!r}") from error
    return KeyValue(header.key, value, header.created, header.modified, header.lease)


def batches(sizes: Mapping[str, int], most: int, size: int) -> Iterator[list[str]]:
    """Names, in the order given, in groups of at most `most` and (unless one alone is more) `size` bytes."""
    group: list[str] = []
    total = 0
    for name, length in sizes.items():
        if group and (len(group) == most or total + length > size):
            yield group
            group, total = [], 0
        group.append(name)
        total += length
    if group:
        yield group
