"""What an executor is: it runs one step, finds it again after a crash, stops it, and removes what is left of it.

The agent calls `run` once for every step of an attempt, in order. Steps have deterministic identities, so `run` is
idempotent: after a crash the agent calls it again for the step whose result it has not recorded, and the executor
*adopts* what it finds (still running: waits on; ended: collects the exit status and the whole output) instead of
starting it a second time.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from xchronos.dockercli import DockerCommand
from xchronos.model.policies import OnPartition

LOG_LIMIT = 10 * 1024 * 1024
"""How many bytes of a step's output are kept, unless told otherwise."""

FORBIDDEN = "it must not be started any more: it was asked to end before, or this machine has lost the store"
"""Why a step that is `forbidden` was not started."""


class StepSpec(msgspec.Struct, frozen=True):
    """Everything an executor needs to run one step. All expansion (specifiers, variables) has happened.

    Attributes:
        unit: The unit's name.
        execution: The execution's id (`<unit>/<fire time>/<copy>`).
        attempt: The attempt's number, from 1.
        step: The step's name in the attempt, `start-pre-0`.
        argv: The command; `argv[0]` is what the program sees as its name.
        program: The path, or plain name, of what is executed.
        env: The whole environment of the step.
        directory: The attempt's own directory on this machine; it exists.
        log_path: The file that receives the step's output (stdout and stderr as they come).
        log_limit: How many bytes of it are kept.
        docker: The compiled docker command line, for a step that is one; else None.
        body: The Engine API create body of the unit's [Container] with this step's command in it; None without one.
        pull: When the image is pulled: `missing`, `always`, `never` or `newer`.
        platform: The image's platform ("": the engine's own).
        networks: All of the container's networks; the first is in `body`, the others are connected before the start.
        secrets: Files put into the container before it starts: target path, or name below /run/secrets, and content.
        user, group: Who a host process runs as ("" = as the daemon).
        working_directory: Where a host process starts ("" = the attempt's scratch directory).
        stop_signal: What asks the step to end, `SIGTERM`.
        kill_mode: systemd's KillMode= (host processes).
        payload: XCHRONOS_PAYLOAD, for the executors that hand it over another way than by environment.
        on_partition: `stop`: the step must not outlive the machine's lease, and is marked so for the guardian.
        permitted: Asked right before the program is started; when it says no, nothing is, and the step is lost.
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
        """What makes this step this step: execution, attempt, step name."""
        return (self.execution, self.attempt, self.step)

    @property
    def forbidden(self) -> bool:
        """Whether it must not be started (any more)."""
        return self.permitted is not None and not self.permitted()


class StepExit(msgspec.Struct, frozen=True, gc=False):
    """How a step ended.

    `code` is the exit code (None: it never ran, or a signal ended it), `signal` the signal's name where one ended it.
    `reason` says in words what went wrong when the numbers alone do not ("executable file not found", "pull failed:
    ...", "out of memory"). `lost`: it was started, and what became of it cannot be known. A step that could not be
    started has `started_at` None and an exit code as systemd or docker gives it (203, 127, 126, 125).
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
    """Something on this machine that belongs to an attempt: a container, a process."""

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
        """Whether `run` finds a step again that this daemon's predecessor started."""
        ...

    async def probe(self) -> str:
        """The engine's version. Raises ExecutorUnavailable with the reason when it does not answer."""
        ...

    async def run(self, spec: StepSpec) -> StepExit:
        """Start the step, or adopt it when it exists already, and return when it has ended and its output is written.

        Never starts a step a second time. An engine that stops answering in the middle is waited for: what it runs
        goes on. Cancelling the call leaves the step running (that is what a daemon does when it shuts down without
        stopping its work). A failure to start is a StepExit, not an exception; ExecutorUnavailable means that nothing
        was started because the engine does not answer.
        """
        ...

    async def stop(self, spec: StepSpec, signal: str) -> None:
        """Send `signal` to the step, as its kill mode says; nothing happens when it does not run."""
        ...

    async def kill(self, spec: StepSpec) -> None:
        """End the step at once (SIGKILL); nothing happens when it does not run."""
        ...

    async def release(self, execution: str, attempt: int) -> None:
        """Remove what is left of an attempt whose result is durable: its containers, its process records."""
        ...

    async def leftovers(self) -> list[Leftover]:
        """Everything on this machine that carries the labels of some attempt of this cluster's namespace."""
        ...

    async def remove(self, leftovers: Collection[Leftover]) -> None:
        """End and remove these."""
        ...

    async def close(self) -> None:
        """Let go of connections. What runs goes on."""
        ...


@runtime_checkable
class DirectExecutor(Executor, Protocol):
    """What an executor knows beyond `Executor` whose steps may be over as soon as they are begun."""

    def call(self, spec: StepSpec) -> StepExit | None:
        """Run the step if it is over when this returns; None when it is not, and then `run` has to follow."""
        ...


@runtime_checkable
class HostExecutor(Executor, Protocol):
    """What an executor of this machine's own processes knows beyond `Executor`."""

    async def started(self, spec: StepSpec) -> int:
        """Wait until the step's program has been executed; its pid, or 0 when it has ended or could not be."""
        ...

    async def left_behind(self, execution: str, attempt: int, signal: str = "") -> bool:
        """Whether ended steps of the attempt have left processes running; sends these `signal` if one is given."""
        ...
