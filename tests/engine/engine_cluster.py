"""A cluster in one process and in made-up time: daemons over one store, whose executor writes down every start."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import SECOND, Clock
from xchronos.daemon.roles import Roles, RolesContext, RolesOptions
from xchronos.executors.noop import CallableExecutor
from xchronos.model.records import Capacity
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.registry.units import UnitReader
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import START, VirtualClock, run_virtual
from xchronos.unitfile import HostFacts

AGENT = frozenset(("agent",))
SCHEDULER = frozenset(("scheduler",))
BOTH = AGENT | SCHEDULER


def lasting(seconds: float) -> Callable[..., Awaitable[int]]:
    """Steps that take so long, and succeed."""

    async def body(spec, machine):
        await asyncio.sleep(seconds)
        return 0

    return body


def unit_text(chronos: str = "", *, service: str = "", unit: str = "", fleet: str = "") -> bytes:
    return (
        f"[Unit]\n{unit}\n[Service]\nType=oneshot\nExecStart=/bin/true\n{service}\n"
        f"[X-Fleet]\n{fleet}\n[X-Chronos]\nExecutor=python\n{chronos}\n"
    ).encode()


class Cluster:
    """`store` may be a wrapper around a MemoryStore; `body(spec, machine)` is what every step does."""

    def __init__(self, clock: Clock, store=None, body: Callable[..., Awaitable[int | None]] | None = None) -> None:
        self.clock: Any = clock  # mostly made-up time, which can jump
        self.store = store or MemoryStore(clock)
        self.keys = Keys()
        self.registry = Registry(self.store, self.keys)
        self.running: dict[str, Roles] = {}
        self.starts: Counter[tuple[str, int]] = Counter()
        self.log: list[tuple[float, str, int, str]] = []
        self.body = body
        self.directory = Path(tempfile.gettempdir()) / "xchronos-engine-tests"

    def at(self) -> float:
        """Seconds since the clock's start."""
        return round((self.clock.now() - START) / SECOND, 3)

    async def start(
        self,
        machine: str = "m1",
        roles=BOTH,
        slots: int = 0,
        metadata=None,
        ttl=10 * SECOND,
        store=None,
        kind: str = "python",
        reader: UnitReader | None = None,
    ) -> Roles:
        facts = HostFacts(hostname=machine, machine_id=machine)
        place = HostContext(machine, facts, {}, self.directory / "secrets", 1 << 20)

        async def step(spec):
            self.starts[spec.execution, spec.attempt] += 1
            self.log.append((self.at(), spec.execution, spec.attempt, machine))
            if self.body is not None:
                return await self.body(spec, machine)
            return 0

        executors = {kind: CallableExecutor(kind, step)}
        started = Roles(
            RolesContext(
                store or self.store,
                self.keys,
                self.clock,
                place,
                executors,
                self.directory / machine,
                reader=reader or UnitReader(),
            ),
            RolesOptions(
                instance=machine, roles=roles, metadata=metadata or {}, capacity=Capacity(slots=slots), ttl=ttl
            ),
        )
        self.running[machine] = started
        await started.start()
        return started

    async def stop(self, machine: str = "m1", grace: int = 0) -> None:
        await self.running.pop(machine).stop(grace)

    async def kill(self, machine: str = "m1") -> None:
        """End a daemon, whose store is a FaultyStore of its own, as a crash does: no lease is given back."""
        ended = self.running.pop(machine)
        link: Any = ended.store
        link.dead = True
        tasks = [task for task in ended._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(round(seconds * SECOND))

    async def submit(self, name: str, chronos: str = "", **sections: str) -> None:
        await self.registry.submit(name, unit_text(chronos, **sections), now=self.clock.now())
        await self.sleep(0.01)

    async def history(self, name: str):
        return await self.registry.history(name)

    async def outcomes(self, name: str) -> list[tuple[float, str]]:
        """(fire time in seconds since the start, outcome) of a unit's history, rounded to milliseconds."""
        return [
            (round(execution.fire_time.timestamp() - START / SECOND, 3), str(execution.outcome))
            for execution in await self.history(name)
        ]

    def started(self, name: str) -> list[float]:
        return [at for at, execution, _, _ in self.log if execution.startswith(name + "/")]

    async def left_over(self, *names: str) -> list[str]:
        """Keys below var/ that speak of none of the units named."""
        page = await self.store.range(self.keys.root + "var/")
        return [
            item.key
            for item in page.items
            if "/scheduler/" not in item.key and not any(f"/{name}" in item.key for name in names)
        ]

    async def close(self) -> None:
        for machine in list(self.running):
            await self.stop(machine)
        await self.store.close()


def run(scenario: Callable[[Cluster], Awaitable[None]], body=None, start: int = START):
    async def main(clock: VirtualClock) -> None:
        cluster = Cluster(clock, body=body)
        await scenario(cluster)
        await cluster.close()

    return run_virtual(main, start)


__all__ = ["AGENT", "BOTH", "SCHEDULER", "START", "Cluster", "lasting", "run", "unit_text"]
