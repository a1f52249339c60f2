"""How quickly ten thousand unit files are taken in, and looked through again at a restart, beside one bare reading.

`longest_wait` is how long other work in the same process had to wait for its turn at worst.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from tests.benchmarks.rows import Row
from xchronos.clock import SystemClock
from xchronos.intake import Intake, IntakeOptions
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.memory import MemoryStore

FILES = 10_000
TINY = {"files": 20}
TEXT = """[Unit]
Description=Statement {number}
[Service]
ExecStart=/usr/bin/statement --number {number}
[X-Fleet]
MachineMetadata=region=us-east-1
[X-Chronos]
Executor=process
TriggerCron=0 10 * * *
"""


async def measure(registry: Registry, clock: SystemClock, directory: Path, notes: Path | None) -> tuple[float, float]:
    """Seconds until an intake is ready, and the longest wait of others meanwhile."""
    longest = 0.0

    async def probe() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before - 0.001)

    intake = Intake(registry, clock, [directory], IntakeOptions(notes=notes))
    started = time.perf_counter()
    tasks = [asyncio.create_task(probe()), asyncio.create_task(intake.run())]
    await intake.ready.wait()
    took = time.perf_counter() - started
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return took, longest


async def _rows(files: int) -> list[Row]:
    clock = SystemClock()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        units, notes = Path(place) / "units", Path(place) / "notes.json"
        units.mkdir()
        for number in range(files):
            (units / f"statement-{number}.service").write_text(TEXT.format(number=number))
        started = time.perf_counter()
        for file in units.iterdir():
            file.read_bytes()
        bare = time.perf_counter() - started
        registry = Registry(MemoryStore(clock), Keys())
        for name, kept in (("all new", notes), ("restart", None), ("restart with notes", notes)):
            took, longest = await measure(registry, clock, units, kept)
            rows.append(
                Row(f"{files:,} files taken in, {name}", took, "s", reference="reading their bytes", ratio=took / bare)
            )
            rows.append(Row("the same, longest wait of others", longest * 1000, "ms"))
    return rows


def run(files: int = FILES) -> list[Row]:
    """Seconds until so many files are taken in, and after a restart, beside reading their bytes."""
    return asyncio.run(_rows(files))
