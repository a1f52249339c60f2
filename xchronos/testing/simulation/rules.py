"""Checks at the instant of each start what a unit asks for: room on its machine, neighbours, budget, order of steps.

Each start at the sink is compared with what the store holds at that instant:

- On no machine are more attempts at work than it has slots, and no two units of which one conflicts with the other. An
  attempt that was given up with its machine, and goes on there (OnPartition=continue), does not count any more.
- No attempt is beyond MaxAttempts; lost attempts are not charged. No attempt starts before its pause is over.
- The steps of an attempt start one after another, in their order, and never two together.
- An execution that waits says why.
"""

from collections.abc import Callable, Mapping

from xchronos.clock import SECOND, Micros
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution
from xchronos.model.unit import Unit
from xchronos.scheduler.policies.retry import pause
from xchronos.testing.simulation.sink import SimulatedStart
from xchronos.unitfile.fleet.placement import has_conflict
from xchronos.unitfile.fleet.requirements import FleetRequirements

WITHOUT_A_MACHINE = frozenset(("waiting", "queued", "delayed"))


class Rules:
    """Judges starts. `violate` is called with everything that must not be; `units` gives the meaning of a unit.

    `slots` are the machines', 0 for no limit. `spread` is how far any two wall clocks have ever been apart; the world
    raises it when it sets a clock.
    """

    def __init__(
        self, violate: Callable[[str], None], units: Callable[[str], Unit | None], slots: Mapping[str, int]
    ) -> None:
        self.spread: Micros = 0
        self._violate = violate
        self._units = units
        self._slots = slots
        self._at_work: dict[str, dict[tuple[str, int], SimulatedStart]] = {}
        self._steps: dict[tuple[int, str, int], SimulatedStart] = {}

    def waits(self, execution: Execution) -> None:
        """An execution's record is written. If no machine has it, it must say why it waits."""
        if execution.state in WITHOUT_A_MACHINE and not execution.reason:
            self._violate(f"{execution.id} is {execution.state}, and does not say why")

    def started(self, start: SimulatedStart, execution: Execution | None) -> None:
        """A step starts. `execution` is its record on its machine, None when the store has none there any more."""
        unit = self._units(start.unit)
        if unit is None:
            return
        self._in_order(unit, start)
        self._steps[start.life, start.execution, start.attempt] = start
        if execution is not None and execution.current is not None and execution.current.number == start.attempt:
            self._in_budget(unit, start, execution)
            self._has_room(unit, start)
            self._at_work.setdefault(start.machine, {})[start.execution, start.attempt] = start

    def left(self, machine: str, execution: Execution) -> None:
        """The store has an execution on a machine no longer, or its attempt there has ended."""
        if execution.current is not None:
            self._at_work.get(machine, {}).pop((execution.id, execution.current.number), None)

    def _in_order(self, unit: Unit, start: SimulatedStart) -> None:
        names = [step.name for step in unit.service.steps]
        before = self._steps.get((start.life, start.execution, start.attempt))
        if before is None:
            return
        what = f"step {start.step} of attempt {start.attempt} of {start.execution}"
        if before.ended is None:
            self._violate(f"{what} starts beside {before.step}")
        if names.index(start.step) <= names.index(before.step):
            self._violate(f"{what} starts behind {before.step}")

    def _in_budget(self, unit: Unit, start: SimulatedStart, execution: Execution) -> None:
        charged = [one for one in execution.attempts if one.outcome is not Outcome.LOST]
        allowed = unit.retry.max_attempts
        if allowed and len(charged) >= allowed:
            self._violate(f"{execution.id} has had its {allowed} attempts, and starts again as {start.attempt}")
        if not charged or not execution.attempts or execution.attempts[-1].outcome is Outcome.LOST or unit.keep_running:
            return
        last = self._steps.get((start.life, start.execution, execution.attempts[-1].number))
        if last is None or last.ended is None:
            return
        due = last.ended + pause(unit, len(charged)) - 2 * self.spread
        if start.at < due:
            early = (due - start.at) / SECOND
            self._violate(f"attempt {start.attempt} of {execution.id} starts {early} s before its pause is over")

    def _has_room(self, unit: Unit, start: SimulatedStart) -> None:
        mine = (start.execution, start.attempt)
        others = [other for identity, other in self._at_work.get(start.machine, {}).items() if identity != mine]
        slots = self._slots.get(start.machine, 0)
        if slots and len(others) >= slots:
            self._violate(f"{start.execution} starts on {start.machine}, whose {slots} slots are taken")
        for name in sorted({other.unit for other in others} - {unit.name}):
            asked = self._requirements(name)
            if has_conflict(unit.name, unit.requirements.conflicts, {name: asked}) is not None:
                self._violate(
                    f"{start.execution} starts on {start.machine} beside {name}, with which it is in conflict"
                )

    def _requirements(self, name: str) -> FleetRequirements:
        unit = self._units(name)
        return FleetRequirements() if unit is None else unit.requirements
