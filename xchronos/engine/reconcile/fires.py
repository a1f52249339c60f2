"""Units and their fire times: acceptance, what is due, the end of a TTL, and what a destroyed unit leaves."""

import asyncio
from collections.abc import Collection
from datetime import datetime
from itertools import islice

import msgspec
import structlog

from xchronos.clock import Instant, to_datetime, to_instant
from xchronos.engine.committer import Committer
from xchronos.engine.reconcile.machine_choice import MachineChoice
from xchronos.engine.reconcile.placements import Placements
from xchronos.errors import InvalidTrigger
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution, Owed, Schedule, fire_key
from xchronos.model.unit import Unit
from xchronos.registry.transitions import claim, expire_unit, forget_unit
from xchronos.registry.units import Loaded
from xchronos.scheduler.starts import lacking, started, superfluous
from xchronos.scheduler.timing.schedule import Turn, not_run, reconcile, turn
from xchronos.store.contract import Committed

log = structlog.get_logger(__name__)

AT_ONCE = 128
"""How many units are decided about before others get a turn: bounds how long a crowded second holds everything up."""

RECONCILED = 32
"""How many new or changed units a turn takes in: they take far longer than what is due."""

RESUMED = 16
"""How many units that were put off get their turn before it is asked again whether the machines have enough."""

MOST_FIRES = 1_000
"""How many fire times of one unit are decided at once, unless they are misfires: those are bounded by MisfireLimit."""

DESTROYED = "the unit was destroyed"


class FireTimes:
    """Moves the cursors."""

    def __init__(self, committer: Committer, placements: Placements, machine_choice: MachineChoice) -> None:
        self._committer = committer
        self._placements = placements
        self._machine_choice = machine_choice

    # -- units that are new or have changed ---------------------------------------------------------------------------

    async def reconcile_changed(self, now: Instant) -> None:
        """Accept what is new; fit cursors to what has changed. Some units in each turn: what is due must not wait."""
        committer, work = self._committer, self._committer.work
        if committer.full:
            return
        batch = list(islice(work.changed, RECONCILED))
        for name in batch:
            del work.changed[name]
        if work.changed:
            work.wake()
        mine = [name for name in batch if committer.fence(name) is not None]
        loaded = await committer.load(mine)
        for name in mine:
            if name in loaded:
                self._reconcile(name, loaded[name], now)

    def _reconcile(self, name: str, loaded: Loaded, now: Instant) -> None:
        committer = self._committer
        fence = committer.fence(name)
        if fence is None:
            return
        cursor = committer.cluster.cursors.known.get(name)
        if cursor is not None and cursor.busy:
            committer.work.changed[name] = None
            return
        old = cursor.schedule if cursor is not None else None
        reborn = old is not None and loaded.created > old.unit_revision
        if reborn:
            # Destroyed and submitted again before anybody looked: nothing of its former life concerns the new one, nor
            # does the news of its end, which may be all that the watch has brought.
            committer.work.gone.discard(name)
            if self._end_former_life(name, loaded.created):
                # Behind the acceptance a scheduler that takes over could not tell them from those of the new life.
                committer.work.changed[name] = None
                return
            now = max(now, _last_fire(old) + 1)
        else:
            # Whoever waited for the unit to be accepted has waited long enough.
            committer.work.look.update(committer.cluster.of_unit(name))
        schedule = _reconciled(name, loaded, None if reborn else old, now)
        if old is not None and old.owed and not reborn:
            schedule = msgspec.structs.replace(schedule, owed=old.owed)
        executions: list[Execution] = []
        unit = loaded.unit
        if unit is not None and unit.keep_running and not (schedule.paused or schedule.finished):
            if not schedule.fired:
                # Placed by its acceptance; from then on every end of an attempt is followed by another one.
                executions = started(unit, committer.stamp(now), now, "kept", "it is kept running")
            elif schedule.copies:
                running = self._running(name)
                # (What is left of a former life is as good as gone, and makes nothing of this one superfluous.)
                surplus = superfluous(unit, running) if unit.availability < schedule.copies else []
                if surplus:
                    # They are asked to end before the change is accepted: behind it nobody would look at them again.
                    for execution in surplus:
                        committer.work.cancels.setdefault(execution.id, f"Availability={unit.availability} now")
                    committer.work.changed[name] = None
                    return
                if running and unit.availability > schedule.copies:
                    # (One that was stopped stays so, and so does a single copy of it that was.)
                    begin = started(unit, committer.stamp(now), now, "kept", f"Availability={unit.availability} now")
                    executions = [one for one in lacking(unit, begin, running) if one.copy >= schedule.copies]
            schedule = msgspec.structs.replace(schedule, fired=1, copies=0 if unit.is_global else unit.availability)
        everywhere = unit is not None and unit.keep_running and unit.is_global and not schedule.finished
        if everywhere != schedule.everywhere:
            schedule = msgspec.structs.replace(schedule, everywhere=everywhere)
        if everywhere:
            committer.work.spread.add(name)
        if schedule == old:
            return
        known = cursor.revision if cursor is not None else 0
        if cursor is None:
            cursor = committer.cluster.cursors.begin(name, schedule)
        txn = claim(committer.keys, fence, schedule, known, executions, loaded.revision, fresh_history=reborn)
        committer.move_cursor(name, cursor, txn, schedule, executions, unit)
        if reborn:
            committer.work.changed[name] = None  # looked at once more when it is accepted

    def _running(self, name: str) -> list[Execution]:
        """What there is of a unit, but for what was asked to end, and for what a former life has left."""
        cluster, cancels = self._committer.cluster, self._committer.work.cancels
        return [
            cluster.open[execution_id].execution
            for execution_id in cluster.of_unit(name)
            if not cluster.open[execution_id].execution.stop_requested and cancels.get(execution_id) != DESTROYED
        ]

    def _end_former_life(self, name: str, born: int) -> bool:
        """End what a former life has left, or ask its machines to. Whether there is anything that was not asked yet."""
        cluster, work = self._committer.cluster, self._committer.work
        cluster.last_machine.pop(name, None)
        unasked = False
        for execution_id in cluster.of_unit(name):
            entry = cluster.open[execution_id]
            if entry.revision < born or execution_id not in cluster.undecided.get(name, ()):
                work.cancels[execution_id] = DESTROYED
                unasked = unasked or not (entry.machine and entry.execution.stop_requested)
        return unasked

    # -- fire times -------------------------------------------------------------------------------------------------

    async def fire_due(self, now: Instant) -> None:
        """Claim what is due, as fast as the store and the machines take it: who is behind must still hear the news."""
        committer, cursors, backpressure = (
            self._committer,
            self._committer.cluster.cursors,
            self._committer.cluster.backpressure,
        )
        while not committer.full:
            enough = backpressure.everywhere(committer.cluster.machines.values())
            if not enough:
                cursors.resume(RESUMED)
            batch = cursors.due(now, AT_ONCE)
            if not batch:
                return
            if enough:
                cursors.put_off.update((name, None) for name in batch if backpressure.waits(name))
                batch = [name for name in batch if name not in cursors.put_off]
            loaded = await committer.load(batch)
            for name in batch:
                if name in loaded:
                    self._fire(name, loaded[name], now, await self._taken(name, loaded[name].unit))
            await asyncio.sleep(0)

    async def _taken(self, name: str, unit: Unit | None) -> Collection[str]:
        """The machines of those copies of a fire time that an earlier Txn holds, when the rest of them is owed."""
        cursor = self._committer.cluster.cursors.known.get(name)
        if cursor is None or cursor.busy or unit is None or unit.is_global:
            return ()
        owed = cursor.schedule.owed
        if not owed or owed[0].copy <= 0:
            return ()
        # (No copy has this number: of those that have one none is to be left out.)
        return await self._machine_choice.machines_of_copies(unit, f"{name}/{fire_key(owed[0].fire_time)}/-1")

    def _fire(self, name: str, loaded: Loaded, now: Instant, taken: Collection[str]) -> None:
        committer = self._committer
        cursor = committer.cluster.cursors.known.get(name)
        fence = committer.fence(name)
        if cursor is None or cursor.busy or fence is None:
            return
        unit, schedule = loaded.unit, cursor.schedule
        if unit is None or loaded.revision != schedule.unit_revision:
            # Its new text decides about this fire time too.
            committer.work.changed[name] = None
            committer.work.wake()
            return
        # Whoever has put them off had found them due, by a clock that may have been ahead of this one.
        now = max(now, *(to_instant(owed.fire_time) for owed in schedule.owed)) if schedule.owed else now
        decided, moved = _decide(unit, schedule, now)
        executions, left = self._write_down(unit, decided, now, taken)
        skipped = len({execution.fire_time for execution in executions if execution.outcome is Outcome.SKIPPED})
        if skipped:
            moved = not_run(unit, moved, skipped)
        last_machine = committer.cluster.last_machine.get(name, "")
        if left or last_machine:
            moved = msgspec.structs.replace(moved, owed=tuple(left), last_machine=last_machine)
        txn = claim(committer.keys, fence, moved, cursor.revision, executions, loaded.revision)
        committer.move_cursor(name, cursor, txn, moved, executions, unit)

    def _write_down(
        self, unit: Unit, decided: list[Owed], now: Instant, taken: Collection[str]
    ) -> tuple[list[Execution], list[Owed]]:
        """As many records as one Txn holds beside the cursor, and what is left; `taken` is about the first of them."""
        moment = to_datetime(now)
        executions: list[Execution] = []
        room = self._committer.room - 1
        for index, owed in enumerate(decided):
            if len(executions) == room:
                return executions, decided[index:]
            if owed.missed is not None:
                executions.append(_missed(unit, owed, moment))
                continue
            known = () if index else taken
            written, rest = self._placements.fire(unit, owed, now, moment, room - len(executions), executions, known)
            executions += written
            if not owed.copy:
                self._committer.metrics.late(now - to_instant(owed.fire_time))
            if rest is not None:
                return executions, [rest, *decided[index + 1 :]]
        return executions, []

    # -- units that end ---------------------------------------------------------------------------------------------

    def expire(self, now: Instant) -> None:
        """Destroy the units whose TTL has ended, unless they have changed meanwhile."""
        committer = self._committer
        for name in committer.cluster.cursors.expired(now):
            cursor, fence = committer.cluster.cursors.known[name], committer.fence(name)
            if fence is not None:
                log.info("TTL ended: unit is destroyed", unit=name)
                txn = expire_unit(committer.keys, fence, name, cursor.unit_revision)
                committer.submit(txn, lambda result, name=name: self._expired(name, result))  # type: ignore[misc]

    def _expired(self, name: str, result: Committed | None) -> None:
        if result is None or not result.succeeded:
            # The unit is another one now; its cursor is read again, and says when that one ends.
            self._committer.cluster.cursors.drop(name)
            self._committer.work.refused.add(name)

    def forget_gone(self) -> None:
        """Destroyed units: stop what runs of them, and once nothing does, remove everything they left."""
        committer = self._committer
        for name in sorted(committer.work.gone):
            fence = committer.fence(name)
            if fence is None:
                committer.work.gone.discard(name)
                continue
            entries = {
                execution_id: committer.cluster.open[execution_id] for execution_id in committer.cluster.of_unit(name)
            }
            running = [execution_id for execution_id, entry in entries.items() if entry.machine or entry.busy]
            for execution_id in running:
                committer.work.cancels.setdefault(execution_id, DESTROYED)
            cursor = committer.cluster.cursors.known.get(name)
            if running or (cursor is not None and cursor.busy):
                continue
            committer.work.gone.discard(name)
            txn = forget_unit(committer.keys, fence, name)
            committer.submit(txn, lambda result, name=name: self._forgotten(name, result))  # type: ignore[misc]

    def _forgotten(self, name: str, result: Committed | None) -> None:
        cursor = self._committer.cluster.cursors.known.get(name)
        if cursor is not None and cursor.busy:
            return  # the acceptance of its next life is under way, and the answer to that decides
        self._committer.cluster.cursors.drop(name)
        self._committer.cluster.last_machine.pop(name, None)
        if result is not None and result.succeeded:
            log.info("unit removed", unit=name)
        else:
            # Submitted again meanwhile.
            self._committer.work.refused.add(name)


def _last_fire(former: Schedule | None) -> Instant:
    """Behind it the new life of a unit has to begin, even if the clock was set back: no fire time is claimed twice."""
    lasts = [to_instant(cursor.last) for cursor in former.triggers if cursor.last is not None] if former else []
    return max(lasts, default=0)


def _reconciled(name: str, loaded: Loaded, old: Schedule | None, now: Instant) -> Schedule:
    paused = loaded.record.desired == "paused"
    problem = f"the stored unit cannot be read: {loaded.error}"
    if loaded.unit is not None:
        try:
            return reconcile(loaded.unit, old, now, loaded.revision, paused=paused)
        except InvalidTrigger as error:
            problem = str(error)
    log.error("unit cannot be scheduled", unit=name, reason=problem)
    moment = to_datetime(now)
    accepted_at = old.accepted_at if old is not None else moment
    return Schedule(name, loaded.revision, "", accepted_at, moment, paused=paused, finished=problem)


def _decide(unit: Unit, schedule: Schedule, now: Instant) -> tuple[list[Owed], Schedule]:
    """What is to be written at `now`, in order, and the cursor behind it."""
    if schedule.owed:
        return list(schedule.owed), msgspec.structs.replace(schedule, owed=())
    try:
        decided = _turn(unit, schedule, now)
    except InvalidTrigger as error:
        log.warning("unit's schedule ends", unit=unit.name, reason=str(error))
        return [], msgspec.structs.replace(schedule, finished=str(error))
    owed = [
        Owed(missed.first, gap.kind, -1 - gap.trigger, "", missed)
        for gap in decided.missed
        for missed in (gap.record(),)
    ]
    owed.extend(Owed(fire.fire_time, fire.trigger) for fire in decided.fires)
    return owed, decided.schedule


def _turn(unit: Unit, schedule: Schedule, now: Instant) -> Turn:
    decided = turn(unit, schedule, now)
    if len(decided.fires) > MOST_FIRES and not any(fire.misfire for fire in decided.fires):
        # All are within the threshold, and so they are at the instant of one of the first of them.
        return turn(unit, schedule, decided.fires[MOST_FIRES - 1].at)
    return decided


def _missed(unit: Unit, owed: Owed, moment: datetime) -> Execution:
    missed = owed.missed
    assert missed is not None
    times = "fire time was" if missed.count == 1 else "fire times were"
    return Execution(
        unit=unit.name,
        fire_time=missed.first,
        # Below every copy's number, and one for each trigger: a gap is a record beside those of what fires.
        copy=owed.copy,
        state="ended",
        trigger=owed.trigger,
        revision=unit.revision,
        claimed_at=moment,
        reason=f"{missed.count} {times} found more than MisfireThreshold late ({missed.policy})",
        outcome=Outcome.MISSED,
        ended_at=moment,
        missed=missed,
    )
