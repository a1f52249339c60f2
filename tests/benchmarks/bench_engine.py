"""How many no-op executions per second one process carries through, and how late its claims are.

Scheduler and agent run over the embedded SQLite store, every commit durable (synchronous=full); each execution is
claimed, recorded as started, run as a Python call, and recorded as ended. Every run is a process of its own, which ends
without tidying up: an overload leaves a backlog that nobody has to wait for. Figures are medians of the runs.
The reference is bare sqlite3 writing as many rows (five an execution) in transactions of a hundred, in the same process.
"""

import asyncio
import json
import logging
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import structlog

from tests.benchmarks.rows import Row
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import SystemClock, to_instant
from xchronos.daemon.main import calm_collector
from xchronos.daemon.roles import Roles, RolesContext, RolesOptions
from xchronos.executors.noop import CallableExecutor
from xchronos.model.records import Execution
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.sqlite.store import SqliteStore
from xchronos.unitfile import HostFacts

UNIT = (
    "[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=python\nHistoryLimit=5\n"
    "MisfireThreshold=1h\nTriggerStartDelay={delay}\nTriggerRepeatInterval={interval}\n"
)
ROOT = Path(__file__).resolve().parents[2]
LOADS = ((500, 1000), (1000, 100))
"""A steady load and one beyond what can be carried: units, and the milliseconds between two fire times of each."""

TINY = {"seconds": 2.0, "repeat": 1, "loads": ((20, 100), (40, 100))}
WARM_UP = 2.0
TIME_LIMIT = 27.0
"""Seconds after which a run is given up."""

BUDGET = 55.0
"""Seconds for all runs: a run that would not end within them is given up."""


async def _measure(directory: Path, units: int, interval_ms: int, seconds: float) -> dict[str, float]:
    clock, keys = SystemClock(), Keys()
    store = await SqliteStore.open(directory / "bench.db")
    facts = HostFacts(hostname="bench", machine_id="bench")
    place = HostContext("bench", facts, {}, directory / "secrets", 1 << 20)
    starts: list[float] = []

    def step(spec: object) -> int:
        starts.append(time.perf_counter())
        return 0

    executors = {"python": CallableExecutor("python", step)}
    context = RolesContext(store, keys, clock, place, executors, directory / "attempts")
    house = Roles(context, RolesOptions(instance="bench"))
    registry = Registry(store, keys)
    for number in range(units):
        # Spread over the interval, so that fires come evenly.
        text = UNIT.format(delay=number * interval_ms // units, interval=interval_ms).encode()
        await registry.submit(f"u{number}.service", text, now=clock.now())
    await house.start()
    await asyncio.sleep(WARM_UP)
    before, cpu, begin, since = len(starts), time.process_time(), time.perf_counter(), clock.now()
    await asyncio.sleep(seconds)
    done, elapsed = len(starts) - before, time.perf_counter() - begin
    cpu = time.process_time() - cpu
    # One read: many of them would wait behind the whole backlog of an overload.
    page = await store.range(keys.executions, limit=2_000)
    lateness = [
        (to_instant(execution.claimed_at) - to_instant(execution.fire_time)) / 1000
        for execution in [decode(item, Execution) for item in page.items]
        if execution.claimed_at is not None and to_instant(execution.fire_time) >= since
    ]
    cuts = statistics.quantiles(lateness, n=100)
    return {
        "offered_per_s": units * 1000 / interval_ms,
        "executions_per_s": done / elapsed,
        "executions_per_cpu_s": done / cpu,
        "lateness_p50_ms": statistics.median(lateness),
        "lateness_p99_ms": cuts[98],
    }


def _bare(directory: Path, executions: int) -> float:
    connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID")
    begin = time.perf_counter()
    for base in range(0, executions, 20):
        rows = [(f"{n}/{part}", b"x" * 400) for n in range(base, base + 20) for part in range(5)]
        connection.execute("BEGIN")
        connection.executemany("INSERT OR REPLACE INTO t VALUES (?, ?)", rows)
        connection.execute("COMMIT")
    elapsed = time.perf_counter() - begin
    connection.close()
    return executions / elapsed


def _child(units: int, interval_ms: int, seconds: float) -> None:
    """One run; its figures are a line of JSON."""
    calm_collector()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(dir=os.environ.get("XCHRONOS_BENCH_DIR")) as name:
        bare = _bare(Path(name), 5_000)

        async def measure() -> None:
            measured = await _measure(Path(name), units, interval_ms, seconds)
            print(json.dumps(measured | {"bare_per_s": bare}), flush=True)
            # Cancelling thousands of attempts would measure nothing more.
            os._exit(0)

        asyncio.run(measure())


def _figures(units: int, interval_ms: int, seconds: float, limit: float) -> dict[str, float] | None:
    """What one run measured; None when it did not come to its end."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_engine", str(units), str(interval_ms), str(seconds)]
    with tempfile.TemporaryDirectory(dir=os.environ.get("XCHRONOS_BENCH_DIR")) as name:
        environment = os.environ | {"XCHRONOS_BENCH_DIR": name}
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, timeout=limit, check=True)
        except subprocess.TimeoutExpired:
            return None
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def run(seconds: float = 3.0, repeat: int = 3, loads: tuple[tuple[int, int], tuple[int, int]] = LOADS) -> list[Row]:
    """A steady load for lateness, a heavier one for throughput."""
    found: dict[tuple[int, int], list[dict[str, float]]] = {load: [] for load in loads}
    end = time.monotonic() + BUDGET
    for _ in range(repeat):
        for units, interval in loads:
            left = end - time.monotonic()
            figures = _figures(units, interval, seconds, min(left, TIME_LIMIT)) if left > 0 else None
            if figures is not None:
                found[units, interval].append(figures)
    if not all(found.values()):
        raise RuntimeError(f"no run of {[load for load, runs in found.items() if not runs]} came to its end")
    steady, heavy = ({key: statistics.median(run[key] for run in runs) for key in runs[0]} for runs in found.values())
    ratio = statistics.median(run["executions_per_s"] / run["bare_per_s"] for run in found[loads[1]])
    carried, bare = heavy["executions_per_s"], "bare sqlite3"
    few, many = (f"{units * 1000 / interval:,.0f}" for units, interval in loads)
    return [
        Row(f"engine: claims of {few} fires/s, median lateness", steady["lateness_p50_ms"], "ms"),
        Row("engine: the same, 99th percentile", steady["lateness_p99_ms"], "ms", "<= 20"),
        Row(f"engine: no-op executions, {many}/s offered", carried, "/s", ">= 5000", bare, ratio),
        Row("engine: the same, CPU of each", 1e6 / heavy["executions_per_cpu_s"], "us"),
    ]


if __name__ == "__main__":  # one run, in a process of its own
    _child(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
