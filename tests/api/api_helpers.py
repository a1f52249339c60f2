"""A registry in memory, and the parts of a daemon that the API asks."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xchronos.api.ports import DaemonReport
from xchronos.clock import Instant, Micros, to_datetime, to_instant
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Capacity, Execution, Machine, SchedulerRecord, StepResult
from xchronos.registry.codec import encode
from xchronos.registry.keys import SHARDS, Keys
from xchronos.registry.registry import Registry
from xchronos.registry.transitions import put
from xchronos.scheduler.timing.schedule import accept
from xchronos.store.contract import Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.wire.messages import IntakeFault, LoopStalls

NOW = to_instant(datetime(2030, 1, 1, 12, 0, tzinfo=UTC))
HOURLY = b"""[Unit]
Description=Hourly report
[Service]
ExecStart=/bin/true
[X-Chronos]
TriggerCron=0 0 * * * *
"""


class StillClock:
    """Time stands until it is set."""

    def __init__(self, now: Instant = NOW) -> None:
        self.instant = now

    def now(self) -> Instant:
        return self.instant

    def monotonic(self) -> Micros:
        return self.instant

    async def sleep(self, length: Micros) -> None:
        self.instant += length


@dataclass
class FakeSteps:
    """The agent's part: attempts by execution, logs by (unit, attempt)."""

    running: dict[str, Attempt] = field(default_factory=dict)
    files: dict[tuple[str, int], list[tuple[str, Path]]] = field(default_factory=dict)

    async def progress(self, execution_id: str) -> Attempt | None:
        return self.running.get(execution_id)

    async def logs(self, unit: str, fire_time: datetime, copy: int, attempt: int) -> list[tuple[str, Path]]:
        return [(name, path) for name, path in self.files.get((unit, attempt), []) if path.exists()]


@dataclass
class FakeDaemon:
    """The process that schedules: what it says of itself."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: list[IntakeFault] = field(default_factory=list)
    store: list[str] = field(default_factory=list)
    stalls: LoopStalls | None = None
    counted: bytes = b""

    async def report(self) -> DaemonReport:
        return DaemonReport(tuple(self.faults), tuple(self.notes), tuple(self.refused), self.stalls, tuple(self.store))

    async def metrics(self) -> bytes:
        return self.counted


class Cluster:
    """A store with a registry, and short ways to put things in it."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.registry = Registry(MemoryStore(), Keys())
        self.steps = FakeSteps()
        self.daemon = FakeDaemon()

    async def submit(self, name: str, text: bytes = HOURLY, *, accepted: bool = True) -> None:
        from xchronos.model.compile.unit import compile_unit

        await self.registry.submit(name, text, now=self.clock.now())
        if accepted:
            stored = await self.registry.unit(name)
            schedule = accept(compile_unit(name, text), self.clock.now(), stored.revision)
            await self.put(self.registry.keys.schedule(name), schedule)

    async def put(self, key: str, record: object) -> None:
        await self.registry.store.commit(Txn((), (Put(key, encode(record)),)))

    async def execution(self, execution: Execution) -> Execution:
        await self.registry.store.commit(Txn((), (put(self.registry.keys, execution),)))
        return execution

    async def scheduler(self, machine: str = "m1") -> None:
        """A living scheduler that owns every shard."""
        store, keys = self.registry.store, self.registry.keys
        lease = await store.grant(1000)
        held = [Put(keys.shard(number), machine.encode(), lease) for number in range(SHARDS)]
        record = Put(keys.member(machine), encode(SchedulerRecord(machine, "1")), lease)
        await store.commit(Txn((), (record, *held)))

    async def machine(self, name: str, **fields: Any) -> Machine:
        machine = Machine(
            **{
                "id": name,
                "hostname": name,
                "executors": ("docker", "process"),
                "docker": "27.0",
                "capacity": Capacity(8),
                **fields,
            }
        )
        await self.put(self.registry.keys.machine(name), machine)
        return machine


def at(seconds: float) -> datetime:
    """Seconds after NOW."""
    return to_datetime(NOW + int(seconds * 1_000_000))


def ended(unit: str, seconds: float, outcome: Outcome = Outcome.SUCCEEDED, machine: str = "m1", **fields) -> Execution:
    """An execution with one attempt that has ended."""
    moment = at(seconds)
    ok = outcome is Outcome.SUCCEEDED
    step = StepResult(
        "start-0", "/bin/true", "succeeded" if ok else "failed", moment, at(seconds + 1), 0 if ok else 3,
        reason="" if ok else "exited with 3",
    )  # fmt: skip
    attempt = Attempt(
        1, machine, moment, moment, at(seconds + 1), outcome, "" if ok else "start-0: exited with 3", "r", (step,)
    )
    return Execution(
        unit, moment, state="ended", trigger="cron", attempts=(attempt,), outcome=outcome, ended_at=at(seconds + 1),
        reason=attempt.reason, **fields,
    )  # fmt: skip


def running(unit: str, seconds: float, machine: str = "m1", **fields) -> Execution:
    """An execution whose first attempt runs."""
    attempt = Attempt(1, machine, at(seconds), at(seconds))
    return Execution(unit, at(seconds), state="running", trigger="cron", current=attempt, **fields)
