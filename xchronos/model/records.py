"""What is stored: frozen structs, written as JSON that a person can read with etcdctl.

Every record carries its format version `v`. A reader accepts unknown fields and supplies defaults for missing ones,
so records of an older or newer xchronos still decode; a change that this cannot carry needs a new version.

What there are thousands of is `gc=False`: immutable values cannot form cycles, so the garbage collector need not look.
"""

from datetime import datetime
from functools import lru_cache
from typing import Literal

import msgspec

from xchronos.model.policies import Outcome

Desired = Literal["active", "paused"]
"""What a person wants of a unit. A destroyed unit has no record."""

ExecutionState = Literal["waiting", "queued", "delayed", "placed", "running", "reported", "ended"]
"""See `xchronos.model.lifecycle` for the table of transitions."""

StepOutcome = Literal["succeeded", "ignored", "failed", "timed_out", "cancelled", "lost"]
"""`ignored`: it failed, but its line has the `-` prefix."""


class DropIn(msgspec.Struct, frozen=True):
    """A drop-in file that applies to a unit: its name as given (`10-limits.conf`, or a path) and its text."""

    name: str
    text: str


class UnitRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/xchronos/etc/jobs/<unit>`: the unit as it was submitted.

    `text` is the file decoded as UTF-8 with surrogateescape undone into `text_base64` when it is not valid UTF-8
    (systemd allows that inside comments), so that `cat` gives it back byte for byte.
    """

    text: str = ""
    revision: str = ""
    submitted_by: str = ""
    submitted_at: datetime | None = None
    source: str = ""
    desired: Desired = "active"
    drop_ins: tuple[DropIn, ...] = ()
    text_base64: str = ""
    v: int = 1


class TriggerState(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How far one trigger of a unit is.

    `next` is its next fire time (None: exhausted), `last` the last one it fired or dropped; `fired` counts what it
    fired, `remaining` what it may still fire (None: endless); `restarted_at` is set when a misfire policy has
    restarted its grid there.
    """

    next: datetime | None = None
    last: datetime | None = None
    fired: int = 0
    remaining: int | None = None
    restarted_at: datetime | None = None


class Missed(msgspec.Struct, frozen=True, gc=False):
    """What a `missed` record stands for: `count` fire times of one trigger from `first` to `last`, both included."""

    first: datetime
    last: datetime
    count: int
    policy: str


class Owed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A decision of a scheduling turn that is still to be written, because a Txn holds only so much.

    A fire time, of which the copies from `copy` on are missing (of a Global unit: those on machines after `after`); or,
    with `missed`, the record of a gap.
    """

    fire_time: datetime
    trigger: str
    copy: int = 0
    after: str = ""
    missed: Missed | None = None


class Schedule(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """`/xchronos/var/schedules/<unit>`: the cursor of a unit.

    `unit_revision` is the modification revision of the unit's record that this cursor was last reconciled with;
    `fingerprint` identifies the unit's triggers: while it is unchanged, a changed unit keeps its cursor. `anchor` is
    acceptance plus TriggerStartDelay. `fired` counts fire times that were not missed or skipped (MaxRuns).
    `finished` says why nothing follows; at `expires_at` the unit is deleted (TTL). `owed` is what was decided but not
    written yet, and comes before anything else; `last_machine` is where LoadBalancing=round-robin went last.
    `everywhere`: it is kept running on every machine, those included that are yet to come; `copies`: it is kept running
    on so many machines.
    """

    unit: str
    unit_revision: int
    fingerprint: str
    accepted_at: datetime
    anchor: datetime
    triggers: tuple[TriggerState, ...] = ()
    fired: int = 0
    paused: bool = False
    finished: str = ""
    expires_at: datetime | None = None
    owed: tuple[Owed, ...] = ()
    last_machine: str = ""
    everywhere: bool = False
    copies: int = 0
    v: int = 1


class StepResult(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One step that ran (or could not): `name` is `start-pre-0`, `start-0`, `stop-0` ...; `command` its line.

    `exit_code` is None when it never ran to an exit status; `signal` names the signal that ended it. `reason` says in
    words why it is not simply succeeded.
    """

    name: str
    command: str
    outcome: StepOutcome
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    signal: str = ""
    oom_killed: bool = False
    reason: str = ""
    container: str = ""


class Attempt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One try of an execution on one machine. `number` counts from 1; attempts that were lost are not charged.

    `leave` asks the machine's agent to end it because it has to go elsewhere, and says why: it is then lost.
    `crowded` says that it was not begun because others had taken the room of its machine meanwhile.
    `late` is how an attempt really ended that was given up with its machine, and went on there (OnPartition=continue).
    It changes nothing: the attempt stays `lost`.
    """

    number: int
    machine: str
    placed_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    reason: str = ""
    revision: str = ""
    steps: tuple[StepResult, ...] = ()
    leave: str = ""
    crowded: bool = False
    late: Outcome | None = None


class Execution(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One fire time of one unit, one copy: everything that is known about it, wherever it is.

    Its identity is unit + fire time + copy. While it waits it lives under `var/pending/`, while it is placed under
    `var/placements/<machine>/`, and when it has ended under `var/executions/`: always under exactly one of them.
    `attempts` holds the attempts that have ended; `current` the one that is placed. `trigger` is the kind of trigger
    that fired it (`cron`, `simple`, ... or `manual`, `chain`). `due_at` is the instant before which it must not
    start (RandomizedDelay, a retry's pause), `deadline` the one after which it is not started any more. Both were set
    at `waits_since` (None: at `claimed_at`) by the same clock: neither is further away than it was then.
    `copy` and `state` are written even when they are the defaults (a factory's value is): people look for them.
    `report` asks the agent to hand a success back to the scheduler (chains of units need that).
    """

    unit: str
    fire_time: datetime
    copy: int = msgspec.field(default_factory=int)
    state: ExecutionState = msgspec.field(default_factory=lambda: "waiting")
    trigger: str = ""
    revision: str = ""
    claimed_at: datetime | None = None
    due_at: datetime | None = None
    deadline: datetime | None = None
    waits_since: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    current: Attempt | None = None
    stop_requested: str = ""
    report: bool = False
    reason: str = ""
    outcome: Outcome | None = None
    ended_at: datetime | None = None
    missed: Missed | None = None
    payload: str = ""
    v: int = 1

    @property
    def id(self) -> str:
        """`<unit>/<fire time>/<copy>`, as in the store's keys and in the CLI."""
        return f"{self.unit}/{fire_key(self.fire_time)}/{self.copy}"


class Capacity(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a machine offers: `slots` attempts at a time (0: no limit), memory in bytes and CPUs (0: unknown)."""

    slots: int = 0
    memory: int = 0
    cpus: float = 0.0


class Machine(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/xchronos/etc/executors/<machine id>`: what an agent advertises; alive while its lease is.

    `executors` are the kinds of step it runs (`docker`, `process` ...), `docker` the engine's version or, behind
    `unavailable: `, why it does not answer. `cordoned` machines get nothing new; at `drain_until` what a cordoned one
    still has must leave it, and `cordon_reason` is why, for people. These three and changed `metadata` come from its
    MachineWish; `configured` are then the metadata that its own configuration says (None: the same).
    `instance` tells two machines that claim the same id apart: it is drawn once, and kept in the state directory.
    """

    id: str
    instance: str = ""
    metadata: dict[str, str] = {}
    address: str = ""
    hostname: str = ""
    version: str = ""
    started_at: datetime | None = None
    executors: tuple[str, ...] = ()
    docker: str = ""
    capacity: Capacity = Capacity()
    cordoned: bool = False
    cordon_reason: str = ""
    drain_until: datetime | None = None
    configured: dict[str, str] | None = None
    v: int = 1


class MachineWish(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/xchronos/etc/machines/<machine id>`: what people want of a machine, whether it is there or not.

    `metadata` is what is set beside or instead of its configuration's; None stands for a key that it shall not have.
    The rest is as in Machine. There is no record for a machine of which nothing is wanted.
    """

    metadata: dict[str, str | None] = {}
    cordoned: bool = False
    cordon_reason: str = ""
    drain_until: datetime | None = None
    v: int = 1


class SchedulerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/xchronos/var/scheduler/members/<machine id>`: a daemon that schedules; alive while its lease is.

    `instance` as in `Machine`: a daemon that comes back after a crash knows its former life by it.
    """

    id: str
    instance: str = ""
    v: int = 1


@lru_cache(maxsize=16_384)
def fire_key(fire_time: datetime) -> str:
    """A fire time as it stands in keys and identities: sorts like the time, `20301201T100000.000000Z`."""
    # Assembled by hand: several times faster than strftime, and this runs for every execution.
    t = fire_time
    return f"{t.year:04d}{t.month:02d}{t.day:02d}T{t.hour:02d}{t.minute:02d}{t.second:02d}.{t.microsecond:06d}Z"
