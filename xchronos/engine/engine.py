"""The scheduler's life: own shards, read what they hold, follow the watches, take turns; start over when in doubt."""

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog
from prometheus_client import CollectorRegistry

from xchronos.clock import SECOND, Clock, Micros
from xchronos.engine.book import Book, Placed
from xchronos.engine.housekeeping import Housekeeping
from xchronos.engine.metrics import Metrics
from xchronos.engine.ownership import Ownership
from xchronos.engine.turn import Turns
from xchronos.errors import Compacted, StoreError, XchronosError
from xchronos.model.records import Execution, Machine, Schedule
from xchronos.registry.batch import Batcher
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys, unit_of
from xchronos.registry.units import UnitCache
from xchronos.store.contract import Event, KeyValue, Store

log = structlog.get_logger(__name__)

PAGE = 2_000
LONGEST_WAIT: Micros = SECOND
"""Waiting is on the monotonic clock; at least this often the wall clock is looked at, for it may have been set."""


class _StartOver(XchronosError):  # noqa: N818 - control flow inside this module
    """What is in memory may differ from the store: read everything again."""


class Engine:
    """Schedules the units of the shards that it owns. `machine` is this daemon's id, `ttl` the heartbeat's."""

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, machine: str, ttl: Micros, registry: CollectorRegistry
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._ttl = ttl
        self._metrics = Metrics(registry)
        self._changed = asyncio.Event()
        self._ownership = Ownership(store, keys, clock, machine, ttl, self._changed.set)
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Schedule until cancelled."""
        batcher = Batcher(self._store)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ownership.run(), name="ownership")
            group.create_task(batcher.run(), name="batcher")
            while True:
                await self._changed.wait()
                self._changed.clear()
                while self._ownership.shards and not self._changed.is_set():
                    await self._one_session(batcher)

    async def _one_session(self, batcher: Batcher) -> None:
        session = _Session(self._store, self._keys, self._clock, self._ownership, batcher, self._metrics, self._ttl)
        work = asyncio.create_task(session.run(self.ready.set), name="session")
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({work, changed}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return
            problem = work.exception()
            if isinstance(problem, (_StartOver, StoreError)):
                log.warning("scheduler reads everything again", reason=str(problem))
                await self._clock.sleep(SECOND // 5)
            elif problem is not None:
                raise problem
        finally:
            changed.cancel()
            work.cancel()
            await asyncio.wait({work})


class _Session:
    """One stretch of scheduling between two readings of the store."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        clock: Clock,
        ownership: Ownership,
        batcher: Batcher,
        metrics: Metrics,
        ttl: Micros,
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._ttl = ttl
        self._wake = asyncio.Event()
        self._book = Book()
        self._metrics = metrics
        self._units = UnitCache(store, keys)
        self._turns = Turns(self._book, self._units, keys, ownership, batcher, metrics, self._wake.set)
        self._housekeeping = Housekeeping(store, keys, clock, self._units, ownership, batcher)

    async def run(self, ready: Callable[[], None]) -> None:
        """Read, follow, decide. Ends by an exception only."""
        revision = await self._read()
        try:
            async with asyncio.TaskGroup() as group:
                for prefix, follow in (
                    (self._keys.jobs, self._follow_job),
                    (self._keys.machines, self._follow_machine),
                    (self._keys.pending, self._follow_pending),
                    (self._keys.placements, self._follow_placement),
                ):
                    group.create_task(self._follow(prefix, revision + 1, follow), name=f"watch {prefix}")
                group.create_task(self._housekeeping.run(), name="housekeeping")
                group.create_task(self._take_turns(), name="turns")
                ready()
        except* (Compacted, _StartOver, StoreError) as problems:
            raise _StartOver(str(problems.exceptions[0])) from problems

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _read(self) -> int:
        """Everything at one revision, in as many requests as there are pages."""
        machines, revision = await self._all(self._keys.machines, 0)
        for item in machines:
            self._book.set_machine(decode(item, Machine))
        async for item in self._pages(self._keys.schedules, revision):
            schedule = decode(item, Schedule)
            self._book.set_cursor(schedule.unit, schedule, item.mod_revision, item.value)
        known = self._book.cursors
        seen: set[str] = set()
        prefix = len(self._keys.jobs)
        async for item in self._pages(self._keys.jobs, revision, keys_only=True):
            name = item.key[prefix:]
            seen.add(name)
            cursor = known.get(name)
            if cursor is None or cursor.unit_revision != item.mod_revision:
                self._turns.changed.add(name)
        async for item in self._pages(self._keys.pending, revision):
            self._book.set_pending(decode(item, Execution), item.mod_revision)
        async for item in self._pages(self._keys.placements, revision):
            await self._set_placement(item)
        self._turns.gone.update(name for name in known if name not in seen)
        self._turns.gone.update(name for name in self._book.active if name not in seen)
        self._turns.freed.update(self._book.queued)
        self._turns.retry_waiting = True
        absent = {placed.machine for placed in self._book.placed.values()} - set(self._book.machines)
        for machine in absent:
            self._await_return(machine)
        log.info(
            "scheduler has read the store",
            units=len(known),
            changed=len(self._turns.changed),
            placed=len(self._book.placed),
            pending=len(self._book.pending),
        )
        return revision

    async def _all(self, prefix: str, revision: int) -> tuple[list[KeyValue], int]:
        page = await self._store.range(prefix, revision=revision)
        return page.items, page.revision

    async def _pages(self, prefix: str, revision: int, *, keys_only: bool = False) -> AsyncIterator[KeyValue]:
        start = ""
        while True:
            page = await self._store.range(prefix, start=start, limit=PAGE, keys_only=keys_only, revision=revision)
            for item in page.items:
                yield item
            if not page.more:
                return
            start = page.items[-1].key + "\0"

    # -- following ----------------------------------------------------------------------------------------------------

    async def _follow(self, prefix: str, revision: int, take: "Callable[[Event], object]") -> None:
        async with self._store.watch(prefix, revision=revision) as batches:
            async for batch in batches:
                for event in batch.events:
                    pending = take(event)
                    if asyncio.iscoroutine(pending):
                        await pending
        raise _StartOver(f"the watch of {prefix} has ended")

    def _follow_job(self, event: Event) -> None:
        name = event.key[len(self._keys.jobs) :]
        if event.kind == "delete":
            self._units.forget(name)
            self._turns.changed.discard(name)
            self._turns.gone.add(name)
        else:
            self._units.changed(name, _item(event))
            self._turns.gone.discard(name)
            self._turns.changed.add(name)
        self._wake.set()

    def _follow_machine(self, event: Event) -> None:
        machine = event.key[len(self._keys.machines) :]
        if event.kind == "delete":
            self._book.drop_machine(machine)
            self._turns.lost_machines.add(machine)
        else:
            self._book.set_machine(decode(_item(event), Machine))
            self._turns.lost_machines.discard(machine)
            self._turns.retry_waiting = True
        self._wake.set()

    def _follow_pending(self, event: Event) -> None:
        execution_id = event.key[len(self._keys.pending) :]
        known = self._book.pending.get(execution_id)
        if event.kind == "delete":
            if known is not None and 0 < known.revision < event.mod_revision:
                self._book.drop_pending(execution_id)
                self._freed(unit_of(execution_id))
            return
        if known is not None and (known.revision == 0 or known.revision >= event.mod_revision):
            # Our own write: its answer is on the way, or has come.
            return
        self._book.set_pending(decode(_item(event), Execution), event.mod_revision)
        if unit_of(execution_id) not in self._turns.gone:
            self._turns.retry_waiting = True
            self._wake.set()

    def _follow_placement(self, event: Event) -> object:
        machine, execution_id = self._keys.split_placement(event.key)
        known = self._book.placed.get(execution_id)
        if event.kind == "delete":
            if known is not None and known.machine == machine and max(known.revision, known.floor) < event.mod_revision:
                self._book.drop_placed(execution_id)
            self._housekeeping.ended(unit_of(execution_id))
            self._freed(unit_of(execution_id))
            return None
        if known is not None and known.machine == machine:
            if known.revision < event.mod_revision:
                known.update(_item(event))
                known.busy = False
                if known.reported:
                    self._turns.reported.add(execution_id)
                    self._wake.set()
            return None
        return self._set_placement(_item(event))

    async def _set_placement(self, item: KeyValue) -> None:
        machine, execution_id = self._keys.split_placement(item.key)
        loaded = await self._units.get(unit_of(execution_id))
        placed = Placed(machine, item, item.mod_revision, loaded.unit if loaded is not None else None)
        self._book.set_placed(execution_id, placed)
        if placed.reported:
            self._turns.reported.add(execution_id)
            self._wake.set()

    def _freed(self, unit: str) -> None:
        """An execution of the unit is no longer active: who waits for that, or for the room, may go now."""
        if unit in self._book.queued:
            self._turns.freed.add(unit)
            self._wake.set()
        if self._book.waiting:
            self._turns.retry_waiting = True
            self._wake.set()
        if unit in self._turns.gone:
            self._wake.set()

    def _await_return(self, machine: str) -> None:
        """Give a machine that is not there at the start the time of a heartbeat to come back: it may just be joining."""
        loop = asyncio.get_running_loop()
        loop.call_later(self._ttl / SECOND, self._missing, machine)

    def _missing(self, machine: str) -> None:
        if machine not in self._book.machines:
            self._turns.lost_machines.add(machine)
            self._wake.set()

    # -- turns --------------------------------------------------------------------------------------------------------

    async def _take_turns(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock.now()
            for name in self._book.expired(now):
                await self._housekeeping.expire(name)
            await self._turns.run(now)
            await self._reread()
            self._metrics.units.set(len(self._book.cursors))
            self._metrics.placed.set(len(self._book.placed))
            self._metrics.waiting.set(len(self._book.waiting))
            moment = self._book.next_moment()
            wait = LONGEST_WAIT if moment is None else min(moment - self._clock.now(), LONGEST_WAIT)
            await self._sleep(wait)

    async def _sleep(self, wait: Micros) -> None:
        if wait <= 0:
            # Due already; the answers to what is under way and the watches come first.
            await asyncio.sleep(0)
            return
        woken = asyncio.ensure_future(self._wake.wait())
        timer = asyncio.ensure_future(self._clock.sleep(wait))
        try:
            await asyncio.wait({woken, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            timer.cancel()

    async def _reread(self) -> None:
        """Ask the store about everything that a refused write has left in doubt."""
        if self._turns.stale:
            raise _StartOver(self._turns.stale)
        refused, self._turns.refused = self._turns.refused, set()
        for name in refused:
            item = await self._store.get(self._keys.schedule(name))
            job = await self._store.get(self._keys.job(name))
            if item is not None:
                schedule = decode(item, Schedule)
                self._book.set_cursor(name, schedule, item.mod_revision, item.value)
            if job is None:
                self._turns.gone.add(name)
            elif item is None or schedule.unit_revision != job.mod_revision:
                self._units.changed(name, job)
                self._turns.changed.add(name)
            self._wake.set()
        doubtful, self._turns.doubtful = self._turns.doubtful, set()
        for key in doubtful:
            await self._ask_about(key)

    async def _ask_about(self, key: str) -> None:
        item = await self._store.get(key)
        if key.startswith(self._keys.pending):
            execution_id = key[len(self._keys.pending) :]
            if item is not None:
                self._book.set_pending(decode(item, Execution), item.mod_revision)
                self._turns.retry_waiting = True
            elif self._book.drop_pending(execution_id) is not None:
                self._freed(unit_of(execution_id))
        elif key.startswith(self._keys.placements):
            machine, execution_id = self._keys.split_placement(key)
            known = self._book.placed.get(execution_id)
            if item is not None:
                await self._set_placement(item)
            elif known is not None and known.machine == machine:
                self._book.drop_placed(execution_id)
                self._freed(unit_of(execution_id))
        self._wake.set()


def _item(event: Event) -> KeyValue:
    return KeyValue(event.key, event.value, event.create_revision, event.mod_revision, event.lease)
