"""The shards that a session decides for: those that are owned, and of which it knows everything that counts.

Between the term's begin and the first decision lies the *adoption*: the shard's cursors are read, the units that have
changed meanwhile are found, and what its executions need is noted. It is complete when

- the cursors are as of the term's begin or later: former owners can write nothing any more;
- every move of an execution before the term's begin is in memory, which a *pulse* tells: a key of our own, written
  behind the term, that the watch of all executions brings in its order;
- whatever happens to a unit while its shard is being read is noted, and looked at behind it.

Meanwhile all other shards go on.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping

import msgspec
import structlog

from xchronos.clock import Instant, to_instant
from xchronos.engine.informer import Informer, readable
from xchronos.engine.lost_machines import LostMachines
from xchronos.engine.shards.ownership import Ownership
from xchronos.engine.state.context import SchedulerContext, SessionMemory
from xchronos.engine.state.due_queue import UnitCursor
from xchronos.engine.state.open_execution import OpenExecution
from xchronos.errors import LeaseLost, StoreUnavailable
from xchronos.model.records import Execution, Schedule
from xchronos.registry.keys import shard_of, unit_of
from xchronos.registry.units import Loaded
from xchronos.scheduler.acceptance import is_to_accept
from xchronos.scheduler.eviction import replaces_others
from xchronos.scheduler.view import undecided
from xchronos.store.contract import Event, Guard, Put, Txn
from xchronos.store.reading import pages

log = structlog.get_logger(__name__)


WARM = 2_048
"""How many units are made ready before the first decision."""


class _Shard(msgspec.Struct):
    """What was read about a shard: cursors with where round-robin went last, and the revisions of its units."""

    cursors: dict[str, tuple[UnitCursor, str]]
    units: dict[str, int]


class ShardAdoption:
    """Adopts the shards that are gained and forgets those that are lost."""

    def __init__(
        self,
        context: SchedulerContext,
        memory: SessionMemory,
        ownership: Ownership,
        informer: Informer,
        lost_machines: LostMachines,
    ) -> None:
        self._store = context.store
        self._keys = context.keys
        self._clock = context.clock
        self._ttl = context.ttl
        self._machine = context.machine
        self._ownership = ownership
        self._cluster = memory.cluster
        self._work = memory.work
        self._units = memory.units
        self._reader = context.reader
        self._unreadable = memory.unreadable
        self._informer = informer
        self._lost_machines = lost_machines
        self._adopted: dict[int, Guard] = {}
        self._least = 0
        self._changed = asyncio.Event()
        self.settled = asyncio.Event()
        """Set once everything owned has been adopted."""

    def fence(self, unit: str) -> Guard | None:
        """The guard of every write about a unit; None when it is not for this session to decide about it.

        It is none for a unit that cannot be read here, so nothing that this process lacks is written down.
        """
        number = shard_of(unit)
        fence = self._adopted.get(number)
        if fence is None or self._ownership.fences.get(number) is not fence or unit in self._unreadable:
            return None
        return fence

    def owns(self, unit: str) -> bool:
        """Whether the unit's shard is this session's, even if the unit cannot be read here."""
        number = shard_of(unit)
        fence = self._adopted.get(number)
        return fence is not None and self._ownership.fences.get(number) is fence

    def changed(self) -> None:
        """The set of owned shards has changed."""
        self._changed.set()

    def again(self) -> None:
        """What is noted about these shards is incomplete: adopt all of them anew."""
        self._forget(set(self._adopted))
        self._changed.set()

    async def run(self, least: int) -> None:
        """Follow the ownership. `least` is as of when the last execution in memory was read. Never returns."""
        self._least = least
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            owned = self._ownership.fences
            if lost := {number for number, fence in self._adopted.items() if owned.get(number) is not fence}:
                self._lose(lost)
            gained = {number: fence for number, fence in owned.items() if number not in self._adopted}
            if not gained:
                self.settled.set()
                continue
            # What changes while these are adopted is dealt with behind it.
            self._changed.set()
            try:
                await self._adopt(gained)
            except (StoreUnavailable, LeaseLost) as error:
                log.info("shards are adopted later", reason=str(error))
                await self._clock.sleep(self._ttl // 20)

    # -- losing -------------------------------------------------------------------------------------------------------

    def _lose(self, numbers: Collection[int]) -> None:
        work = self._work
        self._forget(numbers)
        work.cancels = {
            execution_id: reason
            for execution_id, reason in work.cancels.items()
            if shard_of(unit_of(execution_id)) not in numbers
        }

    def _forget(self, numbers: Collection[int]) -> None:
        for number in numbers:
            del self._adopted[number]
            for unit in self._cluster.cursors.drop_shard(number):
                self._cluster.last_machine.pop(unit, None)

    # -- gaining ------------------------------------------------------------------------------------------------------

    async def _adopt(self, gained: Mapping[int, Guard]) -> None:
        noted: list[Event] = []
        self._informer.noted = noted
        try:
            await self._catch_up(max(fence.revision for fence in gained.values()))
            found, revision = await self._read(gained)
            await self._warm_up(found.values())
            mine = await self._enter(gained, found)
        finally:
            self._informer.noted = None
        self._note_executions({number: found[number].units for number in mine}, revision)
        self._replay(noted, revision, mine)
        log.info("shards adopted", shards=sorted(mine), units=sum(len(found[number].cursors) for number in mine))
        self._work.wake()

    async def _catch_up(self, term: int) -> None:
        """Wait until whatever was written before the term, and whatever else has been read, is in memory."""
        least = max(term, self._least)
        if self._informer.seen < least:
            lease = self._ownership.lease.id
            if not lease:
                # The shards went with it; and a pulse that is bound to no lease would stay for ever.
                raise LeaseLost("there is no scheduler lease just now")
            pulse = Put(self._keys.pulse(self._machine), str(least).encode(), lease)
            await self._informer.reach((await self._store.commit(Txn((), (pulse,)))).revision)

    async def _read(self, gained: Mapping[int, Guard]) -> tuple[dict[int, _Shard], int]:
        """The shards, and as of when at least their units are."""
        least = max(fence.revision for fence in gained.values())
        found = {number: _Shard({}, {}) for number in gained}
        # Nobody else can write these cursors any more, so it is all the same of which moment each page is.
        prefix = len(self._keys.schedules)
        async for page in pages(self._store, self._keys.schedules, least=least):
            for item in page.items:
                name = item.key[prefix:]
                shard = found.get(shard_of(name))
                if shard is None:
                    continue
                schedule = readable(item, Schedule)
                if schedule is None:
                    self._unreadable.schedule(name, "its cursor cannot be read")
                else:
                    self._unreadable.forget_schedule(name)
                    cursor = UnitCursor(schedule, item.mod_revision, item.value)
                    shard.cursors[schedule.unit] = cursor, schedule.last_machine
        revision, prefix = 0, len(self._keys.jobs)
        async for page in pages(self._store, self._keys.jobs, keys_only=True, least=least):
            revision = revision or page.revision
            for item in page.items:
                name = item.key[prefix:]
                if (shard := found.get(shard_of(name))) is not None:
                    shard.units[name] = item.mod_revision
        return found, revision

    async def _warm_up(self, shards: Iterable[_Shard]) -> None:
        """Have at hand the units that are wanted at once: the turn that decides about them must not wait for them."""
        soon = self._clock.now() + self._ttl
        wanted = [
            unit
            for shard in shards
            for unit, (cursor, _) in shard.cursors.items()
            if (cursor.next is not None and cursor.next < soon) or self._is_to_accept(cursor, shard.units.get(unit, 0))
        ]
        await self._units.get_many(sorted(wanted)[:WARM])

    async def _enter(self, gained: Mapping[int, Guard], found: Mapping[int, _Shard]) -> set[int]:
        """Take in what was read, a shard at a time. Returns those that are still owned."""
        cluster, work = self._cluster, self._work
        mine: set[int] = set()
        for number, fence in gained.items():
            if self._ownership.fences.get(number) is not fence:
                continue
            shard = found[number]
            for unit, (cursor, last_machine) in shard.cursors.items():
                cluster.cursors.add(unit, cursor)
                if last_machine:
                    cluster.last_machine[unit] = last_machine
            work.gone.update(shard.cursors.keys() - shard.units.keys())
            for unit, revision in shard.units.items():
                known = shard.cursors.get(unit)
                if known is None or self._is_to_accept(known[0], revision):
                    work.changed[unit] = None
            self._adopted[number] = fence
            mine.add(number)
            work.wake()
            await asyncio.sleep(0)
        return mine

    def _is_to_accept(self, cursor: UnitCursor, revision: int) -> bool:
        return is_to_accept(cursor.schedule, revision, rules_hold=self._reader.holds(cursor.schedule.rules))

    def _note_executions(self, units: Mapping[int, Mapping[str, int]], revision: int) -> None:
        """Note what there is to do about the executions of units of these shards, which are as of `revision`."""
        cluster, work, now = self._cluster, self._work, self._clock.now()
        for execution_id, entry in cluster.open.items():
            if entry.machine and replaces_others(entry.unit):
                # Whom it replaces may be ours now.
                cluster.displacing.add((entry.machine, execution_id))
            unit = unit_of(execution_id)
            known = units.get(shard_of(unit))
            if known is None:
                continue
            if unit not in known:
                # What is newer than the list of units may be of a unit that is newer, too: the store is asked.
                (work.gone if entry.revision <= revision else work.refused).add(unit)
            self._note(execution_id, entry, now)
        work.changed_machines.update(cluster.machines)
        cluster.arrived.update(cluster.followers)
        work.retry_waiting = True

    def _note(self, execution_id: str, entry: OpenExecution, now: Instant) -> None:
        cluster, work = self._cluster, self._work
        if not entry.machine:
            if _needs_a_look(entry.execution, cluster.reached(entry, now)):
                work.look.add(execution_id)
            else:
                cluster.remind(execution_id, now)
        elif entry.reported:
            work.reported.add(execution_id)
        elif entry.machine not in cluster.machines:
            self._lost_machines.missing(entry.machine)

    def note_unit(self, unit: str) -> None:
        """Note what there is to do about a unit that could not be read: nothing of it was noted meanwhile."""
        cluster, work, now = self._cluster, self._work, self._clock.now()
        known = self._units.peek(unit)
        for execution_id in cluster.of_unit(unit):
            entry = cluster.open[execution_id]
            if entry.machine and entry.unit is None and isinstance(known, Loaded):
                cluster.learn(execution_id, entry, known.unit)
            self._note(execution_id, entry, now)
            if entry.machine:
                work.changed_machines.add(entry.machine)
        if unit in cluster.cursors.everywhere:
            work.spread.add(unit)
        work.refused.add(unit)
        work.retry_waiting = True

    def _replay(self, noted: list[Event], revision: int, mine: Collection[int]) -> None:
        """What has happened to units behind what was read of them, when nobody decided about them yet."""
        prefix = len(self._keys.jobs)
        for event in noted:
            if event.mod_revision > revision and shard_of(event.key[prefix:]) in mine:
                self._informer.take_unit(event)


def _needs_a_look(execution: Execution, now: Instant) -> bool:
    """Whether anything may have to be done about an execution without a machine, but for finding it one.

    What waits is looked at as all that waits, and what pauses when its time comes: they may be many.
    """
    if execution.stop_requested or (execution.deadline is not None and to_instant(execution.deadline) < now):
        return True
    if execution.state == "delayed" and execution.due_at is not None and not undecided(execution):
        return to_instant(execution.due_at) <= now
    return execution.state != "waiting"
