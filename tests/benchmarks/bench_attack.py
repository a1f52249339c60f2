"""What hostile units, files and clients do to the fires of others: all attacks together, on a real daemon.

A daemon in a process of its own, with 1,024 descriptors and the embedded store, has a unit that fires every second and
one that fires every 10 ms; both run a Python call. It is measured for a while without attacks, then for as long with
all of them: half-open connections and half requests on more connections than there may be, units with thousands of
ports and of unknown keys, bodies that are too large, lists of everything by many clients, metadata of a megabyte, file
names that are no text, and environment files that are pipes and devices. They have a process of their own: meanwhile
a probe and an administrator ask from another one.
All traffic stays on this machine.
"""

# What blocks here blocks the attackers, and nobody else.
# ruff: noqa: ASYNC110, ASYNC220, ASYNC240

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.api.api_helpers import ended
from tests.benchmarks.rows import Row
from xchronos.clock import SystemClock
from xchronos.config import Settings
from xchronos.daemon.daemon import Daemon
from xchronos.daemon.main import run as run_daemon
from xchronos.executors.contract import Executor, StepSpec
from xchronos.executors.noop import CallableExecutor
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.registry.transitions import put
from xchronos.store.contract import Txn
from xchronos.store.sqlite.store import SqliteStore

ROOT = Path(__file__).resolve().parents[2]
UNANSWERED = 30.0
"""The seconds that count for a request without a good answer."""

TINY = {"seconds": 2.0, "calm": 3.0, "units": 20, "history": 20, "connections": 40}
UNIT = "[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=python\nHistoryLimit=5\n"
FAST = {"second.service": ("TriggerRepeatInterval=1s\n", 1.0), "ten.service": ("TriggerRepeatInterval=10ms\n", 0.01)}
PORTS = "[Container]\nImage=busybox\n" + "PublishPort=1-65535:1-65535\n" * 50
KEYS = "[Service]\nExecStart=/bin/true\n" + "".join(f"RestrictAddressFamil{n}=x\n" for n in range(1_900))


class _Bench(Daemon):
    """A daemon whose steps are calls that note how late they are."""

    def __init__(self, settings: Settings, notes: Path) -> None:
        super().__init__(settings)
        self._notes = notes.open("w", buffering=1 << 16)

    def make_executors(self) -> dict[str, Executor]:
        def step(spec: StepSpec) -> int:
            fire = datetime.fromisoformat(spec.env["XCHRONOS_FIRE_TIME"]).timestamp()
            now = time.time()
            self._notes.write(f"{spec.unit} {fire:.6f} {now - fire:.6f}\n")
            return 0

        return {"python": CallableExecutor("python", step)}

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._notes.close()


def _daemon(directory: Path, port: int) -> None:
    """The daemon's process."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    settings = Settings(
        units=(directory / "units",), state_directory=directory / "state", api_listen=f"127.0.0.1:{port}",
        machine_id="bench", log_level="warning",
    )  # fmt: skip
    sys.exit(run_daemon(settings, lambda told: _Bench(told, directory / "notes")))


async def _fill(directory: Path, units: int, history: int) -> None:
    """What there is to list: units that never fire, and a long history of one."""
    (directory / "state").mkdir()
    store, clock = await SqliteStore.open(directory / "state/xchronos.db"), SystemClock()
    registry = Registry(store, Keys())
    for number in range(units):
        text = f"[Unit]\nDescription=Job {number}\n{UNIT}TriggerCron=0 0 1 1 *\n"
        await registry.submit(f"job-{number:05d}.service", text.encode(), now=clock.now())
    await registry.submit("old.service", f"{UNIT}".replace("=5", "=100000").encode(), now=clock.now())
    writes = [put(Keys(), ended("old.service", -number)) for number in range(history)]
    for first in range(0, history, 100):
        await store.commit(Txn((), tuple(writes[first : first + 100])))
    await store.close()
    units_directory = directory / "units"
    units_directory.mkdir()
    for name, (trigger, _) in FAST.items():
        (units_directory / name).write_text(UNIT + trigger)


class Attack:
    """Clients of one address, none of which minds what it is answered."""

    def __init__(self, port: int, directory: Path, connections: int) -> None:
        self.port = port
        self.directory = directory
        self.connections = connections
        self.probes: list[float] = []
        self.answers: list[float] = []
        self._held: list[asyncio.StreamWriter] = []

    async def ask(self, method: str, path: str, body: bytes = b"") -> int:
        """One request on a connection of its own: the status, 0 without an answer."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            line = await asyncio.wait_for(reader.readline(), 30)
            while await asyncio.wait_for(reader.read(1 << 16), 30):
                pass
            writer.close()
        except (OSError, TimeoutError):
            return 0
        return int(line.split()[1]) if line else 0

    async def hold(self) -> None:
        """Half-open connections and half requests, always more than there may be."""
        halves = (
            b"",
            b"GET /v1/units HTT",
            b"PUT /v1/units/x.service HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\nx",
        )
        for number in range(self.connections):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(halves[number % len(halves)])
            except OSError:
                continue
            self._held.append(writer)
        self.drop(len(self._held) - self.connections)

    def drop(self, count: int) -> None:
        """Close the oldest of them."""
        for writer in self._held[: max(0, count)]:
            writer.close()
        del self._held[: max(0, count)]

    async def measure(self, path: str, found: list[float]) -> None:
        """How long one answer takes; UNANSWERED when its status is not 200."""
        begin = time.perf_counter()
        status = await self.ask("GET", path)
        found.append(time.perf_counter() - begin if status == 200 else UNANSWERED)

    async def spoil_files(self) -> None:
        """Names that are no text, and units whose environment never ends or never begins."""
        units = os.fsencode(self.directory / "units")
        name = units + b"/bad\xff.service"
        Path(os.fsdecode(name)).write_bytes(UNIT.encode())
        await asyncio.sleep(0.3)
        Path(os.fsdecode(name)).unlink()

    async def run(self, seconds: float) -> None:
        """Everything together for so long."""
        pipe = self.directory / "pipe"
        if not pipe.exists():
            os.mkfifo(pipe)
        for name, file in (("pipe", pipe), ("zero", Path("/dev/zero"))):
            text = UNIT.replace("ExecStart", f"EnvironmentFile={file}\nExecStart") + "TriggerRepeatInterval=2s\n"
            (self.directory / f"units/{name}.service").write_text(text)
        metadata = json.dumps({"set": {"a": "x" * 900_000}}).encode()
        end = time.monotonic() + seconds

        async def again(pause: float, work: Callable[[], Awaitable[Any]]) -> None:
            while time.monotonic() < end:
                await work()
                await asyncio.sleep(pause)

        def burst() -> Awaitable[Any]:
            return asyncio.gather(*(self.ask("GET", "/v1/executions?limit=5000") for _ in range(200)))

        await asyncio.gather(
            again(2, self.hold),
            again(0.2, lambda: self.ask("PUT", "/v1/units/ports.service", PORTS.encode())),
            *(again(0.1, lambda: self.ask("POST", "/v1/verify", KEYS.encode())) for _ in range(2)),
            again(0.5, lambda: self.ask("POST", "/v1/verify", b"x" * 3_000_000)),
            *(again(0.1, lambda: self.ask("GET", "/v1/units?limit=5000")) for _ in range(8)),
            again(5, burst),
            again(1, lambda: self.ask("PATCH", "/v1/machines/bench/metadata", metadata)),
            again(1, self.spoil_files),
        )
        self.drop(len(self._held))

    async def watch(self, attacking: subprocess.Popen[bytes]) -> None:
        """A probe and an administrator, who ask now and then until the attacks are over."""
        while attacking.poll() is None:
            await self.measure("/healthz", self.probes)
            await asyncio.sleep(0.25)
            await self.measure("/v1/units/second.service/calendar", self.answers)
            await asyncio.sleep(0.25)

    async def use(self) -> None:
        """What is asked on any day, so that what is kept of that is not taken for what attacks leave behind."""
        for _ in range(10):
            for path in (
                "units?limit=5000",
                "executions?limit=5000",
                "machines",
                "status",
                "units/ten.service/calendar",
            ):
                await self.ask("GET", f"/v1/{path}")
            await self.ask("POST", "/v1/verify", UNIT.encode())
            await self.ask("PUT", "/v1/units/used.service", UNIT.encode())


def _memory(process: int) -> float:
    """What a process and its children have of the machine's memory, in MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    own = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return own + sum(_memory(int(child)) for child in children)


def _free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _late(notes: Path, unit: str, begin: float, end: float) -> tuple[list[float], int]:
    """The lateness of a unit's fires in milliseconds, and how many fire times between the first and the last have none."""
    rows = [line.split() for line in notes.read_text().splitlines() if line.count(" ") == 2]
    fires = {float(fire): float(late) for name, fire, late in rows if name == unit and begin <= float(fire) < end}
    if len(fires) < 2:
        return [0.0, 0.0], 0
    interval = FAST[unit][1]
    expected = round((max(fires) - min(fires)) / interval) + 1
    return [late * 1000 for late in fires.values()], expected - len(fires)


async def _measured(
    seconds: float, calm: float, units: int, history: int, connections: int, settle: float
) -> list[Row]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("XCHRONOS_BENCH_DIR")) as name:
        directory, port = Path(name), _free_port()
        await _fill(directory, units, history)
        command = [sys.executable, "-m", "tests.benchmarks.bench_attack", name, str(port)]
        with (directory / "log").open("wb") as log:
            daemon = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        attack = Attack(port, directory, connections)
        try:
            while await attack.ask("GET", "/v1/units/ten.service") != 200:
                await asyncio.sleep(0.2)
            await attack.use()
            await asyncio.sleep(min(calm, 3))
            rest = time.time()
            await asyncio.sleep(calm)
            before, begin = _memory(daemon.pid), time.time()
            attacking = subprocess.Popen([*command, str(seconds), str(connections)], cwd=ROOT)
            await attack.watch(attacking)
            if attacking.wait():
                raise RuntimeError("the attacks broke off")
            end = time.time()
            await asyncio.sleep(settle)
            after = _memory(daemon.pid)
        finally:
            daemon.terminate()
            daemon.wait(60)
        print(
            sorted(round(x * 1000) for x in attack.probes)[-12:],
            sorted(round(x * 1000) for x in attack.answers)[-12:],
            len(attack.probes),
            file=sys.stderr,
        )
        notes, found = directory / "notes", []
        for unit in FAST:
            quiet, _ = _late(notes, unit, rest, begin)
            late, missed = _late(notes, unit, begin, end)
            p99, usual = (statistics.quantiles(each, n=100)[98] for each in (late, quiet))
            found += [
                Row(
                    f"attack: {unit}, lateness p99",
                    p99,
                    "ms",
                    "<= 20",
                    "without attacks",
                    p99 / usual if usual else None,
                ),
                Row(f"attack: {unit}, the latest", max(late), "ms"),
                Row(f"attack: {unit}, fire times without a start", missed, "", "<= 0"),
            ]
        log_bytes = (directory / "log").stat().st_size
    return [
        *found,
        Row("attack: memory afterwards", after, "MiB", "", "before", after / before, "<= 1.1"),
        Row("attack: /healthz, the slowest", max(attack.probes) * 1000, "ms", "<= 100"),
        Row("attack: an administrator's request, the slowest", max(attack.answers) * 1000, "ms", "<= 100"),
        Row("attack: the log", log_bytes / 1024, "KiB"),
    ]


def run(
    seconds: float = 30.0, calm: float = 10.0, units: int = 2_000, history: int = 5_000, connections: int = 1_300,
    settle: float = 2.0,
) -> list[Row]:  # fmt: skip
    """All attacks for so many seconds. XCHRONOS_ATTACK_SECONDS counts more: 300 for what is to be shown."""
    asked = os.environ.get("XCHRONOS_ATTACK_SECONDS")
    if asked:
        seconds, calm, settle = float(asked), max(calm, float(os.environ.get("XCHRONOS_ATTACK_CALM", "60"))), 60.0
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    return asyncio.run(_measured(seconds, calm, units, history, connections, settle))


if __name__ == "__main__":  # the daemon, or the attacks, in a process of its own
    where, to = Path(sys.argv[1]), int(sys.argv[2])
    if sys.argv[3:]:
        asyncio.run(Attack(to, where, int(sys.argv[4])).run(float(sys.argv[3])))
    else:
        _daemon(where, to)
