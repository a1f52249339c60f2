"""The agent: takes what is placed on this machine, has it carried out, and lets nothing else stay here."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from xchronos.agent.attempt.journal import sweep
from xchronos.agent.context import AgentContext
from xchronos.agent.file_gc import FileGc
from xchronos.agent.late_results import LateResults
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.lease.membership import SHUTTING_DOWN
from xchronos.agent.lease.partition import Partition, Watchman
from xchronos.agent.metrics import AgentMetrics
from xchronos.agent.placement_runner import PlacementRunner
from xchronos.agent.retrying import patiently
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import ExecutorUnavailable, StoreError
from xchronos.executors.contract import Executor, Leftover
from xchronos.model.records import Attempt, Execution, Machine
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys
from xchronos.registry.units import UnitCache
from xchronos.scheduler.feasibility import MachineView
from xchronos.store.batcher import Batcher
from xchronos.store.contract import Event, KeyValue, Store

log = structlog.get_logger(__name__)

AT_ONCE = 256
"""How much news is taken in before others get a turn."""

RECORDING: Micros = 10 * SECOND
"""How long a shutdown waits for the store to take in what has ended; later it is the next agent's, from the journal."""


class Agent:
    """Runs the attempts placed on one machine.

    `executors` are what it runs steps with, by kind; `directory` is where attempts keep their files; `machine` gives
    the machine as it is advertised, `refresh` has it look up what people want of it, and `lease_clock` is what is known
    of its lease. `watchman` is its guardian, if there is one.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        clock: Clock,
        host: HostContext,
        executors: Mapping[str, Executor],
        directory: Path,
        machine: Callable[[], Machine],
        refresh: Callable[[], Awaitable[None]],
        lease_clock: LeaseClock,
        registry: CollectorRegistry,
        watchman: Watchman | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._prefix = keys.machine_placements(host.machine)
        self._batcher = Batcher(store)
        units = UnitCache(store, keys)
        self._partition = Partition(clock, lease_clock, watchman)
        self._late_results = LateResults(store, keys, clock)
        self._file_gc = FileGc(store, keys, clock, directory, self._busy_units)
        self._context = AgentContext(
            store=store,
            keys=keys,
            clock=clock,
            host=host,
            executors=executors,
            directory=directory,
            machine=machine,
            refresh=refresh,
            batcher=self._batcher,
            units=units,
            here=MachineView(machine()),
            lease_clock=lease_clock,
            partition=self._partition,
            late_results=self._late_results,
        )
        self._from = 0
        self._running: dict[str, PlacementRunner] = {}
        self._working: dict[PlacementRunner, None] = {}
        self._over: dict[str, int] = {}
        self.ready = asyncio.Event()
        self._metrics = AgentMetrics(registry)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled. Attempts that still run then are left running, for the next agent to take up."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._batcher.run(), name="agent batcher")
            group.create_task(self._partition.run(), name="partition")
            group.create_task(self._late_results.run(), name="late results")
            try:
                await self._follow()
                # Nothing is placed here without its scratch directory being made after this.
                await asyncio.to_thread(sweep, self._context.directory, {one.directory for one in self._working})
                for kind, executor in self._context.executors.items():
                    group.create_task(self._sweep(kind, executor), name=f"sweep of {kind}")
                group.create_task(self._file_gc.run(), name="tidying")
                self.ready.set()
                while True:
                    await self._watch()
                    await self._follow()
            finally:
                tasks = self._tasks(self._working)
                for task in tasks:
                    task.cancel()
                if tasks:
                    await asyncio.wait(tasks)

    async def drain(self, grace: Micros, reason: str = SHUTTING_DOWN) -> None:
        """Start nothing new; give what runs `grace` microseconds to end, then stop it as its unit says."""
        self._context.closing = reason
        working = self._unrecorded()
        if working:
            log.info("waiting for running attempts", attempts=len(working), grace_seconds=grace / SECOND)
            await self._until(lambda: not self._unrecorded(), grace)
        for placement in self._unrecorded():
            placement.leave(reason)
        # Nothing runs of what was not begun, which may wait for a store that is away.
        await self._until(lambda: all(one.unit is None or one.end is not None for one in self._unrecorded()), None)
        if not await self._until(lambda: not self._unrecorded() and not self._late_results.busy, RECORDING):
            log.warning("the store does not answer; what has ended will be recorded after the next start")

    def _unrecorded(self) -> list[PlacementRunner]:
        return [placement for placement in self._working if not placement.recorded]

    async def _until(self, reached: Callable[[], bool], limit: Micros | None) -> bool:
        """Look again and again, no longer than `limit`; whether it was reached."""
        began = self._clock.monotonic()
        while not reached():
            if limit is not None and self._clock.monotonic() - began >= limit:
                return False
            await self._clock.sleep(SECOND // 50)
        return True

    @staticmethod
    def _tasks(placements: Collection[PlacementRunner]) -> list["asyncio.Task[None]"]:
        return [placement.task for placement in placements if placement.task is not None]

    # -- what is placed here ------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Take in everything that is placed here now, and everything that is not any more."""
        page = await patiently(self._clock, lambda: self._store.range(self._prefix), what="store")
        self._from = page.revision + 1
        lives = {item.key: item.create_revision for item in page.items}
        self._over = {key: life for key, life in self._over.items() if lives.get(key) == life}
        for key, placement in list(self._running.items()):
            if lives.get(key) != placement.life:
                placement.lost()
        # In the order in which they came: where there is no room for all, who was first stays.
        for item in sorted(page.items, key=lambda item: item.create_revision):
            self._take(item)

    async def _watch(self) -> None:
        """Follow the changes until the watch breaks; then everything has to be read again."""
        try:
            async with self._store.watch(self._prefix, revision=self._from) as batches:
                async for batch in batches:
                    for number, event in enumerate(batch.events, 1):
                        if event.kind == "delete":
                            self._gone(event.key)
                        else:
                            self._take(event)
                        if number % AT_ONCE == 0:
                            await asyncio.sleep(0)
        except StoreError as error:
            log.warning("agent reads its placements again", reason=str(error))
            await self._clock.sleep(SECOND // 5)

    def _take(self, item: KeyValue | Event) -> None:
        if self._over.get(item.key) == item.create_revision:
            return  # a busy watch tells of what was written here after its end was
        known = self._running.get(item.key)
        try:
            if known is not None and known.life == item.create_revision:
                known.changed(item)
                return
            execution = decode(item, Execution)
        except StoreError as error:
            log.error("a placement cannot be read", key=item.key, reason=str(error))  # noqa: TRY400 - nothing of ours failed
            return
        if known is not None:
            known.lost()
        if execution.state == "reported" or execution.current is None or self._context.closing:
            return
        placement = PlacementRunner(self._context, item, execution, known)
        self._running[item.key] = placement
        self._working[placement] = None
        placement.task = asyncio.create_task(self._work(placement), name=item.key)

    def _gone(self, key: str) -> None:
        self._over.pop(key, None)
        placement = self._running.get(key)
        if placement is not None:
            placement.lost()

    async def _work(self, placement: PlacementRunner) -> None:
        self._metrics.running += 1
        try:
            await placement.work()
        finally:
            self._metrics.running -= 1
            self._working.pop(placement, None)
            if self._running.get(placement.key) is placement:
                del self._running[placement.key]
                if placement.recorded and not placement.taken_away:
                    self._over[placement.key] = placement.life
            placement.task = None  # it knows this very task: see Placement.work
        if placement.began:
            self._metrics.started += 1
        if placement.end is not None:
            self._metrics.ended(placement.end.outcome)

    # -- what is left over --------------------------------------------------------------------------------------------

    async def _sweep(self, kind: str, executor: Executor) -> None:
        """Remove what an earlier daemon left of attempts that this machine does not have (any more)."""
        found = await patiently(self._clock, executor.leftovers, what=f"{kind} executor", kind=ExecutorUnavailable)
        # Judged when they are known: what was begun meanwhile is held.
        orphans = [left for left in found if not self._holds(left)]
        if orphans:
            log.info("removing leftovers", executor=kind, what=[left.what for left in orphans])
            await patiently(
                self._clock, lambda: executor.remove(orphans), what=f"{kind} executor", kind=ExecutorUnavailable
            )

    def _busy_units(self) -> set[str]:
        return {placement.execution.unit for placement in self._working}

    def _holds(self, left: Leftover) -> bool:
        return any(
            placement.execution.id == left.execution and placement.attempt.number == left.attempt
            for placement in self._working
        )

    # -- looking ------------------------------------------------------------------------------------------------------

    async def progress(self, execution_id: str) -> Attempt | None:
        """The attempt that runs here now, with the steps that it has finished; None when it is not here."""
        placement = self._running.get(self._prefix + execution_id)
        if placement is None or placement.execution.current is None:
            return None
        return msgspec.structs.replace(placement.execution.current, steps=tuple(placement.steps))
