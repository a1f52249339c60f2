"""What a scheduler knows: cursors, executions that have not ended, machines. Kept by the watches, in memory.

Nothing here decides or writes.
"""

from collections.abc import Iterator, Mapping

from xchronos.clock import Clock, Instant, to_instant
from xchronos.engine.state.backpressure import Backpressure
from xchronos.engine.state.due_queue import DueQueue
from xchronos.engine.state.open_execution import MemoryAction, MemoryEvent, OpenExecution, transition
from xchronos.engine.state.timers import Timers
from xchronos.model.records import Execution, Machine
from xchronos.model.unit import Unit
from xchronos.registry.keys import unit_of
from xchronos.scheduler.eviction import peers, replaces_others
from xchronos.scheduler.feasibility import MachineView
from xchronos.scheduler.ranking import Ranking
from xchronos.scheduler.view import file_of, fire_prefix
from xchronos.store.contract import Event, KeyValue


def _waits_since(execution: Execution) -> Instant:
    since = execution.waits_since or execution.claimed_at
    return 0 if since is None else to_instant(since)


class ClusterState:
    """Everything a turn decides upon.

    Executions are filed by unit: those that are `active` (what Concurrency= looks at), `queued` behind them,
    `undecided`, or `standing` for machines to come; those that wait for a machine are in `waiting` besides. `followers`
    are executions, filed by each unit that theirs depends on (MachineOf=), as far as it is known what they ask for;
    `arrived` are such units that have come to a machine and were not looked at since. `displacing` are the machines to
    which units have come that replace others, each with the execution.
    """

    def __init__(self, clock: Clock) -> None:
        self.cursors = DueQueue(clock)
        self.open: dict[str, OpenExecution] = {}
        self.ranking = Ranking()
        self.active: dict[str, set[str]] = {}
        self.queued: dict[str, set[str]] = {}
        self.undecided: dict[str, set[str]] = {}
        self.standing: dict[str, set[str]] = {}
        self.waiting: dict[str, set[str]] = {}
        self.last_machine: dict[str, str] = {}
        self.followers: dict[str, set[str]] = {}
        self.arrived: set[str] = set()
        self.displacing: set[tuple[str, str]] = set()
        self.backpressure = Backpressure()
        self._placed: dict[str, set[str]] = {}
        self._kept: dict[str, set[str]] = {}
        """By machine: what pauses, and keeps its room there meanwhile. What it asks for is known of each."""
        self._timers = Timers(clock)

    # -- executions -------------------------------------------------------------------------------------------------

    def put(self, execution_id: str, entry: OpenExecution) -> None:
        """An execution is where `entry` says."""
        before = self.open.get(execution_id)
        if before is not None and not before.machine and entry.lead is None:
            # It goes on waiting: its moments are what they were.
            entry.lead = before.lead
        self.drop(execution_id)
        self.open[execution_id] = entry
        unit = unit_of(execution_id)
        self._follow(execution_id, entry)
        if entry.machine:
            self.active.setdefault(unit, set()).add(execution_id)
            self._placed.setdefault(entry.machine, set()).add(execution_id)
            if not entry.begun:
                self.backpressure.more(entry.machine, unit)
            self._count(entry.machine, entry.unit)
            if unit in self.followers:
                self.arrived.add(unit)
            if replaces_others(entry.unit):
                self.displacing.add((entry.machine, execution_id))
            return
        execution = entry.execution
        self._file(execution).setdefault(unit, set()).add(execution_id)
        if execution.state == "waiting" and not execution.stands:
            self.waiting.setdefault(unit, set()).add(execution_id)
        if execution.home and entry.unit is not None:
            self._kept.setdefault(execution.home, set()).add(execution_id)
            self._count(execution.home, entry.unit)
        self._set_timers(execution_id, entry)

    def _set_timers(self, execution_id: str, entry: OpenExecution, after: Instant | None = None) -> None:
        execution = entry.execution
        if execution.due_at is None and execution.deadline is None:
            return
        if entry.lead is None:
            entry.lead = self._timers.lead(_waits_since(execution))
        if execution.due_at is not None:
            self._timers.add(execution_id, to_instant(execution.due_at), entry.lead, after)
        if execution.deadline is not None:
            # Up to the deadline it may still start; it is over right behind it.
            self._timers.add(execution_id, to_instant(execution.deadline) + 1, entry.lead, after)

    def reached(self, entry: OpenExecution, now: Instant) -> Instant:
        """What time it is for an execution without a machine, at `now`: whoever waits is spared a clock's way back."""
        return now if entry.lead is None else self._timers.reached(entry.lead, now)

    def remind(self, execution_id: str, now: Instant) -> None:
        """Let an execution that was looked at in vain be `ripe` when its moment comes, even if it has been before.

        It may have been while it was somebody else's to decide, and the clock have been set back since.
        """
        entry = self.open.get(execution_id)
        if entry is not None and not entry.machine:
            self._set_timers(execution_id, entry, now)

    def drop(self, execution_id: str) -> None:
        """An execution is no longer where it was, if it was anywhere."""
        entry = self.open.pop(execution_id, None)
        if entry is None:
            return
        unit = unit_of(execution_id)
        for peer in peers(entry.unit):
            _remove(self.followers, peer, execution_id)
        if entry.machine:
            _remove(self.active, unit, execution_id)
            _remove(self._placed, entry.machine, execution_id)
            if not entry.begun:
                self.backpressure.less(entry.machine, unit)
            self._discount(entry.machine, entry.unit)
            return
        home = entry.execution.home
        if execution_id in self._kept.get(home, ()):
            _remove(self._kept, home, execution_id)
            self._discount(home, entry.unit)
        _remove(self._file(entry.execution), unit, execution_id)
        if entry.execution.state == "waiting" and not entry.execution.stands:
            _remove(self.waiting, unit, execution_id)

    def learn(self, execution_id: str, entry: OpenExecution, unit: Unit) -> None:
        """What the unit of an execution without a machine asks for is known now."""
        if entry.unit is None and not entry.machine:
            entry.unit = unit
            self._follow(execution_id, entry)
            home = entry.execution.home
            if home and self.open.get(execution_id) is entry:
                self._kept.setdefault(home, set()).add(execution_id)
                self._count(home, unit)

    def _follow(self, execution_id: str, entry: OpenExecution) -> None:
        for peer in peers(entry.unit):
            self.followers.setdefault(peer, set()).add(execution_id)

    def _file(self, execution: Execution) -> dict[str, set[str]]:
        files = {"active": self.active, "queued": self.queued, "undecided": self.undecided, "standing": self.standing}
        return files[file_of(execution)]

    def _count(self, machine: str, unit: Unit | None) -> None:
        view = self.machines.get(machine)
        if view is not None and unit is not None:
            view.take(unit)
            self.ranking.moved(view)

    def _discount(self, machine: str, unit: Unit | None) -> None:
        view = self.machines.get(machine)
        if view is not None and unit is not None:
            view.release(unit)
            self.ranking.moved(view)

    def of_unit(self, unit: str) -> list[str]:
        """Every execution of a unit that has not ended, in order of their ids."""
        files = (self.active, self.queued, self.undecided, self.standing)
        return sorted(id_ for file in files for id_ in file.get(unit, ()))

    def stand_for_machines(self, unit: str) -> set[str]:
        """The fire times, as prefixes of ids, whose copies machines may still get that come to fit."""
        return {fire_prefix(execution_id) for execution_id in self.standing.get(unit, ())}

    def siblings(self, execution_id: str) -> list[str]:
        """The active executions of the same fire time, the execution itself excepted."""
        prefix = fire_prefix(execution_id)
        active = self.active.get(unit_of(execution_id), ())
        return [other for other in active if other.startswith(prefix) and other != execution_id]

    def ripe(self, now: Instant) -> set[str]:
        """Executions without a machine whose moment (the end of a pause, a deadline) has come."""
        ripe = self._timers.ripe(now)
        return {id_ for id_ in ripe if (entry := self.open.get(id_)) is not None and not entry.machine}

    def next_moment(self) -> Instant | None:
        """When there is something to do by the clock alone."""
        moments = [self.cursors.next_moment(), self._timers.next_moment()]
        return min((moment for moment in moments if moment is not None), default=None)

    # -- writes that are under way, and news of the same executions (see `open_execution`) -----------------------------

    def assume(self, execution_id: str, entry: OpenExecution, target: Execution, unit: Unit | None) -> OpenExecution:
        """A write is submitted that moves an execution. Returns the entry that the answer will be about.

        Raises IllegalEvent, a defect of the caller, unless `entry` is what memory holds and no write about it is under
        way.
        """
        held = self.open.get(execution_id) is entry
        state, known = (entry.state, entry.revision) if held else ("none", 0)
        if entry.machine or target.state == "ended":
            entry.state, _ = transition(state, "assume", "here", known, entry.revision)
            return entry
        state, _ = transition(state, "assume", "elsewhere", known, entry.revision)
        assumed = OpenExecution(_machine_of(target), target, known, unit, state=state, source=entry)
        # Whoever holds the former entry still must not decide upon it.
        entry.state = "leaving"
        self.put(execution_id, assumed)
        return assumed

    def assume_new(self, execution_id: str, execution: Execution, unit: Unit | None) -> OpenExecution:
        """A write is submitted that brings a new execution. Returns the entry that the answer will be about."""
        state, _ = transition("none", "assume", "elsewhere", 0, 0)
        assumed = OpenExecution(_machine_of(execution), execution, 0, unit, state=state)
        self.put(execution_id, assumed)
        return assumed

    def answered(self, execution_id: str, entry: OpenExecution, event: MemoryEvent, told: int) -> MemoryAction:
        """The answer to a write has come, or is known to be missing. Returns what was done.

        Args:
            execution_id: Which execution the write was about.
            entry: What was assumed.
            event: What the answer says.
            told: The revision of the write; of one that was refused or has no answer, that which it was decided upon.
        """
        if self.open.get(execution_id) is not entry:
            # Newer news has put another entry in its place, or none.
            return "keep"
        state, action = transition(entry.state, event, entry.origin, entry.revision, told)
        if action == "revise":
            entry.revise(told, state)
        elif action == "drop":
            self.drop(execution_id)
        elif action == "return":
            before = entry if entry.source is None else entry.source
            before.state = state
            if before is not entry:
                self.put(execution_id, before)
        return action

    def watched_put(self, execution_id: str, machine: str, item: KeyValue | Event) -> MemoryAction:
        """The watch brings a record. Returns what was done; to `enter` it is left to the caller, who has to read it."""
        entry = self.open.get(execution_id)
        if entry is None:
            return transition("none", "watched put", "elsewhere", 0, item.mod_revision)[1]
        place = entry.place_of(machine)
        state, action = transition(entry.state, "watched put", place, entry.revision, item.mod_revision)
        if action != "update":
            return action
        if not machine:
            # It is filed by what its record says.
            return "enter"
        waited = not entry.begun
        entry.update(item, state)
        if waited and entry.begun:
            self.backpressure.less(machine, unit_of(execution_id))
        return action

    def watched_delete(self, execution_id: str, machine: str, revision: int) -> MemoryAction:
        """The watch says that a record has left where `machine` had it, or (empty) none. Returns what was done."""
        entry = self.open.get(execution_id)
        if entry is None:
            return "keep"
        state, action = transition(entry.state, "watched delete", entry.place_of(machine), entry.revision, revision)
        if action == "drop":
            self.drop(execution_id)
        elif action == "uproot":
            entry.state = state
        return action

    # -- machines ---------------------------------------------------------------------------------------------------

    @property
    def machines(self) -> Mapping[str, MachineView]:
        """Every machine that is alive, by id."""
        return self.ranking.views

    def set_machine(self, machine: Machine) -> None:
        """A machine has joined, or its record has changed."""
        view = self.machines.get(machine.id)
        if view is not None:
            view.machine = machine
            self.ranking.moved(view)
            return
        self.ranking.add(MachineView(machine))
        for execution_id in sorted((*self._placed.get(machine.id, ()), *self._kept.get(machine.id, ()))):
            self._count(machine.id, self.open[execution_id].unit)

    def drop_machine(self, machine: str) -> None:
        """A machine's lease has ended."""
        self.ranking.remove(machine)

    def on_machine(self, machine: str) -> Iterator[tuple[str, OpenExecution]]:
        """Everything that is placed on a machine, in order of the ids."""
        return ((id_, self.open[id_]) for id_ in sorted(self._placed.get(machine, ())))


def _machine_of(execution: Execution) -> str:
    return execution.current.machine if execution.current is not None else ""


def _remove(files: dict[str, set[str]], unit: str, execution_id: str) -> None:
    ids = files[unit]
    ids.remove(execution_id)
    if not ids:
        del files[unit]
