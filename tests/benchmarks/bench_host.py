"""What a host step costs: a whole daemon on one core carries out executions of `/bin/true`, more than it can in that time.

CPU and bytes are those of the daemon and of all its children, the programs themselves included, from right before the
first fire to the last end. Bytes are what the kernel counts as written to the disk (`/proc/PID/io`: whole pages; those
of files that were removed before they were written back are taken off). Beside it stands the same without a store on
the disk, so that the two tell the step from its records. The reference is the CPU of a bare fork and exec of
`/bin/true`.
"""

import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.rows import Row
from xchronos.client import Client
from xchronos.errors import ApiError

COUNT = 1_200
UNITS = 20
"""So many that no unit has a hundred executions that wait for a machine: what comes beyond that is not begun."""

PERIOD_MS = 80
"""Between two fire times of a unit: all of them together are more than can be carried."""

TINY = {"count": 20}
LIMIT = 120.0
"""Seconds after which a run is given up."""

ROOT = Path(__file__).resolve().parents[2]
UNIT = (
    "[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=process\nHistoryLimit=5\nMisfireThreshold=1h\n"
    "TriggerStartDelay={delay}\nTriggerRepeatInterval={period}\nTriggerRepeatCount={repeats}\n"
)
PINNED = (
    "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); os.execv(sys.executable, sys.argv[1:])"
)
_TICK = os.sysconf("SC_CLK_TCK")


class Spent(NamedTuple):
    """CPU in seconds, and bytes written to the disk, of a process, its children, and those that these have waited for."""

    cpu: float
    written: int

    @classmethod
    def of(cls, pid: int) -> "Spent":
        """What a process and its living children have spent so far."""
        cpu, written = 0.0, 0
        children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        for one in (pid, *map(int, itertools.chain(*children))):
            with suppress(FileNotFoundError, ProcessLookupError):  # a child that has ended meanwhile
                fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
                io = dict(line.split(": ") for line in Path(f"/proc/{one}/io").read_text().splitlines())
                cpu += sum(map(int, fields[11:15])) / _TICK
                written += int(io["write_bytes"]) - int(io["cancelled_write_bytes"])
        return cls(cpu, written)


def _measure(count: int, store: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("XCHRONOS_BENCH_DIR")) as name:
        state, address = Path(name) / "state", Path(name) / "api"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "XCHRONOS_STATE_DIRECTORY": str(state),
            "XCHRONOS_STORE": store,
            "XCHRONOS_API_LISTEN": f"unix://{address}",
            "XCHRONOS_ALLOW_PROCESS": "true",
            "XCHRONOS_SLOTS": "8",
            "XCHRONOS_LOG_LEVEL": "error",
        }
        command = [sys.executable, "-c", PINNED, sys.executable, "-m", "xchronos", "daemon"]
        daemon = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        try:
            return _carried(address, daemon.pid, count)
        finally:
            daemon.terminate()
            daemon.wait(60)


def _carried(address: Path, pid: int, count: int) -> dict[str, float]:
    client = Client(f"unix://{address}", timeout=60)
    end = time.monotonic() + LIMIT
    while True:
        with suppress(ApiError):
            client.status()
            break
        if time.monotonic() > end:
            raise TimeoutError("the daemon does not answer")
        time.sleep(0.05)
    each = count // UNITS
    for number in range(UNITS):
        delay = 2000 + number * PERIOD_MS // UNITS
        text = UNIT.format(delay=delay, period=PERIOD_MS, repeats=each - 1)
        client.submit(f"u{number}.service", text.encode())
    time.sleep(1)
    before, begin = Spent.of(pid), 0.0
    while (ended := _ended(address)) < each * UNITS:
        if time.monotonic() > end:
            raise TimeoutError(f"{ended} of {each * UNITS} have ended")
        if not begin and ended:
            begin, first = time.monotonic(), ended
        time.sleep(0.25 if begin else 0.01)
    took, spent = time.monotonic() - begin, Spent.of(pid)
    return {
        "per_s": (each * UNITS - first) / took if took else float(count),
        "cpu_ms": 1000 * (spent.cpu - before.cpu) / (each * UNITS),
        "written_kb": (spent.written - before.written) / 1024 / (each * UNITS),
    }


def _ended(address: Path) -> int:
    """How many attempts have ended, as the daemon counts them."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(address))
        peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: daemon\r\nConnection: close\r\n\r\n")
        answer = b""
        while more := peer.recv(65536):
            answer += more
    lines = answer.decode().splitlines()
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("xchronos_attempts_total{")))


def _bare(count: int) -> float:
    """Milliseconds of CPU of a fork and an exec."""
    before = os.times()
    for _ in range(count):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return 1000 * (sum(os.times()[:4]) - sum(before[:4])) / count


def run(count: int = COUNT) -> list[Row]:
    """Measure."""
    bare = _bare(count)
    with_records = _measure(count, "sqlite:")
    without = _measure(count, "memory:")
    cpu = with_records["cpu_ms"]
    return [
        Row("host steps on one core", with_records["per_s"], "/s", ">= 100"),
        Row(
            "the same, CPU each", cpu, "ms", "<= 10",
            reference="bare fork and exec", ratio=cpu / bare if bare else None,
        ),
        Row("the same, written to the disk each", with_records["written_kb"], "KB"),
        Row("the same without a store on the disk", without["written_kb"], "KB", "<= 4"),
        Row("the same, CPU each without a store", without["cpu_ms"], "ms"),
    ]  # fmt: skip
