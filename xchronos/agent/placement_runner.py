"""The work on one placement, from its claim to the record of its end.

The durable record comes before everything that it stands for: an attempt is recorded as running before its first step
starts, and what is left of it is removed only after its end is recorded. A crash can interrupt every step in between.
The next agent goes on from what the store, the journal and the executors say.

What was checked can change while something is awaited. So each act is checked for right before it, without an `await`
in between, or it is guarded by the store and decided anew when the store refuses (`placement_record`).
"""

import asyncio
from pathlib import Path

import msgspec
import structlog

from xchronos.agent import outcomes
from xchronos.agent.attempt.conditions import unmet_conditions
from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.agent.attempt.journal import AttemptJournal, NewerJournal
from xchronos.agent.attempt_runner import AttemptRunner
from xchronos.agent.context import AgentContext
from xchronos.agent.placement import TAKEN_AWAY, Placement
from xchronos.agent.placement_record import PlacementRecord
from xchronos.agent.retrying import patiently
from xchronos.clock import SECOND, to_datetime
from xchronos.errors import UnitFileError, XchronosError
from xchronos.hostfiles import HostFileRefused
from xchronos.model.lifecycle import IllegalEvent
from xchronos.model.policies import Outcome
from xchronos.model.unit import Unit
from xchronos.registry.units import Found, Loaded, Unreadable, compile_record

log = structlog.get_logger(__name__)


class PlacementRunner:
    """Works on the placements of one agent."""

    def __init__(self, context: AgentContext) -> None:
        self._context = context

    async def run(self, placement: Placement) -> None:
        """Carry the attempt out and record its end. Cancelling leaves what runs running."""
        record = placement.record
        try:
            # In every other state the record was read long ago: the attempt was handed back since, and nobody waits.
            if record.execution.state == "running":
                await self._resume(placement)
            elif record.execution.state == "placed":
                before = placement.before
                if before is None or not await self._joined(placement, before):
                    await self._start(placement)
        except IllegalEvent:
            # The record is in a state that no agent's write leads on from: it is left as it is, for people to see.
            log.exception("a placement's record is in a state that it cannot be in", execution=record.execution.id)
        except Exception as error:
            # A defect must not leave an execution running for ever, nor take the other attempts down with it.
            log.exception("attempt could not be carried out", execution=record.execution.id)
            if not record.ended and record.execution.current is not None:
                begun = record.execution.state != "placed"
                await placement.close(outcomes.hindered(self._context.host.machine, error, begun=begun))
        finally:
            placement.let_go()

    # -- its start ----------------------------------------------------------------------------------------------------

    async def _joined(self, placement: Placement, before: Placement) -> bool:
        """Wait for what this agent had of the same execution: no two attempts of it are at work side by side.

        True when the execution has come back to the machine where an attempt of it still runs. Nothing is started for
        it then: the end of that attempt is its end.
        """
        ended, attempt = before.task, before.attempt
        if ended is None:
            return False
        if attempt is None or not before.alone or not before.at_work:
            await asyncio.wait({ended})
            placement.before = None
            return False
        if await self._begin(placement, attempt.unit):
            await asyncio.wait({ended})
            if before.end is not None:
                reason = f"attempt {before.record.attempt.number}, which had been given up, went on here"
                reason = f"{reason}: {before.end.reason}" if before.end.reason else reason
                await placement.close(msgspec.structs.replace(before.end, reason=reason, steps=()))
        return True

    async def _start(self, placement: Placement) -> None:
        """Begin the attempt, unless something speaks against it, and carry it out."""
        context, record = self._context, placement.record
        loaded = await self._read_unit(record)
        if isinstance(loaded, Unreadable):
            # Another machine may be able to: it is handed back, and not charged.
            await placement.close(outcomes.lost(f"{context.host.machine} cannot read the unit: {loaded.why}"))
            return
        unit = loaded.unit if loaded is not None else None
        if unit is not None and unit.on_partition == "stop":
            await context.partition.in_contact(lambda: self._is_wanted(placement))
        if context.admission.resuming:
            await context.admission.all_resumed()
        unmet = await self._unmet(unit) if unit is not None and unit.conditions else None
        end = self._refusal(placement, unit)
        if end is not None and end.outcome is Outcome.LOST:
            await context.admission.refresh()
            end = self._refusal(placement, unit)
        end = end or unmet
        # No await between the judging and the taking of the room: see `admission`.
        if end is not None or unit is None or loaded is None:
            await placement.close(end or outcomes.cancelled("the unit was destroyed"))
            return
        placement.take_room(unit)
        journal = None
        if context.resolved.of(unit).recoverable:
            journal = AttemptJournal(Path(record.directory), context.clock)
            await asyncio.to_thread(journal.create, loaded.record, context.files)
        # Whatever has changed while that was awaited, `_begin` finds: it checks before each try.
        if await self._begin(placement, unit):
            placement.began = True
            await self._carry_out(placement, unit, journal, resumed=False)
        elif record.is_running and await placement.look_again() and record.is_running:
            # An earlier daemon has asked for that, and it happened only after this one had read what there is.
            placement.make_room()
            await self._resume(placement)

    async def _unmet(self, unit: Unit) -> AttemptEnd | None:
        """How the attempt ends by the conditions of its unit; None: they hold.

        They name paths, which may be on a server that does not answer.
        """
        host = self._context.host
        try:
            return await host.files.ask(lambda: unmet_conditions(unit, host.facts), f"the conditions of {unit.name}")
        except HostFileRefused as error:
            return AttemptEnd(Outcome.FAILED, str(error), "resources", ())

    async def _read_unit(self, record: PlacementRecord) -> Found | None:
        """The unit as it is now. Nobody tells an agent of changes; the placement says which text it was decided by."""
        units, name = self._context.units, record.execution.unit
        known = units.peek(name)
        if not isinstance(known, Loaded) or known.record.revision != record.attempt.revision:
            units.forget(name)
        return await patiently(self._context.clock, lambda: units.get(name), what="store")

    def _is_wanted(self, placement: Placement) -> bool:
        """Whether it is worth waiting for the attempt's start."""
        gone = placement.record.taken_away or self._context.admission.closed
        return not gone and placement.called_off() is None

    def _refusal(self, placement: Placement, unit: Unit | None) -> AttemptEnd | None:
        """How the attempt ends that must not start here now; None: it may start, if there is a unit."""
        return placement.called_off() or (self._context.admission.refusal(unit) if unit is not None else None)

    async def _begin(self, placement: Placement, unit: Unit) -> bool:
        """Record durably that the attempt starts. False: nothing may start, as the placement is gone or has changed.

        Checks anew before each try, as the record may have changed before, and while, it was written. Pinned by
        `test_a_change_between_claim_and_start` and
        `test_drain_starts_nothing_that_is_on_its_way`.
        """
        record = placement.record
        started = to_datetime(self._context.clock.now())
        while not record.taken_away and not self._context.admission.closed:
            if record.execution.state != "placed":
                # Either the answer to this very write was lost, and it had happened; or what was read first is long
                # past: the attempt was begun then, and may have ended, and must not be begun again.
                return record.is_running and record.attempt.started_at == started
            end = placement.called_off()
            if end is not None:
                await placement.close(end)
                return False
            if await record.begin(started, unit.revision):
                return True
            if not await placement.look_again():
                return False
        return False

    # -- the attempt --------------------------------------------------------------------------------------------------

    async def _resume(self, placement: Placement) -> None:
        """Go on with an attempt that an earlier agent began on this machine."""
        record = placement.record
        journal = AttemptJournal(Path(record.directory), self._context.clock)
        try:
            unit = await asyncio.to_thread(_begun_with, journal, record.execution.unit)
        except UnitFileError as error:
            await self._leave_alone(placement, "a running attempt is left alone: its unit is unreadable", error)
            return
        except NewerJournal as error:
            await self._leave_alone(placement, "a running attempt is left alone: its journal is newer", error)
            return
        if isinstance(unit, str):
            await placement.close(outcomes.fate_unknown(unit))
            return
        log.info("taking up a running attempt", execution=record.execution.id)
        placement.take_room(unit)
        await self._carry_out(placement, unit, journal, resumed=True)

    async def _leave_alone(self, placement: Placement, event: str, error: XchronosError) -> None:
        """Keep the placement of an attempt whose unit or journal this agent cannot read, and do nothing about it.

        A newer agent has begun it, and one that is as new takes it up again. What runs goes on meanwhile.
        """
        record = placement.record
        log.error(event, execution=record.execution.id, reason=str(error))
        placement.unread = True
        self._context.admission.settle(placement)
        while not record.taken_away:
            await self._context.clock.sleep(SECOND)

    async def _carry_out(
        self, placement: Placement, unit: Unit, journal: AttemptJournal | None, *, resumed: bool
    ) -> None:
        record, closed = placement.record, self._context.admission.closed
        attempt = placement.attempt = AttemptRunner(self._context, record, unit, journal, resumed=resumed)
        # Whoever wanted it to end while there was no attempt to tell: the first reason is the one that counts.
        if closed:
            placement.leave(closed)
        for reason in (record.execution.stop_requested, placement.leaving, TAKEN_AWAY if record.taken_away else ""):
            if reason:
                attempt.stop(reason)
        placement.end = await attempt.run()
        await placement.close(placement.end)
        await attempt.clean_up()


def _begun_with(journal: AttemptJournal, name: str) -> Unit | str:
    """The unit as the attempt began with it, or why that cannot be known.

    Raises UnitFileError and NewerJournal where only this version cannot know it.
    """
    if not journal.exists:
        return "the daemon that ran it is gone, and it kept no journal"
    try:
        return compile_record(name, journal.open())
    except (OSError, ValueError) as error:
        return f"its journal cannot be read: {error}"
