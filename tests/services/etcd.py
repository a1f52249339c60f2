"""Real etcd servers on free ports in a directory of the test's own: one, or a cluster whose members can be hurt.

    cluster = EtcdCluster(tmp_path, places=[Place()] * 3)
    cluster.start()
    cluster.members[0].kill()          # also: pause, resume, stop, start
    cluster.compact(); cluster.defrag(); cluster.calls()
    cluster.stop()

`XCHRONOS_TEST_ETCD` names a directory with other `etcd` and `etcdctl` programs than those in PATH. Everything here
blocks; inside an event loop, `asyncio.to_thread` keeps that going.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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


class EtcdError(RuntimeError):
    """A server did not do what it was asked; the text has the end of its log."""


def program(name: str) -> str | None:
    """The path of `etcd` or `etcdctl`, if there is one."""
    chosen = os.environ.get("XCHRONOS_TEST_ETCD")
    return shutil.which(name, path=chosen) if chosen else shutil.which(name)


def missing() -> str:
    """Why no etcd can be started here; empty when it can."""
    absent = [name for name in ("etcd", "etcdctl") if program(name) is None]
    absent += [name for name in ("openssl",) if shutil.which(name) is None]
    return f"no {', no '.join(absent)} (Debian and Ubuntu: etcd-server, etcd-client, openssl)" if absent else ""


@cache
def version() -> tuple[int, ...]:
    """The server's, like (3, 4, 23)."""
    text = subprocess.run([program("etcd"), "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in re.search(r"Version: (\d+)\.(\d+)\.(\d+)", text).groups())


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the kernel hands out, so that a member that restarts finds its own."""
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            port = random.randrange(12_000, 32_000)
            sock = held.enter_context(socket.socket())
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    return ports


def fast_directory() -> Path | None:
    """A directory in memory, where durability is not the question and a disk would only be in the way."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else None


class EtcdMember:
    """One server process, started and hurt by itself."""

    def __init__(self, cluster: "EtcdCluster", number: int, place: Place, client: int, peer: int) -> None:
        self.cluster = cluster
        self.place = place
        self.name = f"m{number + 1}"
        scheme = "https" if cluster.tls else "http"
        self.endpoint = f"{scheme}://{place.host}:{client}"
        self.peer_url = f"http://{place.host}:{peer}"
        self.data = cluster.directory / f"{self.name}.etcd"
        self.log = cluster.directory / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process, anew after `kill` or `stop`; does not wait for it to answer."""
        assert not self.running, f"{self.name} runs already"
        # A server that outlives a killed test run would be in everybody's way.
        die = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*die, *self.place.prefix, *self._command()], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _command(self) -> list[str]:
        cluster, tls = self.cluster, self.cluster.tls
        command = [program("etcd"), "--name", self.name, "--data-dir", str(self.data), "--log-level", "warn"]
        command += ["--logger", "zap", "--log-outputs", "stderr"]
        command += ["--listen-client-urls", self.endpoint, "--advertise-client-urls", self.endpoint]
        command += ["--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url]
        command += ["--initial-cluster", ",".join(f"{m.name}={m.peer_url}" for m in cluster.members)]
        if cluster.fast and version() >= (3, 5):
            command += ["--unsafe-no-fsync"]
        if tls:
            command += ["--cert-file", str(tls.cert), "--key-file", str(tls.key)]
            if tls.clients:
                command += ["--client-cert-auth", "--trusted-ca-file", str(tls.ca)]
        return [*command, *cluster.arguments]

    def wait(self, patience: float = PATIENCE) -> None:
        """Until it answers and knows a leader."""
        deadline = time.monotonic() + patience
        while True:
            answer = self.ctl("endpoint", "health", check=False, timeout=5)
            if answer.returncode == 0:
                return
            if not self.running:
                raise EtcdError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise EtcdError(f"{self.name} is not healthy after {patience:g} s: {answer.stderr}\n{self.tail()}")
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
        """SIGSTOP: its sockets stay open, and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, as if no time had passed."""
        self.process.send_signal(signal.SIGCONT)

    def ctl(self, *arguments: str, check: bool = True, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run etcdctl against this member alone."""
        return self.cluster._ctl([self.endpoint], arguments, self.place, check, timeout)

    def status(self) -> dict:
        """What `etcdctl endpoint status` tells: `header`, `version`, `dbSize`, `leader` ..."""
        return json.loads(self.ctl("endpoint", "status", "-w", "json").stdout)[0]["Status"]

    @property
    def leads(self) -> bool:
        status = self.status()
        return status.get("leader") == status["header"]["member_id"]

    def metrics(self) -> dict[str, float]:
        """Every sample that the server tells, by its name with its labels."""
        assert not self.cluster.tls, "metrics are read without TLS"
        url = f"{self.endpoint}/metrics"
        if self.place.prefix:
            fetch = (
                "import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1], timeout=10).read())"
            )
            command = [*self.place.prefix, sys.executable, "-c", fetch, url]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        else:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, timeout=10) as answer:
                text = answer.read().decode()
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}


class EtcdCluster:
    """Members that know each other.

    Args:
        directory: for data and logs; the cluster's own.
        places: where the members run; one makes a server without a cluster.
        fast: give up durability against power cuts, as tests may.
        arguments: more options of the servers.
        tls: what the clients must use; members speak plainly to each other.

    Once authentication is on, etcdctl needs `user`: `name:password`.
    """

    def __init__(
        self,
        directory: Path,
        places: Sequence[Place] = (Place(),),
        *,
        fast: bool = True,
        arguments: Sequence[str] = (),
        tls: Tls | None = None,
    ) -> None:
        self.directory = directory
        self.fast = fast
        self.arguments = tuple(arguments)
        self.tls = tls
        self.user = ""
        ports = free_ports(2 * len(places))
        self.members = [
            EtcdMember(self, number, place, ports[2 * number], ports[2 * number + 1])
            for number, place in enumerate(places)
        ]

    @property
    def endpoints(self) -> list[str]:
        """The clients' URLs of all members."""
        return [member.endpoint for member in self.members]

    @property
    def leader(self) -> EtcdMember:
        """The member that leads the others, once there is one."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for member in self.members:
                if member.running and member.leads:
                    return member
            time.sleep(0.05)
        raise EtcdError(f"no member leads after {PATIENCE:g} s")

    def start(self) -> "EtcdCluster":
        """Start every member that does not run, and wait until all answer."""
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

    def ctl(self, *arguments: str, check: bool = True, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run etcdctl with every member's endpoint."""
        return self._ctl(self.endpoints, arguments, self.members[0].place, check, timeout)

    def _ctl(
        self, endpoints: list[str], arguments: Sequence[str], place: Place, check: bool, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        command = [*place.prefix, program("etcdctl"), "--endpoints", ",".join(endpoints)]
        if self.tls:
            command += ["--cacert", str(self.tls.ca)]
            if self.tls.clients:
                command += ["--cert", str(self.tls.cert), "--key", str(self.tls.key)]
        if self.user:
            command += ["--user", self.user]
        command += ["--command-timeout", f"{timeout:g}s", *arguments]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if check and done.returncode:
            raise EtcdError(f"etcdctl {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def revision(self) -> int:
        """The newest one."""
        return max(member.status()["header"]["revision"] for member in self.members if member.running)

    def compact(self, revision: int = 0) -> int:
        """Forget what was before a revision; 0: before the newest. Returns the revision."""
        revision = revision or self.revision()
        done = self.ctl("compaction", str(revision), check=False)
        if done.returncode and "has been compacted" not in done.stderr:
            raise EtcdError(f"compaction: {done.stderr.strip()}")
        return revision

    def defrag(self) -> None:
        """Give space back, on every member that runs, one after another."""
        for member in self.members:
            if member.running:
                member.ctl("defrag")

    def calls(self) -> Counter[str]:
        """How many requests of each method (`Range`, `Txn`, `LeaseGrant` ...) clients have made so far, in all."""
        found: Counter[str] = Counter()
        for member in self.members:
            if member.running:
                for name, value in member.metrics().items():
                    if value and name.startswith("grpc_server_started_total{"):
                        found[re.search(r'grpc_method="(\w+)"', name)[1]] += int(value)
        return found
