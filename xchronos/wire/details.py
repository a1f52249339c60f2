"""The answers of the API that hold whole records of the model."""

from datetime import datetime
from typing import Literal

import msgspec

from xchronos.errors import Problem
from xchronos.model.records import Attempt, Execution, Machine, RefusedFile, Schedule, StepResult, UnitRecord
from xchronos.wire.messages import TriggerStatus, UnitSummary


class AttemptStatus(Attempt, frozen=True, gc=False, omit_defaults=True):
    """An attempt as programs see it."""

    steps: tuple[StepResult, ...] = msgspec.field(default_factory=lambda: ())
    """The steps that have ended, in their order. The JSON always has the key, if only with an empty list."""


class ExecutionStatus(Execution, frozen=True, gc=False, omit_defaults=True):
    """An execution as programs see it."""

    id: str = msgspec.field(default_factory=str)
    """`<unit>/<fire time>/<copy>`. The JSON always has the key."""

    attempts: tuple[AttemptStatus, ...] = msgspec.field(default_factory=lambda: ())
    """The attempts that have ended, the oldest first. The JSON always has the key, if only with an empty list."""

    current: AttemptStatus | None = None
    """The attempt that is placed or runs; None: there is none."""


class PlacementDetail(msgspec.Struct, frozen=True):
    """Where a unit may run, as its file says."""

    executor: str
    """The kind of executor that runs its steps: `docker`, `process`."""

    availability: int
    """On how many machines each fire runs."""

    every_machine: bool
    """Whether it runs on every machine that fits (Global=); then `availability` says nothing."""

    load_balancing: str
    """How a machine is chosen among those that fit."""

    requirements: tuple[str, ...] = ()
    """What a machine must have, a word for each condition: `region=us-east-1`, `Conflicts=other.service`."""


class RefusedFileStatus(RefusedFile, frozen=True, omit_defaults=True):
    """A file that is not taken in, as programs see it."""

    machine: str = ""
    """The machine in whose directory it is."""


class UnitDetail(msgspec.Struct, frozen=True):
    """Everything about one unit."""

    summary: UnitSummary
    """What a list of units shows of it."""

    record: UnitRecord
    """The file as it is stored, and who submitted it."""

    schedule: Schedule | None
    """How far its triggers are; None: no scheduler has accepted it yet."""

    triggers: tuple[TriggerStatus, ...] = ()
    """Its triggers, in the file's order; empty when the file does not compile any more."""

    placing: PlacementDetail | None = None
    """Where it may run; None when the file does not compile any more."""

    warnings: tuple[Problem, ...] = ()
    """What its file says that has no effect, or another one than its writer may expect."""

    problems: tuple[Problem, ...] = ()
    """Why the stored file does not compile any more; empty when it does."""

    executions: tuple[ExecutionStatus, ...] = ()
    """The executions that have not ended and the last few that have, the newest first."""

    documentation: tuple[str, ...] = ()
    """Where its file says that it is described: addresses."""

    refused: tuple[RefusedFileStatus, ...] = ()
    """Files of its name that are not taken in, by machine. What the unit is does not follow them."""


class UnreadableRecord(msgspec.Struct, frozen=True):
    """A record of the store that cannot be read. `xchronosctl destroy --unreadable KEY` removes it."""

    key: str
    """Its key."""

    reason: str
    """Why it cannot be read."""


class Executions(msgspec.Struct, frozen=True):
    """A list of executions."""

    executions: tuple[ExecutionStatus, ...]
    """The newest first."""

    more: bool = False
    """Whether there are others beyond the limit that was asked for."""

    unreadable: tuple[UnreadableRecord, ...] = ()
    """Those whose records cannot be read."""


MachineState = Literal["ready", "no-engine", "cordoned", "draining", "drained", "down", "gone"]
"""What a machine does.

`ready` takes work. `no-engine` takes no containers, as its Docker engine does not answer. `cordoned` takes no new work.
`draining` is cordoned and has work that must leave it. `drained` is cordoned, and that work has left. `down` is not
alive, and is remembered until it is forgotten. `gone` is neither, but something is wanted of it, or placed on it.
"""


class MachineStatus(Machine, frozen=True, omit_defaults=True):
    """A machine as programs see it."""

    state: MachineState = msgspec.field(default_factory=lambda: "ready")
    """What it does. The JSON always has the key."""

    placed: int = msgspec.field(default_factory=int)
    """The number of executions that are placed on it. The JSON always has the key."""

    since: datetime | None = None
    """Since when it is `down`, or `no-engine`; None in another state, or if that is not known."""


class Machines(msgspec.Struct, frozen=True):
    """A list of machines."""

    machines: tuple[MachineStatus, ...]
    """By id."""

    unreadable: tuple[UnreadableRecord, ...] = ()
    """Those whose records cannot be read, and what is wanted of machines in such records."""
