"""How long a person waits for xchronosctl: wall time from its start to its end, beside `python -c pass`."""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.api.api_helpers import FakeDaemon
from tests.benchmarks.rows import Row
from xchronos.api.app import create_app
from xchronos.api.ports import Services
from xchronos.api.serving.listening import listen
from xchronos.api.serving.server import serve
from xchronos.clock import SystemClock
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.memory import MemoryStore

RUNS = 10
UNITS = 100
TINY = {"units": 2, "runs": 1}


class _NoSteps:
    """A machine on which nothing runs."""

    async def progress(self, execution_id: str) -> None:
        """Nothing."""

    async def logs(self, unit: str, fire_time: object, copy: int, attempt: int) -> list[Any]:
        """Nothing."""
        return []


@contextmanager
def _api(units: int, token: str) -> Iterator[str]:
    """A running API with this many units, which wants the token unless it is empty; yields its address."""
    ready = threading.Event()
    address: list[str] = []
    stop: list[Any] = []

    async def main() -> None:
        registry = Registry(MemoryStore(), Keys())
        clock = SystemClock()
        for number in range(units):
            text = f"[Unit]\nDescription=Job {number}\n[Service]\nExecStart=/bin/true\n[X-Chronos]\nTriggerCron=0 * * * *\n"
            await registry.submit(f"job-{number:06d}.service", text.encode(), now=clock.now())

        def told(url: str) -> None:
            address.append(url)
            ready.set()

        app = create_app(Services(registry, clock, "bench", _NoSteps(), FakeDaemon(), token=token))
        task = asyncio.create_task(serve(app, listen("127.0.0.1", 0), told))
        stop.extend((asyncio.get_running_loop(), task))
        await asyncio.wait([task])

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    ready.wait()
    try:
        yield address[0]
    finally:
        loop, task = stop
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


def _median(command: list[str], environment: dict[str, str], runs: int) -> float:
    """Median wall time in milliseconds."""
    taken = []
    for _ in range(runs):
        begin = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        taken.append((time.perf_counter() - begin) * 1_000)
    return statistics.median(taken)


def run(units: int = UNITS, runs: int = RUNS) -> list[Row]:
    """Medians over some runs, beside an interpreter that does nothing."""
    ctl = [sys.executable, "-c", "from xchronos.cli.main import main; main()"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("XCHRONOS_")}
    nothing = _median([sys.executable, "-c", "pass"], plain, runs)
    version = _median([*ctl, "--version"], plain, runs)
    with _api(units, "") as address:
        listing = _median([*ctl, "list-units"], plain | {"XCHRONOS_API": address}, runs)
        whole = _median([*ctl, "list-units", "-o", "json"], plain | {"XCHRONOS_API": address}, runs)
    with _api(units, "s3cret") as address, tempfile.NamedTemporaryFile("w") as file:
        file.write("s3cret\n")
        file.flush()
        guarded = plain | {"XCHRONOS_API": address, "XCHRONOS_TOKEN_FILE": file.name}
        with_token = _median([*ctl, "list-units"], guarded, runs)
    reference = "python -c pass"
    return [
        Row("xchronosctl --version", version, "ms", "<= 100", reference, version / nothing),
        Row(f"xchronosctl list-units, {units} units", listing, "ms", "<= 200", reference, listing / nothing, "<= 4"),
        Row("the same, with a token file", with_token, "ms", "<= 200", reference, with_token / nothing, "<= 4"),
        Row("the same, as JSON", whole, "ms", "", reference, whole / nothing),
    ]
