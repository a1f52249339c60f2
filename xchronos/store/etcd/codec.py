"""Translates the store contract's values into etcd's messages, and back. Written for speed: every event passes here."""

from collections.abc import Iterable, Sequence

from xchronos.store.contract import Delete, Event, KeyValue, Put, Txn
from xchronos.store.etcd.rpc import messages_pb2 as messages

END_OF_STORE = b"\0"
"""As the end of a range: everything to the end of the store. As its beginning too: everything."""

_MOD, _CREATE = messages.Compare.MOD, messages.Compare.CREATE


def encode_txn(txn: Txn) -> messages.TxnRequest:
    """A checked Txn as etcd's message."""
    request = messages.TxnRequest()
    add_guard = request.compare.add
    for guard in txn.guards:
        compare = add_guard()
        compare.key = guard.key.encode()
        if guard.target == "mod":
            compare.target = _MOD
            compare.mod_revision = guard.revision
        else:
            compare.target = _CREATE
            compare.create_revision = guard.revision
    add_operation = request.success.add
    for operation in txn.operations:
        if isinstance(operation, Put):
            put = add_operation().request_put
            put.key = operation.key.encode()
            put.value = operation.value
            if operation.lease:
                put.lease = operation.lease
        elif isinstance(operation, Delete):
            add_operation().request_delete_range.key = operation.key.encode()
        else:
            delete = add_operation().request_delete_range
            delete.key, delete.range_end = prefix_range(operation.prefix)
    return request


def prefix_range(prefix: str) -> tuple[bytes, bytes]:
    """The range of all keys that begin with `prefix`: its first key, and its end (not included)."""
    if not prefix:
        return END_OF_STORE, END_OF_STORE
    begin = prefix.encode()
    # UTF-8 never ends in the byte 0xFF, so one can always be added to the last byte.
    return begin, begin[:-1] + bytes((begin[-1] + 1,))


def decode_keys(kvs: Iterable[messages.KeyValue]) -> list[KeyValue]:
    """The keys of etcd's answer to a read of keys only. Up to 3.6 etcd tells their leases there, and then no more."""
    return [KeyValue(kv.key.decode(), b"", kv.create_revision, kv.mod_revision) for kv in kvs]


def decode_items(kvs: Iterable[messages.KeyValue]) -> list[KeyValue]:
    """The keys of etcd's answer to a read. One that is no text is left out: no store of ours takes such a key."""
    return [
        KeyValue(key, kv.value, kv.create_revision, kv.mod_revision, kv.lease)
        for kv in kvs
        if (key := _text(kv.key)) is not None
    ]


def decode_events(events: Sequence[messages.Event], first: int) -> list[Event]:
    """The events of etcd's message from revision `first` on. Those about keys that are no text are left out."""
    found = []
    for event in events:
        kv = event.kv
        revision = kv.mod_revision
        key = _text(kv.key)
        if revision < first or key is None:
            continue
        if event.type:
            found.append(Event("delete", key, b"", revision))
        else:
            found.append(Event("put", key, kv.value, revision, kv.create_revision, kv.lease))
    return found


def _text(key: bytes) -> str | None:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def touched(txn: Txn) -> tuple[set[str], set[str], list[str]]:
    """What a Txn looks at (its guards' keys), the keys that it writes, and the prefixes that it deletes."""
    written: set[str] = set()
    prefixes: list[str] = []
    for operation in txn.operations:
        if isinstance(operation, (Put, Delete)):
            written.add(operation.key)
        else:
            prefixes.append(operation.prefix)
    return {guard.key for guard in txn.guards}, written, prefixes
