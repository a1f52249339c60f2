"""How many no-op executions per second one process carries through, and how late its claims are.

Scheduler and agent run over the embedded SQLite store, every commit durable (synchronous=full); each execution is
claimed, recorded as started, run as a Python call, and recorded as ended. `ratio_to_bare` compares with bare sqlite3
writing as many rows (five an execution) in transactions of a hundred. Run it as a script for a table.
"""

import asyncio
import logging
import os
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

import structlog

from xchronos.agent.specs import Place
from xchronos.clock import SECOND, SystemClock, to_instant
from xchronos.daemon.roles import Roles
from xchronos.executors.noop import CallableExecutor
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.sqlite import SqliteStore
from xchronos.unitfile import HostFacts

UNIT = (
    "[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=python\nHistoryLimit=5\n"
    "MisfireThreshold=1h\nTriggerRepeatInterval={interval}\n"
)
WARM_UP = 2.0


async def _measure(directory: Path, units: int, interval_ms: int, seconds: float) -> dict[str, float]:
    clock, keys = SystemClock(), Keys()
    store = await SqliteStore.open(directory / "bench.db")
    facts = HostFacts(hostname="bench", machine_id="bench")
    place = Place("bench", facts, {}, directory / "secrets", 1 << 20)
    starts: list[float] = []

    def step(spec: object) -> int:
        starts.append(time.perf_counter())
        return 0

    executors = {"python": CallableExecutor("python", step)}
    house = Roles(store, keys, clock, place, executors, directory / "attempts", instance="bench")
    await house.start()
    registry = Registry(store, keys)
    text = UNIT.format(interval=interval_ms).encode()
    pause = interval_ms / 1000 / units
    for number in range(units):
        # Spread over the interval, so that fires come evenly.
        await registry.submit(f"u{number}.service", text, now=clock.now())
        await asyncio.sleep(pause if pause > 0.001 else 0)
    await asyncio.sleep(WARM_UP)
    before, cpu, begin = len(starts), time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    done, elapsed = len(starts) - before, time.perf_counter() - begin
    cpu = time.process_time() - cpu
    lateness = [
        (to_instant(execution.claimed_at) - to_instant(execution.fire_time)) / 1000
        for number in range(0, units, max(1, units // 100))
        for execution in await registry.history(f"u{number}.service")
        if execution.claimed_at is not None
    ]
    await house.stop(SECOND)
    await store.close()
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


def run(seconds: float = 5.0) -> list[dict[str, str | float]]:
    """One row per load: a steady one for lateness, heavier ones for throughput."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows: list[dict[str, str | float]] = []
    for units, interval in ((500, 1000), (150, 100), (250, 100)):
        with tempfile.TemporaryDirectory(dir=os.environ.get("XCHRONOS_BENCH_DIR")) as name:
            measured = asyncio.run(_measure(Path(name), units, interval, seconds))
            bare = _bare(Path(name), 5_000)
        row: dict[str, str | float] = {"bench": f"engine: {units} units every {interval} ms"}
        row |= {key: round(value, 2) for key, value in measured.items()}
        row |= {"bare_per_s": round(bare), "ratio_to_bare": round(measured["executions_per_s"] / bare, 3)}
        rows.append(row)
    return rows


def main() -> None:
    """Print the table."""
    for row in run():
        print(row)


if __name__ == "__main__":
    main()
