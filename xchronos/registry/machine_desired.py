"""How people want machines to be: metadata, cordons, drains. Such a *wish* is a record apart from the machine's own.

A machine's own record disappears with its lease, and a wish must outlive it. So the wish has a key of its own. If the
machine is alive, the same Txn changes its own record too, and readers never see one without the other
(`test_both_records_are_changed_together_and_the_lease_stays`). The machine also applies the wish whenever it writes its
record.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import msgspec

from xchronos.errors import Conflict, InvalidValue, NotFound
from xchronos.model.metadata import check_metadata, check_number, check_reason
from xchronos.model.records import Machine, MachineWish
from xchronos.registry.codec import BadRecord, decode, encode, readable
from xchronos.registry.keys import Keys
from xchronos.store.contract import Delete, Guard, Operation, Put, Store, Txn

NOTHING = MachineWish()


class DesiredMachines:
    """The operations on wishes. All of them raise NotFound for a machine with neither a record nor a wish."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def all(self, unreadable: list[BadRecord] | None = None) -> dict[str, MachineWish]:
        """All wishes by machine id, whether the machine is alive or not.

        Records that cannot be read are told of in `unreadable`.
        """
        page = await self._store.range(self._keys.wishes)
        found = readable(page.items, MachineWish, unreadable)
        return {item.key[len(self._keys.wishes) :]: wish for item, wish in found}

    async def cordon(self, machine: str, reason: str = "") -> None:
        """Keep new work from a machine. What it has goes on, and a drain under way goes on too.

        Raises InvalidValue for a reason that is too long for every record of the machine.
        """
        check_reason(reason)
        await self._change(machine, lambda wish: msgspec.structs.replace(wish, cordoned=True, cordon_reason=reason))

    async def drain(self, machine: str, until: datetime, reason: str = "") -> None:
        """Cordon a machine and have everything leave it. What runs may end by itself until the instant `until`.

        Raises InvalidValue for a reason that is too long for every record of the machine.
        """
        check_reason(reason)
        await self._change(
            machine,
            lambda wish: msgspec.structs.replace(wish, cordoned=True, cordon_reason=reason, drain_until=until),
        )

    async def uncordon(self, machine: str) -> None:
        """Let a machine have new work again. This ends a drain."""
        await self._change(
            machine,
            lambda wish: msgspec.structs.replace(wish, cordoned=False, cordon_reason="", drain_until=None),
        )

    async def set_metadata(self, machine: str, values: Mapping[str, str], without: Iterable[str] = ()) -> None:
        """Set metadata of a machine, and remove the keys `without`. Both overrule the machine's configuration.

        Raises InvalidValue for a key or value that no unit could ask for or that is too long, for a key that is set
        and removed, and for more of them than a machine may have.
        """
        gone = tuple(without)
        check_metadata((*values.items(), *((key, "-") for key in gone)))
        both = sorted(set(gone) & set(values))
        if both:
            raise InvalidValue(f"{both[0]} is to be set and to be removed: it can only be one of them")
        fresh: dict[str, str | None] = {**values, **dict.fromkeys(gone)}
        await self._change(machine, lambda wish: msgspec.structs.replace(wish, metadata={**wish.metadata, **fresh}))

    async def forget(self, machine: str) -> None:
        """Remove all that is known and wanted of a machine that is gone for good. Raises Conflict while it is alive."""
        while True:
            held = await self._store.get(self._keys.machine(machine))
            item = await self._store.get(self._keys.wish(machine))
            if held is not None:
                raise Conflict(f"{machine} is alive: stop its daemon first, or undo what is wanted of it by itself")
            known = await self._store.get(self._keys.known_machines + machine)
            left = [one for one in (item, known) if one is not None]
            if not left:
                raise NotFound(f"there is no machine {machine}")
            guards = (Guard(self._keys.machine(machine), 0), *(Guard(one.key, one.mod_revision) for one in left))
            if (await self._store.commit(Txn(guards, [Delete(one.key) for one in left]))).succeeded:
                return

    async def _change(self, machine: str, change: Callable[[MachineWish], MachineWish]) -> None:
        key, wish_key = self._keys.machine(machine), self._keys.wish(machine)
        while True:
            held, item = await self._store.get(key), await self._store.get(wish_key)
            if held is None and item is None:
                raise NotFound(f"there is no machine {machine}")
            known = decode(held, Machine) if held is not None else None
            old = decode(item, MachineWish) if item is not None else NOTHING
            wish = _without_idle_words(change(old), known)
            operations: list[Operation] = []
            if item is not None and wish == NOTHING:
                operations.append(Delete(wish_key))
            elif wish != old:
                operations.append(Put(wish_key, encode(wish)))
            check_number(wish.metadata, len(old.metadata))
            if held is not None and known is not None and (fresh := wished(known, wish)) != known:
                check_number(fresh.metadata, len(known.metadata))
                operations.append(Put(key, encode(fresh), held.lease))
            if not operations:
                return
            guards = (
                Guard(key, held.mod_revision if held is not None else 0),
                Guard(wish_key, item.mod_revision if item is not None else 0),
            )
            if (await self._store.commit(Txn(guards, operations))).succeeded:
                return


def wished(machine: Machine, wish: MachineWish | None) -> Machine:
    """The machine's record with a wish applied.

    Another wish may be applied to the result: it gives the same as applied to `machine`. The test
    `test_applying_a_wish_to_what_another_one_made_of_a_machine` pins that.
    """
    wish = wish or NOTHING
    configured = configured_metadata(machine)
    metadata = {**configured, **{key: value for key, value in wish.metadata.items() if value is not None}}
    metadata = {key: value for key, value in metadata.items() if wish.metadata.get(key, value) is not None}
    return msgspec.structs.replace(
        machine,
        metadata=metadata,
        configured=None if metadata == configured else configured,
        cordoned=wish.cordoned,
        cordon_reason=wish.cordon_reason,
        drain_until=wish.drain_until,
    )


def configured_metadata(machine: Machine) -> dict[str, str]:
    """The metadata of a machine's own configuration."""
    return machine.metadata if machine.configured is None else machine.configured


def _without_idle_words(wish: MachineWish, machine: Machine | None) -> MachineWish:
    """The wish without the metadata that the machine's configuration has as well. Unchanged if `machine` is None."""
    if machine is None:
        return wish
    configured = configured_metadata(machine)
    telling = {key: value for key, value in wish.metadata.items() if configured.get(key) != value}
    return msgspec.structs.replace(wish, metadata=telling)
