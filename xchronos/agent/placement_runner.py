"""One placement on this machine, from its claim to the record of its end.

The durable record comes before everything it stands for: an attempt is recorded as running before its first step
starts, and what is left of it is removed only after its end is recorded. Every step in between can be interrupted by a
crash and is taken up again from what the store, the journal and the engine say.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from xchronos.agent import outcomes
from xchronos.agent.attempt.artifact import fetch_once
from xchronos.agent.attempt.conditions import unmet_conditions
from xchronos.agent.attempt.interfaces import AttemptEnd, Memory
from xchronos.agent.attempt.journal import AttemptJournal, ForgetfulMemory, attempt_directory, forget
from xchronos.agent.attempt.run import AttemptRun
from xchronos.agent.context import AgentContext
from xchronos.agent.retrying import PatientSteps, patiently
from xchronos.agent.steps.spec import AttemptSteps
from xchronos.clock import to_datetime
from xchronos.errors import ExecutorUnavailable, UnitFileError
from xchronos.model.lifecycle import IllegalEvent, advance
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution, StepResult
from xchronos.model.unit import Unit
from xchronos.registry.codec import decode, encode
from xchronos.registry.transitions import begin, finish, report
from xchronos.registry.units import Loaded, compile_record
from xchronos.scheduler.policies.partition import outlives_lease
from xchronos.store.contract import Committed, Event, KeyValue, Txn

log = structlog.get_logger(__name__)

TAKEN_AWAY = "it was taken away from this machine"


class PlacementRunner:
    """One placement that this agent works on. `before` is what this agent had of the same execution until now.

    `alone`: the store has given this machine up, and the attempt goes on here nevertheless (OnPartition=continue).
    """

    def __init__(
        self,
        context: AgentContext,
        item: KeyValue | Event,
        execution: Execution,
        before: "PlacementRunner | None" = None,
    ) -> None:
        self.execution = execution
        self.key = item.key
        self.life = item.create_revision
        self.known = item.mod_revision
        self.written = b""
        self.began = False
        self.end: AttemptEnd | None = None
        self.recorded = False
        self.task: asyncio.Task[None] | None = None
        self.alone = False
        self._minding: asyncio.Task[None] | None = None
        self._before = before
        self._lapses = context.lease_clock.lapses
        self.unit: Unit | None = None
        self._context = context
        self._run: AttemptRun | None = None
        self.taken_away = False
        self._leaving = self.attempt.leave
        self._holds: Unit | None = None
        if execution.state == "running":
            context.resuming.add(self)
            context.resumed.clear()
        self._ended_at: datetime | None = None

    # -- what others tell it ------------------------------------------------------------------------------------------

    def changed(self, item: KeyValue | Event) -> None:
        """The record was rewritten: by this agent, or to ask for a stop. Raises StoreError if it cannot be read."""
        # Of what this agent writes itself the store's answer tells it.
        if item.mod_revision <= self.known or item.value == self.written:
            return
        self.known, self.execution = item.mod_revision, decode(item, Execution)
        execution = self.execution
        if execution.stop_requested:
            self.stop(execution.stop_requested)
        elif execution.current is not None and execution.current.leave:
            self.leave(execution.current.leave)

    def lost(self) -> None:
        """The placement is gone from the store: recorded by this agent, or taken away from it."""
        if self.taken_away:
            return
        self.taken_away = True
        self._make_room()
        unit = self.unit
        given_up = self._context.lease_clock.lapses > self._lapses
        if given_up and self._run is not None and self.end is None and unit is not None and outlives_lease(unit):
            log.warning("this machine was given up; the attempt goes on", execution=self.execution.id)
            self.alone = True
            self._minding = asyncio.create_task(self._context.late_results.mind(self.execution.id, self.stop))
        else:
            self.stop(TAKEN_AWAY)

    def leave(self, reason: str) -> None:
        """End what runs, as the unit says, for another machine to try: the attempt is lost, not cancelled."""
        self._leaving = self._leaving or reason
        self.stop(reason)

    def stop(self, reason: str) -> None:
        """End what runs, as the unit says; nothing happens before and after that."""
        if self._run is not None:
            self._run.stop(reason)
        elif self._before is not None:
            self._before.stop(reason)

    @property
    def attempt(self) -> Attempt:
        """The attempt that is placed. Raises ValueError for a record without one."""
        if self.execution.current is None:
            raise ValueError(f"{self.execution.id} is placed here without a current attempt")
        return self.execution.current

    @property
    def steps(self) -> Sequence[StepResult]:
        """What its steps came to so far."""
        return self._run.results if self._run is not None else ()

    @property
    def directory(self) -> Path:
        """Where the attempt keeps its files."""
        return Path(self._files)

    @property
    def _files(self) -> str:
        execution = self.execution
        number = self.attempt.number
        return attempt_directory(self._context.directory, execution.unit, execution.fire_time, execution.copy, number)

    # -- its way ------------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Carry the attempt out and record its end. Cancelling leaves what runs running."""
        try:
            await self._work()
        except IllegalEvent:
            # The record is in a state that no agent's write leads on from: it is left as it is, for people to see.
            log.exception("a placement's record is in a state that it cannot be in", execution=self.execution.id)
        except Exception as error:
            # A defect must not leave an execution running for ever, nor take the other attempts down with it.
            log.exception("attempt could not be carried out", execution=self.execution.id)
            if not self.recorded and self.execution.current is not None:
                begun = self.execution.state != "placed"
                await self._close(outcomes.hindered(self._context.host.machine, error, begun=begun))
        finally:
            self._is_known()
            self._make_room()
            if self._minding is not None:
                self._minding.cancel()

    def _take_room(self, unit: Unit) -> None:
        if not self.taken_away:
            self._holds = unit
            self._context.here.take(unit)
        self._is_known()

    def _is_known(self) -> None:
        self._context.resuming.discard(self)
        if not self._context.resuming:
            self._context.resumed.set()

    def _make_room(self) -> None:
        """Count no longer among what this machine runs: others may come from now on."""
        unit, self._holds = self._holds, None
        if unit is not None:
            self._context.here.release(unit)

    async def _work(self) -> None:
        state = self.execution.state
        if state == "running":
            await self._resume(AttemptJournal(self.directory, self._context.clock))
            return
        if state != "placed":
            return  # what was read first is long past: it has been handed back since, and nobody must wait for it
        before = self._before
        if before is not None and before.task is not None:
            if before.alone and before.end is None:
                await self._join(before, before.task)
                return
            # Two attempts of one execution are never at work side by side.
            await asyncio.wait({before.task})
            self._before = None
        loaded = await self._read_unit()
        unit = loaded.unit if loaded is not None else None
        if unit is not None and unit.on_partition == "stop":
            await self._context.partition.in_contact(self._is_wanted)
        end = await self._refusal(unit)
        if end is not None or unit is None or loaded is None:
            await self._close(end or outcomes.cancelled("the unit was destroyed"))
            return
        self._take_room(unit)
        steps = self._steps_of(unit)
        journal = (
            AttemptJournal(self.directory, self._context.clock) if self._context.resolved(unit).recoverable else None
        )
        if journal is not None:
            await asyncio.to_thread(journal.create, loaded.record)
        if await self._begin(unit):
            self.began = True
            await self._carry_out(unit, steps, journal)
        elif self.execution.state == "running" and await self._look_again() and self.execution.state == "running":
            # An earlier daemon has asked for that, and it happened only after this one had read what there is.
            self._make_room()
            await self._resume(AttemptJournal(self.directory, self._context.clock))

    def _steps_of(self, unit: Unit) -> AttemptSteps:
        permitted = self._context.partition.permits if unit.on_partition == "stop" else None
        return AttemptSteps(self._context.resolved(unit), self.execution, self._files, permitted)

    def _is_wanted(self) -> bool:
        unwanted = self.taken_away or self._leaving or self.execution.stop_requested or self._context.closing
        return not unwanted

    async def _join(self, before: "PlacementRunner", ended: "asyncio.Task[None]") -> None:
        """The execution has come back to the machine where an attempt of it still runs: nothing is started for it."""
        unit = before.unit
        assert unit is not None
        if not await self._begin(unit):
            return
        await asyncio.wait({ended})
        if before.end is not None:
            reason = f"attempt {before.attempt.number}, which had been given up, went on here"
            reason = f"{reason}: {before.end.reason}" if before.end.reason else reason
            await self._close(msgspec.structs.replace(before.end, reason=reason, steps=()))

    async def _read_unit(self) -> Loaded | None:
        """The unit as it is now. Nobody tells an agent of changes; the placement says which text it was decided by."""
        units, name = self._context.units, self.execution.unit
        known = units.peek(name)
        if known is not None and known.record.revision != self.attempt.revision:
            units.forget(name)
        return await patiently(self._context.clock, lambda: units.get(name), what="store")

    async def _refusal(self, unit: Unit | None) -> AttemptEnd | None:
        """Why this attempt must not start here; the machine judges by the predicate that the scheduler placed it by."""
        if self._context.resuming:
            await self._context.resumed.wait()
        if unit is not None and any(self._context.refusals(unit)):
            # The scheduler may have heard sooner of what people want of this machine.
            await patiently(self._context.clock, self._context.refresh, what="store")
        if self.execution.stop_requested:
            return outcomes.cancelled(self.execution.stop_requested)
        if self._leaving:
            return outcomes.lost(self._leaving)
        if unit is None:
            return None
        misfits, crowd = self._context.refusals(unit)
        if misfits or crowd:
            reasons = ", ".join(words for words in (misfits, crowd) if words)
            return outcomes.lost(f"{self._context.host.machine} {reasons}", crowded=not misfits)
        return unmet_conditions(unit, self._context.host.facts)

    async def _begin(self, unit: Unit) -> bool:
        """Record durably that the attempt starts. False when the placement has changed: then nothing may start."""
        started = to_datetime(self._context.clock.now())
        while not self.taken_away and not self._context.closing:
            if self.execution.state != "placed":
                # Either the answer to this very write was lost on its way, and it had happened; or what was read first
                # is long past: the attempt has been begun, and may have ended, and must not be begun again.
                return self.execution.state == "running" and self.attempt.started_at == started
            if self.execution.stop_requested or self._leaving:
                reason = self.execution.stop_requested
                await self._close(outcomes.cancelled(reason) if reason else outcomes.lost(self._leaving))
                return False
            attempt = msgspec.structs.replace(self.attempt, started_at=started, revision=unit.revision)
            wanted = advance(self.execution, "start", current=attempt)
            self.written = encode(wanted)
            done = await self._commit(begin(self.key, self.written, self.known))
            if done.succeeded:
                # The watch may have been faster, and may have brought a request to stop along.
                if self.known < done.revision:
                    self.known, self.execution = done.revision, wanted
                return True
            if not await self._look_again():
                return False
        return False

    async def _resume(self, journal: AttemptJournal) -> None:
        """Go on with an attempt that an earlier agent began on this machine."""
        unit = await asyncio.to_thread(self._begun_with, journal)
        if isinstance(unit, str):
            await self._close(AttemptEnd(Outcome.LOST, f"what became of it cannot be known: {unit}", "lost", ()))
            return
        log.info("taking up a running attempt", execution=self.execution.id)
        self._take_room(unit)
        await self._carry_out(unit, self._steps_of(unit), journal)

    def _begun_with(self, journal: AttemptJournal) -> Unit | str:
        """The unit as the attempt began with it, or why that cannot be known."""
        if not journal.exists:
            return "the daemon that ran it is gone, and it kept no journal"
        try:
            return compile_record(self.execution.unit, journal.open())
        except (OSError, ValueError, UnitFileError) as error:
            return f"its journal cannot be read: {error}"

    async def _carry_out(self, unit: Unit, steps: AttemptSteps, journal: AttemptJournal | None) -> None:
        clock = self._context.clock
        self.unit = unit
        memory: Memory = journal or ForgetfulMemory(clock)
        run = self._run = AttemptRun(
            unit.service,
            PatientSteps(steps, clock),
            memory,
            clock,
        )
        if self._context.closing:
            self.leave(self._context.closing)
        for reason in (self.execution.stop_requested, self._leaving, TAKEN_AWAY if self.taken_away else ""):
            if reason:
                run.stop(reason)
        prepare = None
        if unit.artifact:
            scratch = self.directory / "scratch"
            prepare = lambda: fetch_once(unit, self._context.host.facts, memory, scratch)  # noqa: E731 - bound to the above
        if unit.on_partition == "stop":
            resumed = not self.began
            end = await self._context.partition.carry_out(run, prepare, memory, steps.end_all, resumed=resumed)
            end = msgspec.structs.replace(end, steps=end.steps or self.steps)
        else:
            end = await run.run(prepare)
        self.end = end
        await self._close(end)
        await patiently(clock, steps.release, what="executor", kind=ExecutorUnavailable)
        if journal is not None or unit.artifact:
            await asyncio.to_thread(self._tidy, unit)

    def _tidy(self, unit: Unit) -> None:
        AttemptJournal(self.directory, self._context.clock).close()
        forget(self._context.directory, unit.name, unit.history_limit)

    # -- its record ---------------------------------------------------------------------------------------------------

    async def _close(self, end: AttemptEnd) -> None:
        """Record the attempt's end: a success is final here, everything else goes back to the scheduler."""
        self._ended_at = to_datetime(self._context.clock.now())
        while not self.taken_away:
            execution = self.execution
            if execution.state == "reported":
                self.recorded = True  # the answer was lost on its way, or what was read first is long past
                return
            if end.outcome is Outcome.CANCELLED and self._run is not None and not execution.stop_requested:
                # It was stopped, by this daemon or an earlier one, but nobody wants the execution to end.
                end = msgspec.structs.replace(end, outcome=Outcome.LOST)
            self.end = end
            attempt = self.ended(end)
            done = await self._commit(self._record(execution, attempt))
            if done.succeeded:
                self.recorded = True
                self._make_room()
                if end.outcome is not Outcome.SUCCEEDED:
                    log.info(
                        "attempt ended",
                        execution=execution.id, attempt=attempt.number, outcome=end.outcome.value, reason=end.reason,
                    )  # fmt: skip
                return
            if not await self._look_again():
                break
        log.info(
            "the placement is gone: recorded already, or taken away",
            execution=self.execution.id, outcome=end.outcome.value,
        )  # fmt: skip
        run = self._run
        if run is None or end.outcome is Outcome.LOST:
            return
        if end.outcome is Outcome.CANCELLED and run.stop_reason == TAKEN_AWAY:
            return  # it has come to nothing of its own
        self._context.late_results.put(self.execution.id, self.ended(end))

    def ended(self, end: AttemptEnd) -> Attempt:
        """The attempt's record with its end."""
        return msgspec.structs.replace(
            self.attempt,
            ended_at=self._ended_at, outcome=end.outcome, reason=end.reason, steps=end.steps, crowded=end.crowded,
        )  # fmt: skip

    def _record(self, execution: Execution, attempt: Attempt) -> Txn:
        if attempt.outcome is Outcome.SUCCEEDED and not execution.report:
            return finish(self._context.keys, self.key, outcomes.concluded(execution, attempt), self.known)
        self.written = encode(advance(execution, "report", current=attempt))
        return report(self.key, self.written, self.known)

    async def _commit(self, txn: Txn) -> Committed:
        """Commit, however long the store takes to answer; the end of what runs is kept until it can be recorded."""
        return await patiently(self._context.clock, lambda: self._context.batcher.submit(txn), what="store")

    async def _look_again(self) -> bool:
        """Read the placement anew. False when it is gone, or another one by now."""
        item = await patiently(self._context.clock, lambda: self._context.store.get(self.key), what="store")
        if item is None or item.create_revision != self.life:
            return False
        # Read, not heard of: what this agent has written itself counts too.
        self.written = b""
        self.changed(item)
        return True
