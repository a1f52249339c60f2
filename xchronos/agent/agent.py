"""The agent: takes what is placed on this machine, has it carried out, and lets nothing else stay here."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from xchronos.agent.admission import Admission
from xchronos.agent.attempt.journal import AttemptFiles, sweep
from xchronos.agent.context import AgentContext
from xchronos.agent.file_gc import FileGc
from xchronos.agent.late_results import LateResults
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.lease.membership import SHUTTING_DOWN
from xchronos.agent.lease.partition import Partition, Watchman
from xchronos.agent.leftovers import remove_leftovers
from xchronos.agent.metrics import AgentMetrics
from xchronos.agent.placement import Placement
from xchronos.agent.placement_runner import PlacementRunner
from xchronos.agent.retrying import patiently
from xchronos.agent.steps.resolved_unit import HostContext, ResolvedUnits
from xchronos.aio import Offload, cancel_and_wait, first, inline, reached
from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import ExecutorUnavailable, StoreError
from xchronos.executors.contract import Executor, Leftover
from xchronos.model.records import Attempt, Execution, Machine
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys, unit_of
from xchronos.registry.units import UnitCache, UnitReader
from xchronos.store.batcher import Batcher
from xchronos.store.contract import Event, KeyValue, Store

log = structlog.get_logger(__name__)

EVENTS_PER_TURN = 256
"""How many events of the watch are taken in before other tasks get a turn."""

RECORDING_LIMIT: Micros = 10 * SECOND
"""How long a shutdown waits for the store to take in what has ended. After that it is the next agent's to record."""

PROBE_AFTER: Micros = SECOND
"""How long what was told to stop may take before its executor is asked whether it is there at all."""

PROBE_LIMIT: Micros = 3 * SECOND // 2
"""How long an executor has to answer that."""

SHUTDOWN_POLL: Micros = SECOND // 50
"""The pause between two looks of a shutdown at what still runs."""

WATCH_PAUSE: Micros = SECOND // 5
"""The pause after a broken watch, before everything is read again."""


class Agent:
    """Runs the attempts placed on one machine.

    Attributes:
        ready: Set once the agent has taken in what is placed on its machine.
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
        offload: Offload = inline,
        reader: UnitReader | None = None,
    ) -> None:
        """`executors` are what it runs steps with, by kind. `directory` is where attempts keep their files.

        `machine` gives the machine as it is advertised; `refresh` looks up what people want of it (StoreError).
        `watchman` is the machine's guardian, if it has one. `registry` takes the metrics. `offload` compiles units that
        are dear, and `reader` says what stored units mean here.
        """
        self.ready = asyncio.Event()
        self._store = store
        self._clock = clock
        self._prefix = keys.machine_placements(host.machine)
        self._metrics = AgentMetrics(registry)
        self._file_gc = FileGc(store, keys, clock, directory, self._busy_units)
        self._context = AgentContext(
            store=store,
            batcher=Batcher(store),
            keys=keys,
            clock=clock,
            host=host,
            executors=executors,
            directory=directory,
            units=UnitCache(store, keys, offload=offload, reader=reader),
            resolved=ResolvedUnits(host, executors),
            admission=Admission(clock, host, machine, refresh),
            lease_clock=lease_clock,
            partition=Partition(clock, lease_clock, watchman),
            late_results=LateResults(store, keys, clock),
            files=AttemptFiles(),
        )
        self._runner = PlacementRunner(self._context)
        self._next_revision = 0
        self._placements: dict[str, Placement] = {}
        """The newest placement of each key that is not over."""
        self._at_work: dict[Placement, None] = {}
        """All that have a task: a placement that was taken away still ends what runs."""
        self._unread: dict[str, str] = {}
        """By key, the execution of each placement whose record cannot be read: what runs of it is left alone."""
        self._over: dict[str, int] = {}
        """By key, the life that this agent has recorded as ended, until the watch has told that it is gone."""

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled. Attempts that still run then are left running, for the next agent to take up."""
        context = self._context
        async with asyncio.TaskGroup() as group:
            group.create_task(context.batcher.run(), name="agent batcher")
            group.create_task(context.partition.run(), name="partition")
            group.create_task(context.late_results.run(), name="late results")
            try:
                await self._follow()
                # From here on every placement makes its scratch directory later than this looks for old ones.
                held = {Path(placement.record.directory) for placement in self._at_work}
                await asyncio.to_thread(sweep, context.directory, held, {unit_of(one) for one in self._unread.values()})
                for kind, executor in context.executors.items():
                    sweeping = remove_leftovers(self._clock, kind, executor, self._is_held)
                    group.create_task(sweeping, name=f"sweep of {kind}")
                group.create_task(self._file_gc.run(), name="tidying")
                self.ready.set()
                while True:
                    await self._watch()
                    await self._follow()
            finally:
                await cancel_and_wait(*(placement.task for placement in self._at_work if placement.task is not None))

    async def drain(self, grace: Micros, reason: str = SHUTTING_DOWN) -> bool:
        """Start nothing new; give what runs `grace` microseconds to end, then stop it as its unit says.

        False when it was left running, because its executor does not answer: nobody can stop it then.
        """
        self._context.admission.closed = reason
        unrecorded = self._unrecorded()
        if unrecorded:
            log.info("waiting for running attempts", attempts=len(unrecorded), grace_seconds=grace / SECOND)
            await reached(self._clock, lambda: not self._unrecorded(), SHUTDOWN_POLL, grace)
        for placement in self._unrecorded():
            placement.leave(reason)
        # What was not begun may wait for a store that is away. Nothing of it runs, so nobody waits for it here.
        while not await reached(self._clock, lambda: not self._to_end(), SHUTDOWN_POLL, PROBE_AFTER):
            silent = await self._silent()
            stuck = [one for one in self._to_end() if one.attempt is not None and one.attempt.kinds & silent]
            if stuck and len(stuck) == len(self._to_end()):
                log.warning(
                    "an executor does not answer; what it runs goes on, and is taken up after the next start",
                    executors=sorted(silent), executions=[one.execution.id for one in stuck],
                )  # fmt: skip
                return False
        if not await reached(self._clock, self._all_recorded, SHUTDOWN_POLL, RECORDING_LIMIT):
            log.warning("the store does not answer; what has ended will be recorded after the next start")
        return True

    def _to_end(self) -> list[Placement]:
        return [one for one in self._unrecorded() if one.at_work]

    async def _silent(self) -> set[str]:
        """The executors, by kind, that do not answer within PROBE_LIMIT."""

        async def answers(kind: str, executor: Executor) -> str:
            with suppress(ExecutorUnavailable):
                if await first(executor.probe(), self._clock.sleep(PROBE_LIMIT)) is not None:
                    return kind
            return ""

        every = self._context.executors
        return set(every) - set(await asyncio.gather(*(answers(*one) for one in every.items())))

    def _unrecorded(self) -> list[Placement]:
        return [placement for placement in self._at_work if not (placement.record.ended or placement.unread)]

    def _all_recorded(self) -> bool:
        return not self._unrecorded() and not self._context.late_results.busy

    # -- what is placed here ------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Take in everything that is placed here now, and everything that is not placed here any more."""
        page = await patiently(self._clock, lambda: self._store.range(self._prefix), what="store")
        self._next_revision = page.revision + 1
        lives = {item.key: item.create_revision for item in page.items}
        self._over = {key: life for key, life in self._over.items() if lives.get(key) == life}
        self._unread = {key: execution for key, execution in self._unread.items() if key in lives}
        for key, placement in list(self._placements.items()):
            if lives.get(key) != placement.record.life:
                placement.lost()
        # In the order in which they came: where there is no room for all, who was first stays.
        for item in sorted(page.items, key=lambda item: item.create_revision):
            self._take(item)

    async def _watch(self) -> None:
        """Follow the changes until the watch breaks. Then everything has to be read again."""
        try:
            async with self._store.watch(self._prefix, revision=self._next_revision) as batches:
                async for batch in batches:
                    for number, event in enumerate(batch.events, 1):
                        if event.kind == "delete":
                            self._gone(event.key)
                        else:
                            self._take(event)
                        if number % EVENTS_PER_TURN == 0:
                            await asyncio.sleep(0)
        except StoreError as error:
            log.warning("agent reads its placements again", reason=str(error))
            await self._clock.sleep(WATCH_PAUSE)

    def _take(self, item: KeyValue | Event) -> None:
        if self._over.get(item.key) == item.create_revision:
            return  # old news: a busy watch may tell of a record's writes after this agent has recorded its end
        known = self._placements.get(item.key)
        try:
            if known is not None and known.record.life == item.create_revision:
                known.changed(item)
                return
            execution = decode(item, Execution)
            self._unread.pop(item.key, None)
        except StoreError as error:
            # A newer version may have written it: what runs of it is not ours to remove.
            self._unread[item.key] = item.key[len(self._prefix) :]
            log.error("a placement cannot be read", key=item.key, reason=str(error))  # noqa: TRY400 - nothing of ours failed
            return
        if known is not None:
            known.lost()
        if execution.state == "reported" or execution.current is None or self._context.admission.closed:
            return
        placement = Placement(self._context, item, execution, known)
        self._placements[item.key] = placement
        self._at_work[placement] = None
        placement.task = asyncio.create_task(self._work(placement), name=item.key)

    def _gone(self, key: str) -> None:
        self._over.pop(key, None)
        self._unread.pop(key, None)
        placement = self._placements.get(key)
        if placement is not None:
            placement.lost()

    async def _work(self, placement: Placement) -> None:
        record = placement.record
        self._metrics.running += 1
        try:
            await self._runner.run(placement)
        finally:
            self._metrics.running -= 1
            self._at_work.pop(placement, None)
            if self._placements.get(record.key) is placement:
                del self._placements[record.key]
                if record.ended and not record.taken_away:
                    self._over[record.key] = record.life
            placement.task = None  # the task knows the placement: both are gone now, not when the collector comes
        if placement.began:
            self._metrics.started += 1
        if placement.end is not None:
            self._metrics.ended(placement.end.outcome)

    # -- what it has --------------------------------------------------------------------------------------------------

    def _is_held(self, left: Leftover) -> bool:
        return left.execution in self._unread.values() or any(
            placement.execution.id == left.execution and placement.record.attempt.number == left.attempt
            for placement in self._at_work
        )

    def _busy_units(self) -> Collection[str]:
        unread = {unit_of(execution) for execution in self._unread.values()}
        return unread | {placement.execution.unit for placement in self._at_work}

    async def progress(self, execution_id: str) -> Attempt | None:
        """The attempt that runs here now, with the steps that it has finished; None when it is not here."""
        placement = self._placements.get(self._prefix + execution_id)
        return placement.progress() if placement is not None else None
