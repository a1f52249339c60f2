"""What the store's watches bring into memory and the work queue: units, machines, and every move of an execution.

A watch that breaks is resumed where it broke, so an outage of the store costs nothing but the news that it delays.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random

import structlog

from xchronos.clock import MILLISECOND, SECOND
from xchronos.engine.lost_machines import LostMachines
from xchronos.engine.state.context import HistoryListener, SchedulerContext, SessionMemory
from xchronos.engine.state.open_execution import MemoryAction, OpenExecution, keeps_room
from xchronos.errors import StoreError, StoreUnavailable
from xchronos.model.records import Execution, Machine, Reading
from xchronos.registry.codec import Record, decode
from xchronos.registry.keys import unit_of
from xchronos.registry.units import Found, Loaded
from xchronos.scheduler.view import fire_prefix
from xchronos.store.contract import Event, KeyValue, WatchBatch
from xchronos.store.reading import pages

log = structlog.get_logger(__name__)

AT_ONCE = 256
"""How much news is taken in before others get a turn."""


class Informer:
    """Fills the memory, and keeps it filled. `history` is told of what an agent has brought to its end.

    Attributes:
        seen: Up to which revision every move of an execution is in memory.
        noted: Where the events of units are kept besides, while somebody reads what they may be about.
    """

    def __init__(
        self,
        context: SchedulerContext,
        memory: SessionMemory,
        lost_machines: LostMachines,
        history: HistoryListener,
    ) -> None:
        self._store = context.store
        self._keys = context.keys
        self._clock = context.clock
        self._cluster = memory.cluster
        self._work = memory.work
        self._units = memory.units
        self._copy_history = memory.copies
        self._unreadable = memory.unreadable
        self._lost_machines = lost_machines
        self._history = history
        self._random = Random(context.machine)  # noqa: S311 - spreads schedulers, keeps no secret
        self._loaded = asyncio.Event()
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        self.seen = 0
        self.noted: list[Event] | None = None

    # -- reading ------------------------------------------------------------------------------------------------------

    async def read_machines(self) -> int:
        """Take in the machines. Returns the revision behind which everything else is to be followed."""
        page = await self._store.range(self._keys.machines)
        for item in page.items:
            self._cluster.set_machine(readable(item, Machine) or _closed(item.key[len(self._keys.machines) :]))
        self.seen = page.revision
        return page.revision

    async def read_executions(self) -> int:
        """Take in all executions that have not ended, and let the watches go on. Returns as of when the last ones are.

        Pages are of different moments, and what moves meanwhile may be on none of them, or on two: the watches, which
        begin before the first one, put that right.
        """
        revision = self.seen
        for prefix in (self._keys.pending, self._keys.placements):
            async for page in pages(self._store, prefix, least=self.seen):
                revision = page.revision
                units = await self._units.get_many(sorted({unit for item in page.items if (unit := self._unit(item))}))
                for item in page.items:
                    self._take_put(item, *self._keys.locate(item.key), units)
        self._loaded.set()
        return revision

    def _unit(self, item: KeyValue) -> str:
        """The unit of which it has to be known what it asks of a machine; empty where no machine is concerned."""
        machine, execution_id = self._keys.locate(item.key)
        return unit_of(execution_id) if machine or keeps_room(item.value) else ""

    def _take_put(
        self, item: KeyValue | Event, machine: str, execution_id: str, units: Mapping[str, Found]
    ) -> MemoryAction:
        """Take in a record that was read or watched. Returns what was done."""
        action = self._cluster.watched_put(execution_id, machine, item)
        if action == "enter":
            execution = readable(item, Execution)
            if execution is None:
                self._unreadable.execution(unit_of(execution_id), execution_id, f"the record at {item.key}")
                return action
            self._is_readable(execution_id)
            loaded = units.get(unit_of(execution_id)) if machine or execution.home else None
            if machine and machine not in self._cluster.machines:
                self._lost_machines.missing(machine)
            unit = loaded.unit if isinstance(loaded, Loaded) else None
            # What has a machine is read again when something is to be decided about it: until then its bytes are less.
            known = item if machine else execution
            self._cluster.put(execution_id, OpenExecution(machine, known, item.mod_revision, unit))
        elif action == "update":
            if self._cluster.open[execution_id].readable:
                self._is_readable(execution_id)
            else:
                self._unreadable.execution(unit_of(execution_id), execution_id, f"the record at {item.key}")
        return action

    def _is_readable(self, execution_id: str) -> None:
        """The execution's record can be read, or is gone: its unit may be decided about again."""
        unit = unit_of(execution_id)
        if self._unreadable.forget_execution(unit, execution_id):
            self._work.again.add(unit)
            self._work.wake()

    # -- following ----------------------------------------------------------------------------------------------------

    async def follow_units(self, revision: int) -> None:
        """Follow the units' records from a revision on; never returns. Raises Compacted when too far behind."""
        await self._follow(self._keys.jobs, revision, self._take_units)

    async def follow_machines(self, revision: int) -> None:
        """Follow the machines' records from a revision on; never returns. Raises Compacted when too far behind."""
        await self._follow(self._keys.machines, revision, self._take_machines)

    async def follow_executions(self, revision: int) -> None:
        """Follow the moves of executions from a revision on; never returns. Raises Compacted when too far behind."""
        await self._follow(self._keys.live, revision, self._take_executions)

    async def reach(self, revision: int) -> None:
        """Wait until every move of an execution up to a revision is in memory."""
        if self.seen < revision:
            future = asyncio.get_running_loop().create_future()
            self._awaited.append((revision, future))
            await future

    async def _follow(self, prefix: str, revision: int, take: Callable[[WatchBatch], Awaitable[None]]) -> None:
        while True:
            try:
                async with self._store.watch(prefix, revision=revision) as batches:
                    # What is read meanwhile must not be older than what a watch has changed.
                    await self._loaded.wait()
                    async for batch in batches:
                        await take(batch)
                        revision = batch.revision + 1
            except StoreUnavailable as error:
                log.info("a watch is interrupted and will be resumed", prefix=prefix, reason=str(error))
            await self._pause()

    async def _load(self, names: Sequence[str]) -> Mapping[str, Found]:
        """Units, however long it takes: what has happened to an execution cannot be left out."""
        while True:
            try:
                return await self._units.get_many(names)
            except StoreUnavailable:
                await self._pause()

    async def _pause(self) -> None:
        await self._clock.sleep(self._random.randrange(200 * MILLISECOND, SECOND))

    async def _take_units(self, batch: WatchBatch) -> None:
        if self.noted is not None:
            self.noted += batch.events
        for event in batch.events:
            self.take_unit(event)

    def take_unit(self, event: Event) -> None:
        """A unit's record is new, has changed, or is gone."""
        work, name = self._work, event.key[len(self._keys.jobs) :]
        if event.kind == "delete":
            self._units.forget(name)
            # What its cursor says is nothing to a unit that is destroyed: it need not be read to be removed.
            self._unreadable.forget_schedule(name)
            work.changed.pop(name, None)
            work.gone.add(name)
        else:
            self._units.changed(name, _item(event))
            if name in self._unreadable and self._units.peek(name) is not None:
                # It is read immediately: who says that it cannot be read has to know whether that is still so.
                work.again.add(name)
            work.gone.discard(name)
            work.changed[name] = None
        work.wake()

    async def _take_machines(self, batch: WatchBatch) -> None:
        for event in batch.events:
            self._take_machine(event)

    def _take_machine(self, event: Event) -> None:
        machine = event.key[len(self._keys.machines) :]
        if event.kind == "delete":
            self._cluster.drop_machine(machine)
            self._lost_machines.gone(machine)
            # A copy that waits for this machine alone is over.
            self._work.retry_waiting = True
        else:
            record = readable(event, Machine)
            if record is not None:
                self._cluster.set_machine(record)
                self._work.changed_machines.add(machine)
            elif machine not in self._cluster.machines:
                self._cluster.set_machine(_closed(machine))
            self._work.retry_waiting = True
        self._work.wake()

    async def _take_executions(self, batch: WatchBatch) -> None:
        news: list[tuple[Event, str, str]] = []
        asked: set[str] = set()
        left: set[str] = set()
        pulses, locate, known_now = self._keys.pulses, self._keys.locate, self._cluster.open
        for event in batch.events:
            if event.key.startswith(pulses):
                continue
            machine, execution_id = locate(event.key)
            news.append((event, machine, execution_id))
            if event.kind == "delete":
                left.add(execution_id)
            elif machine:
                known = known_now.get(execution_id)
                # Of what is new on a machine the unit has to be known, for the room that it takes. New is also what
                # has left it within the batch and is back, and may be what a write of ours says that it is there.
                if known is None or known.machine != machine or known.busy or execution_id in left:
                    asked.add(unit_of(execution_id))
            elif keeps_room(event.value):
                asked.add(unit_of(execution_id))
        units = await self._load(sorted(asked)) if asked else {}
        # What a Txn takes from one place and puts into another has not ended.
        moved = {(item[2], item[0].mod_revision) for item in news if item[0].kind != "delete"} if left else frozenset()
        held = bool(self._cluster.cursors.put_off)
        taken = revision = 0
        for event, machine, execution_id in news:
            if taken >= AT_ONCE and event.mod_revision != revision:
                # Between two Txns: what one of them moves is never seen to be nowhere.
                taken = 0
                await asyncio.sleep(0)
            taken, revision = taken + 1, event.mod_revision
            self._take_execution(event, machine, execution_id, units, ended=(execution_id, revision) not in moved)
        if held:
            # Something of what they wait for may have been begun.
            self._work.wake()
        self.seen = max(self.seen, batch.revision)
        waiting, self._awaited = self._awaited, []
        for awaited, future in waiting:
            if awaited > self.seen:
                self._awaited.append((awaited, future))
            elif not future.done():
                future.set_result(None)

    def _take_execution(
        self, event: Event, machine: str, execution_id: str, units: Mapping[str, Found], *, ended: bool
    ) -> None:
        cluster, work = self._cluster, self._work
        known = cluster.open.get(execution_id)
        if event.kind == "delete":
            self._is_readable(execution_id)
            action = cluster.watched_delete(execution_id, machine, event.mod_revision)
            if action == "keep":
                return
            self._copy_history.forget(fire_prefix(execution_id))
            if action == "drop":
                self._left(unit_of(execution_id))
                if machine and ended:
                    self._history.ended(execution_id)
            return
        action = self._take_put(event, machine, execution_id, units)
        if action == "enter":
            work.note(execution_id, cluster)
            if known is not None and known.machine:
                # It was there by a write of ours only, and somebody else's was sooner.
                work.left(unit_of(execution_id), cluster)
            work.wake()
        elif action == "update":
            assert known is not None
            if known.reported:
                work.reported.add(execution_id)
                work.wake()
            elif execution_id in work.cancels:
                work.wake()

    def _left(self, unit: str) -> None:
        """An execution of the unit is no longer where it was."""
        self._work.left(unit, self._cluster)
        if unit in self._work.gone:
            self._work.wake()


def readable(item: KeyValue | Event, kind: type[Record]) -> Record | None:
    """A record; None, and a line in the log, when it cannot be read: one bad record must not stop all the others."""
    try:
        return decode(item, kind)
    except StoreError as error:
        log.warning("an unreadable record is left alone", reason=str(error))
        return None


def _closed(machine: str) -> Machine:
    """A machine whose record cannot be read: it is alive, and gets nothing new from here."""
    return Machine(machine, cordoned=True, cordon_reason="its record cannot be read here", reads=Reading(level=0))


def _item(event: Event) -> KeyValue:
    return KeyValue(event.key, event.value, event.create_revision, event.mod_revision, event.lease)
