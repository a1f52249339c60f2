"""Machines that run steps, and the sink: what really started and ended, written down outside of the cluster."""

import asyncio
from collections.abc import Callable, Collection
from random import Random

import msgspec

from xchronos.clock import MILLISECOND, Instant, Micros, to_datetime
from xchronos.executors.contract import Leftover, StepExit, StepSpec
from xchronos.testing.simulation.loop import Process, SimulatedLoop, WorldClock


class Start(msgspec.Struct):
    """One step that was really started. `ended` and `code` are None while it runs; both in true time."""

    unit: str
    execution: str
    attempt: int
    machine: str
    at: Instant
    recoverable: bool
    ended: Instant | None = None
    code: int | None = None
    signal: str = ""
    life: int = 0
    """In which life of its unit (see `Monitor.births`) its execution was claimed."""


class Body(msgspec.Struct, frozen=True):
    """What a step is going to do: run so long, and end with this code; `deaf` steps do not heed SIGTERM."""

    length: Micros
    code: int
    deaf: bool


class Sink:
    """Everything that started. `started` is called at the very instant of a start, `ended` at that of an end."""

    def __init__(
        self, clock: WorldClock, body: Callable[[StepSpec], Body], started: Callable[[Start], None],
        ended: Callable[[Start], None],
    ) -> None:  # fmt: skip
        self.starts: list[Start] = []
        self._clock = clock
        self._body = body
        self._started = started
        self._ended = ended

    def start(self, spec: StepSpec, machine: str, *, recoverable: bool) -> tuple[Start, Body]:
        """A step starts now."""
        start = Start(spec.unit, spec.execution, spec.attempt, machine, self._clock.now(), recoverable)
        self.starts.append(start)
        self._started(start)
        return start, self._body(spec)

    def end(self, start: Start, code: int | None, signal: str = "") -> None:
        """A step ends now."""
        if start.ended is None:
            start.ended, start.code, start.signal = self._clock.now(), code, signal
            self._ended(start)


class CallExecutor:
    """Steps that are calls in the daemon's own process: they stop and die with it."""

    name = "python"
    recoverable = False

    def __init__(self, sink: Sink, process: Process, machine: str, clock: WorldClock) -> None:
        self._sink = sink
        self._process = process
        self._machine = machine
        self._clock = clock
        self._running: dict[tuple[str, int, str], tuple[Start, asyncio.Future[str]]] = {}

    async def probe(self) -> str:
        """See `Executor.probe`."""
        return "simulated"

    async def run(self, spec: StepSpec) -> StepExit:
        """See `Executor.run`."""
        if not self._process.alive:
            await asyncio.get_running_loop().create_future()  # a dead process starts nothing; nor does it come back
        started = to_datetime(self._clock.now())
        start, body = self._sink.start(spec, self._machine, recoverable=False)
        asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._running[spec.identity] = start, asked
        timer = asyncio.ensure_future(self._clock.sleep(body.length))
        try:
            await asyncio.wait((timer, asked), return_when=asyncio.FIRST_COMPLETED)
            signal = asked.result() if asked.done() and not timer.done() else ""
            self._sink.end(start, None if signal else body.code, signal)
        finally:
            # Cancelled: the daemon goes away, and the call with it.
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

    def running(self) -> list[Start]:
        """What runs in this process now."""
        return [start for start, _ in self._running.values()]


class _Container:
    """One step on a machine, whatever becomes of the daemon."""

    def __init__(self, spec: StepSpec, start: Start, body: Body, ended: "asyncio.Future[None]") -> None:
        self.spec = spec
        self.start = start
        self.body = body
        self.ended = ended


class Engine:
    """A machine's own container engine: what runs on it outlives every daemon."""

    def __init__(self, sink: Sink, machine: str, loop: SimulatedLoop, random: Random) -> None:
        self.sink = sink
        self.machine = machine
        self.loop = loop
        self.random = random
        self.containers: dict[tuple[str, int, str], _Container] = {}

    def create(self, spec: StepSpec) -> _Container:
        """Start a container."""
        start, body = self.sink.start(spec, self.machine, recoverable=True)
        container = _Container(spec, start, body, self.loop.create_future())
        self.containers[spec.identity] = container
        self.loop.at(self.loop.elapsed + body.length, self.finish, container, body.code, "")
        return container

    def finish(self, container: _Container, code: int | None, signal: str) -> None:
        """A container has ended."""
        if container.start.ended is None:
            self.sink.end(container.start, code, signal)
            container.ended.set_result(None)

    def signal(self, container: _Container, name: str) -> None:
        """Send a signal, which takes a moment."""
        if name == "SIGKILL" or not container.body.deaf:
            moment = self.loop.elapsed + self.random.randrange(100) * MILLISECOND
            self.loop.at(moment, self.finish, container, None, name)


class ContainerExecutor:
    """A daemon's hands on its machine's engine."""

    name = "docker"
    recoverable = True

    def __init__(self, engine: Engine, process: Process) -> None:
        self._engine = engine
        self._process = process

    async def _reach(self) -> None:
        """The engine takes a moment; a dead process never reaches it."""
        loop = self._engine.loop
        wake = loop.create_future()
        loop.at(loop.elapsed + self._engine.random.randrange(1, 20) * MILLISECOND, _wake, wake)
        await wake
        if not self._process.alive:
            await loop.create_future()

    async def probe(self) -> str:
        """See `Executor.probe`."""
        return "simulated"

    async def run(self, spec: StepSpec) -> StepExit:
        """See `Executor.run`."""
        container = self._engine.containers.get(spec.identity)
        if container is None:
            await self._reach()
            container = self._engine.containers.get(spec.identity) or self._engine.create(spec)
        await asyncio.shield(container.ended)
        start = container.start
        assert start.ended is not None
        return StepExit(
            start.code, start.signal, started_at=to_datetime(start.at), ended_at=to_datetime(start.ended), container="c"
        )

    async def stop(self, spec: StepSpec, signal: str) -> None:
        """See `Executor.stop`."""
        await self._reach()
        container = self._engine.containers.get(spec.identity)
        if container is not None:
            self._engine.signal(container, signal)

    async def kill(self, spec: StepSpec) -> None:
        """See `Executor.kill`."""
        await self.stop(spec, "SIGKILL")

    async def release(self, execution: str, attempt: int) -> None:
        """See `Executor.release`."""
        await self._reach()
        for identity in list(self._engine.containers):
            if identity[:2] == (execution, attempt):
                self._engine.finish(self._engine.containers.pop(identity), None, "SIGKILL")

    async def leftovers(self) -> list[Leftover]:
        """See `Executor.leftovers`."""
        await self._reach()
        return [
            Leftover(execution, attempt, step, container.start.ended is None, f"{execution} {attempt} {step}")
            for (execution, attempt, step), container in self._engine.containers.items()
        ]

    async def remove(self, leftovers: Collection[Leftover]) -> None:
        """See `Executor.remove`."""
        await self._reach()
        for left in leftovers:
            container = self._engine.containers.pop((left.execution, left.attempt, left.step), None)
            if container is not None:
                self._engine.finish(container, None, "SIGKILL")

    async def close(self) -> None:
        """See `Executor.close`."""


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
