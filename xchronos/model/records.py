"""The records of the store: frozen structs, written as JSON that people can read with etcdctl.

Every record of its own key has a format version `v`. A reader accepts unknown fields and supplies defaults for missing
ones. So records of an older or newer xchronos still decode, which `test_an_older_versions_records_decode` and
`test_a_newer_versions_fields_do_not_hinder_an_older_reader` pin. An older writer drops fields that it does not
know: whoever adds one says what its absence means. A change that breaks this needs a new version, which older readers
refuse (`registry.codec.FORMAT`).

Records that exist in thousands are `gc=False`: immutable values cannot form cycles, so the garbage collector need not
look at them. Datetimes are aware and in UTC.
"""

from datetime import datetime
from functools import lru_cache
from typing import Literal

import msgspec

from xchronos.model.policies import Outcome

Desired = Literal["active", "paused"]
"""Whether a unit's schedule runs or is paused. People change it; a destroyed unit has no record."""

ExecutionState = Literal["waiting", "queued", "delayed", "placed", "running", "reported", "ended"]
"""The states of an execution. `xchronos.model.lifecycle` has the table of transitions."""

StepOutcome = Literal["succeeded", "ignored", "failed", "timed_out", "cancelled", "lost"]
"""How a step ended. `ignored`: it failed, but its line has the prefix `-`."""


class DropIn(msgspec.Struct, frozen=True):
    """A drop-in of a unit: its name as it was given (`10-limits.conf`, or a path) and its text."""

    name: str
    text: str


class UnitRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/xchronos/etc/jobs/<unit>`: the unit as it was submitted. A new submission replaces the record."""

    text: str = ""
    """The text of the file. Empty if its bytes are not valid UTF-8; `text_base64` then has them."""
    revision: str = ""
    """SHA-256, in hex, of the file and its drop-ins."""
    submitted_by: str = ""
    """Who submitted it, for people."""
    submitted_at: datetime | None = None
    source: str = ""
    """Where it comes from, for example the directory of an intake. Empty: a person submitted it."""
    desired: Desired = "active"
    """Changed by pause and resume. A new submission keeps it."""
    drop_ins: tuple[DropIn, ...] = ()
    """In the order in which they are read."""
    text_base64: str = ""
    """The bytes of the file in base64, if they are not valid UTF-8 (systemd allows that in comments). Else empty."""
    resumed_at: datetime | None = None
    """When it was resumed last. None: never, or by an older version."""
    skip_missed: bool = False
    """Whether whoever resumed it last wants nothing to start for what fell into the pause."""
    file: str = ""
    """The path of the file in the directory that it comes from. Empty: it comes from none, or it is not known."""
    v: int = 1


class TriggerState(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How far one trigger of a unit is. It changes with every fire time."""

    next: datetime | None = None
    """The next fire time. None: there is none left."""
    last: datetime | None = None
    """The last fire time that it fired or dropped. None: there was none yet."""
    fired: int = 0
    """The number of fire times that it fired."""
    remaining: int | None = None
    """The number of fire times that it may still fire. None: no limit."""
    restarted_at: datetime | None = None
    """The instant at which a misfire policy let the grid begin anew. None: the grid begins at the anchor."""
    offset: int = 0
    """The seconds by which its zone was ahead of UTC at `last`, by the rules of then. Kept for fixed expressions."""


class Missed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A gap: fire times of one trigger that were missed together. One `missed` record stands for all of them."""

    first: datetime
    """The first missed fire time."""
    last: datetime
    """The last missed fire time."""
    count: int
    """The number of missed fire times, the first and the last included."""
    policy: str
    """The misfire policy that decided, or `skip-missed` for somebody who resumed the unit so."""
    paused: bool = False
    """Whether the gap began in a pause of the unit. Else its fire times were found too late."""


class Owed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Records that a scheduler has decided upon and not written yet, because the size of a Txn is limited.

    They are the rest of a fire time's copies or, with `missed`, the record of a gap.
    """

    fire_time: datetime
    trigger: str
    """The kind of the trigger."""
    copy: int = 0
    """The number of the first copy that is missing. For a gap, -1 minus the trigger's position."""
    after: str = ""
    """For a Global unit: copies are missing on the machines whose id is after this one."""
    missed: Missed | None = None
    """The gap, if this is one."""


class Schedule(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """`/xchronos/var/schedules/<unit>`: the cursor of a unit. The scheduler that owns the unit's shard writes it."""

    unit: str
    unit_revision: int
    """The modification revision of the unit's record that the cursor was last adapted to."""
    fingerprint: str
    """`Unit.fingerprint` of that record. If a changed unit has the same, it keeps its cursor."""
    accepted_at: datetime
    """When the schedule accepted the unit's triggers. It changes when they change."""
    anchor: datetime
    """`accepted_at` plus TriggerStartDelay, from which relative grids count."""
    triggers: tuple[TriggerState, ...] = ()
    """In the order of `Unit.triggers`."""
    fired: int = 0
    """The number of fire times that were neither missed nor skipped. MaxRuns limits it."""
    paused: bool = False
    finished: str = ""
    """Why there are no further fire times, in words. Empty: there are, or may be."""
    expires_at: datetime | None = None
    """When the unit is deleted (TTL). None: never."""
    owed: tuple[Owed, ...] = ()
    """What is decided but not written yet. It is written before anything else is decided."""
    last_machine: str = ""
    """The machine that LoadBalancing=round-robin chose last."""
    everywhere: bool = False
    """Whether the unit is kept running on every machine, also on those that join later."""
    copies: int = 0
    """The number of machines on which the unit is kept running. 0: it is not such a unit."""
    resumed_at: datetime | None = None
    """Fire times up to this instant fell into a pause. None: none did, or what became of them is decided."""
    skip_missed: bool = False
    """Whether such fire times are all missed, whatever the misfire policy says."""
    rules: str = ""
    """The zone rules by which `next` of the triggers was computed (`model.features.rules_text`). Empty: not known."""
    v: int = 1


class StepResult(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The result of one step. It never changes."""

    name: str
    """`start-pre-0`, `start-0`, `stop-0` ..."""
    command: str
    """The command as people read it."""
    outcome: StepOutcome
    started_at: datetime | None = None
    """None: it could not be started."""
    ended_at: datetime | None = None
    exit_code: int | None = None
    """None: it ended without an exit status."""
    signal: str = ""
    """The name of the signal that ended it, or empty."""
    oom_killed: bool = False
    """Whether it was killed because the memory limit was reached."""
    reason: str = ""
    """In words, why the outcome is not simply `succeeded`."""
    container: str = ""
    """The id of its container, or empty."""


class Attempt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One try of an execution on one machine."""

    number: int
    """Counts from 1. Lost attempts have a number, but do not count for MaxAttempts."""
    machine: str
    """The machine's id."""
    placed_at: datetime | None = None
    """When a scheduler chose the machine."""
    started_at: datetime | None = None
    """When the machine began it. None: not yet, or never."""
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    """None until its end."""
    reason: str = ""
    """In words, why it ended so."""
    revision: str = ""
    """The revision of the unit that it runs."""
    steps: tuple[StepResult, ...] = ()
    """The steps that ran, in order. They are set at its end."""
    leave: str = ""
    """Why it has to leave the machine. A scheduler sets it; the agent then ends the attempt, which is lost."""
    crowded: bool = False
    """Whether it was lost without being begun, because others had taken the room on the machine meanwhile."""
    late: Outcome | None = None
    """How a lost attempt really ended that went on on its machine (OnPartition=continue). The attempt stays lost."""


class Execution(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One copy of one fire time of one unit. Its identity is unit + fire time + copy.

    The record is always under exactly one key: below `var/pending/` while it waits, below `var/placements/<machine>/`
    while a machine has it, and below `var/executions/` after its end.
    """

    unit: str
    fire_time: datetime
    """The nominal instant. Delays and retries do not change it."""
    copy: int = msgspec.field(default_factory=int)
    """The number of the copy. It has a default factory, so that it is written even if it is 0: people look for it."""
    state: ExecutionState = msgspec.field(default_factory=lambda: "waiting")
    """It is always written, as `copy` is."""
    trigger: str = ""
    """The kind of the trigger that fired it (`cron`, or `cron+simple` for two), or `manual`, `chain` or `kept`."""
    revision: str = ""
    """The revision of the unit when the fire time was claimed."""
    claimed_at: datetime | None = None
    """When a scheduler decided upon the fire time."""
    due_at: datetime | None = None
    """It must not start before this instant (RandomizedDelay, the pause before a retry). None: immediately."""
    deadline: datetime | None = None
    """It is not started after this instant (StartDeadline). None: no limit."""
    waits_since: datetime | None = None
    """When `due_at` and `deadline` were set, by the clock that set them. None: at `claimed_at`.

    A scheduler whose clock is behind takes this instant for now: neither of the two is further away than it was then.
    """
    attempts: tuple[Attempt, ...] = ()
    """The attempts that have ended, in order."""
    current: Attempt | None = None
    """The attempt on the machine that has the execution. None while no machine has it."""
    stop_requested: str = ""
    """Why it shall end, in words. Empty: nobody has asked."""
    report: bool = False
    """Whether the agent hands back a success, too. Units need that which start others or are kept running."""
    reason: str = ""
    """In words, why it waits or how it ended."""
    outcome: Outcome | None = None
    """None until its end."""
    ended_at: datetime | None = None
    missed: Missed | None = None
    """The gap that a record with the outcome `missed` stands for."""
    payload: str = ""
    """The text that its steps get as XCHRONOS_PAYLOAD: the unit's, or one given with a start by hand."""
    home: str = ""
    """The machine that it pauses for, and whose room it keeps meanwhile. Empty: it keeps none."""
    stands: bool = False
    """Whether it is what a start of a Global unit leaves for machines that come to fit later. It waits for them."""
    v: int = 1

    @property
    def id(self) -> str:
        """`<unit>/<fire time>/<copy>`, as in the store's keys and on the command line."""
        return f"{self.unit}/{fire_key(self.fire_time)}/{self.copy}"


class Reading(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a daemon can read of units. One that says nothing of it reads what the defaults say."""

    level: int = 1
    """The feature level (`model.features`): it reads what needs this level or a lower one. 0: that is not known."""
    version: str = ""
    """The version of xchronos. Empty: it says nothing."""
    rules: str = ""
    """The release of the time zone database that it computes with: `2026f`. Empty: it says nothing."""
    more_zones: tuple[str, ...] = ()
    """The time zones that it knows beyond those of `triggers.zone_baseline`."""
    fewer_zones: tuple[str, ...] = ()
    """The time zones of `triggers.zone_baseline` that it does not know."""


class Capacity(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a machine offers."""

    slots: int = 0
    """The number of attempts at the same time. 0: no limit."""
    memory: int = 0
    """In bytes. 0: unknown."""
    cpus: float = 0.0
    """The number of CPUs. 0: unknown."""


class Machine(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/xchronos/etc/executors/<machine id>`: what an agent advertises. A machine is alive while the record's lease is.

    The three fields about cordons, and metadata that differ from `configured`, are copied from its MachineWish.
    """

    id: str
    instance: str = ""
    """A random word, drawn once and kept in the state directory. It tells apart two machines with the same id."""
    metadata: dict[str, str] = {}
    """The metadata that units can ask for."""
    address: str = ""
    """Where its API answers, or empty."""
    hostname: str = ""
    version: str = ""
    """The version of xchronos that it runs."""
    started_at: datetime | None = None
    """When its daemon started."""
    executors: tuple[str, ...] = ()
    """The kinds of step that it runs: `docker`, `process` ..."""
    docker: str = ""
    """The version of its Docker engine, or `unavailable: ` and why the engine does not answer."""
    capacity: Capacity = Capacity()
    cordoned: bool = False
    """Whether it gets no new work."""
    cordon_reason: str = ""
    """Why, for people."""
    drain_until: datetime | None = None
    """The instant by which everything must have left it. None: it is not drained."""
    configured: dict[str, str] | None = None
    """The metadata of its own configuration, if `metadata` differs from it. None: the same."""
    reads: Reading = Reading()
    """What its agent can read of units."""
    docker_since: datetime | None = None
    """Since when its Docker engine does not answer. None: it does, or nobody has looked."""
    v: int = 1


class KnownMachine(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/xchronos/var/machines/<machine id>`: a machine of the cluster, whether it is alive or not.

    The leading scheduler writes it. Its own record is the truth for as long as it is alive.
    """

    machine: Machine
    """Its record as it was last noted."""
    down_since: datetime | None = None
    """When the leader has found that it is not alive. None: it was alive when the leader looked last."""
    v: int = 1


class MachineWish(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/xchronos/etc/machines/<machine id>`: how people want a machine to be, whether it is alive or not.

    The other fields are those of Machine. A machine for which people have set nothing has no such record.
    """

    metadata: dict[str, str | None] = {}
    """Metadata in addition to, or instead of, those of its configuration. None removes a key."""
    cordoned: bool = False
    cordon_reason: str = ""
    drain_until: datetime | None = None
    v: int = 1


class RefusedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/xchronos/var/refused/<unit>/<machine>`: a file of a machine's directory that is not taken in as a unit.

    It is there for as long as the file is refused, and its machine's intake lives.
    """

    path: str
    """The file, on that machine."""
    problems: tuple[str, ...] = ()
    """What is wrong with it, a line for each problem: `file:line: what`."""
    since: datetime | None = None
    """When that was found."""
    v: int = 1


class SchedulerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`/xchronos/var/scheduler/members/<machine id>`: a daemon that schedules, alive while the record's lease is."""

    id: str
    instance: str = ""
    """As in `Machine`. A daemon that comes back after a crash recognises the record of its former life by it."""
    reads: Reading = Reading()
    """What it can read of units."""
    cannot_read: dict[str, str] = {}
    """Stored units that it has met and cannot read, with the reason: the first `CANNOT_READ_TOLD` by name."""
    lacks: dict[str, int] = {}
    """By the number of a shard, how many units of it this scheduler cannot read. Others that can take the shard."""
    v: int = 1


CANNOT_READ_TOLD = 50
"""How many units a scheduler's record names that it cannot read. Its `lacks` counts all of them."""


@lru_cache(maxsize=16_384)
def fire_key(fire_time: datetime) -> str:
    """A fire time as keys and identities have it: `20301201T100000.000000Z`. It sorts like the time.

    `test_fire_keys_sort_like_the_time_and_lose_nothing` pins that.
    """
    # An f-string is several times faster than strftime, and this runs for every execution.
    t = fire_time
    return f"{t.year:04d}{t.month:02d}{t.day:02d}T{t.hour:02d}{t.minute:02d}{t.second:02d}.{t.microsecond:06d}Z"
