"""`python -m tests.cluster.launcher`: a whole daemon for fault tests, its settings in the environment.

It is `xchronosd` with two differences. `Executor=python` runs steps as calls in this process that write to the sink:
`ExecStart=/record [SECONDS]`. And it can be made to die (kill -9, by itself) at a point that no signal from outside
can hit: `XC_FAILPOINTS` names a directory; a file there, named like a point and holding a unit's name, kills the next
daemon that passes this point with this unit, once.

    write     the scheduler is about to write a claim: here it stops (SIGSTOP) instead of dying
    claimed   the scheduler's claim is durable, and nobody knows it yet
    launch    the agent has recorded that the step begins, and has not started it
    ended     the step has ended, and its end is not recorded
    recorded  the end is durable, and nothing is tidied up

Every write that a scheduler has fenced is noted in the directory's file `fenced`, with the term that it carried.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.sink import Sink
from xchronos.config import load
from xchronos.daemon.daemon import Daemon
from xchronos.daemon.main import run
from xchronos.executors.contract import Executor, StepExit, StepSpec
from xchronos.executors.noop import CallableExecutor
from xchronos.registry.keys import unit_of
from xchronos.store.contract import Committed, Put, Store, Txn

SINK = "XC_SINK"
FAILPOINTS = "XC_FAILPOINTS"


class Failpoints:
    """Where this daemon dies, or stops, as the directory says."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def passes(self, point: str, unit: str, signal_number: int = signal.SIGKILL) -> None:
        """Die here if somebody wants that."""
        armed = self._directory / point
        try:
            if armed.read_text() == unit:
                # Whoever removes the file is the one to die.
                armed.rename(self._directory / f"{point}.hit")
                os.kill(os.getpid(), signal_number)
        except FileNotFoundError:
            return

    def note(self, txn: Txn, done: Committed) -> None:
        """Write down what became of a fenced write."""
        for guard in txn.guards:
            if guard.target == "create" and "/var/scheduler/shards/" in guard.key:
                shard = guard.key.rpartition("/")[2]
                with (self._directory / "fenced").open("a") as file:
                    file.write(f"{time.time():.6f} {shard} {guard.revision} {int(done.succeeded)}\n")


class PointedStore:
    """A store that passes `write`, `claimed` and `recorded`, and notes fenced writes."""

    def __init__(self, store: Store, failpoints: Failpoints) -> None:
        self._store = store
        self._failpoints = failpoints

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, txn: Txn) -> Committed:
        self._before([txn])
        done = await self._store.commit(txn)
        self._after([txn], [done])
        return done

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        self._before(txns)
        done = await self._store.commit_many(txns)
        self._after(txns, done)
        return done

    def _before(self, txns: Sequence[Txn]) -> None:
        for txn in txns:
            for unit in _claimed(txn):
                self._failpoints.passes("write", unit, signal.SIGSTOP)

    def _after(self, txns: Sequence[Txn], done: Sequence[Committed]) -> None:
        for txn, answer in zip(txns, done, strict=True):
            self._failpoints.note(txn, answer)
            if not answer.succeeded:
                continue
            for unit in _claimed(txn):
                self._failpoints.passes("claimed", unit)
            for unit in _ended(txn):
                self._failpoints.passes("recorded", unit)


def _claimed(txn: Txn) -> Iterator[str]:
    for operation in txn.operations:
        if not isinstance(operation, Put) or b'"state":"placed"' not in operation.value:
            continue
        _, _, placed = operation.key.partition("/var/placements/")
        if placed:
            yield unit_of(placed.partition("/")[2])


def _ended(txn: Txn) -> Iterator[str]:
    for operation in txn.operations:
        if isinstance(operation, Put) and "/var/executions/" in operation.key:
            yield unit_of(operation.key.partition("/var/executions/")[2])


def point(executor: Executor, failpoints: Failpoints) -> None:
    """Make an executor pass `launch` and `ended`."""
    inner = executor.run

    async def run(spec: StepSpec) -> StepExit:
        failpoints.passes("launch", spec.unit)
        end = await inner(spec)
        failpoints.passes("ended", spec.unit)
        return end

    executor.run = run  # type: ignore[method-assign]


class RecordedDaemon(Daemon):
    """The daemon under test."""

    async def make_store(self) -> Store:
        store = await super().make_store()
        points = os.environ.get(FAILPOINTS)
        return PointedStore(store, Failpoints(Path(points))) if points else store

    def make_executors(self) -> dict[str, Executor]:
        executors = super().make_executors()
        if points := os.environ.get(FAILPOINTS):
            for executor in executors.values():
                point(executor, Failpoints(Path(points)))
        sink = Sink(Path(os.environ[SINK]), self.settings.machine_id)

        def record(spec: StepSpec) -> Any:
            length = float(spec.argv[1]) if len(spec.argv) > 1 else 0.0
            if length:
                return _lasting(sink, spec, length)
            sink.write("start", "end", execution=spec.execution, attempt=spec.attempt)
            return None

        executors["python"] = CallableExecutor("python", record)
        return executors


async def _lasting(sink: Sink, spec: StepSpec, length: float) -> None:
    sink.write("start", execution=spec.execution, attempt=spec.attempt)
    await asyncio.sleep(length)
    sink.write("end", execution=spec.execution, attempt=spec.attempt)


if __name__ == "__main__":
    sys.exit(run(load({}, os.environ, ()), RecordedDaemon))
