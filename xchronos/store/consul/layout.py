"""What the store keeps in Consul: the name of every key, and how its value is written. Pure: no I/O.

Under the prefix of the store::

    head                       the newest entry's sequence, the revision, the last lease's number (JSON)
    log/<sequence>             one entry: what one write changed (msgpack)
    keys/<key>                 a living key as of the last fold: a line of JSON about it, then its value unchanged
    fold                       how far the log is folded into the keys, and how far it is trimmed (JSON)
    leases/<number>            a living lease; each renewal rewrites it (JSON)
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
"""The most bytes in one of Consul's keys. Base64 makes a third more of them, still below Consul's limit of 512 KiB."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9_./-]|(?<![^/.])[./]|/\Z")

Written: TypeAlias = tuple[str, bytes | None, int, int]
"""A change as the log has it: the key, its value (None: deleted), its create revision, its lease."""


class Head(msgspec.Struct, frozen=True):
    """Where the store is. Every writer compares and swaps this key, so it puts all writes in one order.

    `sequence` is the number of the newest entry, `revision` the store's, `lease` the last lease's number.
    """

    sequence: int
    revision: int
    lease: int = 0
    format: int = FORMAT


class Fold(msgspec.Struct, frozen=True):
    """How far the log is folded: the keys are as of the entry `checkpoint`.

    While a fold is under way, some keys are as of `target` already; otherwise `target` equals `checkpoint`. Entries up
    to `trimmed` are deleted.
    """

    checkpoint: int = 0
    target: int = 0
    trimmed: int = 0


class LeaseRecord(msgspec.Struct, frozen=True):
    """A living lease; `ttl` is in seconds.

    `renewed` differs with each renewal, since Consul does not count a write of equal bytes as a change.
    """

    ttl: float
    renewed: str


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What one write did: its changes by revision, the leases that began and ended, and how far it compacted.

    `revision` is the store's before the entry; the first of `revisions` is the next one. `writer` is unique, so that a
    client that had no answer recognises its own entry. `compacted` is 0 when the entry compacts nothing.
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
_WORTH_PACKING = 2048  # bytes; below that only the number of requests matters, not their size


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
        """The name in Consul of one of the store's keys.

        Newer agents refuse `..` and much else in a name, and a URL does not keep `//`. So everything that is not plain
        is escaped. The slash that a key begins with is left out; a key without one gets a mark instead
        (`test_names_in_consul_are_plain_and_distinct`).
        """
        plain = key[1:] if key.startswith("/") else None
        name = (key if plain is None else plain).encode()
        escaped = _UNSAFE.sub(_escape, name).decode()
        return f"{self.keys}{'' if plain is not None else '=/'}{escaped or '='}"

    def part(self, sequence: int, writer: str, number: int) -> str:
        """The key of one part of the entry that `writer` wants to append as number `sequence`."""
        return f"{self.parts}{sequence:016x}-{writer}/{number:04d}"

    def big_part(self, key: str, revision: int, number: int) -> str:
        """The key of one part of a long value that `key` got at `revision`."""
        return f"{self.big}{big_name(key, revision)}/{number:04d}"


def _escape(match: re.Match[bytes]) -> bytes:
    return b"".join([b"=%02X" % byte for byte in match.group()])


def big_name(key: str, revision: int) -> str:
    """The name of a long value: by key and revision, so what it names never changes."""
    return f"{revision:016x}-{sha256(key.encode()).hexdigest()[:16]}"


def decode_head(data: bytes) -> Head:
    """The head. Raises StoreError when it cannot be read or is of another format."""
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
    """The TTL of a lease in seconds; None when somebody has written something else into its key."""
    try:
        return msgspec.json.decode(data, type=LeaseRecord).ttl
    except msgspec.MsgspecError:
        return None


def pieces(data: bytes) -> list[bytes]:
    """The data, cut into pieces that one of Consul's keys can hold."""
    return [data[at : at + PIECE] for at in range(0, len(data), PIECE)]


def encode_entry(entry: Entry) -> bytes:
    """The entry as it is kept, of any length.

    Records resemble each other, so compressed they have a tenth of the bytes to send and to sync.
    """
    data = msgspec.msgpack.encode(entry)
    return _WHOLE + data if len(data) < _WORTH_PACKING else _PACKED + zlib.compress(data, level=1)


def entry_in_parts(count: int, writer: str) -> bytes:
    """What is kept in the place of an entry that is too long for one key: the number and the owner of its parts."""
    return _IN_PARTS + b"%d %s" % (count, writer.encode())


def parts_of(data: bytes) -> tuple[int, str] | None:
    """How many parts an entry has, and which writer's they are; None when it is whole."""
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
    """A living key as it is kept, and the pieces of its value if that is too long for the same key."""
    parts = pieces(row.value) if len(row.value) > PIECE else []
    header = _RowHeader(row.key, row.create_revision, row.mod_revision, row.lease, len(parts))
    return msgspec.json.encode(header) + b"\n" + (b"" if parts else row.value), parts


def decode_row(data: bytes, layout: Layout, parts: Mapping[str, bytes]) -> KeyValue:
    """The living key of such data; `parts` has the pieces of long values. Raises StoreError when it cannot be read."""
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
    """The names, in the order given, in groups of at most `most` names and `size` bytes.

    A name that has more bytes by itself is a group of its own.
    """
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
