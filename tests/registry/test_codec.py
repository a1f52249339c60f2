"""Records that a newer xchronos has written are recognised as such, and never taken for something else."""

import json

import msgspec
import pytest

from tests.model.test_stored_records import SAMPLES
from xchronos.errors import StoreError
from xchronos.model.records import UnitRecord
from xchronos.registry.codec import FORMAT, decode, encode
from xchronos.store.contract import KeyValue


def stored(value: bytes) -> KeyValue:
    return KeyValue("/xchronos/somewhere", value, 1, 1)


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_a_record_of_a_newer_format_is_refused_and_one_without_a_format_is_read(record):
    kind = type(record)
    assert decode(stored(encode(record)), kind) == record
    newer = stored(json.dumps({**msgspec.json.decode(encode(record)), "v": FORMAT + 1}).encode())
    with pytest.raises(
        StoreError, match=rf"/xchronos/somewhere has the format {FORMAT + 1}, .* a newer one has written"
    ):
        decode(newer, kind)


def test_what_is_no_record_is_refused_with_its_key():
    with pytest.raises(StoreError, match=r"/xchronos/somewhere is not a readable"):
        decode(stored(b"TEXT"), UnitRecord)
