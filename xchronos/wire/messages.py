"""The requests of the API, and those of its answers that hold no records.

The CLI imports this module whenever it starts, so it imports little itself. Answers with records are in `details`.
Times are aware and in UTC; in JSON they are RFC 3339.
"""

from datetime import datetime
from typing import Literal

import msgspec

from xchronos.errors import Problem

UnitState = Literal[
    "new", "scheduled", "idle", "paused", "finished", "masked", "template", "unread", "refused", "unreadable"
]
"""What a unit does.

`new`: no scheduler has accepted it yet. `scheduled`: its triggers fire it. `idle`: it has no trigger, and runs when it
is started. `paused`: nothing fires until it is resumed. `finished`: it will not fire any more. `masked`: its file is
empty. `template`: only its instances run. `unread`: the scheduler that has it cannot read it, and leaves it alone.
`refused`: there is no such unit, only a file that is not taken in. `unreadable`: its record in the store cannot
be read, and `problem` says why.
"""


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: str
    """What is wrong, for a person."""

    problems: tuple[Problem, ...] = ()
    """The problems of a unit file that was refused; empty for any other error."""


class DropInText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A drop-in file."""

    name: str
    """Its name, `10-limits.conf`, or a path."""

    text: str
    """Its content."""


class Submission(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A unit file to submit or to verify."""

    text: str = ""
    """The file's content."""

    text_base64: str = ""
    """The content, in base64, of a file that is not UTF-8 (comments may hold any bytes); unless empty, it counts
    instead of `text`."""

    drop_ins: tuple[DropInText, ...] = ()
    """Its drop-ins, in the order in which they count."""

    path: str = ""
    """What problems call the file; empty: the unit's name."""

    by: str = ""
    """Who submits it, for the record."""


class SubmissionResult(msgspec.Struct, frozen=True):
    """What became of a submission."""

    unit: str
    """The unit's name."""

    revision: str
    """A hash of the file and its drop-ins."""

    result: Literal["created", "changed", "unchanged"]
    """Whether the unit was new, had other files before, or had the same."""

    warnings: tuple[Problem, ...] = ()
    """What the file says that has no effect, or another one than its writer may expect."""


class Verified(msgspec.Struct, frozen=True):
    """What is wrong with a unit file."""

    ok: bool
    """Whether the daemon would take the file: none of the problems is an error."""

    problems: tuple[Problem, ...] = ()
    """Errors and warnings, in the file's order."""


class UnitSummary(msgspec.Struct, frozen=True):
    """One line of a list of units."""

    name: str
    """The unit's name."""

    state: UnitState
    """What it does."""

    description: str = ""
    """Its Description=, with specifiers filled in."""

    next: datetime | None = None
    """Its next fire time; None: nothing fires, or no scheduler has accepted it yet."""

    last: datetime | None = None
    """The last fire time of any of its triggers; None: none has fired."""

    fired: int = 0
    """How many fire times it has had."""

    active: int = 0
    """How many of its executions have not ended."""

    revision: str = ""
    """A hash of its file and drop-ins."""

    source: str = ""
    """Where the file came from: `api`, or `directory:` and a path."""

    submitted_at: datetime | None = None
    """When the file was last submitted."""

    finished: str = ""
    """Why it will not fire any more; empty: it may."""

    unread: str = ""
    """Which scheduler says that it cannot read the unit, and why; empty: none does."""

    refused: str = ""
    """Why a file of its name, newer than the unit if there is one, is not taken in; empty: there is no such file."""

    problem: str = ""
    """Why its record or its cursor in the store cannot be read, with the key; empty: both can."""


class UnitPage(msgspec.Struct, frozen=True):
    """One page of a list of units."""

    units: tuple[UnitSummary, ...]
    """By name."""

    after: str = ""
    """What a request for the next page names; empty: this page is the last."""


class Asked(msgspec.Struct, frozen=True):
    """A request was taken in."""

    target: str
    """The unit or the machine."""

    action: Literal[
        "destroyed", "paused", "resumed", "cordoned", "uncordoned", "draining", "changed", "forgotten", "removed"
    ]
    """What was done to it, or has begun."""

    note: str = ""
    """What else a person should know; empty: nothing."""


class DestroyedUnit(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one of the units that were to be destroyed together."""

    unit: str
    """The unit's name."""

    note: str = ""
    """What else a person should know; empty: nothing."""

    error: str = ""
    """Why it was not destroyed; empty: it was."""

    status: int = 200
    """The HTTP status that a request about this unit alone would have."""


class DestroyedUnits(msgspec.Struct, frozen=True):
    """What became of units that were to be destroyed together."""

    units: tuple[DestroyedUnit, ...]
    """One for each that the request names, in its order."""


class ExecutionIds(msgspec.Struct, frozen=True):
    """The executions that a request was about."""

    executions: tuple[str, ...]
    """The ids of those that were started, or asked to stop."""

    note: str = ""
    """Why there are none, or what else a person should know; empty: nothing."""


class Explanation(msgspec.Struct, frozen=True):
    """Why a unit is, or is not, running."""

    unit: str
    """The unit's name."""

    lines: tuple[str, ...]
    """Sentences for people."""

    refused: bool = False
    """Whether a file of the unit's name is not taken in."""


class FireTime(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fire time to come."""

    fire_time: datetime
    """The instant that a trigger names."""

    trigger: str
    """The kinds of the triggers that name it, joined by `+`: `cron+simple`."""

    starts_at: datetime | None = None
    """When the execution starts, where RandomizedDelay= puts that off; None: at the fire time."""


class TriggerStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One trigger of a unit, and how far it is."""

    key: str
    """The key in the unit file: `TriggerCron`."""

    text: str
    """What the file says after the key."""

    kind: str
    """The kind of trigger: `cron`, `simple`."""

    next: datetime | None = None
    """Its next fire time; None: it has none."""

    last: datetime | None = None
    """Its last fire time; None: it has not fired."""

    fired: int = 0
    """How often it has fired."""

    remaining: int | None = None
    """How often it will still fire, where it counts; None: it does not count."""


class Calendar(msgspec.Struct, frozen=True):
    """The fire times to come of a unit or of an expression."""

    unit: str
    """The unit's name; empty for an expression."""

    triggers: tuple[TriggerStatus, ...]
    """The triggers, in the file's order."""

    fires: tuple[FireTime, ...]
    """The fire times, the earliest first."""

    note: str = ""
    """What else a person should know, such as why there are none; empty: nothing."""

    zone: str = ""
    """The unit's TimeZone=; empty: nobody knows it."""


class IntakeFault(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file or a directory that the intake does not take in."""

    path: str
    """The file or the directory."""

    message: str
    """What is wrong with it, a line for each problem."""

    since: datetime
    """When this was found."""

    last_good: str = ""
    """The revision of the unit that stays in force; empty: there is none."""


class Scheduler(msgspec.Struct, frozen=True):
    """A living scheduler."""

    machine: str
    """The machine on which it runs."""

    shards: tuple[int, ...] = ()
    """The numbers of the shards that it owns."""

    leads: bool = False
    """Whether it is the cluster's leader."""

    version: str = ""
    """The version of xchronos that it runs; empty: it does not say."""

    level: int = 1
    """The feature level of the units that it reads."""

    rules: str = ""
    """The release of the time zone database that it computes with; empty: it does not say."""

    cannot_read: dict[str, str] = {}
    """Stored units that it cannot read, with the reason; the first by name."""


class LoopStalls(msgspec.Struct, frozen=True):
    """How often the event loop of a daemon stood, so that all that it does was late."""

    count: int
    """How often."""

    longest_seconds: float
    """The longest time."""

    last_at: datetime | None = None
    """When the latest one was over."""

    last_seconds: float = 0.0
    """How long the latest one was."""

    last_culprit: str = ""
    """What held the loop up then: the task, and the place in the code."""


class DaemonStatus(msgspec.Struct, frozen=True):
    """The overview of a daemon and its cluster, at the time of the answer."""

    version: str
    """The version of xchronos that the daemon runs."""

    machine: str
    """The machine on which it runs."""

    store: str
    """The kind of its job store."""

    namespace: str
    """The tenant whose units this is about; empty: the default one."""

    now: datetime
    """The daemon's time."""

    units: int
    """The number of units in the store."""

    executions: dict[str, int]
    """The number of executions that have not ended, by state."""

    machines: int
    """The number of machines that are alive."""

    schedulers: tuple[Scheduler, ...] = ()
    """The cluster's living schedulers."""

    unowned: tuple[int, ...] = ()
    """The numbers of the shards that no scheduler owns: nothing of them is scheduled."""

    intake: tuple[IntakeFault, ...] = ()
    """What this daemon's intake does not take in."""

    faults: tuple[str, ...] = ()
    """What is wrong with this daemon, a sentence for each fault."""

    stalls: LoopStalls | None = None
    """How often its event loop stood; None: an older daemon, which does not say."""

    notes: tuple[str, ...] = ()
    """What is no fault, and a person should look at: files that units may not have read any more, units that cannot be
    read, zone rules and versions that differ or are old."""


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of /healthz while nothing is wrong."""

    status: Literal["ok"] = msgspec.field(default_factory=lambda: "ok")
    """The JSON always has the key."""

    notes: tuple[str, ...] = ()
    """What a person should look at, and is no fault of the daemon: units that it cannot read, old zone rules."""
