"""A real daemon as its users have it: a process, a state directory, a directory of unit files, and xchronosctl."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from xchronos.client import Client
from xchronos.errors import ApiError

T = TypeVar("T")
PATIENCE = 180.0
"""Seconds after which what takes a moment on a machine with nothing else to do counts as hanging."""


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(ask: Callable[[], T], limit: float = PATIENCE, pause: float = 0.1) -> T:
    """Ask until the answer is true; the last answer is in the failure."""
    end = time.monotonic() + limit
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s; last answer: {answer!r}")
        time.sleep(pause)


class House:
    """One daemon that can be killed and started again over the same state."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.units = root / "units"
        self.units.mkdir()
        self.state = root / "state"
        self.log = root / "xchronosd.log"
        self.port = free_port()
        self.client = Client(f"http://127.0.0.1:{self.port}", timeout=120)
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "XCHRONOS_STATE_DIRECTORY": str(self.state),
            "XCHRONOS_API_LISTEN": f"127.0.0.1:{self.port}",
            "XCHRONOS_API": f"http://127.0.0.1:{self.port}",
            "XCHRONOS_MACHINE_ID": "here",
        }

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "xchronos", "daemon", *self.arguments, str(self.units)],
                env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        eventually(self._answers, pause=0.02)

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"xchronosd ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        return self._listens()

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """kill -9, as a power cut of the daemon alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        # The process that serves its API ends with it, but not in the same instant.
        eventually(lambda: not self._listens(), pause=0.005)

    def terminate(self, limit: float = 60.0) -> int:
        """SIGTERM, and wait for the end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit)

    def close(self) -> None:
        """End the daemon if it still runs, and whatever it leaves in the engine."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if left := self.containers():
            subprocess.run(["docker", "rm", "-f", *left], capture_output=True, check=False)

    def containers(self, unit: str = "") -> list[str]:
        """What docker has of this daemon's containers, running or not: all, or a unit's."""
        identity = self.state / "instance"
        if not identity.exists():
            return []
        wanted = [f"xchronos.owner={identity.read_text().strip()}", *([f"xchronos.unit={unit}"] if unit else [])]
        return listed(*wanted)

    def ctl(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run xchronosctl against this daemon."""
        return subprocess.run(
            [sys.executable, "-m", "xchronos", *words],
            env=self.environment, input=stdin, capture_output=True, timeout=120, check=False,
        )  # fmt: skip

    def text(self, *words: str) -> str:
        """What xchronosctl prints; it has to succeed."""
        done = self.ctl(*words)
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout.decode()

    def drop(self, name: str, text: str) -> None:
        """Put a unit file into the directory, as an editor does: whole, by rename."""
        fresh = self.units / f".{name}.new"
        fresh.write_text(text)
        fresh.rename(self.units / name)

    def executions(self, unit: str = "") -> list[dict[str, Any]]:
        """All executions of a unit or of all, oldest first; none while there is no such unit.

        As `list-executions --output json` prints them, but without a program that starts each time that somebody looks.
        """
        try:
            listed = self.client.executions(unit, limit=1000).executions
        except ApiError as error:
            if error.status == 404:
                return []  # not taken in yet
            raise
        found = json.loads(msgspec.json.encode(listed))
        return sorted(found, key=lambda execution: (execution["fire_time"], execution.get("copy", 0)))

    def ended(self, unit: str) -> list[dict[str, Any]]:
        """Those that have ended, without records of misses."""
        return [e for e in self.executions(unit) if e.get("state") == "ended" and e.get("outcome") != "missed"]

    def missed(self, unit: str) -> list[dict[str, Any]]:
        """The records of missed fire times."""
        return [e for e in self.executions(unit) if e.get("outcome") == "missed"]


def moment(text: str) -> datetime:
    """A time in JSON."""
    return datetime.fromisoformat(text).astimezone(UTC)


def seconds(texts: Iterable[str], since: datetime) -> list[float]:
    """Times in JSON as seconds since a moment."""
    return [(moment(text) - since).total_seconds() for text in texts]


def listed(*labels: str) -> list[str]:
    """The containers that have all of these labels, running or not; none where no engine answers."""
    filters = [word for label in labels for word in ("--filter", f"label={label}")]
    done = subprocess.run(["docker", "ps", "-aq", *filters], capture_output=True, check=False)
    return done.stdout.decode().split()
