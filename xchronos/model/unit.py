"""A Unit: the compiled, immutable meaning of one unit file. `model.compile.unit.compile_unit` makes it."""

from typing import Any, Literal, NamedTuple

import msgspec

from xchronos.clock import MINUTE, Instant, Micros
from xchronos.dockercli.quadlet.container import ContainerExtras
from xchronos.errors import Problem
from xchronos.model.conditions import HostCondition
from xchronos.model.lifecycle import AttemptState
from xchronos.model.policies import Concurrency, ExecutorName, LoadBalancing, Misfire, OnPartition, Retry
from xchronos.triggers.base import Trigger
from xchronos.unitfile.execline import ExecLine
from xchronos.unitfile.fleet.requirements import FleetRequirements

ServiceType = Literal["simple", "exec", "oneshot"]
KillMode = Literal["control-group", "mixed", "process", "none"]


OWN_SETTINGS = "XCHRONOS_"
"""How the names of a daemon's own settings begin, passwords among them. PassEnvironment= passes none of them."""


class TriggerSpec(msgspec.Struct, frozen=True):
    """One trigger of a unit: its key and text as written, and the value that computes its grid."""

    key: str
    text: str
    trigger: Trigger


class Step(msgspec.Struct, frozen=True):
    """One command of an `Exec*=` line."""

    name: str
    """The phase and the position in it: `start-pre-0`, `start-0` ..."""
    phase: AttemptState
    """The phase of the attempt in which the command runs."""
    line: ExecLine
    """The command. Specifiers of the machine and variables are not filled in."""
    text: str
    """The command as people read it."""
    docker: bool
    """Whether it is a docker command line, which is performed through the Engine API."""
    main: bool = False
    """Whether it is the main process, whose end is the end of the attempt. That is the last ExecStart."""


class ExitStatuses(msgspec.Struct, frozen=True):
    """Exit codes and signal names (`SIGTERM`) that SuccessExitStatus= or a similar key lists."""

    codes: frozenset[int] = frozenset()
    signals: frozenset[str] = frozenset()


class Service(msgspec.Struct, frozen=True):
    """How the steps are run, from [Service]. Specifiers in texts are expanded on the machine that runs the steps."""

    type: ServiceType = "simple"
    steps: tuple[Step, ...] = ()
    """All commands, in the order of the phases."""
    environment: tuple[str, ...] = ()
    """The values of Environment= as written, empty ones (resets) included."""
    environment_files: tuple[tuple[str, bool], ...] = ()
    """The files of EnvironmentFile=: path, and whether it may be missing."""
    pass_environment: tuple[str, ...] = ()
    """The values of PassEnvironment= as written."""
    unset_environment: tuple[str, ...] = ()
    """The values of UnsetEnvironment= as written."""
    working_directory: str = ""
    """A path or `~`. Empty: the attempt's own directory."""
    working_directory_optional: bool = False
    """The prefix `-`: the directory may be missing."""
    user: str = ""
    """A name or number. Empty: the user that runs the agent, or the image's."""
    group: str = ""
    timeout_start: Micros | None = 90_000_000
    """The limit of each command up to ExecStartPost, in microseconds. None: no limit.

    It does not limit the main process, except for Type=oneshot.
    """
    timeout_stop: Micros | None = 90_000_000
    """The limit of each stop command, and of the time from the stop signal to SIGKILL. In microseconds, or None."""
    runtime_max: Micros | None = None
    """The limit of the main process, in microseconds. None: no limit."""
    kill_signal: str = "SIGTERM"
    """The stop signal by name."""
    kill_mode: KillMode = "control-group"
    send_sigkill: bool = True
    """Whether SIGKILL follows a stop signal that had no effect."""
    remain_after_exit: bool = False
    """Whether a unit without a trigger stays active after its main process has succeeded."""
    success: ExitStatuses = ExitStatuses()
    """The ends that are clean in addition to systemd's own."""
    restart: str = "no"
    """The causes after which another attempt is allowed: the value of Restart=."""
    restart_prevent: ExitStatuses = ExitStatuses()
    """The ends that no other attempt follows, whatever `restart` says."""
    restart_force: ExitStatuses = ExitStatuses()
    """The ends that another attempt follows, whatever `restart` says."""

    def phase(self, phase: AttemptState) -> tuple[Step, ...]:
        """The commands of one phase, in order."""
        return tuple(step for step in self.steps if step.phase == phase)


class ContainerOption(NamedTuple):
    """One assignment of [Container], with the specifiers of the unit's name filled in."""

    key: str
    value: str
    place: str
    """Where it stands, as file:line."""


class Container(msgspec.Struct, frozen=True):
    """The container in which the steps run, from [Container] and the limits of [Service].

    What a step's container becomes on its machine is `model.compile.container.on_machine`'s.
    """

    image: str
    """The image as written. Like the other texts, it may have specifiers of the machine."""
    body: dict[str, Any]
    """The body that creates the container through the Engine API, as far as it is known at submit.

    It holds only what differs from the body for an image without options (`dockercli.body.empty_body`).
    """
    extras: ContainerExtras = ContainerExtras()
    """What is not part of the body: secrets, files, when to pull ..."""
    options: tuple[ContainerOption, ...] = ()
    """The section as written, if a value names a variable: the machine reads it again. Empty: no value does."""
    service_parts: dict[str, Any] = {}
    """The parts of `body` that come from [Service]. Only kept beside `options`."""


class Unit(msgspec.Struct, frozen=True):
    """The compiled meaning of one unit file. It never changes: a new text gives a new Unit.

    Instants are microseconds since the epoch, and lengths of time are microseconds. `model.reference` explains the
    keys.
    """

    name: str
    revision: str
    """SHA-256, in hex, of the file and its drop-ins."""
    description: str = ""
    documentation: tuple[str, ...] = ()
    """Addresses."""
    on_success: tuple[str, ...] = ()
    """The names of the units to start after an execution that succeeded."""
    on_failure: tuple[str, ...] = ()
    """The names of the units to start after an execution that failed, timed out or was lost."""
    needs_docker: bool = False
    """Whether After= or Requires= names docker.service, so that the machine's Docker engine has to answer."""
    conditions: tuple[HostCondition, ...] = ()
    """The conditions that the machine judges before an attempt. Empty for a unit with a [Container]."""

    triggers: tuple[TriggerSpec, ...] = ()
    """The triggers, whose fire times are united. A unit without any runs when it is started by hand or by a chain."""
    fingerprint: str = ""
    """A hash of the triggers' texts. If a new text of the unit has the same, the schedule keeps its cursor."""
    time_zone: str = "UTC"
    zones: tuple[str, ...] = ()
    """The names of all time zones but UTC that the file asks for: whoever reads it has to know them."""
    rules: str = "-"
    """The rules that the fire times were computed by, as `model.features.rules_text` writes them."""
    level: int = 1
    """The feature level that whoever reads the file has to have (`model.features`)."""
    level_because: tuple[str, ...] = ()
    """What in the file needs a level above 1, for people."""
    start_delay: Micros = 0
    """The time from the unit's acceptance to the anchor of its triggers."""
    not_before: Instant | None = None
    not_after: Instant | None = None
    max_runs: int | None = None
    """The number of fire times after which the unit is finished. None: no limit."""
    ttl: Micros | None = None
    """The time from the unit's acceptance to its deletion. None: it is never deleted."""
    randomized_delay: Micros = 0
    """The upper bound of the delay of each start."""
    misfire: Misfire = Misfire()
    start_deadline: Micros | None = None
    """The time that an execution may wait for a machine before it is missed. None: no limit."""

    concurrency: Concurrency = "allow"
    retry: Retry = Retry()
    requirements: FleetRequirements = msgspec.field(default_factory=FleetRequirements)
    """What the unit requires of a machine, from [X-Fleet]."""
    availability: int = 1
    """The number of copies, each on a machine of its own."""
    load_balancing: LoadBalancing = "workload"
    priority: int = 0
    """Waiting executions with a higher number are placed first."""
    on_partition: OnPartition = "continue"

    executor: ExecutorName = "docker"
    service: Service = Service()
    container: Container | None = None
    """The container of the steps. None: there is no [Container]."""
    artifact: str = ""
    """The URL of a file for the working directory, or empty."""
    artifact_sha256: str = ""
    """64 hex digits in lower case, or empty: the file is not checked."""
    payload: str = ""
    """The text that every step gets as XCHRONOS_PAYLOAD."""
    history_limit: int = 100
    """The number of ended executions that are kept."""
    job_store: str = ""
    """The kind of store that the unit expects, or empty."""
    keep_running: bool = False
    """Whether the unit is started again whenever it ends: it has no trigger and Restart=always."""
    masked: bool = False
    """Whether the file is empty. The unit cannot be started."""
    template: bool = False
    """Whether it is a template. It is compiled as its instance `i` and never runs."""
    warnings: tuple[Problem, ...] = ()
    """The problems that did not refuse the file."""

    memory: int = 0
    """The memory, in bytes, that an attempt is counted with on its machine. 0: it has no limit."""
    cpus: float = 0.0
    """The number of CPUs that an attempt is counted with on its machine. 0: it has no limit."""

    @property
    def is_global(self) -> bool:
        """Whether the unit has one copy on every machine that fits."""
        return self.requirements.is_global

    def warnings_on(self, store: str) -> tuple[Problem, ...]:
        """The warnings for a daemon whose store is of the kind `store`.

        If that is the kind which JobStore= expects, the warning about JobStore= is left out.
        """
        if self.job_store != store:
            return self.warnings
        fulfilled = store_expected(store)
        return tuple(problem for problem in self.warnings if problem.message != fulfilled)


def executor_missing(kind: str) -> str:
    """The warning about a unit whose steps run in an executor of the kind `kind`, which machines have to be given."""
    return f"no machine of this version runs the {kind} executor: expected docker or process"


def store_expected(kind: str) -> str:
    """The warning about a unit that expects the kind `kind` of store."""
    return f"expects the {kind} store; a daemon with another one runs the unit all the same"


MAX_DELAY: Micros = 60 * MINUTE
"""The longest pause, in microseconds, of an exponential backoff without MaxTimeBetweenAttempts=."""
