"""How much the machines have that they have not begun, and when that is enough.

What a machine cannot begin soon only lies there, and costs more than a fire time that is claimed a bit later: several
fire times of one unit are then claimed at once. A crowd that is due in the same moment is claimed at once nevertheless.
"""

from collections.abc import Iterable

from xchronos.clock import SECOND, Instant, Micros

MOST_UNBEGUN = 1_000
"""How many placements that it has not begun a machine may have for long."""

BURST: Micros = 3 * SECOND
"""For how long a machine may have more than that. It begins anew when the machine has had fewer for as long."""


class Pressure:
    """Counts, by machine, the placements that were not begun."""

    def __init__(self) -> None:
        self._unbegun: dict[str, int] = {}
        self._since: dict[str, Instant] = {}
        self._last: dict[str, Instant] = {}

    def more(self, machine: str) -> None:
        """A machine has another one."""
        self._unbegun[machine] = self._unbegun.get(machine, 0) + 1

    def less(self, machine: str) -> None:
        """A machine has begun one, or it was taken away from it."""
        self._unbegun[machine] -= 1
        if not self._unbegun[machine]:
            del self._unbegun[machine]

    def everywhere(self, machines: Iterable[str], now: Instant) -> bool:
        """Whether every one of these machines has enough: one that does not begin anything stops nobody."""
        enough = False
        for machine in machines:
            enough = self._enough(machine, now)
            if not enough:
                return False
        return enough

    def _enough(self, machine: str, now: Instant) -> bool:
        if self._unbegun.get(machine, 0) < MOST_UNBEGUN:
            if machine in self._last and now - self._last[machine] >= BURST:
                del self._since[machine], self._last[machine]
            return False
        self._last[machine] = now
        return now - self._since.setdefault(machine, now) >= BURST
