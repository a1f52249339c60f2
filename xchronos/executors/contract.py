"""What an executor is: it runs one step, finds it again after a crash, stops it, and removes what is left of it.

The agent calls `run` once for every step of an attempt, in order. A step has a deterministic identity, so `run` is
idempotent. After a crash the agent calls it again for the step whose result it has not recorded. The executor then
*adopts* what it finds instead of starting the step a second time: it waits for a step that still runs, and collects the
exit status and the whole output of one that has ended.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from xchronos.dockercli import DockerCommand
from xchronos.model.policies import OnPartition

LOG_LIMIT = 10 * 1024 * 1024
"""How many bytes of a step's output are kept by default."""

FORBIDDEN = "it must not be started any more: it was asked to end before, or this machine has lost the store"
"""The reason in the StepExit of a step that was not started because it is `forbidden`."""


class StepSpec(msgspec.Struct, frozen=True):
    """Everything that an executor needs to run one step. Specifiers and variables are expanded already.

    Attributes:
        unit: The unit's name.
        execution: The execution's id (`<unit>/<fire time>/<copy>`).
        attempt: The attempt's number, from 1.
        step: The step's name in the attempt, `start-pre-0`.
        argv: The command; `argv[0]` is what the program sees as its name.
        program: The path or the plain name of what is executed.
        env: The whole environment of the step.
        directory: The attempt's own directory on this machine; it exists.
        log_path: The file that receives the step's output (stdout and stderr as they come).
        log_limit: How many bytes of the output are kept.
        docker: The compiled docker command line if the step is one; else None.
        body: The Engine API create body of the unit's [Container] with this step's command in it; None without one.
        container_name: The name that [Container] gives to this step's container; "": one that tells the step.
        pull: When the image is pulled: `missing`, `always`, `never` or `newer`.
        platform: The image's platform; "": the engine's own.
        networks: All networks of the container. The first is in `body`; the others are connected before the start.
        secrets: Files that are put into the container before it starts: the target path (or a name below /run/secrets)
            and the content.
        user, group: Who a host process runs as; "": the daemon's own.
        working_directory: Where a host process starts; "": the attempt's own directory.
        stop_signal: The signal that asks the step to end, such as `SIGTERM`.
        kill_mode: systemd's KillMode=, for host processes.
        payload: XCHRONOS_PAYLOAD, for executors that hand it over by other means than the environment.
        on_partition: `stop`: the step must not outlive the machine's lease, and the executor marks it so for the
            guardian.
        permitted: Asked immediately before the program is started. When it says no, nothing is started and the step is
            lost.
    """

    unit: str
    execution: str
    attempt: int
    step: str
    argv: tuple[str, ...]
    program: str
    env: Mapping[str, str]
    directory: str
    log_path: str
    log_limit: int = LOG_LIMIT
    docker: DockerCommand | None = None
    body: Mapping[str, Any] | None = None
    container_name: str = ""
    pull: str = "missing"
    platform: str = ""
    networks: tuple[str, ...] = ()
    user: str = ""
    group: str = ""
    working_directory: str = ""
    stop_signal: str = "SIGTERM"
    kill_mode: str = "control-group"
    payload: str = ""
    secrets: Mapping[str, str] = {}
    on_partition: OnPartition = "continue"
    permitted: Callable[[], bool] | None = None

    @property
    def log(self) -> Path:
        """The file that receives the step's output."""
        return Path(self.log_path)

    @property
    def identity(self) -> tuple[str, int, str]:
        """What tells this step from every other: execution, attempt, step name."""
        return (self.execution, self.attempt, self.step)

    @property
    def forbidden(self) -> bool:
        """Whether it must not be started (any more), as `permitted` says now."""
        return self.permitted is not None and not self.permitted()


class StepExit(msgspec.Struct, frozen=True, gc=False):
    """How a step ended.

    A step that could not be started has `started_at` None and the exit code that systemd or docker gives it (203, 127,
    126, 125).

    Attributes:
        code: The exit code; None when the step never ran, or a signal ended it.
        signal: The name of the signal that ended it; "" when none did.
        oom_killed: Whether it was killed for want of memory.
        reason: In words what went wrong, when the numbers do not say it: "executable file not found", "out of memory".
        lost: Nobody can know what became of the step, or it was not permitted to start.
        started_at: When the program started; None when it did not, or nobody knows.
        ended_at: When it ended; None when nobody knows.
        container: The container's id; "" without one.
    """

    code: int | None = None
    signal: str = ""
    oom_killed: bool = False
    reason: str = ""
    lost: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    container: str = ""


class Leftover(msgspec.Struct, frozen=True):
    """Something on this machine that belongs to an attempt: a container or a process. `what` names it for people."""

    execution: str
    attempt: int
    step: str
    running: bool
    what: str


class Executor(Protocol):
    """Runs steps of one kind on this machine."""

    @property
    def name(self) -> str:
        """`docker`, `process`, `http` or `python`: what a machine advertises."""
        ...

    @property
    def recoverable(self) -> bool:
        """Whether `run` finds a step again that an earlier daemon on this machine has started."""
        ...

    async def probe(self) -> str:
        """The engine's version. Raises ExecutorUnavailable with the reason when the engine does not answer."""
        ...

    async def run(self, spec: StepSpec) -> StepExit:
        """Start the step, or adopt it when it exists already. Returns after it has ended and its output is written.

        - It never starts a step a second time.
        - It waits for an engine that stops answering in the middle, since what the engine runs goes on.
        - Cancelling the call leaves the step running. A daemon that shuts down without stopping its work does that.
        - A failure to start is a StepExit, no exception.

        Raises:
            ExecutorUnavailable: the engine does not answer, and nothing was started.
        """
        ...

    async def stop(self, spec: StepSpec, signal: str) -> None:
        """Send `signal` to the step, as its kill mode says. Nothing happens when the step does not run."""
        ...

    async def kill(self, spec: StepSpec) -> None:
        """End the step immediately (SIGKILL). Nothing happens when the step does not run."""
        ...

    async def release(self, execution: str, attempt: int) -> None:
        """Remove what is left of an attempt whose result is durable: its containers, its process records."""
        ...

    async def leftovers(self) -> list[Leftover]:
        """Everything on this machine that belongs to some attempt of this cluster's namespace."""
        ...

    async def remove(self, leftovers: Collection[Leftover]) -> None:
        """End and remove these."""
        ...

    async def close(self) -> None:
        """Close all connections. What runs goes on."""
        ...


@runtime_checkable
class DirectExecutor(Executor, Protocol):
    """An executor whose steps may be over as soon as they have begun."""

    def call(self, spec: StepSpec) -> StepExit | None:
        """Begin the step without waiting. Returns its exit if it is over; None if not, and `run` has to follow."""
        ...


@runtime_checkable
class TidyExecutor(Executor, Protocol):
    """An executor whose ended steps leave something on this machine that later steps would meet: a container's name."""

    async def tidy(self, execution: str, attempt: int, step: str) -> None:
        """Remove what a step has left that has ended, unless it is the user's. Nothing happens while the step runs.

        The caller has made the step's end durable: afterwards only that record tells that the step has run.

        Raises:
            ExecutorUnavailable: the engine does not answer.
        """
        ...


@runtime_checkable
class HostExecutor(Executor, Protocol):
    """An executor of this machine's own processes.

    Until the attempt is released, `run` tells again how each of its steps ended, whatever has ended meanwhile: the
    daemon, or the machine. Of a step that ended right before a power cut it may say that it is lost.
    """

    async def started(self, spec: StepSpec) -> int:
        """Wait until the step's program runs. Returns its pid; 0 when it has ended or could not be executed."""
        ...

    async def left_behind(self, execution: str, attempt: int, signal: str = "") -> bool:
        """Whether ended steps of the attempt have left processes running. Sends them `signal`, unless that is ""."""
        ...
