"""Answers that hold whole records."""

from typing import Literal

import msgspec

from xchronos.errors import Problem
from xchronos.model.records import Attempt, Execution, Machine, Schedule, StepResult, UnitRecord
from xchronos.wire.messages import TriggerStatus, UnitSummary


class AttemptStatus(Attempt, frozen=True, gc=False, omit_defaults=True):
    """An attempt. `steps` is always there, if only as an empty list."""

    steps: tuple[StepResult, ...] = msgspec.field(default_factory=lambda: ())


class ExecutionStatus(Execution, frozen=True, gc=False, omit_defaults=True):
    """An execution. `id` (`<unit>/<fire time>/<copy>`) and `attempts` are always there, if only as an empty list."""

    id: str = msgspec.field(default_factory=str)
    attempts: tuple[AttemptStatus, ...] = msgspec.field(default_factory=lambda: ())
    current: AttemptStatus | None = None


class PlacementDetail(msgspec.Struct, frozen=True):
    """Where a unit runs, as its file says. `requirements` are the metadata pairs and other conditions in words."""

    executor: str
    availability: int
    every_machine: bool
    load_balancing: str
    requirements: tuple[str, ...] = ()


class UnitDetail(msgspec.Struct, frozen=True):
    """Everything about one unit.

    `problems` are those of a stored file that does not compile any more; then `triggers` and `placing` are missing.
    `executions` are those that have not ended and the last few that have, newest first.
    """

    summary: UnitSummary
    record: UnitRecord
    schedule: Schedule | None
    triggers: tuple[TriggerStatus, ...] = ()
    placing: PlacementDetail | None = None
    warnings: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()
    executions: tuple[ExecutionStatus, ...] = ()


class Executions(msgspec.Struct, frozen=True):
    """Executions, newest first. `more`: there are others beyond the limit."""

    executions: tuple[ExecutionStatus, ...]
    more: bool = False


MachineState = Literal["ready", "cordoned", "draining", "drained", "gone"]
"""`drained`: cordoned, and what it had has left it. `gone`: not alive, though something is wanted of it, or on it."""


class MachineStatus(Machine, frozen=True, omit_defaults=True):
    """A machine; `placed` counts the executions it has."""

    state: MachineState = msgspec.field(default_factory=lambda: "ready")
    placed: int = msgspec.field(default_factory=int)


class Machines(msgspec.Struct, frozen=True):
    """The machines, by id."""

    machines: tuple[MachineStatus, ...]
