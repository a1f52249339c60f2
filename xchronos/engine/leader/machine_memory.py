"""Which machines the cluster has had: a machine's own record disappears with its lease, and people miss it."""

import msgspec
import structlog

from xchronos.clock import DAY, SECOND, Clock, Instant, Micros, to_datetime, to_instant
from xchronos.engine.informer import readable
from xchronos.engine.leader.duties import LeaderDuty
from xchronos.limits import DOWN_DAYS, DOWN_MACHINES
from xchronos.model.records import KnownMachine, Machine
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys
from xchronos.store.contract import Delete, Guard, KeyValue, Operation, Put, Store, Txn
from xchronos.store.reading import pages

log = structlog.get_logger(__name__)

LOOK_EVERY: Micros = 5 * SECOND
"""How often the leader compares the machines that are alive with those that are known."""


class MachineMemory:
    """Keeps a record of every machine that has joined, with the instant at which it was found to be down.

    One that has been down for DOWN_DAYS is forgotten, and so are the first of more than DOWN_MACHINES.
    """

    def __init__(self, store: Store, keys: Keys, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock

    @property
    def duty(self) -> LeaderDuty:
        """What the leader has to do."""
        return LeaderDuty("machine memory", LOOK_EVERY, self.run)

    async def run(self, guard: Guard) -> None:
        """Look once. Raises StoreError."""
        known = await self._read(self._keys.known_machines)
        # Read after what is known: a machine that joins in between is alive.
        alive = await self._read(self._keys.machines)
        changes = self._changes(alive, known, self._clock.now())
        room = min(self._store.max_operations, self._store.max_operations - 1)
        for first in range(0, len(changes), room):
            part = changes[first : first + room]
            # Whoever has written one of them meanwhile (somebody who forgets it) is right: it is looked at again.
            guards = [Guard(key, revision) for key, revision, _ in part]
            await self._store.commit(Txn((guard, *guards), [operation for _, _, operation in part]))

    async def _read(self, prefix: str) -> dict[str, KeyValue]:
        return {item.key[len(prefix) :]: item async for page in pages(self._store, prefix) for item in page.items}

    def _changes(
        self, alive: dict[str, KeyValue], known: dict[str, KeyValue], now: Instant
    ) -> list[tuple[str, int, Operation]]:
        """The keys to write, each with the revision that it was read at."""
        changes: list[tuple[str, int, Operation]] = []
        down: dict[str, Instant] = {}
        for name in sorted({*alive, *known}):
            key, item = self._keys.known_machines + name, known.get(name)
            revision = item.mod_revision if item is not None else 0
            before = readable(item, KnownMachine) if item is not None else None
            here = alive.get(name)
            after = before
            if here is not None:
                machine = readable(here, Machine)
                after = KnownMachine(_lasting(machine)) if machine is not None else before
            elif before is not None and before.down_since is None:
                log.info("a machine is down", machine=name)
                after = msgspec.structs.replace(before, down_since=to_datetime(now))
            if after is not None and after != before:
                changes.append((key, revision, Put(key, encode(after))))
            elif here is None and before is not None and before.down_since is not None:
                down[name] = to_instant(before.down_since)
        for name in forgotten(down, now):
            key = self._keys.known_machines + name
            changes.append((key, known[name].mod_revision, Delete(key)))
        return changes


def _lasting(machine: Machine) -> Machine:
    """What is worth to be remembered of a machine: not what changes all the time, or is people's wish."""
    return msgspec.structs.replace(
        machine, docker="", docker_since=None, cordoned=False, cordon_reason="", drain_until=None, started_at=None
    )


def forgotten(down: dict[str, Instant], now: Instant) -> list[str]:
    """Which machines that are down are forgotten; `down` says since when each is."""
    first = sorted(down, key=lambda name: (down[name], name))
    many = first[: max(len(first) - DOWN_MACHINES, 0)]
    return [name for name in first if name in many or now - down[name] > DOWN_DAYS * DAY]
