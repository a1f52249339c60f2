"""Servers in processes of their own: what etcd and Consul have in common when tests start and hurt them."""

import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

PATIENCE = 30.0
"""Seconds that a server may take to answer."""


@dataclass(frozen=True)
class Place:
    """Where a member runs: the address that it listens on, and what its commands are prefixed with.

    In a network namespace: `Place("10.0.0.2", ("ip", "netns", "exec", "m2"))`.
    """

    host: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tls:
    """What clients must use: the authority's certificate, and the server's own certificate and key."""

    ca: Path
    cert: Path
    key: Path
    clients: bool = False
    """Whether clients must present a certificate of the same authority (tests present the server's)."""


class ServerError(RuntimeError):
    """A server did not do what it was asked; the text has the end of its log."""


class Member(ABC):
    """One server process, started and hurt by itself. Its log is in the cluster's directory."""

    place: Place

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What starts the server; asked right before it does."""

    @abstractmethod
    def trouble(self) -> str:
        """Why it cannot be used yet; empty when it can."""

    @property
    @abstractmethod
    def leads(self) -> bool:
        """Whether it leads the others."""

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process, anew after `kill` or `stop`; does not wait for it to answer."""
        assert not self.running, f"{self.name} runs already"
        # A server that outlives a killed test run would be in everybody's way.
        die = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*die, *self.command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait(self, patience: float = PATIENCE) -> None:
        """Until it can be used."""
        deadline = time.monotonic() + patience
        while trouble := self.trouble():
            if not self.running:
                raise ServerError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} {trouble} after {patience:g} s\n{self.tail()}")
            time.sleep(0.05)

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:]) if self.log.exists() else ""

    def kill(self) -> None:
        """As a crash does: kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """In good order."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def pause(self) -> None:
        """SIGSTOP: its sockets stay open, and nothing answers. Returns when it stands still, with all its threads."""
        self.process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + PATIENCE
        while not all(state == "T" for state in self._states()):
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} does not stop")
            time.sleep(0.01)

    def _states(self) -> list[str]:
        """What each of its threads is at, as the kernel says it."""
        found: list[str] = []
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(OSError):  # it has just ended
                found.append((thread / "stat").read_text().rpartition(")")[2].split()[0])
        return found

    def resume(self) -> None:
        """SIGCONT, as if no time had passed."""
        self.process.send_signal(signal.SIGCONT)


M = TypeVar("M", bound=Member)


class Cluster(Generic[M]):
    """Servers that know each other; `directory`, for data and logs, is their own."""

    def __init__(self, directory: Path, tls: Tls | None) -> None:
        self.directory = directory
        self.tls = tls
        self.members: list[M] = []

    @property
    def leader(self) -> M:
        """The member that leads the others, once there is one."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for member in self.members:
                if member.running and member.leads:
                    return member
            time.sleep(0.05)
        raise ServerError(f"no member leads after {PATIENCE:g} s")

    def start(self) -> Self:
        """Start every member that does not run, and wait until all can be used."""
        try:
            for member in self.members:
                if not member.running:
                    member.start()
            for member in self.members:
                member.wait()
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self) -> None:
        """kill -9 for all."""
        for member in self.members:
            member.kill()

    stop = kill
    """Tests keep nothing that a good order would save."""
