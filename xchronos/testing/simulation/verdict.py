"""What must hold when all is calm again: I2 against the triggers' own grids, I4 against the sink.

I2: every due fire time of a unit has one record per copy, and no other fire time has one. I4: the history says what the
sink saw. `monitor` lists all promises.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise

from xchronos.clock import SECOND, Instant, to_instant
from xchronos.errors import StoreError
from xchronos.model.policies import MisfirePolicy, Outcome
from xchronos.model.records import Attempt, Execution, Schedule
from xchronos.model.unit import Unit
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys, unit_of
from xchronos.scheduler.completion import KEPT_ATTEMPTS
from xchronos.scheduler.reasons import because
from xchronos.store.contract import KeyValue
from xchronos.testing.simulation.monitor import BY_HAND, Era, Monitor
from xchronos.testing.simulation.scenario import SHIFT, ZONE
from xchronos.testing.simulation.sink import SimulatedStart

DESTROYED = because("destroyed").text
"""Why what is left of a destroyed unit ends."""

RAN = frozenset((Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT))
"""The outcomes that an attempt can have only if it has started."""


def grid(unit: Unit, index: int, era: Schedule) -> Iterable[Instant]:
    """A trigger's fire times from its acceptance on: by the trigger's arithmetic alone, within the unit's bounds."""
    trigger = unit.triggers[index].trigger
    anchor, accepted = to_instant(era.anchor), to_instant(era.accepted_at)
    after = anchor - 1
    if trigger.kind not in ("simple", "iso8601"):
        after = max(after, accepted)
    at, left = trigger.next_after(after, anchor), trigger.count
    while at is not None and left != 0:
        if unit.not_after is not None and (at > unit.not_after or (at == unit.not_after and trigger.kind == "simple")):
            return
        if unit.ttl is not None and at >= accepted + unit.ttl:
            return
        yield at
        left = None if left is None else left - 1
        at = trigger.next_after(at, anchor)


class SeedVerdict:
    """Judges a finished run. `violate` is called with everything that must not be."""

    def __init__(
        self,
        keys: Keys,
        rows: dict[str, KeyValue],
        monitor: Monitor,
        violate: Callable[[str], None],
        units: Callable[[str], Unit | None],
    ) -> None:
        self.history: dict[str, list[Execution]] = {}
        """By unit: the executions in the history that were claimed in the unit's present life."""
        self._monitor = monitor
        self._violate = violate
        self._units = units
        self._open = {keys.locate(key)[1] for key in rows if key.startswith((keys.pending, keys.placements))}
        for key, item in rows.items():
            if key.startswith(keys.executions):
                try:
                    execution = decode(item, Execution)
                except StoreError as error:
                    violate(str(error))
                else:
                    if self._now(execution.unit, monitor.births.get(execution.id, 0)):
                        self.history.setdefault(execution.unit, []).append(execution)

    def _now(self, unit: str, life: int) -> bool:
        """Whether this life of a unit is its present one."""
        return unit in self._monitor.living and life == self._monitor.lives[unit]

    # -- I2 -----------------------------------------------------------------------------------------------------------

    def fire_times(self, unit: Unit, eras: list[Era], texts: dict[str, Unit]) -> None:
        """Check that every due fire time of a living unit has one record per copy.

        `eras` are those of its present life. `texts` has all meanings of the unit, by fingerprint.
        """
        records = [execution for execution in self.history.get(unit.name, ()) if execution.trigger not in BY_HAND]
        if unit.time_zone == ZONE:
            self._walls(unit, eras, records)
            return
        if any(state.restarted_at is not None for era in eras for state in era.schedule.triggers):
            self._total(unit, eras, records)
            return
        due: dict[Instant, None] = {}
        for number, era in enumerate(eras):
            meaning = texts.get(era.schedule.fingerprint)
            if meaning is None:
                self._violate(f"{unit.name}: a cursor has triggers that nobody has submitted")
                return
            for index, state in enumerate(era.schedule.triggers):
                last = None if state.last is None else to_instant(state.last)
                for at in grid(meaning, index, era.schedule):
                    if number < len(eras) - 1 and (last is None or at > last):
                        break  # the triggers were changed before this one was claimed
                    due[at] = None
        if unit.max_runs is not None and len(eras) > 1:
            return  # what ran before the triggers were changed counts towards MaxRuns, so nobody can say what is due
        if unit.max_runs is not None:
            due = dict.fromkeys(sorted(due)[: unit.max_runs])
        self._compare(unit, due, records)

    def _walls(self, unit: Unit, eras: list[Era], records: list[Execution]) -> None:
        """Compare the distances: which fire times there are depends on when the rules of the zone changed where.

        Every wall time fires once, so between two fire times are at most the seconds by which the clock was set back.
        """
        assert unit.not_after is not None
        fired = sorted(to_instant(execution.fire_time) for execution in records)
        ends = [to_instant(eras[0].schedule.accepted_at), *fired, unit.not_after]
        for before, after in pairwise(ends):
            if after - before > (2 + SHIFT) * SECOND:
                self._violate(f"I2: {unit.name} has no fire time from {before} to {after}")
        if len(fired) != len(set(fired)):
            self._violate(f"I2: {unit.name} has fired twice at an instant")

    def _compare(self, unit: Unit, due: dict[Instant, None], records: list[Execution]) -> None:
        found: Counter[Instant] = Counter()
        spans = [(to_instant(one.missed.first), to_instant(one.missed.last)) for one in records if one.missed]
        made_up: list[Execution] = []
        for execution in records:
            if execution.missed is not None:
                continue
            at = to_instant(execution.fire_time)
            if at in due:
                found[at] += 1
            else:
                made_up.append(execution)
        allowed = {one.claimed_at for one in records if one.missed is not None}
        for execution in made_up:
            # The misfire policy NOW fires once for a whole gap, at a time that is not on the grid.
            if execution.claimed_at not in allowed or unit.misfire.policy is MisfirePolicy.IGNORE:
                self._violate(f"I2: {execution.id} is no fire time of its unit")
        copies = 1 if unit.is_global else unit.availability
        oldest = self._oldest_kept(unit)
        if oldest is not None:
            due = {at: None for at in due if at >= to_instant(oldest.fire_time)}
        for at in due:
            number = found[at] + copies * sum(first <= at <= last for first, last in spans)
            if number != copies and not (unit.is_global and number > copies):
                skipped = any(
                    one.outcome is Outcome.SKIPPED and to_instant(one.fire_time) == at and number == 1
                    for one in records
                )
                if not skipped:
                    self._violate(f"I2: {unit.name} has {number} records for the fire time {at}, expected {copies}")

    def _oldest_kept(self, unit: Unit) -> Execution | None:
        """The oldest record that HistoryLimit= keeps; None when it keeps all. Older ones may be removed already."""
        kept = sorted(self.history.get(unit.name, ()), key=lambda execution: execution.id)
        return kept[-unit.history_limit] if len(kept) >= unit.history_limit else None

    def _total(self, unit: Unit, eras: list[Era], records: list[Execution]) -> None:
        """Compare the count only: a misfire policy has begun the grid anew, so its fire times cannot be known."""
        count = unit.triggers[0].trigger.count
        wanted = unit.availability * count if count is not None else None
        fired = sum(1 for execution in records if execution.missed is None)
        dropped = sum(execution.missed.count for execution in records if execution.missed is not None)
        if len(eras) == 1 and wanted is not None and not wanted - dropped * unit.availability <= fired <= wanted:
            self._violate(f"I2: {unit.name} has {fired} records and {dropped} missed, expected {wanted}")

    # -- I4 -----------------------------------------------------------------------------------------------------------

    def sink(self, starts: Iterable[SimulatedStart]) -> None:
        """Check that the history of living units equals the sink.

        The history has forgotten what ran in a former life of a unit. It may have forgotten what is beyond
        HistoryLimit. It does not have yet what is still open.
        """
        by_attempt: dict[tuple[str, int], list[SimulatedStart]] = {}
        for start in starts:
            if self._now(start.unit, start.life):
                by_attempt.setdefault((start.execution, start.attempt), []).append(start)
        known: set[tuple[str, int]] = set()
        for name in sorted(self.history):
            for execution in self.history[name]:
                self._execution(execution, by_attempt, known)
        for identity, ran in by_attempt.items():
            if identity not in known and not self._excused(identity[0]):
                self._violate(f"I4: attempt {identity[1]} of {identity[0]} ran on {ran[0].machine}, history has none")

    def _excused(self, execution_id: str) -> bool:
        """Whether an execution need not be in the history."""
        if execution_id in self._open:
            return True
        unit = self._units(unit_of(execution_id))
        oldest = None if unit is None else self._oldest_kept(unit)
        return oldest is not None and execution_id < oldest.id

    def _execution(
        self, execution: Execution, starts: dict[tuple[str, int], list[SimulatedStart]], known: set[tuple[str, int]]
    ) -> None:
        name, unit = execution.id, self._units(execution.unit)
        if execution.outcome is None or execution.current is not None or execution.ended_at is None:
            self._violate(f"I2: {name} is in the history without having ended")
        numbers = [attempt.number for attempt in execution.attempts]
        # Of what was lost again and again, or is kept running, a part is kept.
        first = numbers[0] if len(numbers) >= KEPT_ATTEMPTS else 1
        known.update((name, number) for number in range(1, first))
        if numbers != list(range(first, first + len(numbers))):
            self._violate(f"I4: {name} has the attempts {numbers}")
        for attempt in execution.attempts:
            identity = (name, attempt.number)
            known.add(identity)
            what = f"attempt {attempt.number} of {name}"
            if attempt.outcome is None:
                self._violate(f"I4: {what} has no outcome")
            ran = starts.get(identity, [])
            self._attempt(what, attempt, ran)
            if ran and unit is not None and attempt.outcome in RAN:
                self._tidied_up(what, unit, ran)
        if execution.outcome is Outcome.CANCELLED and DESTROYED in (execution.reason, execution.stop_requested):
            self._violate(f"I2: {name} was ended as a destroyed unit's, and its unit was not destroyed")
        if execution.outcome is Outcome.SUCCEEDED and execution.attempts[-1].outcome is not Outcome.SUCCEEDED:
            self._violate(f"I4: {name} succeeded without a successful attempt")
        if execution.outcome is Outcome.FAILED and unit is not None and not execution.stop_requested:
            charged = sum(attempt.outcome is not Outcome.LOST for attempt in execution.attempts)
            given_up = "StartDeadline" in execution.reason or unit.is_global
            if charged < unit.retry.max_attempts and not given_up:
                self._violate(f"{name} failed after {charged} attempts of {unit.retry.max_attempts}")

    def _attempt(self, what: str, attempt: Attempt, ran: list[SimulatedStart]) -> None:
        """Check that an attempt's record says what the sink says."""
        if not ran:
            if attempt.outcome in RAN and any(step.started_at for step in attempt.steps):
                self._violate(f"I4: {what} is {attempt.outcome}, and never started")
            return
        if any(start.machine != attempt.machine for start in ran):
            self._violate(f"I4: {what} ran on {ran[0].machine}, not {attempt.machine}")
        told = attempt.late or attempt.outcome
        codes = [start.code for start in ran]
        if told is Outcome.SUCCEEDED and any(codes):
            self._violate(f"I4: {what} succeeded with {codes} {[start.signal for start in ran]}")
        if told is Outcome.FAILED and not any(start.code or start.signal for start in ran):
            self._violate(f"I4: {what} failed, and ended with {codes}")
        if attempt.outcome is Outcome.FAILED and not any(start.code or start.unpowered for start in ran):
            # No step here signals itself. It was stopped, ran out of time, or was killed with its machine's lease: the
            # outcome says which, and none of these is a failure of its own.
            self._violate(f"{what} is charged as failed, and was ended by {[start.signal for start in ran]}")
        if any(start.ended is None for start in ran):
            self._violate(f"I4: {what} is {attempt.outcome}, and still runs")
        if attempt.outcome in RAN:
            told_of = {(step.name, step.exit_code, step.signal) for step in attempt.steps if step.started_at}
            for start in ran:
                if (start.step, start.code, start.signal) not in told_of:
                    self._violate(f"I4: {what} does not tell of {start.step}, which ended with {start.code}")

    def _tidied_up(self, what: str, unit: Unit, ran: list[SimulatedStart]) -> None:
        """Check that the last step was that of ExecStopPost=, whatever became of the attempt."""
        last = unit.service.steps[-1]
        if last.phase == "stop-post" and ran[-1].step != last.name:
            self._violate(f"{what} has ended with {ran[-1].step}, and without {last.name}")
