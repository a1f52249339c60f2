"""Records as bytes in the store, and back: JSON, by the types of `model.records`."""

from typing import Any, TypeVar

import msgspec

from xchronos.errors import StoreError
from xchronos.model.records import Execution, Machine, MachineWish, Schedule, SchedulerRecord, UnitRecord
from xchronos.store.contract import Event, KeyValue

_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (Execution, Machine, MachineWish, Schedule, SchedulerRecord, UnitRecord)
}

Record = TypeVar("Record", Execution, Machine, MachineWish, Schedule, SchedulerRecord, UnitRecord)

encode = _encoder.encode


def decode(item: KeyValue | Event, kind: type[Record]) -> Record:
    """The record of the type `kind` under a key. Raises StoreError, with the key, if the bytes are no such record."""
    try:
        return _decoders[kind].decode(item.value)  # type: ignore[no-any-return]
    except msgspec.MsgspecError as error:
        raise StoreError(f"the record at {item.key} is not a readable {kind.__name__}: {error}") from error
