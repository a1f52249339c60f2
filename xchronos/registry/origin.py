"""Where a unit comes from, in words.

The file of a directory brings a unit back after it was destroyed, a submission does not.
Nothing is decided here. Whose file counts when two machines have one of the same name, `intake.plan.judge` decides.
"""

from xchronos.errors import StoreError
from xchronos.model.records import UnitRecord
from xchronos.registry.codec import decode
from xchronos.store.contract import KeyValue

DIRECTORY = "directory:"
"""How the source of a unit begins that comes from a directory; its path follows."""


def readable_record(item: KeyValue) -> UnitRecord:
    """A unit's record; an empty one where it cannot be read, so that it can be removed."""
    try:
        return decode(item, UnitRecord)
    except StoreError:
        return UnitRecord()


def origin_of(name: str, record: UnitRecord) -> str:
    """The file of a directory that a unit comes from, and on which machine, in words; empty where it is none."""
    if not record.source.startswith(DIRECTORY):
        return ""
    file = record.file or f"{record.source.removeprefix(DIRECTORY)}/{name}"
    machine = record.submitted_by.removeprefix("intake@") if record.submitted_by.startswith("intake@") else ""
    return f"the file {file}" + (f" on {machine}" if machine else "")
