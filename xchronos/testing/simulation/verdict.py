"""What must hold when all is calm again: I2 against grids computed from the triggers alone, I4 against the sink."""

from collections import Counter
from collections.abc import Callable, Iterable

from xchronos.clock import Instant, to_instant
from xchronos.engine.settling import KEPT_ATTEMPTS
from xchronos.errors import StoreError
from xchronos.model.policies import MisfirePolicy, Outcome
from xchronos.model.records import Execution, Schedule
from xchronos.model.unit import Unit
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys
from xchronos.store.contract import KeyValue
from xchronos.testing.simulation.machines import Start
from xchronos.testing.simulation.monitor import BY_HAND, Era, Monitor

RAN = frozenset((Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT))
"""Outcomes of attempts that cannot be had without a start."""


def grid(unit: Unit, index: int, era: Schedule) -> Iterable[Instant]:
    """The fire times of a trigger from its acceptance on, by the trigger's own arithmetic and the unit's bounds."""
    trigger = unit.triggers[index].trigger
    anchor, accepted = to_instant(era.anchor), to_instant(era.accepted_at)
    after = anchor - 1
    if trigger.kind not in ("simple", "iso8601"):
        after = max(after, accepted)
    at, left = trigger.next_after(after, anchor), trigger.count
    while at is not None and left != 0:
        if unit.not_after is not None and (at > unit.not_after or (at == unit.not_after and trigger.kind == "simple")):
            return
        yield at
        left = None if left is None else left - 1
        at = trigger.next_after(at, anchor)


class Verdict:
    """Judges a finished run. `violate` is told of everything that must not be."""

    def __init__(self, keys: Keys, rows: dict[str, KeyValue], monitor: Monitor, violate: Callable[[str], None]) -> None:
        self.history: dict[str, list[Execution]] = {}
        """By unit, what was claimed in its present life."""
        self._monitor = monitor
        self._violate = violate
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
        """Whether a life of a unit is the present one."""
        return unit in self._monitor.living and life == self._monitor.lives[unit]

    # -- I2 -----------------------------------------------------------------------------------------------------------

    def fire_times(self, unit: Unit, eras: list[Era], texts: dict[str, Unit]) -> None:
        """Every due fire time of a living unit has one record per copy; `texts` are its texts by fingerprint."""
        records = [execution for execution in self.history.get(unit.name, ()) if execution.trigger not in BY_HAND]
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
        self._compare(unit, due, records)

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
            # NOW fires once in the name of a whole gap, off the grid.
            if execution.claimed_at not in allowed or unit.misfire.policy is MisfirePolicy.IGNORE:
                self._violate(f"I2: {execution.id} is no fire time of its unit")
        copies = 1 if unit.is_global else unit.availability
        for at in due:
            number = found[at] + copies * sum(first <= at <= last for first, last in spans)
            if number != copies and not (unit.is_global and number > copies):
                skipped = any(
                    one.outcome is Outcome.SKIPPED and to_instant(one.fire_time) == at and number == 1
                    for one in records
                )
                if not skipped:
                    self._violate(f"I2: {unit.name} has {number} records for the fire time {at}, expected {copies}")

    def _total(self, unit: Unit, eras: list[Era], records: list[Execution]) -> None:
        """A misfire policy has restarted the grid: the count is what is left to compare."""
        count = unit.triggers[0].trigger.count
        wanted = unit.availability * count if count is not None else None
        fired = sum(1 for execution in records if execution.missed is None)
        dropped = sum(execution.missed.count for execution in records if execution.missed is not None)
        if len(eras) == 1 and wanted is not None and not wanted - dropped * unit.availability <= fired <= wanted:
            self._violate(f"I2: {unit.name} has {fired} records and {dropped} missed, expected {wanted}")

    # -- I4 -----------------------------------------------------------------------------------------------------------

    def sink(self, starts: Iterable[Start]) -> None:
        """The history of living units equals the sink; what ran in a former life of a unit is forgotten."""
        by_attempt = {(start.execution, start.attempt): start for start in starts if self._now(start.unit, start.life)}
        known: set[tuple[str, int]] = set()
        for name in sorted(self.history):
            for execution in self.history[name]:
                self._execution(execution, by_attempt, known)
        for identity, start in by_attempt.items():
            if identity not in known:
                self._violate(f"I4: attempt {identity[1]} of {identity[0]} ran on {start.machine}, history has none")

    def _execution(
        self, execution: Execution, starts: dict[tuple[str, int], Start], known: set[tuple[str, int]]
    ) -> None:
        name = execution.id
        if execution.outcome is None or execution.current is not None or execution.ended_at is None:
            self._violate(f"I2: {name} is in the history without having ended")
        numbers = [attempt.number for attempt in execution.attempts]
        first = numbers[0] if len(numbers) > KEPT_ATTEMPTS else 1  # of what was lost again and again a part is kept
        known.update((name, number) for number in range(1, first))
        if numbers != list(range(first, first + len(numbers))):
            self._violate(f"I4: {name} has the attempts {numbers}")
        for attempt in execution.attempts:
            identity = (name, attempt.number)
            known.add(identity)
            start = starts.get(identity)
            if attempt.outcome is None:
                self._violate(f"I4: attempt {attempt.number} of {name} has no outcome")
            if start is None:
                if attempt.outcome in RAN and attempt.steps:
                    self._violate(f"I4: attempt {attempt.number} of {name} is {attempt.outcome}, and never started")
                continue
            if start.machine != attempt.machine:
                self._violate(f"I4: attempt {attempt.number} of {name} ran on {start.machine}, not {attempt.machine}")
            told = attempt.late or attempt.outcome
            if told is Outcome.SUCCEEDED and start.code != 0:
                self._violate(f"I4: attempt {attempt.number} of {name} succeeded with {start.code} {start.signal}")
            if told is Outcome.FAILED and start.code == 0:
                self._violate(f"I4: attempt {attempt.number} of {name} failed, and ended with 0")
            if start.ended is None:
                self._violate(f"I4: attempt {attempt.number} of {name} is {attempt.outcome}, and still runs")
        if execution.outcome is Outcome.SUCCEEDED and execution.attempts[-1].outcome is not Outcome.SUCCEEDED:
            self._violate(f"I4: {name} succeeded without a successful attempt")
