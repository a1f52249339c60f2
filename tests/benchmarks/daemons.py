"""What schedules, seen from outside: a daemon of ours in a process of its own, and the peer that it is compared with.

A side is told what to do by lines of JSON on its standard input, and answers with lines of JSON that name the command
in `ev`. `Ours` is a whole `xchronosd` on etcd whose steps are Python calls that note how late they are. The peer is in
`tests/benchmarks/peer.py`.
"""

import asyncio
import json
import os
import queue
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from tests.services.etcd import EtcdCluster, free_ports
from xchronos.config import Settings
from xchronos.daemon.daemon import Daemon
from xchronos.daemon.main import run as run_daemon
from xchronos.executors.contract import Executor, StepSpec
from xchronos.executors.noop import CallableExecutor
from xchronos.model.compile.unit import compile_unit
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys
from xchronos.registry.units import record_of
from xchronos.store.contract import Put, Txn
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.store import EtcdStore

ROOT = Path(__file__).resolve().parents[2]

UNIT = (
    "[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=python\nHistoryLimit=5\nMisfireThreshold=1h\n"
)

GIVEN = ("Txn", "Range", "DeleteRange", "Put", "LeaseGrant", "LeaseRevoke", "Compact")
"""The requests that are counted. Renewals of leases are messages on a stream, and are not among them."""

PATIENCE = 180.0
"""Seconds that an answer may take before the measurement is given up."""

UNASKED = ("probe", "probe-added", "final", "ended")
"""What a side says without being asked."""

ON_TIME = 0.05
"""A start that is at most so many seconds late is on time."""


def requests(etcd: EtcdCluster) -> int:
    """How many requests etcd has had so far, renewals of leases left out."""
    calls = etcd.calls()
    return sum(calls[method] for method in GIVEN)


def cpu_of(process: int) -> float:
    """The seconds of CPU that a process has used, all threads together."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Lateness:
    """How late starts were, and how many of them were early."""

    def __init__(self) -> None:
        self.started = 0
        self.first_on_time: float | None = None
        self.reset()

    def reset(self) -> None:
        """Forget it; what has started stays counted."""
        self._late = array("d")

    def note(self, fire: float, now: float) -> None:
        """A start at `now` (unix seconds) for the fire time `fire`."""
        self.started += 1
        late = now - fire
        self._late.append(late)
        if self.first_on_time is None and late <= ON_TIME:
            self.first_on_time = now

    def told(self) -> dict[str, float]:
        """Since the last `reset`: how many, the 50th and 99th percentile in milliseconds, and how many were early."""
        late = sorted(self._late)
        cuts = statistics.quantiles(late, n=100) if len(late) > 1 else [late[0] if late else 0.0] * 99
        return {
            "n": len(late), "p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3, "early": sum(each < 0 for each in late),
        }  # fmt: skip


class _Measured(Daemon):
    """A daemon that answers the commands."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._lateness = Lateness()
        threading.Thread(target=self._obey, daemon=True).start()

    def make_executors(self) -> dict[str, Executor]:
        def step(spec: StepSpec) -> int:
            self._lateness.note(datetime.fromisoformat(spec.env["XCHRONOS_FIRE_TIME"]).timestamp(), time.time())
            return 0

        return {"python": CallableExecutor("python", step)}

    def _obey(self) -> None:
        for line in sys.stdin:
            command = json.loads(line)["cmd"]
            answer: dict[str, Any] = {}
            if command == "look":
                answer = {
                    "at": time.time(),
                    "started": self._lateness.started,
                    "first_on_time": self._lateness.first_on_time,
                    "recorded": self._counted("xchronos_attempts_total", {"outcome": "succeeded"}),
                    "units": self._counted("xchronos_units", {}),
                }
            elif command == "dump":
                answer = self._lateness.told()
            elif command == "reset":
                self._lateness.reset()
            print(json.dumps({"ev": command, **answer}), flush=True)

    def _counted(self, name: str, labels: dict[str, str]) -> float:
        return (self._roles.metrics.get_sample_value(name, labels) or 0.0) if self._roles is not None else 0.0


class Side(Protocol):
    """One who schedules, in a process of its own."""

    process: subprocess.Popen[str]

    def ask(self, command: str, **more: object) -> dict[str, Any]:
        """Have a command obeyed; the answer."""

    def add(self, count: int, due: float, step: float, every: float | None) -> None:
        """Jobs of which the n-th is due at `due + n * step` (unix seconds), then `every` so many seconds; None: once."""

    def ready(self, jobs: int) -> None:
        """Wait until it knows so many jobs."""

    def recorded(self, jobs: int) -> float:
        """Wait until the runs of so many one-shots are recorded; when that was, in unix seconds."""

    def end(self) -> None:
        """kill -9: there is nothing to be kept."""


class Talking:
    """A process that is told lines of JSON, and answers with such."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            )  # fmt: skip
        self.log = log
        self.told: list[dict[str, Any]] = []
        """What it said without being asked."""
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            said = json.loads(line)
            (self.told.append if said["ev"] in UNASKED else self._answers.put)(said)
        self._answers.put({"ev": "gone"})

    def ask(self, command: str, **more: object) -> dict[str, Any]:
        """Have a command obeyed; the answer. Raises RuntimeError if the process has ended, queue.Empty after long."""
        self.process.stdin.write(json.dumps({"cmd": command, **more}) + "\n")
        self.process.stdin.flush()
        answer = self._answers.get(timeout=PATIENCE)
        if answer["ev"] == "gone":
            raise RuntimeError(f"{self.process.args!r} has ended:\n{self.log.read_text(errors='replace')[-2000:]}")
        return answer

    def until(self, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Look again and again, until that is so."""
        end = time.monotonic() + PATIENCE
        while not reached(seen := self.ask("look")):
            if time.monotonic() > end:
                raise TimeoutError(f"after {PATIENCE:.0f} s there is only {seen}")
            time.sleep(0.05)
        return seen

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it by a signal; kill -9 unless told otherwise."""
        self.process.send_signal(number)
        self.process.wait(60)
        self._reader.join()
        self.process.stdin.close()
        self.process.stdout.close()


class Ours(Talking):
    """A whole daemon of this checkout on an etcd."""

    def __init__(self, endpoint: str, directory: Path, port: int = 0) -> None:
        directory.mkdir(exist_ok=True)
        self._endpoint = endpoint
        self.port = port or free_ports(1)[0]
        program = [sys.executable, "-m", "tests.benchmarks.daemons", endpoint, str(directory), str(self.port)]
        super().__init__(program, directory / "log")

    def write(self, texts: Sequence[tuple[str, str]]) -> None:
        """Store units by name, many in one Txn: what is measured comes afterwards."""

        async def write() -> None:
            store, keys = await EtcdStore.open(EtcdAccess(endpoints=(self._endpoint,))), Keys()
            try:
                for base in range(0, len(texts), 100):
                    puts = []
                    for name, text in texts[base : base + 100]:
                        record = record_of(text.encode(), compile_unit(name, text))
                        puts.append(Put(keys.job(name), encode(record)))
                    await store.commit(Txn((), puts))
            finally:
                await store.close()

        asyncio.run(write())

    def add(self, count: int, due: float, step: float, every: float | None) -> None:
        texts = []
        for number in range(count):
            at = datetime.fromtimestamp(due + number * step, UTC).isoformat(timespec="microseconds")
            when = f"TriggerAt={at}\n" if every is None else f"TriggerISO8601=R/{at}/PT{every:g}S\n"
            texts.append((f"u{number}.service", UNIT + when))
        self.write(texts)

    def ready(self, jobs: int) -> None:
        """Wait until it has so many units, and its API listens: that is another process."""
        self.until(lambda seen: seen["units"] >= jobs)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except ConnectionRefusedError:
                time.sleep(0.01)
            else:
                return

    def recorded(self, jobs: int) -> float:
        return self.until(lambda seen: seen["recorded"] >= jobs)["at"]


if __name__ == "__main__":  # the daemon
    etcd, place, listen = sys.argv[1:]
    told = Settings(
        store=f"etcd://{etcd}", state_directory=Path(place) / "state", api_listen=f"127.0.0.1:{listen}",
        machine_id="bench", log_level="warning",
    )  # fmt: skip
    sys.exit(run_daemon(told, _Measured))
