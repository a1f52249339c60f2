"""`python -m tests.cluster.launcher`: a whole daemon for fault tests, its settings in the environment.

It is `xchronosd` with two differences. `Executor=python` runs steps as calls in this process that write to the sink:
`ExecStart=/record [SECONDS]`. And it can be made to die (kill -9, by itself) at a point that no signal from outside
can hit: `XC_FAILPOINTS` names a directory; a file there, named like a point and holding a unit's name, kills the next
daemon that passes this point with this unit, once.

    claimed   the scheduler's claim is durable, and nobody knows it yet
    launch    the agent has recorded that the step begins, and has not started it
    ended     the step has ended, and its end is not recorded
    recorded  the end is durable, and nothing is tidied up
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
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
    """Where this daemon dies, as the directory says."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def passes(self, point: str, unit: str) -> None:
        """Die here if somebody wants that."""
        armed = self._directory / point
        try:
            wanted = armed.read_text()
            if wanted == unit:
                # Whoever removes the file is the one to die.
                armed.rename(self._directory / f"{point}.hit")
                os.kill(os.getpid(), signal.SIGKILL)
        except FileNotFoundError:
            return


class PointedStore:
    """A store that passes `claimed` and `recorded`."""

    def __init__(self, store: Store, failpoints: Failpoints) -> None:
        self._store = store
        self._failpoints = failpoints

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, txn: Txn) -> Committed:
        done = await self._store.commit(txn)
        self._pass([txn], [done])
        return done

    async def commit_many(self, txns: Sequence[Txn]) -> list[Committed]:
        done = await self._store.commit_many(txns)
        self._pass(txns, done)
        return done

    def _pass(self, txns: Sequence[Txn], done: Sequence[Committed]) -> None:
        for txn, answer in zip(txns, done, strict=True):
            for operation in txn.operations if answer.succeeded else ():
                if not isinstance(operation, Put):
                    continue
                _, _, placed = operation.key.partition("/var/placements/")
                if placed and b'"state":"placed"' in operation.value:
                    self._failpoints.passes("claimed", unit_of(placed.partition("/")[2]))
                _, _, ended = operation.key.partition("/var/executions/")
                if ended:
                    self._failpoints.passes("recorded", unit_of(ended))


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
