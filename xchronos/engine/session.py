"""One stretch of scheduling between two readings of the store: read, follow the watches, take turns.

What is known of executions and machines is known of all of them, for a placement needs every machine's load; decisions
are made about the units of the shards that are owned, and these may come and go while a session lasts (`adoption`).
"""

import asyncio
from collections.abc import Callable, Collection

import structlog

from xchronos.aio import woken
from xchronos.clock import MILLISECOND, MINUTE, SECOND, Micros
from xchronos.engine.adoption import ShardAdoption
from xchronos.engine.committer import Committer
from xchronos.engine.history_gc import HistoryGc
from xchronos.engine.informer import Informer, readable
from xchronos.engine.lost_machines import LostMachines
from xchronos.engine.metrics import SchedulerMetrics
from xchronos.engine.reconcile.turn import Reconciler
from xchronos.engine.shards.ownership import Ownership
from xchronos.engine.state.cluster_state import ClusterState
from xchronos.engine.state.context import SchedulerContext, SessionMemory
from xchronos.engine.state.copy_history import CopyHistory
from xchronos.engine.state.unreadable import UnreadableRecords
from xchronos.engine.state.work_queue import WorkQueue
from xchronos.errors import Compacted, StoreError, StoreUnavailable, XchronosError
from xchronos.model.records import Schedule
from xchronos.registry.units import UnitCache
from xchronos.scheduler.acceptance import is_to_accept
from xchronos.store.batcher import Batcher
from xchronos.store.contract import Guard
from xchronos.store.reading import read_some

log = structlog.get_logger(__name__)

LONGEST_WAIT: Micros = SECOND
"""Waiting is on the monotonic clock; at least this often the wall clock is looked at, for it may have been set."""

REFUSED_PAUSE: Micros = 10 * MILLISECOND
"""After a refused write: what it was refused for is on its way, and deciding again before it arrives is in vain."""

FAILED_PAUSE: Micros = SECOND // 4
"""After a turn that the store has kept from ending."""


TRIED_AGAIN: Micros = MINUTE
"""How often what cannot be read is tried again."""


class StartOver(XchronosError):  # noqa: N818 - no error of anybody's
    """What is in memory may differ from the store: read everything again."""


class Session:
    """Schedules until something makes what it knows doubtful."""

    def __init__(
        self, context: SchedulerContext, ownership: Ownership, batcher: Batcher, metrics: SchedulerMetrics
    ) -> None:
        store, keys, clock = context.store, context.keys, context.clock
        self._store = store
        self._keys = keys
        self._clock = clock
        self._ownership = ownership
        metrics.cluster = self._cluster = cluster = ClusterState(clock)
        self._work = work = WorkQueue()
        self._units = units = UnitCache(store, keys, offload=context.offload, reader=context.reader)
        self._unreadable = unreadable = UnreadableRecords(units)
        copies = CopyHistory(store, keys)
        memory = SessionMemory(cluster, work, units, copies, unreadable)
        self._history_gc = HistoryGc(context, units, self, batcher, cluster)
        self._lost_machines = LostMachines(clock, context.ttl, ownership, cluster, work)
        self._informer = Informer(context, memory, self._lost_machines, self._history_gc)
        self._adoption = ShardAdoption(context, memory, ownership, self._informer, self._lost_machines)
        self._committer = Committer(context, memory, self._adoption, ownership, self._history_gc, batcher, metrics)
        self._reconciler = Reconciler(self._committer, copies)

    async def run(self, ready: Callable[[], None]) -> None:
        """Read, follow, decide. Ends by an exception only: StartOver, unless there is a defect."""
        try:
            revision = 1 + await self._informer.read_machines()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._informer.follow_units(revision), name="watch units")
                group.create_task(self._informer.follow_machines(revision), name="watch machines")
                group.create_task(self._informer.follow_executions(revision), name="watch executions")
                read = await self._informer.read_executions()
                group.create_task(self._adoption.run(read), name="adoption")
                await self._adoption.settled.wait()
                log.info(
                    "scheduler has read the store", units=len(self._cluster.cursors.known), open=len(self._cluster.open)
                )
                group.create_task(self._history_gc.run(), name="housekeeping")
                group.create_task(self._lost_machines.run(), name="absent machines")
                group.create_task(self._tell_unreadable(), name="unreadable units")
                group.create_task(self._take_turns(), name="turns")
                ready()
        except* (Compacted, StartOver, StoreError) as problems:
            raise StartOver(str(problems.exceptions[0])) from problems

    def shards_changed(self) -> None:
        """The set of owned shards has changed."""
        self._adoption.changed()

    def quiet(self, numbers: Collection[int]) -> bool:
        """Whether no write about any of the shards is under way."""
        return self._committer.quiet(numbers)

    def machine_of(self, execution_id: str) -> str | None:
        """The machine that an execution is on as far as is known; empty: on none; None: it is not known."""
        entry = self._cluster.open.get(execution_id)
        return entry.machine if entry is not None else None

    @property
    def cannot_read(self) -> dict[str, str]:
        """Stored units that cannot be read here, with the reason."""
        return self._unreadable.told()

    def hold(self) -> None:
        """Begin nothing new from now on; settle what runs when it ends."""
        self._reconciler.holding = True

    def has_unsettled(self, machine: str) -> bool:
        """Whether something that was begun on a machine has not been settled yet."""
        return self._committer.in_flight > 0 or any(
            entry.readable and entry.execution.state in ("running", "reported")
            for _, entry in self._cluster.on_machine(machine)
        )

    # -- turns --------------------------------------------------------------------------------------------------------

    async def _take_turns(self) -> None:
        work, cluster = self._work, self._cluster
        while True:
            work.awake.clear()
            if not self._ownership.lease.sure:
                await self._clock.sleep(SECOND // 10)
                continue
            try:
                await self._reconciler.run(self._clock.now())
                if work.again:
                    self._note_again()
                if work.refused:
                    await self._read_refused()
            except StoreUnavailable as error:
                # What it had taken up is noted nowhere any more.
                log.info("a turn could not be ended; its shards are read again", reason=str(error))
                self._adoption.again()
                await self._clock.sleep(FAILED_PAUSE)
                continue
            if work.refusals:
                work.refusals = 0
                await self._clock.sleep(REFUSED_PAUSE)
            # While nothing new is begun, nothing is due.
            moment = None if self._reconciler.holding else cluster.next_moment()
            await self._sleep(LONGEST_WAIT if moment is None else min(moment - self._clock.now(), LONGEST_WAIT))

    async def _sleep(self, wait: Micros) -> None:
        if wait <= 0 and self._committer.full:
            # Every answer wakes; the clock has nothing more to say.
            await woken(self._clock, self._work.awake, LONGEST_WAIT)
        elif wait <= 0 or self._work.awake.is_set():
            # The answers to what is under way, and the watches, come first.
            await asyncio.sleep(0)
        else:
            await woken(self._clock, self._work.awake, wait)

    async def _read_refused(self) -> None:
        """Ask the store about the cursors that a refused write has left in doubt."""
        refused, self._work.refused = self._work.refused, set()
        names = sorted(name for name in refused if self._adoption.fence(name) is not None)
        cursors = await read_some(self._store, self._keys.schedules, names)
        jobs = await read_some(self._store, self._keys.jobs, names)
        for name in names:
            if self._adoption.fence(name) is None or name in self._work.refused:
                # Refused once more meanwhile: it is read again, and what was read is older than that.
                continue
            known = self._cluster.cursors.known.get(name)
            if known is not None and known.busy:
                # Written about meanwhile: the answer to that decides, and is newer.
                self._work.look.update(self._cluster.of_unit(name))
                self._work.wake()
                continue
            item, job = cursors.get(name), jobs.get(name)
            schedule = readable(item, Schedule) if item is not None else None
            if item is not None and schedule is None and job is not None:
                # It is not known to be none: it is left alone, as a unit that cannot be read.
                self._unreadable.schedule(name, "its cursor cannot be read")
                continue
            if item is not None and schedule is not None:
                self._cluster.cursors.set(name, schedule, item.mod_revision, item.value)
            if job is None:
                # Nothing follows from its cursor any more, whether or not that can be read.
                self._work.gone.add(name)
                self._work.wake()
                continue
            self._units.changed(name, job)
            if schedule is None or is_to_accept(
                schedule, job.mod_revision, rules_hold=self._committer.reader.holds(schedule.rules)
            ):
                self._work.changed[name] = None
            else:
                self._work.look.update(self._cluster.of_unit(name))
            self._work.wake()

    # -- what cannot be read ------------------------------------------------------------------------------------------

    async def _tell_unreadable(self) -> None:
        """Say to the other schedulers what this one cannot read, and try it again now and then."""
        unreadable, clock = self._unreadable, self._clock
        while True:
            unreadable.changed.clear()
            self._ownership.tell(unreadable.told())
            if not unreadable:
                await unreadable.changed.wait()
                continue
            await woken(clock, unreadable.changed, TRIED_AGAIN)
            if not unreadable.changed.is_set():
                await self._try_again([unit for unit in unreadable.told() if self._adoption.owns(unit)])

    async def _try_again(self, units: list[str]) -> None:
        """A class or a package may have been installed meanwhile, or a record mended."""
        for unit in units:
            self._units.read_again(unit)
            self._unreadable.forget_schedule(unit)
        try:
            await self._units.get_many(units)
        except StoreUnavailable as error:
            log.info("units are read again later", reason=str(error))
        self._work.again.update(units)
        self._work.wake()

    def _note_again(self) -> None:
        again, self._work.again = self._work.again, set()
        for unit in sorted(again):
            if self._adoption.fence(unit) is not None:
                self._adoption.note_unit(unit)

    def fence(self, unit: str) -> Guard | None:
        """See `context.Fences`."""
        return self._adoption.fence(unit)
