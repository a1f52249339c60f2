"""Removing a record that cannot be read: by its key, because it tells nothing else."""

from typing import Any

from xchronos.errors import Conflict, NotFound
from xchronos.model.records import Execution, Machine, MachineWish, Schedule, UnitRecord
from xchronos.registry.codec import readable
from xchronos.registry.keys import Keys
from xchronos.store.contract import Delete, Guard, Operation, Put, Store, Txn
from xchronos.unitfile.names import is_valid_name


async def remove_unreadable(store: Store, keys: Keys, key: str) -> None:
    """Remove a record that cannot be read, by its key.

    Raises NotFound, and Conflict for a record that can be read: other commands are for that.
    """
    kinds: dict[str, Any] = {
        keys.jobs: UnitRecord,
        keys.machines: Machine,
        keys.wishes: MachineWish,
        keys.schedules: Schedule,
        keys.pending: Execution,
        keys.placements: Execution,
        keys.executions: Execution,
    }
    prefix = next((prefix for prefix in kinds if key.startswith(prefix)), "")
    item = await store.get(key) if prefix else None
    if item is None:
        raise NotFound(f"there is no record at {key}")
    named = prefix != keys.jobs or is_valid_name(item.key[len(prefix) :])
    if named and readable([item], kinds[prefix]):
        raise Conflict(f"the record at {key} can be read: remove what it says, a unit for example, by its name")
    operations: list[Operation] = [Delete(item.key)]
    guards = [Guard(item.key, item.mod_revision)]
    if prefix == keys.schedules:
        # Nobody follows cursors. The unit's record is written as it is, and so its scheduler looks at it anew.
        job = await store.get(keys.job(item.key[len(prefix) :]))
        if job is not None:
            operations.append(Put(job.key, job.value))
            guards.append(Guard(job.key, job.mod_revision))
    if not (await store.commit(Txn(tuple(guards), tuple(operations)))).succeeded:
        raise Conflict(f"the record at {key} was changed meanwhile: look at it again")
