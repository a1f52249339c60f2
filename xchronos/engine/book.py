"""What a scheduler knows of its shards: cursors, executions under way, machines. Kept by the watches, in memory.

Nothing here decides or writes. A *provisional* entry (revision 0) stands for a write of ours that is under way, so
that the decisions of the same moment see it; the watch confirms it, or a refusal takes it back.
"""

import heapq
from collections.abc import Iterable, Iterator

from xchronos.clock import Instant, to_instant
from xchronos.model.records import Execution, Machine, Schedule
from xchronos.model.unit import Unit
from xchronos.registry.codec import decode
from xchronos.registry.keys import unit_of
from xchronos.scheduler.placement import MachineView
from xchronos.scheduler.schedule import next_due
from xchronos.store.contract import KeyValue

_REPORTED = b'"state":"reported"'


class Cursor:
    """A unit's schedule: decoded only when it is due, so that a unit that waits costs little memory."""

    __slots__ = ("_known", "busy", "next", "revision", "unit_revision")

    def __init__(self, schedule: Schedule, revision: int, raw: bytes = b"") -> None:
        self._known: Schedule | bytes = raw or schedule
        self.next = next_due(schedule)
        self.unit_revision = schedule.unit_revision
        self.revision = revision
        self.busy = False

    @property
    def schedule(self) -> Schedule:
        """The record."""
        if isinstance(self._known, bytes):
            self._known = decode(KeyValue("", self._known, 0, 0), Schedule)
        return self._known


class Placed:
    """An execution that a machine has.

    Events up to revision `floor` speak of an earlier stay of the same execution on the same machine.
    """

    __slots__ = ("_known", "busy", "floor", "machine", "revision", "unit")

    def __init__(
        self, machine: str, known: Execution | KeyValue, revision: int, unit: Unit | None, floor: int = 0
    ) -> None:
        self.machine = machine
        self.floor = floor
        self._known = known
        self.revision = revision
        self.unit = unit
        self.busy = False

    @property
    def execution(self) -> Execution:
        """The record."""
        if isinstance(self._known, KeyValue):
            self._known = decode(self._known, Execution)
        return self._known

    def update(self, item: KeyValue) -> None:
        """The record has changed."""
        self._known = item
        self.revision = item.mod_revision

    @property
    def reported(self) -> bool:
        """Whether its agent has handed it back."""
        if isinstance(self._known, KeyValue):
            # Every execution passes here; a look at the bytes is far cheaper than reading them all.
            return _REPORTED in self._known.value
        return self._known.state == "reported"


class Pending:
    """An execution that no machine has."""

    __slots__ = ("busy", "execution", "revision")

    def __init__(self, execution: Execution, revision: int) -> None:
        self.execution = execution
        self.revision = revision
        self.busy = False


class Book:
    """Everything a turn decides upon."""

    def __init__(self) -> None:
        self.cursors: dict[str, Cursor] = {}
        self.placed: dict[str, Placed] = {}
        self.pending: dict[str, Pending] = {}
        self.machines: dict[str, MachineView] = {}
        self.active: dict[str, set[str]] = {}
        self.queued: dict[str, set[str]] = {}
        self.waiting: set[str] = set()
        self._expiries: list[tuple[Instant, str]] = []
        self._due: list[tuple[Instant, str]] = []
        self._timers: list[tuple[Instant, str]] = []

    # -- cursors ----------------------------------------------------------------------------------------------------

    def set_cursor(self, unit: str, schedule: Schedule, revision: int, raw: bytes = b"") -> None:
        """Take in a unit's cursor."""
        known = self.cursors.get(unit)
        cursor = Cursor(schedule, revision, raw)
        self.cursors[unit] = cursor
        self.arm(unit, cursor)
        if schedule.expires_at is not None and (known is None or known.revision == 0):
            heapq.heappush(self._expiries, (to_instant(schedule.expires_at), unit))

    def arm(self, unit: str, cursor: Cursor) -> None:
        """Have `due` return the unit when its time has come."""
        if cursor.next is not None:
            heapq.heappush(self._due, (cursor.next, unit))

    def due(self, now: Instant) -> list[str]:
        """The units whose next fire time has come, earliest first, each once."""
        found: dict[str, None] = {}
        heap = self._due
        while heap and heap[0][0] <= now:
            at, unit = heapq.heappop(heap)
            cursor = self.cursors.get(unit)
            # Entries of the past of a cursor stay in the heap until their time: cheaper than finding them.
            if cursor is not None and cursor.next == at and not cursor.busy:
                found[unit] = None
        return list(found)

    def expired(self, now: Instant) -> list[str]:
        """The units whose TTL has ended."""
        found = []
        while self._expiries and self._expiries[0][0] <= now:
            found.append(heapq.heappop(self._expiries)[1])
        return [unit for unit in found if unit in self.cursors]

    # -- executions -------------------------------------------------------------------------------------------------

    def set_placed(self, execution_id: str, placed: Placed) -> None:
        """An execution has gone to a machine."""
        self.drop_placed(execution_id)
        self.placed[execution_id] = placed
        self.active.setdefault(unit_of(execution_id), set()).add(execution_id)
        view = self.machines.get(placed.machine)
        if view is not None and placed.unit is not None:
            view.take(placed.unit)

    def drop_placed(self, execution_id: str) -> Placed | None:
        """An execution has left its machine."""
        placed = self.placed.pop(execution_id, None)
        if placed is None:
            return None
        self._deactivate(execution_id)
        view = self.machines.get(placed.machine)
        if view is not None and placed.unit is not None:
            view.release(placed.unit)
        return placed

    def set_pending(self, execution: Execution, revision: int) -> None:
        """An execution waits, is queued, or is delayed."""
        execution_id = execution.id
        self.drop_pending(execution_id)
        self.pending[execution_id] = Pending(execution, revision)
        if execution.state == "queued":
            self.queued.setdefault(execution.unit, set()).add(execution_id)
        else:
            self.active.setdefault(execution.unit, set()).add(execution_id)
        if execution.state == "waiting":
            self.waiting.add(execution_id)
        for moment in (execution.due_at if execution.state == "delayed" else None, execution.deadline):
            if moment is not None:
                heapq.heappush(self._timers, (to_instant(moment), execution_id))

    def drop_pending(self, execution_id: str) -> Pending | None:
        """An execution does not wait any more."""
        pending = self.pending.pop(execution_id, None)
        if pending is None:
            return None
        self.waiting.discard(execution_id)
        unit = unit_of(execution_id)
        if pending.execution.state == "queued":
            line = self.queued[unit]
            line.discard(execution_id)
            if not line:
                del self.queued[unit]
        else:
            self._deactivate(execution_id)
        return pending

    def _deactivate(self, execution_id: str) -> None:
        unit = unit_of(execution_id)
        ids = self.active.get(unit)
        if ids is not None:
            ids.discard(execution_id)
            if not ids:
                del self.active[unit]

    def ripe(self, now: Instant) -> list[str]:
        """Pending executions whose moment (the end of a pause, a deadline) has come."""
        found: dict[str, None] = {}
        while self._timers and self._timers[0][0] <= now:
            execution_id = heapq.heappop(self._timers)[1]
            if execution_id in self.pending:
                found[execution_id] = None
        return list(found)

    def remind(self, at: Instant, execution_id: str) -> None:
        """Have `ripe` return a pending execution once more."""
        heapq.heappush(self._timers, (at, execution_id))

    def next_moment(self) -> Instant | None:
        """When there is something to do by the clock alone."""
        moments = [heap[0][0] for heap in (self._due, self._timers, self._expiries) if heap]
        return min(moments) if moments else None

    # -- machines ---------------------------------------------------------------------------------------------------

    def set_machine(self, machine: Machine) -> None:
        """A machine has joined, or its record has changed."""
        view = self.machines.get(machine.id)
        if view is not None:
            view.machine = machine
            return
        view = MachineView(machine)
        self.machines[machine.id] = view
        for placed in self.on_machine(machine.id):
            if placed.unit is not None:
                view.take(placed.unit)

    def drop_machine(self, machine: str) -> None:
        """A machine's lease has ended."""
        self.machines.pop(machine, None)

    def on_machine(self, machine: str) -> Iterator[Placed]:
        """Everything that is placed on a machine."""
        return (placed for placed in self.placed.values() if placed.machine == machine)

    def machines_of(self, execution_ids: Iterable[str]) -> set[str]:
        """The machines that hold these executions."""
        return {self.placed[execution_id].machine for execution_id in execution_ids if execution_id in self.placed}
