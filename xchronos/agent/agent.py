"""The agent: takes what is placed on this machine, runs it, reports how it ended.

The durable record comes before everything it stands for: an attempt is recorded as running before its first step
starts, and what is left of it is removed only after its end is recorded. Every step in between can be interrupted by a
crash and is taken up again from what the store, the journal and the engine say.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from xchronos.agent.attempt import AttemptEnd, AttemptRun
from xchronos.agent.journal import ForgetfulMemory, Journal, attempt_directory, forget
from xchronos.agent.specs import AttemptSteps, Place
from xchronos.clock import SECOND, Clock, to_datetime
from xchronos.errors import Compacted, ExecutorUnavailable, StoreError, UnitFileError
from xchronos.executors.contract import Executor, StepExit
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution, Machine, StepResult
from xchronos.model.unit import Step, Unit
from xchronos.registry.batch import Batcher
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys
from xchronos.registry.transitions import begin, finish, report
from xchronos.registry.units import Loaded, UnitCache, compile_record
from xchronos.scheduler.placement import MachineView, fits
from xchronos.store.contract import Event, KeyValue, Store, Txn

log = structlog.get_logger(__name__)

T = TypeVar("T")

SHUTTING_DOWN = "xchronosd is shutting down"


class _Running:
    """One placement that this agent works on."""

    def __init__(self, item: KeyValue, execution: Execution) -> None:
        self.item = item
        self.execution = execution
        self.life = item.create_revision
        self.run: AttemptRun | None = None
        self.task: asyncio.Task[None] | None = None
        self.steps: tuple[StepResult, ...] = ()
        self.taken_away = False

    def changed(self, item: KeyValue, execution: Execution) -> None:
        """The record was rewritten: by this agent, or to ask for a stop."""
        self.item, self.execution = item, execution
        if execution.stop_requested and self.run is not None:
            self.run.stop(execution.stop_requested)


class Agent:
    """Runs the attempts placed on one machine.

    `executors` are what it runs steps with, by kind; `directory` is where attempts keep their files; `machine` gives the
    machine as it is advertised.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        clock: Clock,
        place: Place,
        executors: Mapping[str, Executor],
        directory: Path,
        machine: Callable[[], Machine],
        registry: CollectorRegistry,
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._place = place
        self._executors = executors
        self._directory = directory
        self._machine = machine
        self._prefix = keys.machine_placements(place.machine)
        self._batcher = Batcher(store)
        self._units = UnitCache(store, keys)
        self._running: dict[str, _Running] = {}
        self._closing = False
        self._swept = False
        self.ready = asyncio.Event()
        self._started = Counter("xchronos_attempts_started_total", "Attempts started on this machine", registry=registry)
        self._ended = Counter("xchronos_attempts_total", "Attempts ended on this machine", ["outcome"], registry=registry)
        self._now_running = Gauge("xchronos_attempts_running", "Attempts running on this machine", registry=registry)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled. Attempts that still run then are left running, for the next agent to take up."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._batcher.run(), name="agent batcher")
            try:
                while True:
                    try:
                        await self._follow()
                    except (Compacted, StoreError) as error:
                        log.warning("agent reads its placements again", reason=str(error))
                        await self._clock.sleep(SECOND // 5)
            finally:
                tasks = [running.task for running in self._running.values() if running.task is not None]
                for task in tasks:
                    task.cancel()
                if tasks:
                    await asyncio.wait(tasks)

    async def drain(self, grace: int, reason: str = SHUTTING_DOWN) -> None:
        """Start nothing new; give what runs `grace` microseconds to end, then stop it as its unit says, and record all."""
        self._closing = True
        tasks = self._tasks()
        if tasks:
            log.info("waiting for running attempts", attempts=len(tasks), grace_seconds=grace / SECOND)
            await asyncio.wait(tasks, timeout=grace / SECOND)
        for running in list(self._running.values()):
            if running.run is not None:
                running.run.stop(reason)
        tasks = self._tasks()
        if tasks:
            await asyncio.wait(tasks)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [running.task for running in self._running.values() if running.task is not None and not running.task.done()]

    async def _follow(self) -> None:
        page = await self._store.range(self._prefix)
        held = {item.key for item in page.items}
        for execution_id, running in list(self._running.items()):
            if running.item.key not in held:
                self._lost(execution_id)
        for item in page.items:
            self._take(item)
        if not self._swept:
            await self._sweep()
            self._swept = True
        self.ready.set()
        async with self._store.watch(self._prefix, revision=page.revision + 1) as batches:
            async for batch in batches:
                for event in batch.events:
                    if event.kind == "delete":
                        self._lost(self._keys.split_placement(event.key)[1])
                    else:
                        self._take(_item(event))

    def _take(self, item: KeyValue) -> None:
        execution = decode(item, Execution)
        running = self._running.get(execution.id)
        if running is not None and running.life == item.create_revision:
            if item.mod_revision > running.item.mod_revision:
                running.changed(item, execution)
            return
        if execution.state == "reported" or self._closing:
            return
        running = _Running(item, execution)
        self._running[execution.id] = running
        running.task = asyncio.create_task(self._work(running), name=execution.id)

    def _lost(self, execution_id: str) -> None:
        """A placement is gone: recorded by this agent, or taken away from it."""
        running = self._running.get(execution_id)
        if running is None or running.task is None or running.task.done():
            return
        running.taken_away = True
        if running.run is not None:
            running.run.stop("it was taken away from this machine")

    # -- one attempt --------------------------------------------------------------------------------------------------

    async def _work(self, running: _Running) -> None:
        self._now_running.inc()
        try:
            await self._attempt(running)
        except Exception:
            # A defect must not leave an execution running for ever, nor take the other attempts down with it.
            log.exception("attempt could not be carried out", execution=running.execution.id)
            await self._close_attempt(running, _failed("this agent could not carry out the attempt: see its log"), None)
        finally:
            self._now_running.dec()
            if self._running.get(running.execution.id) is running:
                del self._running[running.execution.id]

    async def _attempt(self, running: _Running) -> None:
        execution = running.execution
        attempt = execution.current
        if attempt is None:
            raise ValueError(f"{execution.id} is placed here without a current attempt")
        where = attempt_directory(self._directory, execution.unit, execution.fire_time, execution.copy, attempt.number)
        journal = Journal(where, self._clock)
        if execution.state == "running":
            await self._resume(running, journal)
            return
        loaded = await self._unit_for(execution.unit, attempt.revision)
        refusal = self._refusal(execution, loaded.unit if loaded is not None else None)
        if refusal is not None or loaded is None or loaded.unit is None:
            await self._close_attempt(running, refusal or _cancelled("the unit was destroyed"), None)
            return
        steps = AttemptSteps(loaded.unit, execution, self._place, self._executors, where)
        if steps.recoverable:
            await asyncio.to_thread(journal.create, loaded.record)
        if not await self._begin(running, loaded.unit):
            return
        self._started.inc()
        await self._carry_out(running, loaded.unit, steps, journal if steps.recoverable else None)

    async def _unit_for(self, name: str, revision: str) -> Loaded | None:
        """The unit as it is now. Nobody tells an agent of changes; the placement says which text it was decided by."""
        known = self._units.peek(name)
        if known is not None and known.record.revision != revision:
            self._units.forget(name)
        return await self._patiently(lambda: self._units.get(name))

    def _refusal(self, execution: Execution, unit: Unit | None) -> AttemptEnd | None:
        """Why this attempt must not start here; the machine judges by the predicate that the scheduler placed it by."""
        if execution.stop_requested:
            return _cancelled(execution.stop_requested)
        if unit is None:
            return None
        machine = msgspec.structs.replace(self._machine(), cordoned=False)
        alone = msgspec.structs.replace(unit.requirements, peers=(), conflicts=())
        reasons = fits(msgspec.structs.replace(unit, requirements=alone, memory=0, cpus=0.0), MachineView(machine))
        if reasons:
            return _failed("this machine cannot run it (any more): " + ", ".join(reason.message for reason in reasons))
        return None

    async def _begin(self, running: _Running, unit: Unit) -> bool:
        """Record durably that the attempt starts. False when the placement has changed: then nothing may start."""
        while True:
            execution = running.execution
            if running.taken_away or execution.current is None:
                return False
            if execution.stop_requested:
                await self._close_attempt(running, _cancelled(execution.stop_requested), None)
                return False
            started = msgspec.structs.replace(
                execution.current, started_at=to_datetime(self._clock.now()), revision=unit.revision
            )
            wanted = msgspec.structs.replace(execution, state="running", current=started)
            known = running.item.mod_revision
            done = await self._commit(begin(self._keys, wanted, known))
            if done is not None:
                running.execution = wanted
                return True
            item = await self._patiently(lambda: self._store.get(running.item.key))
            if item is None or item.create_revision != running.life:
                return False
            running.changed(item, decode(item, Execution))
            if running.execution.state == "running":
                # The answer to this very write was lost on its way: it had happened.
                return True

    async def _resume(self, running: _Running, journal: Journal) -> None:
        """Go on with an attempt that an earlier agent began on this machine."""
        execution = running.execution
        try:
            if not journal.exists:
                raise ValueError("the daemon that ran it is gone, and it kept no journal")
            record = await asyncio.to_thread(journal.open)
            unit = compile_record(execution.unit, record)
        except (OSError, ValueError, UnitFileError) as error:
            await self._close_attempt(running, AttemptEnd(Outcome.LOST, f"what became of it cannot be known: {error}", "lost", ()), None)
            return
        log.info("taking up a running attempt", execution=execution.id)
        steps = AttemptSteps(unit, execution, self._place, self._executors, journal.directory)
        await self._carry_out(running, unit, steps, journal)

    async def _carry_out(self, running: _Running, unit: Unit, steps: AttemptSteps, journal: Journal | None) -> None:
        run = AttemptRun(
            unit.service,
            _Patient(steps, self._clock),
            journal or ForgetfulMemory(self._clock),
            self._clock,
            remain=unit.service.remain_after_exit,
            progress=lambda results: setattr(running, "steps", results),
        )
        running.run = run
        if running.execution.stop_requested:
            run.stop(running.execution.stop_requested)
        if running.taken_away:
            run.stop("it was taken away from this machine")
        end = await run.run()
        await self._close_attempt(running, end, unit)
        await steps.release()
        if journal is not None:
            await asyncio.to_thread(self._tidy, journal, unit)

    def _tidy(self, journal: Journal, unit: Unit) -> None:
        journal.close()
        forget(self._directory, unit.name, unit.history_limit)

    async def _close_attempt(self, running: _Running, end: AttemptEnd, unit: Unit | None) -> None:
        """Record the attempt's end: a success is final here, everything else goes back to the scheduler."""
        execution = running.execution
        self._ended.labels(end.outcome.value).inc()
        if running.taken_away or execution.current is None:
            log.warning("the end of an attempt that was taken away is not recorded", execution=execution.id, outcome=end.outcome.value)
            return
        attempt = msgspec.structs.replace(
            execution.current,
            ended_at=to_datetime(self._clock.now()),
            outcome=end.outcome,
            reason=end.reason,
            steps=end.steps,
        )
        if end.outcome is Outcome.SUCCEEDED and not execution.report:
            txn = finish(self._keys, self._place.machine, _ended(execution, attempt), running.life)
        else:
            handed = msgspec.structs.replace(execution, state="reported", current=attempt)
            txn = report(self._keys, handed, running.life)
        if await self._commit(txn) is None:
            log.warning("the end of an attempt was refused: it was taken away", execution=execution.id, outcome=end.outcome.value)
        elif end.outcome is not Outcome.SUCCEEDED:
            log.info("attempt ended", execution=execution.id, attempt=attempt.number, outcome=end.outcome.value, reason=end.reason)

    async def _commit(self, txn: Txn) -> int | None:
        """Commit, however long the store takes to answer. None: a guard did not hold."""
        done = await self._patiently(lambda: self._batcher.submit(txn))
        return done.revision if done.succeeded else None

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until the store answers: what runs goes on without it, and its end is kept until it can be recorded."""
        pause = SECOND // 10
        while True:
            try:
                return await ask()
            except StoreError as error:
                log.warning("store does not answer; will ask again", reason=str(error))
                await self._clock.sleep(pause)
                pause = min(pause * 2, 5 * SECOND)

    # -- what is left over ----------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Remove what belongs to attempts that this machine does not have (any more)."""
        held = {
            (running.execution.id, running.execution.current.number)
            for running in self._running.values()
            if running.execution.current is not None
        }
        for kind, executor in self._executors.items():
            try:
                found = await executor.leftovers()
            except ExecutorUnavailable as error:
                log.warning("leftovers are not looked for", executor=kind, reason=str(error))
                continue
            orphans = [left for left in found if (left.execution, left.attempt) not in held]
            if orphans:
                log.info("removing leftovers", executor=kind, what=[left.what for left in orphans])
                await executor.remove(orphans)

    # -- looking --------------------------------------------------------------------------------------------------------

    async def progress(self, execution_id: str) -> Attempt | None:
        """The attempt that runs here now, with the steps that it has finished; None when it is not here."""
        running = self._running.get(execution_id)
        if running is None or running.execution.current is None:
            return None
        return msgspec.structs.replace(running.execution.current, steps=running.steps)


class _Patient:
    """Steps whose executor may be away for a while: nothing was started then, so asking again is safe."""

    def __init__(self, steps: AttemptSteps, clock: Clock) -> None:
        self._steps = steps
        self._clock = clock

    async def run(self, step: Step, env: Mapping[str, str]) -> StepExit:
        """See `Steps.run`."""
        return await self._insist(lambda: self._steps.run(step, env))

    async def stop(self, step: Step, signal: str) -> None:
        """See `Steps.stop`."""
        await self._insist(lambda: self._steps.stop(step, signal))

    async def kill(self, step: Step) -> None:
        """See `Steps.kill`."""
        await self._insist(lambda: self._steps.kill(step))

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        pause = SECOND // 5
        while True:
            try:
                return await call()
            except ExecutorUnavailable as error:
                log.warning("executor does not answer; will ask again", reason=str(error))
                await self._clock.sleep(pause)
                pause = min(pause * 2, 10 * SECOND)


def _ended(execution: Execution, attempt: Attempt) -> Execution:
    return msgspec.structs.replace(
        execution,
        state="ended",
        attempts=(*execution.attempts, attempt),
        current=None,
        outcome=attempt.outcome,
        reason=attempt.reason,
        ended_at=attempt.ended_at,
    )


def _failed(reason: str) -> AttemptEnd:
    return AttemptEnd(Outcome.FAILED, reason, "resources", ())


def _cancelled(reason: str) -> AttemptEnd:
    return AttemptEnd(Outcome.CANCELLED, reason, "success", ())


def _item(event: Event) -> KeyValue:
    return KeyValue(event.key, event.value, event.create_revision, event.mod_revision, event.lease)

