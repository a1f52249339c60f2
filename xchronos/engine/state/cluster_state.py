"""What a scheduler knows: cursors, executions that have not ended, machines. Kept by the watches, in memory.

Nothing here decides or writes.
"""

from collections.abc import Iterator, Mapping

from xchronos.clock import Clock, Instant, Micros, to_instant
from xchronos.engine.state.backpressure import Backpressure
from xchronos.engine.state.due_queue import DueQueue
from xchronos.engine.state.timers import Timers
from xchronos.model.records import Execution, Machine
from xchronos.model.unit import Unit
from xchronos.registry.codec import decode
from xchronos.registry.keys import unit_of
from xchronos.scheduler.eviction import peers, replaces_others
from xchronos.scheduler.feasibility import MachineView
from xchronos.scheduler.ranking import Ranking
from xchronos.scheduler.view import fire_prefix, undecided
from xchronos.store.contract import KeyValue

_REPORTED = b'"state":"reported"'
_PLACED = b'"state":"placed"'


class OpenExecution:
    """An execution that has not ended: on `machine`, or (empty) on none.

    `revision` is that of the record, or of what a write of ours that is under way was decided upon: whatever the watch
    brings with a greater one is news. `busy` while such a write is under way; `uprooted` once the watch says that the
    record is not there any more from where the write would take it. `lead` is that of what it waits for (see
    `timers`).
    """

    __slots__ = ("_known", "begun", "busy", "lead", "machine", "revision", "unit", "uprooted")

    def __init__(
        self,
        machine: str,
        known: Execution | KeyValue,
        revision: int,
        unit: Unit | None = None,
        *,
        busy: bool = False,
    ) -> None:
        self.machine = machine
        self._known = known
        self.revision = revision
        self.unit = unit
        self.busy = busy
        self.uprooted = False
        self.begun = not self._placed
        self.lead: Micros | None = None

    @property
    def execution(self) -> Execution:
        """The record."""
        if isinstance(self._known, KeyValue):
            self._known = decode(self._known, Execution)
        return self._known

    def update(self, item: KeyValue) -> None:
        """The record has changed, where it is."""
        self._known = item
        self.revision = item.mod_revision
        self.busy = self.uprooted = False
        self.begun = self.begun or not self._placed

    @property
    def _placed(self) -> bool:
        if isinstance(self._known, Execution):
            return self._known.state == "placed"
        return _PLACED in self._known.value

    @property
    def reported(self) -> bool:
        """Whether its agent has handed it back."""
        if isinstance(self._known, KeyValue):
            # Every execution passes here; a look at the bytes is far cheaper than reading them all.
            return _REPORTED in self._known.value
        return self._known.state == "reported"


def _waits_since(execution: Execution) -> Instant:
    since = execution.waits_since or execution.claimed_at
    return 0 if since is None else to_instant(since)


class ClusterState:
    """Everything a turn decides upon.

    Executions are filed by unit: those that are `active` (what Concurrency= looks at), `queued` behind them, or
    `undecided`; those that wait for a machine are in `waiting` besides. `followers` are executions, filed by each unit
    that theirs depends on (MachineOf=), as far as it is known what they ask for; `arrived` are such units that have
    come to a machine and were not looked at since. `displacing` are the machines to which units have come that replace
    others, each with the execution.
    """

    def __init__(self, clock: Clock) -> None:
        self.cursors = DueQueue(clock)
        self.open: dict[str, OpenExecution] = {}
        self.ranking = Ranking()
        self.active: dict[str, set[str]] = {}
        self.queued: dict[str, set[str]] = {}
        self.undecided: dict[str, set[str]] = {}
        self.waiting: dict[str, set[str]] = {}
        self.last_machine: dict[str, str] = {}
        self.followers: dict[str, set[str]] = {}
        self.arrived: set[str] = set()
        self.displacing: set[tuple[str, str]] = set()
        self.backpressure = Backpressure()
        self._placed: dict[str, set[str]] = {}
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
            self._count(entry)
            if unit in self.followers:
                self.arrived.add(unit)
            if replaces_others(entry.unit):
                self.displacing.add((entry.machine, execution_id))
            return
        execution = entry.execution
        self._file(execution).setdefault(unit, set()).add(execution_id)
        if execution.state == "waiting":
            self.waiting.setdefault(unit, set()).add(execution_id)
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
            view = self.machines.get(entry.machine)
            if view is not None and entry.unit is not None:
                view.release(entry.unit)
                self.ranking.moved(view)
            return
        _remove(self._file(entry.execution), unit, execution_id)
        if entry.execution.state == "waiting":
            _remove(self.waiting, unit, execution_id)

    def update(self, execution_id: str, entry: OpenExecution, item: KeyValue) -> None:
        """The record of an execution in the book has changed, where it is."""
        waited = not entry.begun
        entry.update(item)
        if waited and entry.begun and entry.machine:
            self.backpressure.less(entry.machine, unit_of(execution_id))

    def learn(self, execution_id: str, entry: OpenExecution, unit: Unit) -> None:
        """What the unit of an execution without a machine asks for is known now."""
        if entry.unit is None and not entry.machine:
            entry.unit = unit
            self._follow(execution_id, entry)

    def _follow(self, execution_id: str, entry: OpenExecution) -> None:
        for peer in peers(entry.unit):
            self.followers.setdefault(peer, set()).add(execution_id)

    def _file(self, execution: Execution) -> dict[str, set[str]]:
        if execution.state == "queued":
            return self.queued
        return self.undecided if undecided(execution) else self.active

    def _count(self, entry: OpenExecution) -> None:
        view = self.machines.get(entry.machine)
        if view is not None and entry.unit is not None:
            view.take(entry.unit)
            self.ranking.moved(view)

    def of_unit(self, unit: str) -> list[str]:
        """Every execution of a unit that has not ended, in order of their ids."""
        return sorted(id_ for file in (self.active, self.queued, self.undecided) for id_ in file.get(unit, ()))

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
        for _, entry in self.on_machine(machine.id):
            self._count(entry)

    def drop_machine(self, machine: str) -> None:
        """A machine's lease has ended."""
        self.ranking.remove(machine)

    def on_machine(self, machine: str) -> Iterator[tuple[str, OpenExecution]]:
        """Everything that is placed on a machine, in order of the ids."""
        return ((id_, self.open[id_]) for id_ in sorted(self._placed.get(machine, ())))

    def has_room(self) -> bool:
        """Whether any machine takes one more attempt of anything."""
        return any(
            not view.machine.cordoned
            and (not view.machine.capacity.slots or view.attempts < view.machine.capacity.slots)
            for view in self.machines.values()
        )


def _remove(files: dict[str, set[str]], unit: str, execution_id: str) -> None:
    ids = files[unit]
    ids.remove(execution_id)
    if not ids:
        del files[unit]
