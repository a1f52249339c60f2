"""What is done to very many units of a real etcd: created, found again at a restart, destroyed by pattern.

- creates a second, 16 at a time: by the registry, and by the API of a daemon;
- 100,000 units that are due much later, and one that fires every 100 ms: the daemon is killed and started again, and
  the question is when that one is on time;
- the 100,000 are destroyed by `xchronosctl destroy PATTERN`, until nothing of them is left in the store.

go-etcd-cron stands beside it where it is at hand (`tests/benchmarks/peer.py`): it deletes by prefix, in one request.
"""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from tests.benchmarks import peer
from tests.benchmarks.daemons import ON_TIME, UNIT, Ours, requests
from tests.benchmarks.rows import Row
from tests.services.etcd import EtcdCluster, missing
from xchronos.clock import SystemClock
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.contract import Store
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.store import EtcdStore

SERVICES = frozenset(["etcd"])
TINY = {"units": 20, "created_units": 20, "repeat": 1}
AT_ONCE = 16
PROBE = "probe.service"
FAR = datetime.now(UTC) + timedelta(days=365)
ABSENT = 600.0
"""Seconds after which what is destroyed should be gone."""

LATER = f"{UNIT}TriggerAt={FAR.isoformat(timespec='seconds')}\n"


@contextmanager
def _etcd() -> Iterator[tuple[EtcdCluster, str, Path]]:
    """A fresh one, its endpoint, and a directory, removed at the end."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("XCHRONOS_BENCH_DIR")) as name:
        (Path(name) / "etcd").mkdir()
        etcd = EtcdCluster(Path(name) / "etcd", fast=False, arguments=("--quota-backend-bytes", str(4 << 30)))
        etcd.start()
        try:
            yield etcd, etcd.endpoints[0].removeprefix("http://"), Path(name)
        finally:
            etcd.kill()


async def _on(endpoint: str, work: Callable[[Store], Awaitable[float]]) -> float:
    store = await EtcdStore.open(EtcdAccess(endpoints=(endpoint,)))
    try:
        return await work(store)
    finally:
        await store.close()


async def _submitted(store: Store, count: int) -> float:
    """The seconds that the registry takes for so many units, 16 at a time."""
    registry, clock = Registry(store, Keys()), SystemClock()
    names = iter(range(count))

    async def lane() -> None:
        for number in names:
            await registry.submit(f"created{number}.service", _text(number), now=clock.now())

    begin = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    return time.perf_counter() - begin


def _text(number: int) -> bytes:
    """No two units have the same text, so none is compiled for another."""
    return f"[Unit]\nDescription=Job {number}\n{LATER}".encode()


def _put(port: int, count: int) -> float:
    """The seconds that the API takes for so many units, on 16 connections that stay open."""
    waiting: SimpleQueue[int] = SimpleQueue()
    for number in range(count):
        waiting.put(number)
    failed: list[str] = []

    def lane() -> None:
        connection = HTTPConnection("127.0.0.1", port)
        try:
            while not failed:
                number = waiting.get_nowait()
                connection.request("PUT", f"/v1/units/put{number}.service", _text(number))
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    failed.append(f"{answer.status}: {body!r}")
        except Empty:
            return
        finally:
            connection.close()

    threads = [Thread(target=lane) for _ in range(AT_ONCE)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise RuntimeError(failed[0])
    return time.perf_counter() - begin


def created(count: int) -> dict[str, float]:
    """Creates a second."""
    with _etcd() as (_, endpoint, place):
        daemon = Ours(endpoint, place / "side")
        try:
            daemon.ready(0)
            registry = count / asyncio.run(_on(endpoint, lambda store: _submitted(store, count)))
            daemon.ready(count)
            api = count / _put(daemon.port, count)
        finally:
            daemon.end()
    return {"registry": registry, "api": api}


def created_by_peer(count: int) -> dict[str, float]:
    """The same of go-etcd-cron."""
    with _etcd() as (_, endpoint, place):
        side = peer.Theirs(endpoint, place / "side")
        try:
            took = side.ask("add", prefix="u", count=count, par=AT_ONCE, due_ns=round(FAR.timestamp() * 1e9))["sec"]
        finally:
            side.end()
    return {"registry": count / took, "api": count / took}


def many(units: int) -> dict[str, float]:
    """Restart with so many units, and destroy them."""
    with _etcd() as (etcd, endpoint, place):
        daemon = Ours(endpoint, place / "side")
        daemon.write([(f"bulk{n}.service", LATER) for n in range(units)])
        # No gap to catch up with: the first fires after the restart are those of now.
        often = UNIT.replace("=1h", "=1s") + "TriggerRepeatInterval=100ms\n"
        daemon.write([(PROBE, often)])
        daemon.ready(units + 1)
        daemon.until(lambda seen: seen["first_on_time"] is not None)
        daemon.end(signal.SIGTERM)
        begin = time.time()
        daemon = Ours(endpoint, place / "side")
        try:
            on_time = daemon.until(lambda seen: seen["first_on_time"] is not None)["first_on_time"] - begin
            daemon.ready(units + 1)
            asked, begin = requests(etcd), time.monotonic()
            command = [sys.executable, "-m", "xchronos", "--api", f"http://127.0.0.1:{daemon.port}"]
            subprocess.run([*command, "destroy", "bulk*"], stdout=subprocess.DEVNULL, check=True)
            told = time.monotonic() - begin
            looks = asyncio.run(_on(endpoint, _gone))
            return {
                "on_time": on_time, "told": told, "destroyed": time.monotonic() - begin,
                "requests": (requests(etcd) - asked - looks) / units,
            }  # fmt: skip
        finally:
            daemon.end()


async def _gone(store: Store) -> float:
    """Wait until nothing of the units is left; how many requests that took."""
    keys = Keys()
    left = [keys.job("bulk"), keys.schedule("bulk"), f"{keys.executions}bulk", f"{keys.pending}bulk"]
    looks, end = 0, time.monotonic() + ABSENT
    while left:
        looks += 1
        if (await store.range(left[0], limit=1, keys_only=True)).items:
            if time.monotonic() > end:
                raise TimeoutError(f"{left[0]} is still there")
            await asyncio.sleep(0.1)
        else:
            del left[0]
    return looks


def many_of_peer(units: int) -> dict[str, float]:
    """The same of go-etcd-cron."""
    with _etcd() as (etcd, endpoint, place):
        side = peer.Theirs(endpoint, place / "side")
        side.ask("add", prefix="bulk", count=units, par=AT_ONCE, due_ns=round(FAR.timestamp() * 1e9))
        side.end(signal.SIGTERM)
        begin = time.time()
        side = peer.Theirs(endpoint, place / "side", probe=True)
        try:
            on_time = side.on_time(ON_TIME) - begin
            asked, begin = requests(etcd), time.monotonic()
            side.ask("delprefix", prefix="bulk")
            told = time.monotonic() - begin
            looks = side.ask("waitempty", prefix="bulk", secs=ABSENT)["polls"]
            took = time.monotonic() - begin
            return {
                "on_time": on_time, "told": told, "destroyed": took,
                "requests": (requests(etcd) - asked - looks) / units,
            }  # fmt: skip
        finally:
            side.end()


def run(units: int = 100_000, created_units: int = 5_000, repeat: int = 1) -> list[Row]:
    """The table's rows."""
    if reason := missing():
        raise RuntimeError(reason)
    absent = peer.missing()
    if absent:
        print(f"ours alone: {absent}", file=sys.stderr)
    figures, theirs = [], []
    for _ in range(repeat):
        figures.append(created(created_units) | many(units))
        if not absent:
            theirs.append(created_by_peer(created_units) | many_of_peer(units))

    def row(name: str, figure: str, unit: str, goal: str = "") -> Row:
        value = statistics.median(run[figure] for run in figures)
        if not theirs:
            return Row(name, value, unit, goal)
        reference = statistics.median(run[figure] for run in theirs)
        return Row(name, value, unit, goal, peer.NAME, value / reference if reference else None)

    return [
        row(f"etcd: units created, {AT_ONCE} at a time, by the registry", "registry", "/s", ">= 4600"),
        row("the same, by the API", "api", "/s", ">= 2000"),
        row(f"etcd: {units:,} units, first fire on time after a restart", "on_time", "s", "<= 3"),
        row("the same, destroyed by pattern, until the command ends", "told", "s"),
        row("the same, until nothing is left", "destroyed", "s", "<= 5"),
        row("the same, requests for each", "requests", "", "<= 0.05"),
    ]
