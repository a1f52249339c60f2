"""Records as bytes in the store, and back: JSON, by the types of `model.records`."""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from xchronos.errors import StoreError
from xchronos.model.records import (
    Execution,
    KnownMachine,
    Machine,
    MachineWish,
    RefusedFile,
    Schedule,
    SchedulerRecord,
    UnitRecord,
)
from xchronos.store.contract import Event, KeyValue

_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (Execution, KnownMachine, Machine, MachineWish, RefusedFile, Schedule, SchedulerRecord, UnitRecord)
}

Record = TypeVar(
    "Record", Execution, KnownMachine, Machine, MachineWish, RefusedFile, Schedule, SchedulerRecord, UnitRecord
)

encode = _encoder.encode


AT_A_MACHINE = frozenset(("placed", "running", "reported"))
"""The states of an execution that has a current attempt."""

FORMAT = 1
"""The format of the records that this program writes, and the newest that it reads. A record that has none has this."""


def decode(item: KeyValue | Event, kind: type[Record]) -> Record:
    """The record of the type `kind` under a key.

    Raises StoreError, with the key, if the bytes are no such record, or one of a format that is newer than `FORMAT`.
    """
    try:
        record: Record = _decoders[kind].decode(item.value)
    except msgspec.MsgspecError as error:
        raise StoreError(f"the record at {item.key} is not a readable {kind.__name__}: {error}") from error
    if record.v > FORMAT:
        raise StoreError(
            f"the record at {item.key} has the format {record.v}, and this xchronos reads {kind.__name__} records "
            f"up to the format {FORMAT}: a newer one has written it"
        )
    if isinstance(record, Execution):
        _check_execution(item.key, record)
    return record


def _check_execution(key: str, execution: Execution) -> None:
    """Raise StoreError for an execution that can be read, and that no program of ours has written."""
    if execution.state in AT_A_MACHINE and execution.current is None:
        raise StoreError(f"the record at {key} is no Execution of ours: it is {execution.state} at no machine")
    if "/var/" in key and not key.endswith(f"/{execution.id}"):
        raise StoreError(f"the record at {key} is no Execution of ours: it calls itself {execution.id}")


class BadRecord(msgspec.Struct, frozen=True):
    """A record that cannot be read, in a collection whose other records can."""

    key: str
    """Its key in the store."""

    reason: str
    """Why it cannot be read."""


def readable(
    items: Iterable[KeyValue], kind: type[Record], unreadable: list[BadRecord] | None = None
) -> list[tuple[KeyValue, Record]]:
    """The records of a collection, each with its key. One that cannot be read is told of in `unreadable`, if given."""
    found: list[tuple[KeyValue, Record]] = []
    for item in items:
        try:
            found.append((item, decode(item, kind)))
        except StoreError as error:
            if unreadable is not None:
                unreadable.append(BadRecord(item.key, str(error)))
    return found
