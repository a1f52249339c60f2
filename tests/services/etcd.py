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
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from .servers import PATIENCE, Cluster, Member, Place, ServerError, Tls


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
    """Ports that nobody listens on, below those that the kernel hands out, so that a member that restarts finds its own.

    Processes that share the tests have ranges of their own, for the same reason.
    """
    first = 12_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8 * 2_500
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            port = random.randrange(first, first + 2_500)
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


class EtcdMember(Member):
    """One server process, started and hurt by itself."""

    def __init__(self, cluster: "EtcdCluster", number: int, place: Place, client: int, peer: int) -> None:
        super().__init__(f"m{number + 1}", cluster.directory)
        self.cluster = cluster
        self.place = place
        scheme = "https" if cluster.tls else "http"
        self.endpoint = f"{scheme}://{place.host}:{client}"
        self.peer_url = f"http://{place.host}:{peer}"
        self.data = cluster.directory / f"{self.name}.etcd"

    def command(self) -> list[str]:
        """etcd, in its place."""
        cluster, tls = self.cluster, self.cluster.tls
        command = [
            *self.place.prefix,
            program("etcd"),
            "--name",
            self.name,
            "--data-dir",
            str(self.data),
            "--log-level",
            "warn",
        ]
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

    def trouble(self) -> str:
        """That it does not answer, or knows no leader."""
        answer = self.ctl("endpoint", "health", check=False, timeout=5)
        return f"is not healthy: {answer.stderr.strip()}" if answer.returncode else ""

    def ctl(self, *arguments: str, check: bool = True, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run etcdctl against this member alone."""
        return self.cluster._ctl([self.endpoint], arguments, self.place, check, timeout)

    def status(self) -> dict:
        """What `etcdctl endpoint status` tells: `header`, `version`, `dbSize`, `leader` ..."""
        return json.loads(self.ctl("endpoint", "status", "-w", "json").stdout)[0]["Status"]

    @property
    def leads(self) -> bool:
        """Whether it leads the others."""
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


class EtcdCluster(Cluster[EtcdMember]):
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
        super().__init__(directory, tls)
        self.fast = fast
        self.arguments = tuple(arguments)
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
            raise ServerError(f"etcdctl {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def revision(self) -> int:
        """The newest one."""
        return max(member.status()["header"]["revision"] for member in self.members if member.running)

    def compact(self, revision: int = 0) -> int:
        """Forget what was before a revision; 0: before the newest. Returns the revision."""
        revision = revision or self.revision()
        done = self.ctl("compaction", str(revision), check=False)
        if done.returncode and "has been compacted" not in done.stderr:
            raise ServerError(f"compaction: {done.stderr.strip()}")
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
