"""Records as bytes in the store, and back: JSON, by the types of `model.records`."""

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
    return record
