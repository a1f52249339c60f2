"""Machines that run steps: executors, container engines and guardians; what starts there is told to the sink."""

import asyncio
from collections.abc import Callable, Collection
from random import Random
from typing import Any, TypeVar

from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.clock import MILLISECOND, SECOND, Micros, to_datetime
from xchronos.errors import ExecutorUnavailable
from xchronos.executors.contract import FORBIDDEN, Leftover, StepExit, StepSpec
from xchronos.testing.simulation.loop import Process, SimulatedLoop, WorldClock
from xchronos.testing.simulation.sink import SimulatedStart, Sink

T = TypeVar("T")


class CallExecutor:
    """Steps that are calls in the daemon's own process: they stop and die with it."""

    name = "python"
    recoverable = False

    def __init__(self, sink: Sink, process: Process, machine: str, clock: WorldClock) -> None:
        self._sink = sink
        self._process = process
        self._machine = machine
        self._clock = clock
        self._running: dict[tuple[str, int, str], tuple[SimulatedStart, asyncio.Future[str]]] = {}

    async def probe(self) -> str:
        """See `Executor.probe`."""
        return "simulated"

    async def run(self, spec: StepSpec) -> StepExit:
        """See `Executor.run`."""
        if not self._process.alive:
            await asyncio.get_running_loop().create_future()  # a dead process starts nothing: wait for ever
        if spec.forbidden:
            return StepExit(lost=True, reason=FORBIDDEN)
        started = to_datetime(self._clock.now())
        start, body = self._sink.start(spec, self._machine, self._process)
        asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._running[spec.identity] = start, asked
        timer = asyncio.ensure_future(self._clock.sleep(body.length))
        try:
            await asyncio.wait((timer, asked), return_when=asyncio.FIRST_COMPLETED)
            signal = asked.result() if asked.done() and not timer.done() else ""
            self._sink.end(start, None if signal else body.code, signal)
        finally:
            # If this was cancelled, the daemon goes away and the call with it. Otherwise the end is there already.
            self._sink.end(start, None, "SIGKILL")
            timer.cancel()
            del self._running[spec.identity]
        return StepExit(
            None if start.signal else body.code,
            start.signal,
            started_at=started,
            ended_at=to_datetime(self._clock.now()),
        )

    async def stop(self, spec: StepSpec, signal: str) -> None:
        """See `Executor.stop`."""
        running = self._running.get(spec.identity)
        if running is not None and not running[1].done():
            running[1].set_result(signal)

    async def kill(self, spec: StepSpec) -> None:
        """See `Executor.kill`."""
        await self.stop(spec, "SIGKILL")

    async def release(self, execution: str, attempt: int) -> None:
        """See `Executor.release`."""

    async def leftovers(self) -> list[Leftover]:
        """See `Executor.leftovers`: calls leave nothing."""
        return []

    async def remove(self, leftovers: Collection[Leftover]) -> None:
        """See `Executor.remove`."""

    async def close(self) -> None:
        """See `Executor.close`."""


class _Container:
    """One step on a machine, which the daemon's end does not end. `start` is None until it is started."""

    def __init__(self, spec: StepSpec, over: "asyncio.Future[None]") -> None:
        self.spec = spec
        self.over = over
        self.start: SimulatedStart | None = None
        self.deaf = False


class SimulatedEngine:
    """A machine's own container engine: what runs on it outlives every daemon."""

    def __init__(self, sink: Sink, machine: str, loop: SimulatedLoop, random: Random) -> None:
        self.sink = sink
        self.machine = machine
        self.loop = loop
        self.random = random
        self.containers: dict[tuple[str, int, str], _Container] = {}
        self.boot = 0
        """How often the machine has been switched off."""
        self.answers = asyncio.Event()
        """Set while it answers. While it does not, what it runs goes on."""
        self.answers.set()

    def create(self, spec: StepSpec) -> _Container:
        """Make a container, unless there is one of this name."""
        container = self.containers.get(spec.identity)
        if container is None:
            container = self.containers[spec.identity] = _Container(spec, self.loop.create_future())
        return container

    def start(self, container: _Container) -> None:
        """Start a container that was not started yet and is still there."""
        spec = container.spec
        if container.start is None and self.containers.get(spec.identity) is container:
            container.start, body = self.sink.start(spec, self.machine)
            container.deaf = body.deaf
            self.loop.at(self.loop.elapsed + body.length, self.finish, container, body.code, "")

    def finish(self, container: _Container, code: int | None, signal: str) -> None:
        """A container has ended."""
        if not container.over.done():
            if container.start is not None:
                self.sink.end(container.start, code, signal)
            container.over.set_result(None)

    def signal(self, container: _Container, name: str) -> None:
        """Send a signal, which takes a moment."""
        if container.start is not None and (name == "SIGKILL" or not container.deaf):
            self.loop.at(self.loop.elapsed + self.moment(), self.finish, container, None, name)

    def remove(self, identity: tuple[str, int, str]) -> None:
        """Kill a container if it runs, and remove it."""
        container = self.containers.pop(identity, None)
        if container is not None:
            self.finish(container, None, "SIGKILL")

    def power_off(self) -> None:
        """What runs ends, and requests are forgotten. The containers are still there when the machine comes back."""
        self.boot += 1
        for container in self.containers.values():
            if container.start is not None:
                container.start.unpowered = container.start.unpowered or container.start.ended is None
                self.finish(container, None, "SIGKILL")

    def moment(self) -> Micros:
        """How long the engine takes for the next thing."""
        return self.random.randrange(1, 20) * MILLISECOND


class ContainerExecutor:
    """A daemon's access to its machine's engine. What was asked of the engine happens, even if the daemon dies."""

    name = "docker"
    recoverable = True

    def __init__(self, engine: SimulatedEngine, process: Process) -> None:
        self._engine = engine
        self._process = process

    async def _ask(self, what: Callable[..., T], *args: Any) -> T:
        loop = self._engine.loop
        self._is_there()
        answer: asyncio.Future[T] = loop.create_future()
        if self._process.alive:
            loop.at(loop.elapsed + self._engine.moment(), self._carry_out, self._engine.boot, answer, what, args)
        return await answer

    def _is_there(self) -> None:
        if not self._engine.answers.is_set():
            raise ExecutorUnavailable("the engine does not answer")

    def _carry_out(self, boot: int, answer: "asyncio.Future[T]", what: Callable[..., T], args: tuple[Any, ...]) -> None:
        if boot != self._engine.boot:
            return
        result = what(*args)
        self._engine.loop.at(self._engine.loop.elapsed + self._engine.moment(), _answer, answer, result)

    async def probe(self) -> str:
        """See `Executor.probe`."""
        self._is_there()
        return "simulated"

    async def run(self, spec: StepSpec) -> StepExit:
        """See `Executor.run`."""
        self._is_there()
        container = self._engine.containers.get(spec.identity)
        if container is None:
            if spec.forbidden:
                return StepExit(lost=True, reason=FORBIDDEN)
            container = await self._ask(self._engine.create, spec)
        if container.start is None:
            if spec.forbidden:
                return StepExit(lost=True, reason=FORBIDDEN)
            await self._ask(self._engine.start, container)
        if container.start is None:
            return StepExit(lost=True, reason="its container was removed before it was started")
        await asyncio.shield(container.over)
        await self._engine.answers.wait()
        start = container.start
        assert start.ended is not None
        return StepExit(
            start.code, start.signal, started_at=to_datetime(start.at), ended_at=to_datetime(start.ended), container="c"
        )

    async def stop(self, spec: StepSpec, signal: str) -> None:
        """See `Executor.stop`."""
        self._is_there()
        container = self._engine.containers.get(spec.identity)
        if container is not None:
            await self._ask(self._engine.signal, container, signal)

    async def kill(self, spec: StepSpec) -> None:
        """See `Executor.kill`."""
        await self.stop(spec, "SIGKILL")

    async def release(self, execution: str, attempt: int) -> None:
        """See `Executor.release`."""
        for identity in list(self._engine.containers):
            if identity[:2] == (execution, attempt):
                await self._ask(self._engine.remove, identity)

    async def leftovers(self) -> list[Leftover]:
        """See `Executor.leftovers`."""
        self._is_there()
        return [
            Leftover(*identity, not container.over.done(), " ".join(map(str, identity)))
            for identity, container in self._engine.containers.items()
        ]

    async def remove(self, leftovers: Collection[Leftover]) -> None:
        """See `Executor.remove`."""
        for left in leftovers:
            await self._ask(self._engine.remove, (left.execution, left.attempt, left.step))

    async def close(self) -> None:
        """See `Executor.close`."""


class SimulatedGuardian:
    """A machine's guardian process (see `xchronos.agent.guardian`): it kills what must not outlive the lease."""

    def __init__(self, engine: SimulatedEngine) -> None:
        self.deadline: Micros | None = None
        """When it kills, unless the agent puts that off; None: nothing is guarded."""
        self.rebooted = False
        """Whether the machine went down while something was guarded."""
        self.marked: Micros = -1
        """When it has last killed or removed something; -1: never."""
        self._engine = engine
        self._looks = False

    @property
    def now(self) -> Micros:
        """The machine's own clock. It goes on while processes are stopped."""
        return self._engine.loop.elapsed

    def put_off(self, left: Micros) -> None:
        """The agent has written another deadline: `left` from now."""
        self.deadline = self._engine.loop.elapsed + left
        if not self._looks:
            self._looks = True
            self._look()

    def power_off(self) -> None:
        """It ends with its machine."""
        self.rebooted = self.rebooted or self.deadline is not None
        self.deadline = None

    def _look(self) -> None:
        deadline, loop = self.deadline, self._engine.loop
        if deadline is None:
            self._looks = False
            return
        left = deadline - loop.elapsed
        if left <= 0:
            self._strike()
        loop.at(loop.elapsed + (min(left, SECOND) if left > 0 else SECOND // 10), self._look)

    def _strike(self) -> None:
        for container in list(self._engine.containers.values()):
            if container.spec.on_partition != "stop" or container.over.done():
                continue
            self.marked = self.now
            if container.start is None:
                self._engine.remove(container.spec.identity)
            else:
                self._engine.signal(container, "SIGKILL")


class GuardianHand:
    """A daemon's access to its machine's guardian: a `Watchman`."""

    def __init__(self, guardian: SimulatedGuardian, process: Process) -> None:
        self._guardian = guardian
        self._process = process
        self._lease_clock: LeaseClock | None = None
        self._open = False
        self._struck = False

    @property
    def struck(self) -> bool:
        """See `Watchman.struck`."""
        return self._struck

    def struck_since(self, at: Micros) -> bool:
        """See `Watchman.struck_since`."""
        return self._guardian.marked >= at

    def follow(self, lease_clock: LeaseClock) -> None:
        """See `Watchman.follow`."""
        self._lease_clock = lease_clock
        lease_clock.listen(self._put_off)

    async def ready(self) -> None:
        """See `Watchman.ready`."""
        if not self._open:
            before = self._guardian.deadline
            self._struck = self._guardian.rebooted
            self._guardian.rebooted = False
            self._open = True
            self._put_off()
            if before is not None:
                self._struck = self._struck or before <= self._guardian.now

    def _put_off(self) -> None:
        if self._open and self._process.alive and self._lease_clock is not None:
            self._guardian.put_off(max(self._lease_clock.kills_in or 0, 0))

    def end(self) -> None:
        """See `Watchman.end`."""
        if self._open and self._process.alive:
            self._guardian.deadline = None
            self._open = False


def _answer(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)
