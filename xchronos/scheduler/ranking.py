"""Machines in the order in which a unit prefers them, so that a placement need not look at all of them.

Of many machines, the first few in that order usually include one that fits. Where they do not, or where the unit asks
for metadata, those come first that have what it asks for; which they are is remembered until a machine changes.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from math import gcd

from xchronos.model.unit import Unit
from xchronos.scheduler.feasibility import MachineView, executors_needed, unfit

FIRST_LOOK = 32
"""How many machines are looked at before it is asked which of them have what the unit asks for."""

MANY = 128
"""Among more machines than this that have what a unit asks for, the least loaded is not sought, but one of few."""

FEW = 32

KINDS = 256
"""Of how many kinds of requirements it is remembered which machines meet them."""

Load = tuple[bool, float, str]


class Ranking:
    """Every machine that is alive. Whoever changes a view says so (`moved`)."""

    def __init__(self, views: Iterable[MachineView] = ()) -> None:
        self.views: dict[str, MachineView] = {}
        self._ids: list[str] = []
        self._loads: list[Load] = []
        self._known: dict[str, tuple[object, Load]] = {}
        self._fitting: dict[object, list[str]] = {}
        for view in views:
            self.add(view)

    def add(self, view: MachineView) -> None:
        """A machine has come."""
        machine = view.machine.id
        self.views[machine] = view
        insort(self._ids, machine)
        self._known[machine] = view.machine, (load := _load(view))
        insort(self._loads, load)
        self._fitting.clear()

    def remove(self, machine: str) -> None:
        """A machine has gone, if it was there."""
        if self.views.pop(machine, None) is not None:
            del self._ids[bisect_left(self._ids, machine)]
            del self._loads[bisect_left(self._loads, self._known.pop(machine)[1])]
            self._fitting.clear()

    def moved(self, view: MachineView) -> None:
        """A machine has more or less to do than before, or another record."""
        machine, load = view.machine, _load(view)
        known, old = self._known[machine.id]
        if known is not machine:
            self._fitting.clear()
        if old != load:
            del self._loads[bisect_left(self._loads, old)]
            insort(self._loads, load)
        if known is not machine or old != load:
            self._known[machine.id] = machine, load

    def ordered(self, unit: Unit, seed: str, last: str) -> Iterator[MachineView]:
        """Every machine once, the one that `unit` prefers first; see `place` for what `seed` and `last` mean."""
        if len(self.views) <= FIRST_LOOK:
            return (self.views[machine] for machine in self._order(self._ids, unit, seed, last))
        return self._ordered_many(unit, seed, last)

    def _ordered_many(self, unit: Unit, seed: str, last: str) -> Iterator[MachineView]:
        everything = self._order(self._ids, unit, seed, last)
        asked = unit.requirements
        seen: set[str] = set()
        if not (asked.metadata or asked.terms or asked.machine_id):
            for machine in islice(everything, FIRST_LOOK):
                seen.add(machine)
                yield self.views[machine]
        for machine in self._order(self._that_fit(unit), unit, seed, last):
            if machine not in seen:
                seen.add(machine)
                yield self.views[machine]
        for machine in everything:
            if machine not in seen:
                yield self.views[machine]

    def _order(self, ids: Sequence[str], unit: Unit, seed: str, last: str) -> Iterator[str]:
        """Machines, of which `ids` are sorted, as the unit's LoadBalancing= has it."""
        if unit.load_balancing == "workload":
            if ids is self._ids:
                return (machine for _, _, machine in self._loads)
            few = ids if len(ids) <= MANY else islice(_drawn(ids, seed), FEW)
            return iter(sorted(few, key=lambda machine: self._known[machine][1]))
        if unit.load_balancing == "round-robin":
            return _steps(ids, bisect_right(ids, last), 1)
        return _drawn(ids, seed)

    def _that_fit(self, unit: Unit) -> list[str]:
        """The machines that have what the unit asks for, whatever they run; sorted."""
        asked = unit.requirements
        kind = (asked.machine_id, tuple(asked.metadata.items()), asked.terms, tuple(executors_needed(unit)))
        found = self._fitting.get(kind)
        if found is None:
            if len(self._fitting) >= KINDS:
                self._fitting.clear()
            found = [
                machine
                for machine in self._ids
                if not self.views[machine].machine.cordoned and not unfit(unit, self.views[machine].machine)
            ]
            self._fitting[kind] = found
        return found


def _load(view: MachineView) -> Load:
    return view.machine.cordoned, view.load, view.machine.id


def _drawn(ids: Sequence[str], seed: str) -> Iterator[str]:
    """All of them in an order that the seed draws."""
    drawn = blake2b(seed.encode(), digest_size=16).digest()
    start, step = int.from_bytes(drawn[:8], "big"), int.from_bytes(drawn[8:], "big")
    while ids and gcd(step, len(ids)) > 1:
        step += 1
    return _steps(ids, start, step)


def _steps(ids: Sequence[str], start: int, step: int) -> Iterator[str]:
    count = len(ids)
    return (ids[(start + n * step) % count] for n in range(count))
