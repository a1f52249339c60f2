"""What a Txn means: checking one, and carrying it out on plain dictionaries. No I/O.

The embedded stores and Consul's mirror carry out Txns by `apply`; etcd's servers do it themselves.
"""

from collections.abc import Callable, Container, Sequence
from itertools import pairwise
from typing import TypeAlias

from xchronos.errors import LeaseLost, StoreError
from xchronos.store.contract import Delete, DeleteRange, Event, KeyValue, Operation, Put, Txn

Change: TypeAlias = tuple[Event, KeyValue | None]
"""An event, and what the key held before it (None: the key was not there). By that a change can be undone."""

_LAST_CHARACTER = "\U0010ffff"


def prefix_end(prefix: str) -> str | None:
    """The smallest string after every string that begins with `prefix`; None when there is none."""
    stem = prefix.rstrip(_LAST_CHARACTER)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if following == 0xD800:  # surrogates are no characters, and UTF-8 cannot encode them
        following = 0xE000
    return stem[:-1] + chr(following)


def check_key(key: str) -> None:
    """Raise StoreError for what cannot be a key: the empty string, or one with a lone surrogate (no UTF-8 form)."""
    if not key:
        raise StoreError("a key is empty: expected at least one character")
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise StoreError(f"the key {key!r} cannot be encoded in UTF-8: {error.reason}") from error


def check_txn(txn: Txn, max_operations: int) -> None:
    """Raise StoreError for a malformed Txn: too long, or touching a key twice. Called before anything is written."""
    operations = txn.operations
    for what, size in (("guards", len(txn.guards)), ("operations", len(operations))):
        if size > max_operations:
            raise StoreError(f"a Txn has {size} {what}: at most {max_operations} are allowed")
    keys = set()
    prefixes = []
    for operation in operations:
        if isinstance(operation, DeleteRange):
            prefixes.append(operation.prefix)
        else:
            check_key(operation.key)
            keys.add(operation.key)
    if prefixes or len(keys) != len(operations):
        _check_overlap(operations, prefixes)


def _check_overlap(operations: Sequence[Operation], prefixes: list[str]) -> None:
    seen: set[str] = set()
    for operation in operations:
        if isinstance(operation, DeleteRange):
            continue
        if operation.key in seen:
            raise StoreError(f"a Txn writes the key {operation.key!r} twice: once is allowed")
        seen.add(operation.key)
        for prefix in prefixes:
            if operation.key.startswith(prefix):
                raise StoreError(f"a Txn writes the key {operation.key!r} and deletes the range {prefix!r} around it")
    prefixes.sort()
    for shorter, longer in pairwise(prefixes):
        if longer.startswith(shorter):
            raise StoreError(f"a Txn deletes the range {longer!r} twice, the second time as part of {shorter!r}")


def apply(
    txn: Txn,
    rows: dict[str, KeyValue],
    leases: Container[int],
    keys_under: Callable[[str], list[str]],
    revision: int,
) -> list[Change] | None:
    """Carry out a checked Txn on `rows`, at `revision` if it changes anything.

    Args:
        txn: what to do.
        rows: the living keys, at least all that the Txn names; changed in place.
        leases: the living leases.
        keys_under: gives the living keys of a prefix, in order.
        revision: what the changes get as their revision: one more than the store's.

    Returns:
        The changes in order, an empty list when nothing changed; None when a guard failed.

    Raises:
        LeaseLost: a Put names a lease that is not alive. `rows` is unchanged then.
    """
    for guard in txn.guards:
        row = rows.get(guard.key)
        if row is None:
            held = 0
        elif guard.target == "mod":
            held = row.mod_revision
        else:
            held = row.create_revision
        if held != guard.revision:
            return None
    operations = txn.operations
    for operation in operations:
        if isinstance(operation, Put) and operation.lease and operation.lease not in leases:
            raise LeaseLost(f"the lease {operation.lease} is gone: the key {operation.key!r} cannot be bound to it")
    changes: list[Change] = []
    for operation in operations:
        if isinstance(operation, Put):
            key, value, lease = operation.key, operation.value, operation.lease
            previous = rows.get(key)
            created = revision if previous is None else previous.create_revision
            rows[key] = KeyValue(key, value, created, revision, lease)
            changes.append((Event("put", key, value, revision, created, lease), previous))
        elif isinstance(operation, Delete):
            previous = rows.pop(operation.key, None)
            if previous is not None:
                changes.append((Event("delete", operation.key, b"", revision), previous))
        else:
            changes += remove(keys_under(operation.prefix), rows, revision)
    return changes


def remove(keys: list[str], rows: dict[str, KeyValue], revision: int) -> list[Change]:
    """Delete living keys from `rows`, in the order given."""
    return [(Event("delete", key, b"", revision), rows.pop(key)) for key in keys]
