"""What goes over the wire and is quick to import: the CLI's start depends on this module staying small.

Answers that hold whole records are in `detail`.
"""

from datetime import datetime
from typing import Literal

import msgspec

from xchronos.errors import Problem

UnitState = Literal["new", "scheduled", "idle", "paused", "finished", "masked", "template"]
"""What a unit does. `new`: no scheduler has accepted it yet; `idle`: it has no trigger and runs when it is started."""


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: str
    problems: tuple[Problem, ...] = ()


class DropInText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A drop-in file: its name (`10-limits.conf`, or a path) and its text."""

    name: str
    text: str


class Submission(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A unit file to submit or to verify.

    `text_base64` is instead of `text` for a file that is not UTF-8 (comments may hold any bytes). `path` is what
    problems call the file, `by` who submits it.
    """

    text: str = ""
    text_base64: str = ""
    drop_ins: tuple[DropInText, ...] = ()
    path: str = ""
    by: str = ""


class SubmissionResult(msgspec.Struct, frozen=True):
    """What became of a submission. `warnings` are the unit's."""

    unit: str
    revision: str
    result: Literal["created", "changed", "unchanged"]
    warnings: tuple[Problem, ...] = ()


class Verified(msgspec.Struct, frozen=True):
    """What is wrong with a unit file. `ok` is False when one of the problems is an error."""

    ok: bool
    problems: tuple[Problem, ...] = ()


class UnitSummary(msgspec.Struct, frozen=True):
    """One line of a list of units. `active` counts executions that have not ended, `fired` fire times so far."""

    name: str
    state: UnitState
    description: str = ""
    next: datetime | None = None
    last: datetime | None = None
    fired: int = 0
    active: int = 0
    revision: str = ""
    source: str = ""
    submitted_at: datetime | None = None
    finished: str = ""


class UnitPage(msgspec.Struct, frozen=True):
    """Some units by name. `after` asks for the page that follows; empty: this is the last one."""

    units: tuple[UnitSummary, ...]
    after: str = ""


class Asked(msgspec.Struct, frozen=True):
    """A request was taken in: what was asked of what."""

    target: str
    action: Literal["destroyed", "paused", "resumed", "cordoned", "uncordoned", "draining", "changed", "forgotten"]


class StartRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How to start a unit by hand. An empty payload is the unit's own."""

    payload: str = ""
    by: str = ""


class StopRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Why something is stopped."""

    reason: str = ""
    by: str = ""


class CordonRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Why a machine is cordoned."""

    reason: str = ""


class DrainRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How long what a machine runs may still take, in seconds, and why it is drained."""

    seconds: float
    reason: str = ""


class MetadataRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to change of a machine's metadata: keys with their values, and keys that it shall not have."""

    set: dict[str, str] = {}
    unset: tuple[str, ...] = ()


class ExecutionIds(msgspec.Struct, frozen=True):
    """The executions that were started, or asked to stop. `note` says why there are none, or what else to know."""

    executions: tuple[str, ...]
    note: str = ""


class Explanation(msgspec.Struct, frozen=True):
    """Why a unit is, or is not, running: sentences for people."""

    unit: str
    lines: tuple[str, ...]


class FireTime(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fire time to come. `trigger` names the kinds of the triggers it is owed to, `cron+simple`.

    `starts_at` is later than the fire time under RandomizedDelay.
    """

    fire_time: datetime
    trigger: str
    starts_at: datetime | None = None


class TriggerStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One trigger of a unit and how far it is; `next` None: it has no further fire time."""

    key: str
    text: str
    kind: str
    next: datetime | None = None
    last: datetime | None = None
    fired: int = 0
    remaining: int | None = None


class Calendar(msgspec.Struct, frozen=True):
    """The fire times to come of a unit, or of an expression (then `unit` is empty)."""

    unit: str
    triggers: tuple[TriggerStatus, ...]
    fires: tuple[FireTime, ...]
    note: str = ""


class IntakeFault(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file in the intake directory that is not taken in. `last_good`: the revision that stays in force."""

    path: str
    message: str
    since: datetime
    last_good: str = ""


class Scheduler(msgspec.Struct, frozen=True):
    """A living scheduler: the shards that it owns, and whether it leads the cluster."""

    machine: str
    shards: tuple[int, ...] = ()
    leads: bool = False


class DaemonStatus(msgspec.Struct, frozen=True):
    """A daemon's overview. `executions` counts those that have not ended, by state; `faults` is what is wrong now.

    `schedulers` are the cluster's, with the shards that each one owns; `unowned` are the shards that nobody does.
    """

    version: str
    machine: str
    store: str
    namespace: str
    now: datetime
    units: int
    executions: dict[str, int]
    machines: int
    schedulers: tuple[Scheduler, ...] = ()
    unowned: tuple[int, ...] = ()
    intake: tuple[IntakeFault, ...] = ()
    faults: tuple[str, ...] = ()


class Health(msgspec.Struct, frozen=True):
    """The answer of /healthz while nothing is wrong."""

    status: Literal["ok"] = "ok"
