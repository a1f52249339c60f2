"""May this machine run that unit, beside what it runs? Every reason why not."""

from collections.abc import Iterable, Mapping

import msgspec

from xchronos.model.features import unread
from xchronos.model.records import Machine
from xchronos.model.unit import Unit
from xchronos.scheduler.rejections import Rejection
from xchronos.unitfile.fleet.placement import has_conflict, has_replace, matches_id, metadata_unmet
from xchronos.unitfile.fleet.requirements import FleetRequirements

MEBIBYTE = 1 << 20
UNAVAILABLE = "unavailable:"
"""How `Machine.docker` begins when the engine does not answer."""

SLOTS_OF_UNLIMITED = 64
"""What a machine without a slot limit counts as when its load is compared with one that has a limit."""


class Running(msgspec.Struct):
    """One unit on a machine: what it asks of its neighbours, how many attempts of it are there, and their room."""

    requirements: FleetRequirements
    attempts: int = 1
    memory: int = 0
    cpus: float = 0.0


class MachineView:
    """A machine and what has its room, kept up to date by its owner through `take` and `release`.

    That is what is placed on it, and what pauses before its next attempt on this machine: what a unit holds is not free
    between two attempts.

    `running` is by unit name; `attempts`, `memory` (bytes) and `cpus` are sums over everything placed. Deciding
    only reads a view.
    """

    __slots__ = ("_picky", "attempts", "cpus", "machine", "memory", "running")

    def __init__(
        self,
        machine: Machine,
        running: Mapping[str, Running] | None = None,
        attempts: int = 0,
        memory: int = 0,
        cpus: float = 0.0,
    ) -> None:
        self.machine = machine
        self.running = dict(running or {})
        self.attempts = attempts
        self.memory = memory
        self.cpus = cpus
        # The few units that declare Conflicts or Replaces: without them a placement need not look at the others.
        self._picky = {
            name: unit.requirements
            for name, unit in self.running.items()
            if unit.requirements.conflicts or unit.requirements.replaces
        }

    def take(self, unit: Unit) -> None:
        """Count one more attempt of `unit`."""
        asked = unit.requirements
        entry = self.running.get(unit.name)
        if entry is None:
            entry = self.running[unit.name] = Running(asked)
        else:
            entry.attempts += 1
            # The unit may have changed since its earlier attempt was placed: its newest text is what counts.
            entry.requirements = asked
        if asked.conflicts or asked.replaces:
            self._picky[unit.name] = asked
        else:
            self._picky.pop(unit.name, None)
        entry.memory += unit.memory
        entry.cpus += unit.cpus
        self.attempts += 1
        self.memory += unit.memory
        self.cpus += unit.cpus

    def release(self, unit: Unit) -> None:
        """Count one attempt of `unit` less, as the meaning it was taken with. Raises KeyError if there is none."""
        entry = self.running[unit.name]
        entry.attempts -= 1
        entry.memory -= unit.memory
        entry.cpus -= unit.cpus
        if entry.attempts == 0:
            del self.running[unit.name]
            self._picky.pop(unit.name, None)
        self.attempts -= 1
        self.memory -= unit.memory
        self.cpus -= unit.cpus

    def without(self, unit: str) -> "MachineView":
        """The machine as it is for the only attempt of `unit` that has room on it: as if it had none."""
        entry = self.running.get(unit)
        if entry is None:
            return self
        others = {name: running for name, running in self.running.items() if name != unit}
        return MachineView(
            self.machine,
            others,
            self.attempts - entry.attempts,
            self.memory - entry.memory,
            self.cpus - entry.cpus,
        )

    def neighbours(self, *, all_of_them: bool) -> Mapping[str, FleetRequirements]:
        """The requirements of the units here: of all, or only of those that declare Conflicts or Replaces."""
        if not all_of_them:
            return self._picky
        return {name: unit.requirements for name, unit in self.running.items()}

    @property
    def load(self) -> float:
        """How full the machine is; one without a limit counts as one with many slots."""
        return self.attempts / (self.machine.capacity.slots or SLOTS_OF_UNLIMITED)


_INSTEAD = {"process": " (allow_process in its settings does, and a [Container] needs none)"}
"""What to do about an executor that a machine does not have."""


def executors_needed(unit: Unit) -> list[str]:
    """The kinds of executor that a machine must have for every step of the unit, sorted.

    A line that is no docker command runs in a container of `[Container]`; without one it is a host process.
    """
    needed = {"docker"} if unit.needs_docker else set()
    other = "process" if unit.executor == "docker" and unit.container is None else unit.executor
    needed.update("docker" if step.docker else other for step in unit.service.steps)
    return sorted(needed)


def fits(unit: Unit, view: MachineView) -> list[Rejection]:
    """Every reason why this machine cannot run one more attempt of the unit; empty when it can.

    The machine's own agent judges by its parts, `unfit` and `crowded`: a cordon concerns only what is new, and a peer
    may end at any time.
    """
    machine = view.machine
    found = [Rejection(machine.id, "cordoned")] if machine.cordoned else []
    found.extend(unfit(unit, machine))
    found.extend(Rejection(machine.id, "peer", peer) for peer in unit.requirements.peers if peer not in view.running)
    found.extend(crowded(unit, view))
    return found


def unfit(unit: Unit, machine: Machine) -> list[Rejection]:
    """What is against this machine whatever it runs: who it is, its metadata, and what it can do."""
    asked = unit.requirements
    found: list[Rejection] = []
    if unit.level > 1 or unit.zones:
        lacking = unread(machine.reads, unit)
        if lacking:
            found.append(Rejection(machine.id, "reads", ", ".join(lacking)))
    if asked.machine_id is not None and not matches_id(machine.id, asked.machine_id):
        found.append(Rejection(machine.id, "machine-id", asked.machine_id))
    if asked.metadata or asked.terms:
        found.extend(
            Rejection(machine.id, "metadata", pair, _actual(pair, machine.metadata))
            for pair in metadata_unmet(asked, machine.metadata)
        )
    for executor in executors_needed(unit):
        if executor == "docker" and machine.docker.startswith(UNAVAILABLE):
            found.append(Rejection(machine.id, "docker", machine.docker.removeprefix(UNAVAILABLE).strip()))
        elif executor not in machine.executors:
            found.append(Rejection(machine.id, "executor", f"{executor} executor{_INSTEAD.get(executor, '')}"))
    return found


def crowded(unit: Unit, view: MachineView) -> list[Rejection]:
    """What is against this machine because of what it runs: neighbours, and capacity."""
    found: list[Rejection] = []
    neighbours = view.neighbours(all_of_them=bool(unit.requirements.conflicts))
    if neighbours:
        _judge_neighbours(unit, view.machine.id, neighbours, found)
    _judge_capacity(unit, view, found)
    return found


def _actual(pair: str, metadata: Mapping[str, str]) -> str:
    key = pair.replace("!", "=").replace("<", "=").replace(">", "=").partition("=")[0]
    return f"it has {key}={metadata[key]}" if key in metadata else ""


def _judge_neighbours(
    unit: Unit, machine: str, neighbours: Mapping[str, FleetRequirements], found: list[Rejection]
) -> None:
    name, wanted = unit.name, unit.requirements
    for other, asked in neighbours.items():
        pair = {other: asked}
        if has_conflict(name, wanted.conflicts, pair) is not None:
            found.append(Rejection(machine, "conflict", other))
        # A unit that is here and replaces this one would make it leave immediately. One that this one replaces leaves
        # instead, and two that replace each other stay.
        if has_replace(name, (), pair) is not None and has_replace(name, wanted.replaces, pair) is not None:
            found.append(Rejection(machine, "replaced", other))


def _judge_capacity(unit: Unit, view: MachineView, found: list[Rejection]) -> None:
    capacity, machine = view.machine.capacity, view.machine.id
    if capacity.slots and view.attempts >= capacity.slots:
        found.append(Rejection(machine, "slots", "", f"{view.attempts} of {capacity.slots} are taken"))
    if unit.memory and capacity.memory and view.memory + unit.memory > capacity.memory:
        note = f"{_mebibytes(capacity.memory - view.memory)} of {_mebibytes(capacity.memory)}"
        found.append(Rejection(machine, "memory", _mebibytes(unit.memory), note))
    # Sums of fractions like 0.1 must not refuse the last one that fits.
    if unit.cpus and capacity.cpus and view.cpus + unit.cpus > capacity.cpus + 1e-9:
        note = f"{max(0.0, capacity.cpus - view.cpus):g} of {capacity.cpus:g}"
        found.append(Rejection(machine, "cpu", f"{unit.cpus:g}", note))


def _mebibytes(amount: int) -> str:
    return f"{max(0, amount) / MEBIBYTE:g} MiB"


ENOUGH_TO_BEGIN = 500
"""How many placements that it has not begun keep a machine at work until the next ones are there."""


def has_room(views: Iterable[MachineView]) -> bool:
    """Whether any machine takes one more attempt of anything: where none does, nothing that waits need be looked at."""
    return any(
        not view.machine.cordoned and (not view.machine.capacity.slots or view.attempts < view.machine.capacity.slots)
        for view in views
    )


def have_enough_to_begin(views: Iterable[MachineView], unbegun: Mapping[str, int]) -> bool:
    """Whether every machine that takes anything has enough that it has not begun: `unbegun` counts it, by machine.

    Then a unit that has such placements waits with its further fire times (see `engine/state/backpressure`). A machine
    that begins nothing holds nobody up while another one does.
    """
    enough = False
    for view in views:
        if not view.machine.cordoned:
            enough = unbegun.get(view.machine.id, 0) >= ENOUGH_TO_BEGIN
            if not enough:
                return False
    return enough


def displaced(unit: Unit, view: MachineView) -> list[str]:
    """The units that have to leave a machine because `unit`, which is there, `Replaces=` them."""
    return [
        other
        for other, asked in view.neighbours(all_of_them=True).items()
        if has_replace(unit.name, unit.requirements.replaces, {other: asked}) is not None
    ]
