"""How quickly ten thousand unit files are taken in, and looked through again at a restart, beside one bare reading.

`longest_wait` is how long other work in the same process had to wait for its turn at worst. Run it as a script.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import structlog

from xchronos.clock import SystemClock
from xchronos.intake import Intake
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.memory import MemoryStore

FILES = 10_000
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

    intake = Intake(registry, clock, [directory], notes=notes)
    started = time.perf_counter()
    tasks = [asyncio.create_task(probe()), asyncio.create_task(intake.run())]
    await intake.ready.wait()
    took = time.perf_counter() - started
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return took, longest


async def main() -> None:
    """Print a table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as place:
        units, notes = Path(place) / "units", Path(place) / "notes.json"
        units.mkdir()
        for number in range(FILES):
            (units / f"statement-{number}.service").write_text(TEXT.format(number=number))
        started = time.perf_counter()
        for file in units.iterdir():
            file.read_bytes()
        bare = time.perf_counter() - started
        print(f"{'':24}{'seconds':>9}{'files/s':>9}{'longest_wait':>14}")
        print(f"{'bare reading':24}{bare:9.2f}{FILES / bare:9.0f}")
        registry = Registry(MemoryStore(clock), Keys())
        for name, kept in (("all new", notes), ("restart", None), ("restart with notes", notes)):
            took, longest = await measure(registry, clock, units, kept)
            print(f"{name:24}{took:9.2f}{FILES / took:9.0f}{longest * 1000:11.0f} ms")


if __name__ == "__main__":
    asyncio.run(main())
