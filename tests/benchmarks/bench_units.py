"""What many units cost: memory, the time until a restarted scheduler can decide, idle CPU; and how fast texts compile.

Compilation is compared with a pure-Python loop measured in the same run.
"""

import asyncio
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from tests.benchmarks.rows import Row
from xchronos.clock import SECOND, SystemClock
from xchronos.engine.engine import Engine
from xchronos.engine.state.context import SchedulerContext
from xchronos.model.compile.unit import compile_unit
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.sqlite.store import SqliteStore

ROOT = Path(__file__).resolve().parents[2]
UNITS = 100_000
TINY = {"units": 100, "idle": 0.3, "compiled": 20}


def texts(count: int) -> list[bytes]:
    """Realistic unit files, no two the same: a nightly job in a container, with its limits, retries and placement."""
    return [
        (
            f"[Unit]\nDescription=Backup of database {n}\nOnFailure=alarm.service\n\n"
            f"[Service]\nType=oneshot\nExecStartPre=-/bin/mkdir -p /backup/db{n}\n"
            f"ExecStart=/bin/sh -c 'pg_dump -h db{n}.internal app > /backup/db{n}/$XCHRONOS_FIRE_TIME.sql'\n"
            f"Environment=PGUSER=backup PGPORT={5000 + n % 1000}\nTimeoutStartSec=30min\nMemoryMax={256 + n % 64}M\n\n"
            f"[Container]\nImage=postgres:16\nVolume=/srv/backup:/backup\nNetwork=db\n\n"
            f"[X-Fleet]\nMachineMetadata=region=eu\n\n"
            f"[X-Chronos]\nTriggerCron={n % 60} {n // 60 % 60} {n % 24} * * *\nTimeZone=Europe/Berlin\n"
            f"MaxAttempts=3\nTimeBetweenAttempts=1min\nConcurrency=forbid\n"
        ).encode()
        for n in range(count)
    ]


def compiled_per_s(count: int, rounds: int = 3) -> float:
    """Units parsed and compiled per second, every text for the first time: the median of some rounds."""
    speeds = []
    everything = texts(count * rounds)
    for number in range(rounds):
        part = everything[number * count : (number + 1) * count]
        begin = time.perf_counter()
        for n, text in enumerate(part):
            compile_unit(f"backup{number}-{n}.service", text)
        speeds.append(count / (time.perf_counter() - begin))
    return statistics.median(speeds)


def loops_per_s() -> float:
    """The reference: a thousand additions in plain Python."""
    begin = time.perf_counter()
    for _ in range(1_000):
        total = 0
        for n in range(1_000):
            total += n
    return 1_000 / (time.perf_counter() - begin)


async def _fill(path: Path, units: int) -> None:
    store, clock = await SqliteStore.open(path), SystemClock()
    registry = Registry(store, Keys())
    everything = texts(units)
    for base in range(0, units, 500):
        await asyncio.gather(
            *(
                registry.submit(f"backup{n}.service", everything[n], now=clock.now())
                for n in range(base, min(base + 500, units))
            )
        )
    engine = Engine(SchedulerContext(store, Keys(), clock, 10 * SECOND, "bench"), CollectorRegistry(), instance="bench")
    running = asyncio.create_task(engine.run())
    while len((await store.range(Keys().schedules, keys_only=True)).items) < units:  # noqa: ASYNC110 - only the store knows
        await asyncio.sleep(1)
    running.cancel()
    await asyncio.wait({running})
    await store.close()


async def _load(path: Path, idle: float) -> dict[str, float]:
    begin = time.perf_counter()
    store, clock = await SqliteStore.open(path), SystemClock()
    metrics = CollectorRegistry()
    engine = Engine(SchedulerContext(store, Keys(), clock, 10 * SECOND, "bench"), metrics, instance="bench")
    running = asyncio.create_task(engine.run())
    # The gauge is set at the end of the first turn, when everything that is due has been decided.
    while not metrics.get_sample_value("xchronos_units"):  # noqa: ASYNC110 - a gauge cannot be waited for
        await asyncio.sleep(0.01)
    ready = time.perf_counter() - begin
    await asyncio.sleep(1)
    cpu, begin = time.process_time(), time.perf_counter()
    await asyncio.sleep(idle)
    used = (time.process_time() - cpu) / (time.perf_counter() - begin)
    running.cancel()
    await asyncio.wait({running})
    await store.close()
    return {
        "restart_s": ready,
        "idle_cpu_percent": 100 * used,
        "units": metrics.get_sample_value("xchronos_units") or 0.0,
        "rss_mb": _resident() / 1e6,
    }


def _resident() -> int:
    """The memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def run(units: int = UNITS, idle: float = 20.0, compiled: int = 1_000) -> list[Row]:
    """The speed of compilation, then what so many stored units cost a scheduler that has just started."""
    speed, loop = compiled_per_s(compiled), loops_per_s()
    with tempfile.TemporaryDirectory(dir=os.environ.get("XCHRONOS_BENCH_DIR")) as name:
        path = Path(name) / "bench.db"
        begin = time.perf_counter()
        asyncio.run(_fill(path, units))
        filled = time.perf_counter() - begin
        # A process of its own: what filling the store has left behind must not count.
        command = [sys.executable, "-m", "tests.benchmarks.bench_units", str(path), str(idle)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    if figures["units"] != units:
        raise RuntimeError(f"{figures['units']:.0f} of {units} units were there")
    return [
        Row("parse and compile a unit", speed, "/s", ">= 2000", "loops of pure Python", speed / loop),
        Row(f"{units:,} units submitted one by one", filled, "s"),
        Row(f"{units:,} units: memory of a scheduler", figures["rss_mb"], "MB", "<= 400"),
        Row("the same, from its start to the first decision", figures["restart_s"], "s", "<= 10"),
        Row("the same, CPU while nothing is due", figures["idle_cpu_percent"], "% of a core", "<= 3"),
    ]


if __name__ == "__main__":  # the scheduler, in a process of its own
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print(json.dumps(asyncio.run(_load(Path(sys.argv[1]), float(sys.argv[2])))))
