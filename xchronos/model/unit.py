"""A Unit: the compiled, immutable meaning of one unit file."""

from typing import Any, Literal

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


class TriggerSpec(msgspec.Struct, frozen=True):
    """One trigger of a unit: the key and text it was written as, and the pure value that computes its grid."""

    key: str
    text: str
    trigger: Trigger


class Step(msgspec.Struct, frozen=True):
    """One `Exec*=` command. `name` is phase and position: `start-pre-0`, `start-0` ...; `text` the line.

    `docker` says that it is a docker command line, performed through the Engine API; `main` that it is the unit's main
    process, whose end is the attempt's (the last ExecStart).
    """

    name: str
    phase: AttemptState
    line: ExecLine
    text: str
    docker: bool
    main: bool = False


class ExitStatuses(msgspec.Struct, frozen=True):
    """Exit codes and signal names (`SIGTERM`), as SuccessExitStatus= and its kin list them."""

    codes: frozenset[int] = frozenset()
    signals: frozenset[str] = frozenset()


class Service(msgspec.Struct, frozen=True):
    """What [Service] says about running the steps. Times are microseconds, None is infinity.

    `environment` holds the raw Environment= assignments and `environment_files` (path, may be missing), because
    specifiers in them are expanded on the machine that runs the steps.
    """

    type: ServiceType = "simple"
    steps: tuple[Step, ...] = ()
    environment: tuple[str, ...] = ()
    environment_files: tuple[tuple[str, bool], ...] = ()
    pass_environment: tuple[str, ...] = ()
    unset_environment: tuple[str, ...] = ()
    working_directory: str = ""
    working_directory_optional: bool = False
    user: str = ""
    group: str = ""
    timeout_start: Micros | None = 90_000_000
    timeout_stop: Micros | None = 90_000_000
    runtime_max: Micros | None = None
    kill_signal: str = "SIGTERM"
    kill_mode: KillMode = "control-group"
    send_sigkill: bool = True
    remain_after_exit: bool = False
    success: ExitStatuses = ExitStatuses()
    restart: str = "no"
    restart_prevent: ExitStatuses = ExitStatuses()
    restart_force: ExitStatuses = ExitStatuses()

    def phase(self, phase: AttemptState) -> tuple[Step, ...]:
        """The commands of one phase, in order."""
        return tuple(step for step in self.steps if step.phase == phase)


class Container(msgspec.Struct, frozen=True):
    """What [Container] says: an Engine API create body, and what only the machine can resolve.

    `body` holds no more than what differs from the body that the docker client sends for the bare image
    (`dockercli.body.empty_body`), the limits of [Service] included; specifiers of the machine stand in it as written.
    `extras` is what `container_body` returns beside it: secrets, env files, pull policy ...
    """

    image: str
    body: dict[str, Any]
    extras: ContainerExtras = ContainerExtras()


class Unit(msgspec.Struct, frozen=True):
    """The compiled meaning of one unit file. `revision` is the sha256 of everything it was compiled from.

    Instants and times are microseconds. `warnings` are the Problems that did not refuse the file. `keep_running`: a
    unit without triggers and with Restart=always is started anew whenever it ends. `fingerprint` identifies its
    triggers: a change that keeps it keeps the schedule's cursor. A `template` was compiled as its instance `i` and
    never runs. `memory` (bytes) and `cpus` are what an attempt is counted with on its machine, 0 for no limit.
    """

    name: str
    revision: str
    description: str = ""
    documentation: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    on_success: tuple[str, ...] = ()
    on_failure: tuple[str, ...] = ()
    needs_docker: bool = False
    conditions: tuple[HostCondition, ...] = ()

    triggers: tuple[TriggerSpec, ...] = ()
    fingerprint: str = ""
    time_zone: str = "UTC"
    start_delay: Micros = 0
    not_before: Instant | None = None
    not_after: Instant | None = None
    max_runs: int | None = None
    ttl: Micros | None = None
    randomized_delay: Micros = 0
    misfire: Misfire = Misfire()
    start_deadline: Micros | None = None

    concurrency: Concurrency = "allow"
    retry: Retry = Retry()
    requirements: FleetRequirements = msgspec.field(default_factory=FleetRequirements)
    availability: int = 1
    load_balancing: LoadBalancing = "workload"
    priority: int = 0
    on_partition: OnPartition = "continue"

    executor: ExecutorName = "docker"
    service: Service = Service()
    container: Container | None = None
    artifact: str = ""
    artifact_sha256: str = ""
    payload: str = ""
    history_limit: int = 100
    job_store: str = ""
    keep_running: bool = False
    masked: bool = False
    template: bool = False
    warnings: tuple[Problem, ...] = ()

    memory: int = 0
    cpus: float = 0.0

    @property
    def is_global(self) -> bool:
        """One copy on every machine that fits."""
        return self.requirements.is_global

    def warnings_on(self, store: str) -> tuple[Problem, ...]:
        """The warnings of a daemon with this kind of store: that JobStore expects another is none where it does not."""
        if self.job_store != store:
            return self.warnings
        fulfilled = store_expected(store)
        return tuple(problem for problem in self.warnings if problem.message != fulfilled)


def store_expected(kind: str) -> str:
    """The warning of a unit that expects a kind of store."""
    return f"expects the {kind} store; a daemon with another one runs the unit all the same"


MAX_DELAY: Micros = 60 * MINUTE
"""The longest pause of an exponential backoff whose unit names no MaxTimeBetweenAttempts."""
