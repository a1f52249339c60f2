"""What the tables of units, executions and machines say: titles, and the cells of a line for each record.

Both ways to a list use this: the commands, whose records are the API's own, and `cli/quick.py`, whose records only have
the same fields. So it imports little.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from xchronos.cli.plain import short_ids, short_machine
from xchronos.cli.times import distance, length, machine_time, short_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from xchronos.cli.plain import Cell
    from xchronos.wire.details import Executions, ExecutionStatus, Machines, MachineStatus
    from xchronos.wire.messages import UnitSummary

    class Shown(Protocol):
        """To whom a list is shown."""

        @property
        def terminal(self) -> bool:
            """Whether to a person at a terminal."""

        @property
        def wide(self) -> bool:
            """Whether nothing is left out."""

        @property
        def now(self) -> datetime:
            """The present time."""


UNITS = ("UNIT", "STATE", "ACTIVE", "NEXT", "LAST", "DESCRIPTION")
EXECUTIONS = ("EXECUTION", "STATE", "TRIGGER", "ATTEMPTS", "MACHINE", "STARTED", "TOOK", "REASON")
MACHINES = ("MACHINE", "STATE", "ATTEMPTS", "HOST", "EXECUTORS", "METADATA")

ABOUT = 60
"""The characters of a refused file's problem that a table at a terminal shows."""

EXECUTIONS_SHOWN = 20
"""The executions that are listed unless told otherwise."""

FAILURES = ("failed", "timed_out", "lost", "missed")
"""The outcomes of which `list-executions --failed` shows executions."""

MORE = "(there are more: see --limit, --all)"


def units(shown: "Shown", found: "Sequence[UnitSummary]") -> "list[tuple[Cell, ...]]":
    """A line for each unit."""
    return [(u.name, u.state, str(u.active), u.next, u.last, _about(shown, u)) for u in found]


def _about(shown: "Shown", unit: "UnitSummary") -> str:
    """What the last column says of a unit: what it is, or that its newest file is refused."""
    if not unit.refused:
        return unit.problem or unit.description
    # Who reads more than a line of it in a table sees the table no more: `status` has all of it.
    why = unit.refused if shown.wide or len(unit.refused) <= ABOUT else f"{unit.refused[:ABOUT]}..."
    return f"refused: {why}" if unit.state == "refused" else f"a newer file is refused: {why}"


def executions(shown: "Shown", found: "Executions") -> "list[tuple[Cell, ...]]":
    """A line for each execution, and for each record that cannot be read."""
    ids = short_ids([execution.id for execution in found.executions])
    rows: list[tuple[Cell, ...]] = [
        (ids[execution.id], *_execution(shown, execution)) for execution in found.executions
    ]
    rows += [(bad.key, "unreadable", "-", "-", "-", None, "-", bad.reason) for bad in found.unreadable]
    return rows


def _execution(shown: "Shown", execution: "ExecutionStatus") -> "tuple[Cell, ...]":
    now = shown.now
    attempts = execution.attempts if execution.current is None else (*execution.attempts, execution.current)
    started = next((attempt.started_at for attempt in attempts if attempt.started_at is not None), None)
    took = length((execution.ended_at or now) - started) if started is not None else "-"
    return (
        str(execution.outcome) if execution.outcome is not None else execution.state,
        execution.trigger,
        str(len(attempts)),
        short_machine(attempts[-1].machine) if attempts else "-",
        started,
        took,
        execution.reason,
    )


def machines(shown: "Shown", found: "Machines") -> "list[tuple[Cell, ...]]":
    """A line for each machine, and for each record that cannot be read."""
    rows: list[tuple[Cell, ...]] = [
        (
            short_machine(machine.id),
            _state(shown, machine),
            attempts_of(machine),
            machine.hostname,
            ",".join(machine.executors),
            ",".join(pairs(machine.metadata)),
        )
        for machine in found.machines
    ]
    rows += [(bad.key, "unreadable", "-", "-", "-", bad.reason) for bad in found.unreadable]
    return rows


def _state(shown: "Shown", machine: "MachineStatus") -> str:
    """The machine's state: since when it is down, or without engine; of one that drains, until when."""
    if machine.since is not None:
        since = short_time(machine.since, shown.now).split(",")[0] if shown.terminal else machine_time(machine.since)
        return f"{machine.state} since {since}"
    if machine.state != "draining" or machine.drain_until is None:
        return machine.state

    if shown.terminal:
        return f"draining, {distance(machine.drain_until, shown.now)}"
    return f"draining until {machine_time(machine.drain_until)}"


def attempts_of(machine: "MachineStatus") -> str:
    """How many attempts a machine has, and of how many slots."""
    slots = machine.capacity.slots
    return f"{machine.placed}/{slots}" if slots else str(machine.placed)


def pairs(metadata: Mapping[str, str]) -> Iterator[str]:
    """A machine's metadata as people write it."""
    return (f"{key}={value}" for key, value in sorted(metadata.items()))
