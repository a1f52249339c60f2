"""Files that intakes have refused, by unit and machine: every API of the cluster can tell of them."""

import msgspec

from xchronos.errors import StoreError
from xchronos.model.records import RefusedFile
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys
from xchronos.store.contract import KeyValue, Store
from xchronos.store.reading import snapshot


class RefusedUnitFile(msgspec.Struct, frozen=True):
    """One refused file: the unit that it would be, and the machine that has it."""

    unit: str
    machine: str
    file: RefusedFile


async def refusals(store: Store, keys: Keys, unit: str = "") -> list[RefusedUnitFile]:
    """The refused files of one unit, or (empty) of all, by unit and machine. Raises StoreUnavailable."""
    found: list[RefusedUnitFile] = []
    async for page in snapshot(store, f"{keys.refused}{unit}/" if unit else keys.refused):
        found.extend(refusal for item in page.items if (refusal := _refusal(keys, item)) is not None)
    return found


def _refusal(keys: Keys, item: KeyValue) -> RefusedUnitFile | None:
    unit, _, machine = item.key[len(keys.refused) :].partition("/")
    try:
        return RefusedUnitFile(unit, machine, decode(item, RefusedFile))
    except StoreError:
        return None  # somebody's unreadable record: it tells of no file
