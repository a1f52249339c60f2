"""What must hold when all is calm again: I2 against the triggers' own grids, I4 against the sink.

I2: every due fire time of a unit has one record per copy, or is in one recorded gap of its trigger; no other fire time
has a record. I4: the history says what the sink saw. `monitor` lists all promises.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TypeAlias

from xchronos.clock import SECOND, Instant, to_instant
from xchronos.errors import StoreError
from xchronos.model.policies import MisfirePolicy, Outcome
from xchronos.model.records import Attempt, Execution
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


Gap: TypeAlias = tuple[Instant, Instant, int]
"""A recorded gap of one trigger: the first and the last fire time that was missed, and how many there were."""


def in_gaps(at: Instant, gaps: Iterable[Gap]) -> int:
    """In how many of the gaps of its trigger a fire time is."""
    return sum(first <= at <= last for first, last, _ in gaps)


def grid(unit: Unit, index: int, era: Era, gaps: Iterable[Gap]) -> Iterator[Instant]:
    """A trigger's fire times from its acceptance on: by the trigger's arithmetic alone, within the unit's bounds.

    Where a misfire policy has let the grid begin anew, the total is honoured: what fires there is what has not fired
    yet. The units here say nothing else (`shapes`). `gaps` tell what has not.
    """
    trigger = unit.triggers[index].trigger
    anchor, accepted = to_instant(era.schedule.anchor), to_instant(era.schedule.accepted_at)
    after, left = anchor - 1, trigger.count
    if trigger.kind not in ("simple", "iso8601"):
        after = max(after, accepted)
    for begin, until in pairwise((None, *era.restarts[index], None)):
        if begin is not None:
            trigger, anchor, after = trigger.restart(begin), begin, begin - 1
        at, slots = trigger.next_after(after, anchor), left
        while at is not None and slots != 0 and (until is None or at < until):
            at_end = at == unit.not_after and trigger.kind == "simple"
            if unit.not_after is not None and (at > unit.not_after or at_end):
                return
            if unit.ttl is not None and at >= accepted + unit.ttl:
                return
            yield at
            if slots is not None and left is not None:
                slots -= 1
                left -= not in_gaps(at, gaps)
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
        gaps = self._gaps(unit)
        due: dict[Instant, set[int]] = {}
        for number, era in enumerate(eras):
            meaning = texts.get(era.schedule.fingerprint)
            if meaning is None:
                self._violate(f"{unit.name}: a cursor has triggers that nobody has submitted")
                return
            for index, state in enumerate(era.schedule.triggers):
                last = None if state.last is None else to_instant(state.last)
                for at in grid(meaning, index, era, gaps[index]):
                    if number < len(eras) - 1 and (last is None or at > last):
                        break  # the triggers were changed before this one was claimed
                    due.setdefault(at, set()).add(index)
        if unit.max_runs is not None:
            if len(eras) > 1:
                return  # what ran before the triggers were changed counts towards MaxRuns: nobody can say what is due
            fired = [at for at in sorted(due) if self._expected(at, due[at], gaps)]
            if len(fired) > unit.max_runs:
                due = {at: triggers for at, triggers in due.items() if at < fired[unit.max_runs]}
        self._told(unit, due, gaps)
        self._compare(unit, due, gaps, records)

    def _gaps(self, unit: Unit) -> defaultdict[int, list[Gap]]:
        """The gaps that were recorded in the unit's present life, by trigger."""
        gaps: defaultdict[int, list[Gap]] = defaultdict(list)
        for life, execution in self._monitor.gaps.get(unit.name, ()):
            missed = execution.missed
            if missed is not None and self._now(unit.name, life):
                gaps[-1 - execution.copy].append((to_instant(missed.first), to_instant(missed.last), missed.count))
        return gaps

    @staticmethod
    def _expected(at: Instant, triggers: Iterable[int], gaps: Mapping[int, list[Gap]]) -> bool:
        """Whether a fire time is to be executed: it is that of a trigger which has not missed it."""
        return not all(in_gaps(at, gaps.get(index, ())) for index in triggers)

    def _told(self, unit: Unit, due: Mapping[Instant, Iterable[int]], gaps: Mapping[int, list[Gap]]) -> None:
        """Check that the records of gaps tell of each missed fire time once, and of nothing else."""
        for index, recorded in gaps.items():
            mine = [at for at, triggers in due.items() if index in triggers]
            for at in mine:
                if (number := in_gaps(at, recorded)) > 1:
                    self._violate(f"I2: {unit.name} has {number} records of gaps for the fire time {at} of one trigger")
            for first, last, count in recorded:
                if (number := sum(first <= at <= last for at in mine)) != count and unit.max_runs is None:
                    self._violate(f"I2: {unit.name} has missed {number} from {first} to {last}, and tells of {count}")

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

    def _compare(
        self, unit: Unit, due: dict[Instant, set[int]], gaps: Mapping[int, list[Gap]], records: list[Execution]
    ) -> None:
        found: Counter[Instant] = Counter()
        made_up: list[Execution] = []
        for execution in records:
            if execution.missed is not None:
                continue
            at = to_instant(execution.fire_time)
            if at in due:
                found[at] += 1
            else:
                made_up.append(execution)
        allowed = {one.claimed_at for life, one in self._monitor.gaps.get(unit.name, ()) if self._now(unit.name, life)}
        for execution in made_up:
            # The misfire policy NOW fires once for a whole gap, at a time that is not on the grid.
            if execution.claimed_at not in allowed or unit.misfire.policy is MisfirePolicy.IGNORE:
                self._violate(f"I2: {execution.id} is no fire time of its unit")
        copies = 1 if unit.is_global else unit.availability
        oldest = self._oldest_kept(unit)
        since = None if oldest is None else to_instant(oldest.fire_time)
        for at, triggers in due.items():
            if since is not None and at < since:
                continue
            number, expected = found[at], copies if self._expected(at, triggers, gaps) else 0
            if number != expected and not (unit.is_global and number > expected > 0):
                skipped = any(
                    one.outcome is Outcome.SKIPPED and to_instant(one.fire_time) == at and number == 1
                    for one in records
                )
                if not skipped or not expected:
                    self._violate(f"I2: {unit.name} has {number} records for the fire time {at}, expected {expected}")

    def _oldest_kept(self, unit: Unit) -> Execution | None:
        """The oldest record that HistoryLimit= keeps; None when it keeps all. Older ones may be removed already."""
        kept = sorted(self.history.get(unit.name, ()), key=lambda execution: execution.id)
        return kept[-unit.history_limit] if len(kept) >= unit.history_limit else None

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
