"""One stretch of scheduling between two readings of the store: read everything, follow the watches, take turns."""

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog

from xchronos.clock import MILLISECOND, SECOND, Clock, Micros
from xchronos.engine.agenda import Agenda
from xchronos.engine.book import Book, Open, fire_prefix
from xchronos.engine.copies import Copies
from xchronos.engine.desk import Desk
from xchronos.engine.firing import MOST_IN_FLIGHT
from xchronos.engine.housekeeping import Housekeeping
from xchronos.engine.metrics import Metrics
from xchronos.engine.ownership import Ownership
from xchronos.engine.turn import Turns
from xchronos.errors import Compacted, StoreError, XchronosError
from xchronos.model.records import Execution, Machine, Schedule
from xchronos.registry.batch import Batcher
from xchronos.registry.codec import Record, decode
from xchronos.registry.keys import Keys, unit_of
from xchronos.registry.units import UnitCache
from xchronos.store.contract import Event, KeyValue, Store

log = structlog.get_logger(__name__)

PAGE = 2_000
LONGEST_WAIT: Micros = SECOND
"""Waiting is on the monotonic clock; at least this often the wall clock is looked at, for it may have been set."""

REFUSED_PAUSE: Micros = 10 * MILLISECOND
"""After a refused write: what it was refused for is on its way, and deciding again before it arrives is in vain."""


class StartOver(XchronosError):  # noqa: N818 - no error of anybody's
    """What is in memory may differ from the store: read everything again."""


class Session:
    """Schedules until something makes what it knows doubtful."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        clock: Clock,
        ttl: Micros,
        ownership: Ownership,
        batcher: Batcher,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._ttl = ttl
        self._ownership = ownership
        self._metrics = metrics
        self._book = Book()
        self._agenda = Agenda()
        self._units = UnitCache(store, keys)
        self._housekeeping = Housekeeping(store, keys, clock, self._units, ownership, batcher)
        ended = self._housekeeping.ended
        self._desk = Desk(self._book, self._agenda, self._units, keys, ownership, batcher, metrics, ended)
        self._copies = Copies(store, keys)
        self._turns = Turns(self._desk, self._copies)
        self._absent: set[str] = set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Read, follow, decide. Ends by an exception only: StartOver, unless there is a defect."""
        try:
            revision = 1 + await self._read()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(self._keys.jobs, revision, self._follow_job), name="watch units")
                group.create_task(
                    self._follow(self._keys.machines, revision, self._follow_machine), name="watch machines"
                )
                group.create_task(
                    self._follow(self._keys.live, revision, self._follow_execution), name="watch executions"
                )
                group.create_task(self._housekeeping.run(), name="housekeeping")
                group.create_task(self._miss_absent(), name="absent machines")
                group.create_task(self._take_turns(), name="turns")
                ready()
        except* (Compacted, StartOver, StoreError) as problems:
            raise StartOver(str(problems.exceptions[0])) from problems

    def hold(self) -> None:
        """Begin nothing new from now on; settle what runs when it ends."""
        self._turns.holding = True

    def has_unsettled(self, machine: str) -> bool:
        """Whether something that was begun on a machine has not been settled yet."""
        return self._desk.in_flight > 0 or any(
            entry.execution.state in ("running", "reported") for _, entry in self._book.on_machine(machine)
        )

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _read(self) -> int:
        """Everything at one revision, in as many requests as there are pages."""
        page = await self._store.range(self._keys.machines)
        revision = page.revision
        for item in page.items:
            machine = _readable(item, Machine)
            if machine is not None:
                self._book.set_machine(machine)
        async for item in self._pages(self._keys.schedules, revision):
            schedule = _readable(item, Schedule)
            if schedule is not None and self._ownership.fence(schedule.unit) is not None:
                self._set_cursor(schedule, item)
        living = await self._read_units(revision)
        async for item in self._pages(self._keys.pending, revision):
            await self._enter(item)
        async for item in self._pages(self._keys.placements, revision):
            await self._enter(item)
        known = self._book.cursors.known
        open_units = {unit_of(execution_id) for execution_id in self._book.open}
        self._agenda.gone.update(name for name in (*known, *open_units) if name not in living)
        self._agenda.freed.update(self._book.queued)
        self._agenda.retry_waiting = True
        log.info(
            "scheduler has read the store",
            units=len(known),
            changed=len(self._agenda.changed),
            executions=len(self._book.open),
        )
        return revision

    async def _read_units(self, revision: int) -> set[str]:
        """The names of all units; those of ours that no cursor knows yet are noted as changed."""
        living: set[str] = set()
        prefix, known = len(self._keys.jobs), self._book.cursors.known
        async for item in self._pages(self._keys.jobs, revision, keys_only=True):
            name = item.key[prefix:]
            living.add(name)
            cursor = known.get(name)
            if cursor is None or cursor.unit_revision != item.mod_revision:
                self._agenda.changed.add(name)
        return living

    async def _pages(self, prefix: str, revision: int, *, keys_only: bool = False) -> AsyncIterator[KeyValue]:
        start = ""
        while True:
            page = await self._store.range(prefix, start=start, limit=PAGE, keys_only=keys_only, revision=revision)
            for item in page.items:
                yield item
            if not page.more:
                return
            start = page.items[-1].key + "\0"

    def _set_cursor(self, schedule: Schedule, item: KeyValue) -> None:
        self._book.cursors.set(schedule.unit, schedule, item.mod_revision, item.value)
        if schedule.last_machine:
            self._book.last_machine[schedule.unit] = schedule.last_machine

    async def _enter(self, item: KeyValue) -> None:
        """Take in an execution that the book does not have where it is."""
        machine, execution_id = self._keys.locate(item.key)
        if _readable(item, Execution) is None:
            return
        unit = None
        if machine:
            loaded = await self._units.get(unit_of(execution_id))
            unit = loaded.unit if loaded is not None else None
            if machine not in self._book.machines:
                self._absent.add(machine)
        entry = Open(machine, item, item.mod_revision, unit)
        self._book.put(execution_id, entry)
        if not machine:
            self._agenda.look.add(execution_id)
        elif entry.reported:
            self._agenda.reported.add(execution_id)

    # -- following ----------------------------------------------------------------------------------------------------

    async def _follow(self, prefix: str, revision: int, take: "Callable[[Event], KeyValue | None]") -> None:
        async with self._store.watch(prefix, revision=revision) as batches:
            async for batch in batches:
                for event in batch.events:
                    new = take(event)
                    if new is not None:
                        await self._enter(new)
                        self._agenda.wake()
        raise StartOver(f"the watch of {prefix} has ended")

    def _follow_job(self, event: Event) -> None:
        name = event.key[len(self._keys.jobs) :]
        if event.kind == "delete":
            self._units.forget(name)
            self._agenda.changed.discard(name)
            self._agenda.gone.add(name)
        else:
            self._units.changed(name, _item(event))
            self._agenda.gone.discard(name)
            self._agenda.changed.add(name)
        self._agenda.wake()

    def _follow_machine(self, event: Event) -> None:
        machine = event.key[len(self._keys.machines) :]
        if event.kind == "delete":
            self._book.drop_machine(machine)
            self._agenda.lost_machines.add(machine)
        else:
            record = _readable(_item(event), Machine)
            if record is not None:
                self._book.set_machine(record)
            self._agenda.retry_waiting = True
        self._agenda.wake()

    def _follow_execution(self, event: Event) -> KeyValue | None:
        """Follow an execution; what the book does not have there yet is returned, to be entered."""
        machine, execution_id = self._keys.locate(event.key)
        known = self._book.open.get(execution_id)
        if event.kind == "delete":
            if known is not None and known.machine == machine and known.revision < event.mod_revision:
                self._book.drop(execution_id)
                self._copies.forget(fire_prefix(execution_id))
                self._freed(unit_of(execution_id))
                if machine:
                    self._housekeeping.ended(unit_of(execution_id))
            return None
        if known is None:
            return _item(event)
        if known.revision >= event.mod_revision:
            return None
        if not machine or known.machine != machine:
            return _item(event)
        known.update(_item(event))
        if known.reported:
            self._agenda.reported.add(execution_id)
            self._agenda.wake()
        elif execution_id in self._agenda.cancels:
            self._agenda.wake()
        return None

    def _freed(self, unit: str) -> None:
        """An execution of the unit is no longer active: who waits for that, or for the room, may go now."""
        agenda = self._agenda
        if unit in self._book.queued:
            agenda.freed.add(unit)
            agenda.wake()
        if self._book.waiting:
            agenda.retry_waiting = True
            agenda.wake()
        if unit in agenda.gone:
            agenda.wake()

    async def _miss_absent(self) -> None:
        """A machine that holds something and is not there may just be joining: it has the time of a heartbeat."""
        while True:
            absent, self._absent = self._absent, set()
            await self._clock.sleep(self._ttl)
            lost = absent - set(self._book.machines)
            if lost:
                self._agenda.lost_machines |= lost
                self._agenda.wake()

    # -- turns --------------------------------------------------------------------------------------------------------

    async def _take_turns(self) -> None:
        agenda, book = self._agenda, self._book
        while True:
            agenda.awake.clear()
            if not self._ownership.sure:
                await self._clock.sleep(SECOND // 10)
                continue
            await self._turns.run(self._clock.now())
            if agenda.stale:
                raise StartOver(agenda.stale)
            if agenda.refused:
                await self._read_refused()
            self._metrics.units.set(len(book.cursors.known))
            self._metrics.open.set(len(book.open))
            self._metrics.waiting.set(sum(map(len, book.waiting.values())))
            if agenda.refusals:
                agenda.refusals = 0
                await self._clock.sleep(REFUSED_PAUSE)
            # While nothing new is begun, nothing is due.
            moment = None if self._turns.holding else book.next_moment()
            await self._sleep(LONGEST_WAIT if moment is None else min(moment - self._clock.now(), LONGEST_WAIT))

    async def _sleep(self, wait: Micros) -> None:
        if self._desk.in_flight >= MOST_IN_FLIGHT:
            await self._agenda.awake.wait()
        elif wait <= 0 or self._agenda.awake.is_set():
            # The answers to what is under way, and the watches, come first.
            await asyncio.sleep(0)
        else:
            await self._sleep_until_woken(wait)

    async def _sleep_until_woken(self, wait: Micros) -> None:
        timer = asyncio.ensure_future(self._clock.sleep(wait))
        timer.add_done_callback(lambda done: None if done.cancelled() else self._agenda.wake())
        try:
            await self._agenda.awake.wait()
        finally:
            timer.cancel()

    async def _read_refused(self) -> None:
        """Ask the store about the cursors that a refused write has left in doubt."""
        refused, self._agenda.refused = self._agenda.refused, set()
        for name in sorted(refused):
            item = await self._store.get(self._keys.schedule(name))
            job = await self._store.get(self._keys.job(name))
            schedule = _readable(item, Schedule) if item is not None else None
            if item is not None and schedule is not None:
                self._set_cursor(schedule, item)
            if job is None:
                self._agenda.gone.add(name)
            elif schedule is None or schedule.unit_revision != job.mod_revision:
                self._units.changed(name, job)
                self._agenda.changed.add(name)
            self._agenda.wake()


def _readable(item: KeyValue, kind: type[Record]) -> Record | None:
    """A record; None, and a line in the log, when it cannot be read: one bad record must not stop all the others."""
    try:
        return decode(item, kind)
    except StoreError as error:
        log.warning("an unreadable record is left alone", reason=str(error))
        return None


def _item(event: Event) -> KeyValue:
    return KeyValue(event.key, event.value, event.create_revision, event.mod_revision, event.lease)
