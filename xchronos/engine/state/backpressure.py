"""What the machines have that they have not begun, and when that is enough.

What a machine cannot begin soon only lies there: it costs more than a fire time that is claimed a bit later, because
several fire times of one unit are then claimed at once. So where every machine has enough, no unit gets a second
placement that would only wait behind its first. A crowd of units that are due in the same moment is claimed at once
nevertheless.
"""

from collections.abc import Iterable

from xchronos.scheduler.feasibility import MachineView, have_enough_to_begin


class Backpressure:
    """Counts, by machine and by unit, the placements that were not begun."""

    def __init__(self) -> None:
        self._machines: dict[str, int] = {}
        self._units: dict[str, int] = {}

    def more(self, machine: str, unit: str) -> None:
        """A machine has another one."""
        self._machines[machine] = self._machines.get(machine, 0) + 1
        self._units[unit] = self._units.get(unit, 0) + 1

    def less(self, machine: str, unit: str) -> None:
        """A machine has begun one, or it was taken away from it."""
        _count_down(self._machines, machine)
        _count_down(self._units, unit)

    def waits(self, unit: str) -> bool:
        """Whether a placement of the unit was not begun."""
        return unit in self._units

    def everywhere(self, machines: Iterable[MachineView]) -> bool:
        """Whether every machine that takes anything has enough to begin: the core says how much that is."""
        return have_enough_to_begin(machines, self._machines)


def _count_down(counts: dict[str, int], name: str) -> None:
    if counts[name] == 1:
        del counts[name]
    else:
        counts[name] -= 1
