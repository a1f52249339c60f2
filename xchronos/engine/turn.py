"""One scheduling turn: from what is known now to Txns.

The decisions themselves are `xchronos.scheduler`'s; this module asks for them, in proportion to what is due or has
changed, turns the answers into records, and has them committed. What a refused write would have changed is taken back
and decided again from what the watches bring.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

import msgspec
import structlog

from xchronos.clock import Instant, to_datetime, to_instant
from xchronos.engine.book import Book, Cursor, Pending, Placed
from xchronos.engine.metrics import Metrics
from xchronos.engine.ownership import Ownership
from xchronos.errors import StoreError
from xchronos.model.lifecycle import execution_after
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution, Schedule, fire_key
from xchronos.model.unit import Unit
from xchronos.registry.batch import Batcher
from xchronos.registry.keys import Keys
from xchronos.registry.transitions import claim, forget_unit, lose, move
from xchronos.registry.units import Loaded, UnitCache
from xchronos.scheduler.misfire import MissedGap
from xchronos.scheduler.overlap import overlap
from xchronos.scheduler.placement import PlacementDecision, place
from xchronos.scheduler.retry import Again, End, after_attempt, past_deadline
from xchronos.scheduler.schedule import Fire, not_run, randomized_delay, reconcile, turn
from xchronos.store.contract import Committed, DeleteRange, Txn

log = structlog.get_logger(__name__)

LOADS_AT_ONCE = 256
"""How many units are read and compiled before their fire times are decided: bounds how long a turn can take."""


class Turns:
    """Decides and writes, over a Book. `wake` asks for another turn.

    What the watches bring to decide about is put into the sets: units `changed` or `gone`, executions `reported`,
    units whose executions were `freed`, `lost_machines`. What cannot be known any more without reading the store is
    left in `refused` (units), `doubtful` (keys) and `stale` (everything: the reason).
    """

    def __init__(
        self,
        book: Book,
        units: UnitCache,
        keys: Keys,
        ownership: Ownership,
        batcher: Batcher,
        metrics: Metrics,
        wake: Callable[[], None],
    ) -> None:
        self._book = book
        self._units = units
        self._keys = keys
        self._ownership = ownership
        self._batcher = batcher
        self._metrics = metrics
        self._wake = wake
        self._last_machine: dict[str, str] = {}
        self.changed: set[str] = set()
        self.reported: set[str] = set()
        self.freed: set[str] = set()
        self.lost_machines: set[str] = set()
        self.gone: set[str] = set()
        self.expired: set[str] = set()
        self.refused: set[str] = set()
        self.doubtful: set[str] = set()
        self.retry_waiting = False
        self.stale = ""

    async def run(self, now: Instant) -> None:
        """Everything that there is to decide at `now`."""
        if self.changed:
            await self._reconcile_changed(now)
        due = self._book.due(now)
        while due:
            batch, due = due[:LOADS_AT_ONCE], due[LOADS_AT_ONCE:]
            await self._load(batch)
            for unit in batch:
                self._fire_due(unit, now)
        if self.reported:
            await self._settle_reported(now)
        if self.lost_machines:
            self._lose_machines(now)
        if self.gone:
            self._forget_gone(now)
        await self._place_pending(now)

    # -- units that are new or have changed ---------------------------------------------------------------------------

    async def _reconcile_changed(self, now: Instant) -> None:
        names, self.changed = self.changed, set()
        ordered = sorted(names)
        for start in range(0, len(ordered), LOADS_AT_ONCE):
            batch = ordered[start : start + LOADS_AT_ONCE]
            loaded = await self._load(batch)
            for name, found in zip(batch, loaded, strict=True):
                if found is not None:
                    self._reconcile(name, found, now)

    def _reconcile(self, name: str, loaded: Loaded, now: Instant) -> None:
        fence = self._ownership.fence(name)
        cursor = self._book.cursors.get(name)
        if fence is None:
            return
        if cursor is not None and cursor.busy:
            self.changed.add(name)
            return
        old = cursor.schedule if cursor is not None else None
        paused = loaded.record.desired == "paused"
        if loaded.unit is not None:
            schedule = reconcile(loaded.unit, old, now, loaded.revision, paused=paused)
        else:
            moment = to_datetime(now)
            schedule = Schedule(
                name, loaded.revision, "", moment, moment, finished=f"the stored unit cannot be read: {loaded.error}"
            )
        if schedule is old:
            return
        known = cursor.revision if cursor is not None else 0
        if cursor is None:
            cursor = Cursor(schedule, 0)
            self._book.cursors[name] = cursor
        self._commit_cursor(name, cursor, claim(self._keys, fence, schedule, known, (), loaded.revision), schedule, [])

    def _forget_gone(self, now: Instant) -> None:
        """Destroyed units: stop what runs, and once nothing does, remove everything they left."""
        for name in sorted(self.gone):
            active = sorted(self._book.active.get(name, ()))
            for execution_id in active:
                self.cancel(execution_id, "the unit was destroyed", now)
            fence = self._ownership.fence(name)
            if fence is None or any(execution_id in self._book.placed for execution_id in active):
                continue
            self.gone.discard(name)
            self._submit(forget_unit(self._keys, fence, name), lambda result, name=name: self._forgotten(name, result))  # type: ignore[misc]

    def _forgotten(self, name: str, result: Committed | None) -> None:
        if result is not None and result.succeeded:
            self._book.cursors.pop(name, None)
            log.info("unit removed", unit=name)
        else:
            self.refused.add(name)

    # -- fire times -------------------------------------------------------------------------------------------------

    async def _load(self, names: list[str]) -> list[Loaded | None]:
        """The units, each read at most once; those at hand cost nothing."""
        found = [self._units.peek(name) for name in names]
        absent = [index for index, loaded in enumerate(found) if loaded is None]
        if absent:
            read = await asyncio.gather(*(self._units.get(names[index]) for index in absent))
            for index, loaded in zip(absent, read, strict=True):
                found[index] = loaded
        return found

    def _fire_due(self, name: str, now: Instant) -> None:
        book = self._book
        cursor = book.cursors.get(name)
        fence = self._ownership.fence(name)
        loaded = self._units.peek(name)
        if cursor is None or cursor.busy or fence is None or loaded is None or loaded.unit is None:
            return
        unit, schedule = loaded.unit, cursor.schedule
        if loaded.revision != schedule.unit_revision:
            # The unit has changed and the watch will say so; its new text decides about this fire time.
            self.changed.add(name)
            self._wake()
            return
        decided = turn(unit, schedule, now)
        if decided.schedule is schedule:
            book.arm(name, cursor)
            return
        moved = decided.schedule
        moment = to_datetime(now)
        executions = [self._missed(unit, gap, moment) for gap in decided.missed]
        skipped = 0
        for fire in decided.fires:
            written = self._fire(unit, fire, now, moment)
            executions.extend(written)
            skipped += written[0].outcome is Outcome.SKIPPED
            self._metrics.lateness.observe((now - fire.at) / 1e6)
        if skipped:
            moved = not_run(unit, moved, skipped)
        for execution in executions:
            self._expect(execution, unit)
        txn = claim(self._keys, fence, moved, cursor.revision, executions, loaded.revision)
        self._commit_cursor(name, cursor, txn, moved, executions)

    def _missed(self, unit: Unit, gap: MissedGap, moment: datetime) -> Execution:
        missed = gap.record()
        times = "fire time was" if gap.count == 1 else "fire times were"
        return Execution(
            unit=unit.name,
            fire_time=missed.first,
            # Below every copy's number, and one for each trigger: a gap is a record beside those of what fires.
            copy=-1 - gap.trigger,
            state="ended",
            trigger=gap.kind,
            revision=unit.revision,
            claimed_at=moment,
            reason=f"{gap.count} {times} found more than MisfireThreshold late ({missed.policy})",
            outcome=Outcome.MISSED,
            ended_at=moment,
            missed=missed,
        )

    def _fire(self, unit: Unit, fire: Fire, now: Instant, moment: datetime) -> list[Execution]:
        """The executions of one fire time: one per copy, each placed, waiting, queued, delayed or skipped."""
        book = self._book
        first = Execution(
            unit=unit.name,
            fire_time=fire.fire_time,
            trigger=fire.trigger,
            revision=unit.revision,
            claimed_at=moment,
            report=bool(unit.on_success) or unit.keep_running,
            payload=unit.payload,
        )
        if unit.start_deadline is not None:
            first = msgspec.structs.replace(first, deadline=to_datetime(fire.at + unit.start_deadline))
        if unit.concurrency != "allow":
            active = sorted(book.active.get(unit.name, ()))
            decision = overlap(unit, active, len(book.queued.get(unit.name, ())), execution=first.id)
            if decision.action == "skip":
                return [
                    msgspec.structs.replace(
                        first, state="ended", outcome=Outcome.SKIPPED, reason=decision.reason, ended_at=moment
                    )
                ]
            if decision.action == "replace":
                for other in (*decision.cancel, *sorted(book.queued.get(unit.name, ()))):
                    self.cancel(other, f"replaced by the fire time {fire_key(fire.fire_time)}", now)
            if decision.action != "start":
                return self._copies(unit, first, "queued", decision.reason)
        delay = randomized_delay(unit, fire.at) if unit.randomized_delay else 0
        if delay and fire.at + delay > now:
            due_at = to_datetime(fire.at + delay)
            delayed = msgspec.structs.replace(first, due_at=due_at)
            return self._copies(unit, delayed, "delayed", f"RandomizedDelay: starts at {due_at.isoformat()}")
        chosen = self._choose(unit, first)
        executions = [
            self._placed(first, machine, copy, 1, unit.revision, moment) for copy, machine in enumerate(chosen.machines)
        ]
        executions += [
            msgspec.structs.replace(first, copy=len(executions) + extra, state="waiting", reason=chosen.summary)
            for extra in range(chosen.unplaced)
        ]
        return executions

    def _copies(self, unit: Unit, first: Execution, state: str, reason: str) -> list[Execution]:
        wanted = max(len(self._book.machines), 1) if unit.is_global else unit.availability
        return [msgspec.structs.replace(first, copy=copy, state=state, reason=reason) for copy in range(wanted)]

    def _choose(self, unit: Unit, execution: Execution, copies: int | None = None) -> PlacementDecision:
        taken: set[str] = set()
        avoid: tuple[str, ...] = ()
        if copies is not None:
            # One copy by itself: its siblings hold machines already, and a retry goes elsewhere.
            prefix = execution.id.rpartition("/")[0] + "/"
            siblings = [other for other in self._book.active.get(unit.name, ()) if other.startswith(prefix)]
            taken = self._book.machines_of(siblings)
            avoid = tuple(dict.fromkeys(attempt.machine for attempt in execution.attempts))
        chosen = place(
            unit,
            self._book.machines.values(),
            copies=copies,
            taken=taken,
            avoid=avoid,
            seed=execution.id,
            last=self._last_machine.get(unit.name, ""),
        )
        if unit.load_balancing == "round-robin" and chosen.machines:
            self._last_machine[unit.name] = chosen.machines[-1]
        for machine, displaced in chosen.displaced:
            for other in sorted(self._book.active.get(displaced, ())):
                if other in self._book.placed and self._book.placed[other].machine == machine:
                    self.cancel(other, f"replaced by {unit.name} (Replaces=)", to_instant(execution.fire_time))
        return chosen

    @staticmethod
    def _placed(
        execution: Execution, machine: str, copy: int, number: int, revision: str, moment: datetime
    ) -> Execution:
        attempt = Attempt(number=number, machine=machine, placed_at=moment, revision=revision)
        return msgspec.structs.replace(
            execution, copy=copy, state="placed", current=attempt, reason="", due_at=None, deadline=None
        )

    # -- executions that wait ---------------------------------------------------------------------------------------

    async def _place_pending(self, now: Instant) -> None:
        book = self._book
        ready = book.ripe(now)
        if self.retry_waiting:
            self.retry_waiting = False
            ready += [execution_id for execution_id in book.waiting if execution_id not in ready]
        if self.freed:
            freed, self.freed = self.freed, set()
            ready += [first for unit in freed if (first := self._next_queued(unit)) and first not in ready]
        if not ready:
            return
        names = list({book.pending[execution_id].execution.unit for execution_id in ready})
        loaded = {name: found for name, found in zip(names, await self._load(names), strict=True) if found is not None}
        entries = [book.pending[execution_id] for execution_id in ready if execution_id in book.pending]
        entries.sort(key=lambda entry: self._urgency(entry, loaded))
        hopeless: dict[str, str] = {}
        for entry in entries:
            found = loaded.get(entry.execution.unit)
            if found is not None and found.unit is not None and not entry.busy:
                self._place_one(entry, found.unit, now, hopeless)

    def _urgency(self, entry: Pending, loaded: dict[str, Loaded]) -> tuple[int, datetime, int]:
        found = loaded.get(entry.execution.unit)
        priority = found.unit.priority if found is not None and found.unit is not None else 0
        return -priority, entry.execution.fire_time, entry.execution.copy

    def _next_queued(self, unit: str) -> str:
        """The first execution of a unit's queue, once nothing of the unit is active."""
        line = self._book.queued.get(unit)
        if not line:
            return ""
        first = min(line)
        return first if not self._blocked(first) else ""

    def _blocked(self, queued: str) -> bool:
        """Whether an execution of another fire time of the same unit is still active."""
        fire_time = queued.rpartition("/")[0] + "/"
        return any(not other.startswith(fire_time) for other in self._book.active.get(queued.partition("/")[0], ()))

    def _place_one(self, entry: Pending, unit: Unit, now: Instant, hopeless: dict[str, str]) -> None:
        execution = entry.execution
        if execution.stop_requested:
            self._end_pending(entry, Outcome.CANCELLED, execution.stop_requested, now)
            return
        expired = past_deadline(execution, now, execution.reason or "no machine could take it")
        if expired is not None:
            self._end_pending(entry, expired.outcome, expired.reason, now)
            return
        if execution.state == "queued" and self._blocked(execution.id):
            return
        if execution.state == "delayed" and execution.due_at is not None and to_instant(execution.due_at) > now:
            return
        if execution.state == "delayed" and not execution.attempts and execution.trigger in ("manual", "chain"):
            if not self._may_overlap(entry, unit, now):
                return
        taking_turns = execution.attempts or unit.availability > 1 or unit.is_global
        reason = "" if taking_turns else hopeless.get(unit.name, "")
        chosen = None if reason else self._choose(unit, execution, copies=1)
        if chosen is not None and chosen.machines:
            number = len(execution.attempts) + 1
            moment = to_datetime(now)
            moved = self._placed(execution, chosen.machines[0], execution.copy, number, unit.revision, moment)
            execution_after(execution.state, "place")
        else:
            reason = reason or (chosen.summary if chosen is not None else "")
            hopeless[unit.name] = reason
            if execution.state == "waiting" and execution.reason == reason:
                return
            moved = msgspec.structs.replace(
                execution, state=execution_after(execution.state, "wait"), reason=reason, due_at=None
            )
        self._move_pending(entry, moved, unit)

    def _may_overlap(self, entry: Pending, unit: Unit, now: Instant) -> bool:
        """What Concurrency= says of an execution that no trigger fired; it is dealt with when the answer is no."""
        execution = entry.execution
        active = sorted(self._book.active.get(unit.name, ()))
        queued = self._book.queued.get(unit.name, set())
        decision = overlap(unit, active, len(queued), execution=execution.id)
        if decision.action == "start":
            return True
        if decision.action == "skip":
            self._end_pending(entry, Outcome.SKIPPED, decision.reason, now)
            return False
        if decision.action == "replace":
            for other in (*decision.cancel, *sorted(queued)):
                self.cancel(other, f"replaced by {execution.id}", now)
        self._move_pending(
            entry, msgspec.structs.replace(execution, state="queued", due_at=None, reason=decision.reason), unit
        )
        return False

    def _move_pending(self, entry: Pending, moved: Execution, unit: Unit | None) -> None:
        fence = self._ownership.fence(moved.unit)
        if fence is None:
            return
        execution = entry.execution
        source = self._keys.pending_execution(execution.id)
        txn = move(self._keys, fence, source, entry.revision, moved)
        self._book.drop_pending(execution.id)
        self._expect(moved, unit, entry.revision)
        self._commit(txn, moved)

    def _end_pending(self, entry: Pending, outcome: Outcome, reason: str, now: Instant) -> None:
        ended = msgspec.structs.replace(
            entry.execution,
            state=execution_after(entry.execution.state, "end"),
            outcome=outcome,
            reason=reason,
            ended_at=to_datetime(now),
        )
        self._move_pending(entry, ended, None)

    # -- executions that have ended, or must ----------------------------------------------------------------------------

    async def _settle_reported(self, now: Instant) -> None:
        ids, self.reported = self.reported, set()
        names = list({execution_id.partition("/")[0] for execution_id in ids})
        loaded = dict(zip(names, await self._load(names), strict=True))
        for execution_id in sorted(ids):
            placed = self._book.placed.get(execution_id)
            if placed is not None and placed.reported and not placed.busy:
                found = loaded[execution_id.partition("/")[0]]
                self._settle(placed, found.unit if found is not None else None, now)

    def _settle(self, placed: Placed, unit: Unit | None, now: Instant) -> None:
        execution = placed.execution
        attempt = execution.current
        if attempt is None or attempt.outcome is None:
            raise ValueError(f"{execution.id} was reported without the outcome of its attempt")
        if unit is None:
            verdict: End | Again = End(attempt.outcome, attempt.reason)
        else:
            verdict = after_attempt(unit, execution, attempt, now)
        settled = msgspec.structs.replace(
            execution, attempts=(*execution.attempts, attempt), current=None, reason=verdict.reason
        )
        chained: list[Execution] = []
        if isinstance(verdict, Again):
            settled = msgspec.structs.replace(
                settled,
                state=execution_after("reported", "delay"),
                due_at=to_datetime(verdict.due_at),
                deadline=None if verdict.deadline is None else to_datetime(verdict.deadline),
            )
        else:
            settled = msgspec.structs.replace(
                settled, state=execution_after("reported", "end"), outcome=verdict.outcome, ended_at=attempt.ended_at
            )
            if unit is not None:
                chained = self._chain(unit, settled, now)
        self._leave(placed, settled, unit, chained)

    def _chain(self, unit: Unit, ended: Execution, now: Instant) -> list[Execution]:
        """What OnSuccess= and OnFailure= start."""
        if ended.outcome is Outcome.SUCCEEDED:
            names = unit.on_success
        elif ended.outcome in (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.LOST):
            names = unit.on_failure
        else:
            return []
        moment = to_datetime(now)
        return [
            Execution(
                unit=name,
                fire_time=moment,
                copy=ended.copy,
                state="delayed",
                trigger="chain",
                claimed_at=moment,
                due_at=moment,
                reason=f"{ended.outcome} of {ended.id}",
            )
            for name in names
        ]

    def _leave(self, placed: Placed, target: Execution, unit: Unit | None, also: list[Execution]) -> None:
        """Take an execution off its machine."""
        fence = self._ownership.fence(target.unit)
        if fence is None:
            return
        source = self._keys.placement(placed.machine, target.id)
        txn = move(self._keys, fence, source, placed.revision, target, also)
        placed.busy = True
        self._commit(txn, target)

    def _lose_machines(self, now: Instant) -> None:
        machines, self.lost_machines = self.lost_machines, set()
        moment = to_datetime(now)
        for placed in list(self._book.placed.values()):
            if placed.machine not in machines or placed.busy:
                continue
            execution = placed.execution
            fence = self._ownership.fence(execution.unit)
            if fence is None or execution.current is None:
                continue
            attempt = msgspec.structs.replace(
                execution.current, outcome=Outcome.LOST, reason="the machine was lost", ended_at=moment
            )
            state, outcome = ("ended", Outcome.CANCELLED) if execution.stop_requested else ("waiting", None)
            target = msgspec.structs.replace(
                execution,
                attempts=(*execution.attempts, attempt),
                current=None,
                state=state,
                outcome=outcome,
                ended_at=moment if outcome is not None else None,
                reason=execution.stop_requested or f"attempt {attempt.number} was lost with {placed.machine}",
            )
            source = self._keys.placement(placed.machine, execution.id)
            txn = lose(self._keys, fence, placed.machine, source, placed.revision, target)
            placed.busy = True
            self._commit(txn, target)
            self.retry_waiting = True

    def cancel(self, execution_id: str, reason: str, now: Instant) -> None:
        """Ask for the end of an execution, wherever it is."""
        pending = self._book.pending.get(execution_id)
        if pending is not None:
            if not pending.busy:
                self._end_pending(pending, Outcome.CANCELLED, reason, now)
            return
        placed = self._book.placed.get(execution_id)
        if placed is None or placed.busy:
            return
        execution = placed.execution
        fence = self._ownership.fence(execution.unit)
        if fence is None or execution.stop_requested:
            return
        asked = msgspec.structs.replace(execution, stop_requested=reason)
        source = self._keys.placement(placed.machine, execution_id)
        placed.busy = True
        txn = move(self._keys, fence, source, placed.revision, asked)
        self._commit(txn, asked)

    # -- writing ----------------------------------------------------------------------------------------------------

    def _expect(self, execution: Execution, unit: Unit | None, floor: int = 0) -> None:
        """Enter a write that is under way as if it had happened."""
        if execution.state == "placed" and execution.current is not None:
            placed = Placed(execution.current.machine, execution, 0, unit, floor)
            placed.busy = True
            self._book.set_placed(execution.id, placed)
        elif execution.state in ("waiting", "queued", "delayed"):
            self._book.set_pending(execution, 0)
            self._book.pending[execution.id].busy = True

    def _unexpect(self, execution: Execution) -> None:
        """Take a refused write back, unless the watch has brought something newer."""
        placed = self._book.placed.get(execution.id)
        if placed is not None and placed.revision == 0:
            self._book.drop_placed(execution.id)
        pending = self._book.pending.get(execution.id)
        if pending is not None and pending.revision == 0:
            self._book.drop_pending(execution.id)

    def _confirm(self, execution: Execution, revision: int) -> None:
        placed = self._book.placed.get(execution.id)
        if placed is not None and placed.revision == 0:
            placed.revision, placed.busy = revision, False
        pending = self._book.pending.get(execution.id)
        if pending is not None and pending.revision == 0:
            pending.revision, pending.busy = revision, False
            moment = pending.execution.due_at or pending.execution.deadline
            if moment is not None:
                self._book.remind(to_instant(moment), execution.id)
            if pending.execution.state == "queued":
                # What it waited for may have ended while it was being written.
                self.freed.add(execution.unit)
            self._wake()

    def _commit_cursor(
        self, name: str, cursor: Cursor, txn: Txn, schedule: Schedule, executions: list[Execution]
    ) -> None:
        cursor.busy = True

        def done(result: Committed | None) -> None:
            cursor.busy = False
            if result is not None and result.succeeded:
                for execution in executions:
                    self._confirm(execution, result.revision)
                if self._book.cursors.get(name) is cursor:
                    self._book.set_cursor(name, schedule, result.revision)
                self._metrics.claimed(executions)
            else:
                for execution in executions:
                    self._unexpect(execution)
                # Refused: the unit or its cursor has changed, or the shard is not ours any more. The record decides.
                self._book.cursors.pop(name, None)
                self.refused.add(name)
            self._wake()

        self._submit(txn, done)

    def _commit(self, txn: Txn, target: Execution) -> None:
        def settle(result: Committed | None) -> None:
            if result is not None and result.succeeded:
                self._confirm(target, result.revision)
                self._metrics.settled(target)
            else:
                # Somebody else has written meanwhile; what the store says now is what counts.
                self._unexpect(target)
                self.doubtful.update(operation.key for operation in txn.operations if not isinstance(operation, DeleteRange))
                self._wake()

        self._submit(txn, settle)

    def _submit(self, txn: Txn, then: Callable[[Committed | None], None]) -> None:
        def finish(future: asyncio.Future[Committed]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                then(future.result())
            else:
                if not isinstance(error, StoreError):
                    raise error
                log.warning("write failed; deciding anew", reason=str(error))
                self.stale = str(error)
                then(None)
                self._wake()

        self._batcher.submit(txn).add_done_callback(finish)
