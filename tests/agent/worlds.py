"""A made-up machine: steps that outlive the agent, on a clock that jumps, and a store that can go away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from tests.services.links import Link, before
from xchronos.agent.agent import Agent
from xchronos.agent.attempt.journal import attempt_directory, logs_in
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.lease.partition import Watchman
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import SECOND, to_datetime
from xchronos.durable import Strength
from xchronos.errors import ExecutorUnavailable, StoreUnavailable
from xchronos.executors.contract import FORBIDDEN, Executor, Leftover, StepExit, StepSpec
from xchronos.model.compile.unit import compile_unit
from xchronos.model.records import Attempt, Execution, Machine, StepResult
from xchronos.model.unit import Service, Step
from xchronos.registry.codec import decode, encode
from xchronos.registry.keys import Keys
from xchronos.registry.units import record_of
from xchronos.store.contract import Put, Store, Txn
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import VirtualClock
from xchronos.unitfile import HostFacts

FIRE = datetime(2030, 3, 17, 17, 46, 40, tzinfo=UTC)
FACTS = HostFacts(**dict.fromkeys(HostFacts.__struct_fields__, "x"))
KEYS = Keys()

Plan = tuple[float, StepExit]
"""How long a step takes in seconds, and how it ends by itself."""

OK = StepExit(0, started_at=FIRE)

ONE = "Type=oneshot\nExecStart=/bin/work"
"""A service of one step."""

LONG = {"start-0": (60.0, OK)}
"""Plans in which that takes a minute."""


def service(text: str) -> Service:
    """A compiled [Service]."""
    return compile_unit("job.service", f"[Service]\n{text}\n[X-Chronos]\nExecutor=process\n").service


class World:
    """What runs on the machine, whoever watches: `plans` by step name, else a step is done at once."""

    def __init__(self, clock: VirtualClock, plans: Mapping[str, Plan] | None = None) -> None:
        self.clock = clock
        self.plans = dict(plans or {})
        self.starts: list[str] = []
        self.signals: list[tuple[str, str]] = []
        self.env: dict[str, Mapping[str, str]] = {}
        self.deaf: set[str] = set()
        self.leaving: set[str] = set()
        self.tidied: list[str] = []
        self._ended: dict[object, asyncio.Future[StepExit]] = {}

    def begin(self, identity: object, name: str) -> "asyncio.Future[StepExit]":
        """Start a step, or find it."""
        if identity not in self._ended:
            self.starts.append(name)
            self._ended[identity] = asyncio.get_running_loop().create_future()
            length, end = self.plans.get(name, (0.0, OK))
            if length == 0:
                self._ended[identity].set_result(end)
            else:
                asyncio.get_running_loop().call_later(length, self._end, identity, end)
        return self._ended[identity]

    def has(self, identity: object) -> bool:
        """Whether a step was started."""
        return identity in self._ended

    def send(self, identity: object, name: str, signal: str) -> None:
        """A signal ends a step, unless it is deaf to all but SIGKILL."""
        self.signals.append((name, signal))
        if identity in self._ended and (name not in self.deaf or signal == "SIGKILL"):
            self._end(identity, StepExit(signal=signal, started_at=FIRE))

    def _end(self, identity: object, end: StepExit) -> None:
        if not self._ended[identity].done():
            self._ended[identity].set_result(end)


class WorldSteps:
    """`Steps` in a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def call(self, step: Step, env: Mapping[str, str]) -> StepExit | None:
        return None

    async def run(self, step: Step, env: Mapping[str, str]) -> StepExit:
        self.world.env[step.name] = env
        return await asyncio.shield(self.world.begin(step.name, step.name))

    async def started(self, step: Step) -> int | None:
        return None

    async def stop(self, step: Step, signal: str) -> None:
        self.world.send(step.name, step.name, signal)

    async def kill(self, step: Step) -> None:
        self.world.send(step.name, step.name, "SIGKILL")

    def remembers(self, step: Step) -> bool:
        return False

    def leaves(self, step: Step) -> bool:
        return step.name in self.world.leaving

    async def tidy(self, step: Step) -> None:
        await asyncio.sleep(0)
        self.world.tidied.append(step.name)

    async def left_behind(self, signal: str = "") -> bool:
        return False


class Remembers:
    """A memory that outlives the walk."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.ended: dict[str, StepResult] = {}
        self.begun_at: dict[str, int] = {}
        self.full = False

    def result(self, step: str) -> StepResult | None:
        return self.ended.get(step)

    def begun(self, step: str) -> bool:
        return step in self.begun_at

    def elapsed(self, step: str) -> int:
        return self.clock.monotonic() - self.begun_at.setdefault(step, self.clock.monotonic())

    def began(self) -> int | None:
        return min(self.begun_at.values(), default=None)

    async def record(self, result: StepResult, strength: Strength = "file") -> bool:
        await asyncio.sleep(0)
        self.ended[result.name] = result
        return not self.full


class WorldExecutor:
    """An executor whose steps live in a world; `recoverable` as told."""

    def __init__(self, world: World, *, recoverable: bool = True) -> None:
        self.name = "python"
        self.recoverable = recoverable
        self.world = world
        self.released: list[tuple[str, int]] = []
        self.left: list[Leftover] = []
        self.removed: list[Leftover] = []
        self.away = 0

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise ExecutorUnavailable("the engine is away")

    async def probe(self) -> str:
        return "1"

    async def run(self, spec: StepSpec) -> StepExit:
        self._answer()
        await asyncio.sleep(0)
        if spec.forbidden and not self.world.has(spec.identity):
            return StepExit(lost=True, reason=FORBIDDEN)
        self.world.env[spec.step] = spec.env
        return await asyncio.shield(self.world.begin(spec.identity, spec.step))

    async def stop(self, spec: StepSpec, signal: str) -> None:
        self.world.send(spec.identity, spec.step, signal)

    async def kill(self, spec: StepSpec) -> None:
        self.world.send(spec.identity, spec.step, "SIGKILL")

    async def release(self, execution: str, attempt: int) -> None:
        self._answer()
        self.released.append((execution, attempt))

    async def leftovers(self) -> list[Leftover]:
        self._answer()
        return self.left

    async def remove(self, leftovers: Collection[Leftover]) -> None:
        self.removed.extend(leftovers)

    async def close(self) -> None:
        pass


class Hand:
    """A guardian's part: a `Watchman`. A `broken` one cannot guard; `asked` counts how often it was to be ready."""

    def __init__(self, *, struck: bool = False, broken: bool = False) -> None:
        self.struck = struck
        self.broken = broken
        self.asked = 0
        self.marked = -1

    def struck_since(self, at: int) -> bool:
        return self.marked >= at

    def follow(self, lease_clock: LeaseClock) -> None:
        pass

    async def ready(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.broken:
            raise OSError("no more processes")

    def end(self) -> None:
        pass


class Flaky(Link):
    """A store that can be away (`down`), or lose the answers to commits that have happened (`lose`).

    `late` are the microseconds that its watches are behind. While `hold` is cleared, commits are on their way.
    """

    def __init__(self, store: MemoryStore, clock: VirtualClock) -> None:
        super().__init__(store)
        self._clock = clock
        self.late = 0
        self._broken = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()
        self.down = False
        self.lose = 0

    def take_down(self) -> None:
        self.down = True
        self._broken.set()

    def bring_up(self) -> None:
        self.down = False
        self._broken.clear()

    async def ask(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await asyncio.sleep(0)
        if self.down:
            raise StoreUnavailable("the store is away")
        writes = what in ("commit", "commit_many")
        if writes:
            await self.hold.wait()
        answer = await call()
        if writes and self.lose:
            self.lose -= 1
            raise StoreUnavailable("the answer is lost")
        return answer

    async def deliver(self, batches: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async with aclosing(before(self._broken, batches)) as going:
            async for batch in going:
                await self._clock.sleep(self.late)
                yield batch
        raise StoreUnavailable("the watch broke")


class Cluster:
    """One machine with its agent, and a hand in the place of the scheduler."""

    def __init__(
        self,
        clock: VirtualClock,
        directory: Path,
        plans: Mapping[str, Plan] | None = None,
        *,
        recoverable: bool = True,
        watchman: Watchman | None = None,
    ) -> None:
        self.clock = clock
        self.watchman = watchman
        self.directory = directory
        self.world = World(clock, plans)
        self.executor = WorldExecutor(self.world, recoverable=recoverable)
        self.memory = MemoryStore(clock)
        self.store = Flaky(self.memory, clock)
        self.machine = Machine("m1", executors=("python",))
        self.wanted: Machine | None = None
        self.registry = CollectorRegistry()
        self.lease_clock = LeaseClock(clock, 10 * SECOND, alone=True)
        self.agent = self._agent()
        self._task: asyncio.Task[None] | None = None

    def _agent(self) -> Agent:
        executors: dict[str, Executor] = {"python": self.executor}
        self.registry = CollectorRegistry()
        host = HostContext("m1", FACTS, {}, self.directory / "secrets", 1 << 20)
        store: Store = self.store  # as much of a store as an agent needs
        return Agent(
            store, KEYS, self.clock, host, executors, self.directory / "attempts", lambda: self.machine, self.refresh,
            self.lease_clock, self.registry, self.watchman,
        )  # fmt: skip

    async def refresh(self) -> None:
        """Learn now what the machine is to be: `wanted` is, if it is given."""
        await asyncio.sleep(0)
        self.machine = self.wanted or self.machine

    def boot(self) -> None:
        """A new agent over the same store, machine and directories."""
        self.agent = self._agent()
        self._task = asyncio.create_task(self.agent.run())

    async def crash(self) -> None:
        """The agent is gone; what runs goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def submit(self, service: str, more: str = "", name: str = "job.service") -> None:
        text = f"[Service]\n{service}\n[X-Chronos]\nExecutor=python\n{more}\n".encode()
        unit = compile_unit(name, text)
        await self.memory.commit(Txn((), (Put(KEYS.job(name), encode(record_of(text, unit))),)))
        self.revision = unit.revision

    async def place(self, number: int = 1, name: str = "job.service", **fields: Any) -> Execution:
        execution = Execution(
            name, FIRE, state="placed", revision=self.revision,
            current=Attempt(number, "m1", revision=self.revision), **fields,
        )  # fmt: skip
        await self.memory.commit(Txn((), (Put(KEYS.placement("m1", execution.id), encode(execution)),)))
        return execution

    async def begin(self, service: str = ONE, seconds: int = 1) -> Execution:
        """Submit a unit, place it, and let its agent work for some seconds."""
        await self.submit(service)
        execution = await self.place()
        self.boot()
        await self.clock.sleep(seconds * SECOND)
        return execution

    async def begin_for(self, ticks: int) -> Execution:
        """Have an agent that waits for work, and let it come so many turns of the event loop far with some."""
        await self.submit(ONE)
        self.boot()
        await self.agent.ready.wait()
        execution = await self.place()
        for _ in range(ticks):
            await asyncio.sleep(0)
        return execution

    async def placed(self, execution: Execution) -> Execution | None:
        item = await self.memory.get(KEYS.placement("m1", execution.id))
        return None if item is None else decode(item, Execution)

    async def history(self, execution: Execution) -> Execution | None:
        item = await self.memory.get(KEYS.execution(execution.id))
        return None if item is None else decode(item, Execution)

    async def ask_to_stop(self, execution: Execution, reason: str) -> None:
        now = await self.placed(execution)
        assert now is not None
        wanted = msgspec.structs.replace(now, stop_requested=reason)
        await self.memory.commit(Txn((), (Put(KEYS.placement("m1", execution.id), encode(wanted)),)))

    async def ended(self, execution: Execution, limit: float = 3600.0) -> Attempt:
        """Wait for the attempt's record, and return it."""
        async with asyncio.timeout(limit):
            while True:
                done = await self.history(execution)
                if done is not None:
                    return done.attempts[-1]
                now = await self.placed(execution)
                if now is not None and now.state == "reported":
                    assert now.current is not None
                    return now.current
                await self.clock.sleep(SECOND // 20)

    def logs(self, execution: Execution, attempt: int) -> list[tuple[str, Path]]:
        """The steps of an attempt that have output here."""
        root = self.directory / "attempts"
        return logs_in(attempt_directory(root, execution.unit, execution.fire_time, execution.copy, attempt))

    def at(self, seconds: float) -> datetime:
        return to_datetime(self.clock.now() + round(seconds * SECOND))
