"""Where executions are: found by the keys that they may have, never by reading all that runs.

An execution has one key at a time. Its id tells that key, but for the machine: it is pending, or in the history, or
among the placements of one of the machines. So a look at one execution, or at what is open of one unit, costs a few
reads, and as many more as there are machines; how much runs there is of no account.

One execution is looked for in two steps, the cheaper first:

1. Among the pending ones, in the history, and at the machine where it is likely: at that which a scheduler in this
   process has in memory, or else at that where it was last found. Neither is believed: memory may be behind the store
   or ahead of it. Only a record that is read counts.
2. At every machine, in one *snapshot*: all reads are as of the same revision. A record that is read anywhere is a true
   answer, but step 1 proves nothing when it finds nothing: an execution that moves between two reads may be missed by
   both. In a snapshot nothing moves, so what is not there does not exist.

What is open of a unit is read in such a snapshot from the start. Memory does not help there: what it lacks because a
watch lags cannot be told from what does not exist.

A machine may be gone and have placements all the same, until a scheduler has settled them. Therefore the *gaps*
between the placements of the machines that are alive are looked at too: the first key that is read in a gap tells a
machine that is gone, or that none is there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice, pairwise, takewhile
from typing import Protocol, TypeVar

from xchronos.errors import Compacted
from xchronos.registry.keys import Keys
from xchronos.store.contract import KeyValue, Store
from xchronos.store.reading import snapshot
from xchronos.store.recent import LruCache

SIDE_BY_SIDE = 16
"""How many reads of one search are under way together."""

REMEMBERED = 1_000
"""Of how many executions it is kept at which machine they were found."""

T = TypeVar("T")


class Whereabouts(Protocol):
    """Who follows all executions, and so may know where one is without asking the store."""

    async def machine_of(self, execution_id: str) -> str | None:
        """The machine that probably has an execution; empty: probably none has it; None: there is nothing to tell."""
        ...


class ExecutionFinder:
    """Finds the records of executions in one namespace of a store. Every method may raise StoreError."""

    def __init__(self, store: Store, keys: Keys, whereabouts: Whereabouts | None = None) -> None:
        self._store = store
        self._keys = keys
        self._whereabouts = whereabouts
        self._found_at: LruCache[str, str] = LruCache(REMEMBERED)

    async def find(self, execution_id: str) -> KeyValue | None:
        """The record of an execution, open or ended. None: it did not exist at a moment after the call."""
        item = await self._find_where_likely(execution_id)
        if item is None:
            item = await _in_snapshot(lambda: self._find_anywhere(execution_id))
        if item is not None and item.key.startswith(self._keys.placements):
            self._found_at.put(execution_id, self._keys.split_placement(item.key)[0])
        return item

    async def of_unit(self, unit: str) -> list[KeyValue]:
        """The records of a unit's executions that have not ended, as of one moment after the call; in no order."""
        return await _in_snapshot(lambda: self._read_unit(unit))

    async def open_items(self, target: str) -> list[KeyValue]:
        """The records of what has not ended, as of one moment after the call.

        `target` is a unit, an execution's id, or empty for all; only the last reads all that runs.
        """
        if not target:
            return await _in_snapshot(self._read_all)
        if "/" not in target:
            return await self.of_unit(target)
        item = await self.find(target)
        return [] if item is None or item.key.startswith(self._keys.executions) else [item]

    # -- one execution ------------------------------------------------------------------------------------------------

    async def _find_where_likely(self, execution_id: str) -> KeyValue | None:
        keys = self._keys
        machine = await self._whereabouts.machine_of(execution_id) if self._whereabouts is not None else None
        if machine is None:
            machine = self._found_at.get(execution_id)
        places = [keys.placement(machine, execution_id)] if machine else []
        places += [keys.pending_execution(execution_id), keys.execution(execution_id)]
        items = await asyncio.gather(*(self._store.get(place) for place in places))
        # What moves meanwhile may be read at two places: then the later one is the truth, and the end above all
        # (`test_what_ends_after_it_was_read_where_it_waited_is_found_ended` in tests/registry/test_moving.py).
        return next((item for item in reversed(items) if item is not None), None)

    async def _find_anywhere(self, execution_id: str) -> KeyValue | None:
        keys = self._keys
        key = keys.pending_execution(execution_id)
        page = await self._store.range(key, limit=1)
        revision = page.revision
        item = _named(key, page.items) or await self._read(keys.execution(execution_id), revision)
        if item is None:
            alive = await self._machines_alive()
            item = await self._find_placed(execution_id, alive, revision)
        if item is None:
            item = await self._find_placed(execution_id, await self._machines_gone(alive, revision), revision)
        return item

    async def _find_placed(self, execution_id: str, machines: Iterable[str], revision: int) -> KeyValue | None:
        for some in _parts(machines):
            keys = [self._keys.placement(machine, execution_id) for machine in some]
            for item in await asyncio.gather(*(self._read(key, revision) for key in keys)):
                if item is not None:
                    return item
        return None

    async def _read(self, key: str, revision: int) -> KeyValue | None:
        """The key as it was. Of those that begin with it, it is the first."""
        return _named(key, (await self._store.range(key, limit=1, revision=revision)).items)

    # -- several executions -------------------------------------------------------------------------------------------

    async def _read_unit(self, unit: str) -> list[KeyValue]:
        keys = self._keys
        found, revision = await self._read_under(f"{keys.pending}{unit}/")
        alive = await self._machines_alive()
        for some in _parts((*alive, *await self._machines_gone(alive, revision))):
            prefixes = [f"{keys.machine_placements(machine)}{unit}/" for machine in some]
            for items, _ in await asyncio.gather(*(self._read_under(prefix, revision) for prefix in prefixes)):
                found += items
        return found

    async def _read_all(self) -> list[KeyValue]:
        found, revision = await self._read_under(self._keys.pending)
        return found + (await self._read_under(self._keys.placements, revision))[0]

    async def _read_under(self, prefix: str, revision: int = 0) -> tuple[list[KeyValue], int]:
        """Everything under a prefix, and as of which revision."""
        found: list[KeyValue] = []
        async for page in snapshot(self._store, prefix, revision=revision):
            found += page.items
            revision = page.revision
        return found, revision

    # -- machines -----------------------------------------------------------------------------------------------------

    async def _machines_alive(self) -> list[str]:
        """The machines that have a record, as of now: one that joins or goes meanwhile makes another gap, or none."""
        prefix = self._keys.machines
        alive: list[str] = []
        async for page in snapshot(self._store, prefix, keys_only=True):
            alive += (item.key[len(prefix) :] for item in page.items)
        return alive

    async def _machines_gone(self, alive: Collection[str], revision: int) -> list[str]:
        """The other machines that have placements: they are found in the gaps between those of the machines alive."""
        names = sorted(f"{machine}/" for machine in alive)
        gaps = pairwise(("", *names, ""))
        gone: list[str] = []
        for some in _parts(gaps):
            for machines in await asyncio.gather(*(self._in_gap(before, end, revision) for before, end in some)):
                gone += machines
        return gone

    async def _in_gap(self, before: str, end: str, revision: int) -> list[str]:
        """The machines that have placements between those of two machines.

        Both are names with their slash; empty: there is no machine on that side.
        """
        placements = self._keys.placements
        begin = _after(before)
        # What lies between two names begins as both do: where the store counts all that is in a range, this is little
        # (`test_machines_that_are_gone_are_found_whatever_their_names` in tests/registry/test_finding.py).
        prefix = placements + _shared(begin, end)
        found: list[str] = []
        while True:
            page = await self._store.range(prefix, start=placements + begin, limit=1, keys_only=True, revision=revision)
            if not page.items or (end and page.items[0].key >= placements + end):
                return found
            machine = self._keys.split_placement(page.items[0].key)[0]
            found.append(machine)
            begin = _after(machine + "/")


def _after(name: str) -> str:
    """What sorts right after everything that begins with a machine's name and slash: `0` is the sign after `/`."""
    return name[:-1] + "0" if name else ""


def _shared(one: str, other: str) -> str:
    """What both begin with."""
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _named(key: str, items: Sequence[KeyValue]) -> KeyValue | None:
    return items[0] if items and items[0].key == key else None


def _parts(names: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(names)
    while part := list(islice(rest, SIDE_BY_SIDE)):
        yield part


async def _in_snapshot(read: Callable[[], Awaitable[T]]) -> T:
    """Read as of one moment. When the store has forgotten that moment by now, another one is taken."""
    while True:
        try:
            return await read()
        except Compacted:
            continue
