"""A cluster of the test's own: servers of a store and daemons as processes, each on a host of its own, and all can be hurt."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from tests.cluster import sink
from tests.cluster.launcher import FAILPOINTS, SINK
from tests.cluster.network import Host, Network
from tests.cluster.reaper import Reaper, start_ticks
from tests.cluster.stores import CHOSEN, ConsulServers, EtcdServers
from tests.services.servers import Member, Place
from xchronos.client import Client
from xchronos.errors import ApiError
from xchronos.model.records import Execution
from xchronos.registry.keys import SHARDS, shard_of

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
FULL = os.environ.get("XCHRONOS_CLUSTER_FULL") == "1"
"""Whether scenarios run at their full length."""

PATIENCE = 180.0
"""Seconds after which what takes a moment on a machine with nothing else to do counts as hanging."""


def eventually(ask: Callable[[], T], what: str, limit: float = PATIENCE, pause: float = 0.05) -> T:
    """Ask until the answer is true."""
    end = time.monotonic() + limit
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:g} s: {what}; last answer: {answer!r}")
        time.sleep(pause)


OPEN = ("waiting", "queued", "delayed", "placed", "running", "reported")


class Fenced(NamedTuple):
    """A write with the fence of a shard, as the launcher has noted it when the answer was there."""

    at: float
    shard: int
    term: int
    succeeded: bool


class DaemonProcess:
    """One xchronosd on a host of its own. Its API is on a unix socket, which no cut link takes away."""

    def __init__(self, cluster: "Cluster", name: str, roles: str, settings: Mapping[str, str]) -> None:
        self.cluster = cluster
        self.name = name
        self.host: Host = cluster.network.host(name)
        self.directory = cluster.directory / name
        self.directory.mkdir()
        self.failpoints = self.directory / "points"
        self.failpoints.mkdir()
        self.log = self.directory / "log"
        self.socket = self.directory / "api"
        self.client = Client(f"unix://{self.socket}", timeout=60)
        self.process: subprocess.Popen[bytes] | None = None
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("XCHRONOS_")}
        self.environment = {
            **inherited,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            "XCHRONOS_STATE_DIRECTORY": str(self.directory / "state"),
            "XCHRONOS_STORE": cluster.store,
            "XCHRONOS_NAMESPACE": cluster.namespace,
            "XCHRONOS_MACHINE_ID": name,
            "XCHRONOS_ROLES": f"{roles},api",
            "XCHRONOS_API_LISTEN": f"unix://{self.socket}",
            "XCHRONOS_ALLOW_PROCESS": "true",
            "XCHRONOS_HEARTBEAT_TTL": f"{cluster.ttl:g}s",
            "XCHRONOS_SHUTDOWN_GRACE": "2s",
            SINK: str(cluster.sink),
            FAILPOINTS: str(self.failpoints),
            **settings,
        }

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *, wait: bool = True) -> Self:
        """Start it, anew over the same state when it ran before."""
        assert not self.running, f"{self.name} runs already"
        self.socket.unlink(missing_ok=True)
        die = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*die, *self.host.prefix, sys.executable, "-m", "tests.cluster.launcher"],
                env=self.environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.cluster.reaper.note("process", f"{self.pid}:{start_ticks(self.pid)}")
        if wait:
            self.wait()
        return self

    def wait(self) -> None:
        """Until its API says that all is well."""
        eventually(self._well, f"{self.name} is well")

    def _well(self) -> bool:
        if not self.running:
            assert self.process is not None
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
        try:
            return not self.client.status().faults
        except ApiError:
            return False

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def kill(self) -> None:
        """kill -9. The steps that it runs in containers and host processes go on."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """In good order; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.send_signal(signal.SIGCONT)
        return self.process.wait(60)

    def pause(self) -> None:
        """SIGSTOP: it does not know that time passes."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def arm(self, point: str, unit: str) -> None:
        """Let it die by itself at a failpoint of the launcher."""
        fresh = self.failpoints / f".{point}"
        fresh.write_text(unit)
        fresh.rename(self.failpoints / point)

    def stopped(self) -> bool:
        """Whether it has stopped (SIGSTOP), by itself or from outside."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def fenced(self) -> list["Fenced"]:
        """The writes that its scheduler has fenced."""
        path = self.failpoints / "fenced"
        lines = path.read_text().splitlines() if path.exists() else []
        parts = (line.split() for line in lines)
        return [Fenced(float(at), int(shard), int(term), done == "1") for at, shard, term, done in parts]

    def died(self, limit: float = PATIENCE) -> None:
        """Wait until it has died at the failpoint."""
        eventually(lambda: not self.running, f"{self.name} dies at its failpoint", limit)
        assert self.process is not None
        assert self.process.returncode == -signal.SIGKILL, self.tail()


class Cluster:
    """Servers of a store and daemons, with the sink outside of them. Leaving the context removes everything.

    With `members` 0 there are no servers, and a daemon is alone with its embedded store. `options` are the servers'.
    """

    def __init__(
        self,
        store: type[EtcdServers | ConsulServers] = CHOSEN,
        *,
        members: int = 3,
        ttl: float = 2.0,
        **options: Any,
    ) -> None:
        self.ttl = ttl
        self.reaper = Reaper()
        # Unix sockets have short paths: not below pytest's own directory.
        self.directory = Path(tempfile.mkdtemp(prefix="xc-"))
        self.reaper.note("directory", str(self.directory))
        self.network = Network(self.reaper)
        self.namespace = self.network.prefix
        self.reaper.note("containers", self.namespace)
        shared = self.directory / "sink"
        shared.mkdir()
        self.sink = shared / "events"
        self.daemons: dict[str, DaemonProcess] = {}
        places = [self._place(f"e{number}") for number in range(members)]
        data = self.directory / "store"
        data.mkdir()
        self.servers = store(data, places, **options)

    def _place(self, name: str) -> Place:
        host = self.network.host(name)
        return Place(host.address, host.prefix)

    def __enter__(self) -> Self:
        try:
            self.servers.start()
        except BaseException:
            self.reaper.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for daemon in self.daemons.values():
                print(f"---- {daemon.name}\n{daemon.tail()}")
        for daemon in self.daemons.values():
            if daemon.running:
                daemon.kill()
        self.servers.kill()
        self.reaper.close()

    # -- daemons ------------------------------------------------------------------------------------------------------

    @property
    def store(self) -> str:
        """The URL of the job store; without members, each daemon has its own."""
        return self.servers.url if self.servers.members else "sqlite:"

    def daemon(self, name: str, roles: str = "scheduler,agent", **settings: str) -> DaemonProcess:
        """A daemon that is not started yet. Settings are named as in the environment, without XCHRONOS_."""
        named = {f"XCHRONOS_{key.upper()}": value for key, value in settings.items()}
        daemon = self.daemons[name] = DaemonProcess(self, name, roles, named)
        return daemon

    def start(self, *daemons: DaemonProcess) -> None:
        """Start daemons at the same time, and wait for all of them."""
        for daemon in daemons:
            daemon.start(wait=False)
        for daemon in daemons:
            daemon.wait()

    def pids(self) -> list[int]:
        """Every process that has to get a CPU for a claim to be on time."""
        members = [member.process.pid for member in self.servers.members if member.process is not None]
        return members + [daemon.pid for daemon in self.daemons.values() if daemon.running]

    def host_of(self, member: Member) -> Host:
        """Where a member of the store runs."""
        return next(host for host in self.network.hosts.values() if host.address == member.place.host)

    @property
    def client(self) -> Client:
        """The API of any daemon that runs."""
        return next(daemon.client for daemon in self.daemons.values() if daemon.running)

    # -- units and what became of them --------------------------------------------------------------------------------

    def submit(self, units: Mapping[str, str]) -> None:
        """Submit units, several at a time."""
        clients = [daemon.client for daemon in self.daemons.values() if daemon.running]
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda item: clients[hash(item[0]) % len(clients)].submit(item[0], item[1].encode()), units.items()
                )
            )

    def history(self, units: Iterable[str]) -> list[Execution]:
        """All executions of these units, by the API."""
        client = self.client
        found: list[Execution] = []
        for unit in units:
            page = client.executions(unit, limit=5_000)
            assert not page.more, unit
            found += page.executions
        return found

    def settled(self, units: Collection[str], count: int, limit: float = PATIENCE) -> list[Execution]:
        """The whole history, once nothing is open any more and it tells of at least `count` fire times.

        A record of a gap tells of each fire time in it.
        """
        open_: tuple[Execution, ...] = ()

        def whole() -> list[Execution] | None:
            nonlocal open_
            open_ = self.client.executions(states=OPEN).executions
            if open_:
                return None
            # A scheduler that waits for a CPU may not have claimed the last fire times yet.
            history = self.history(units)
            return history if told_of(history) >= count else None

        try:
            return eventually(whole, f"nothing is open any more, and {count} fire times are told of", limit, 0.2)
        except AssertionError:
            print(f"{told_of(self.history(units))} fire times, open ({len(open_)}):", *open_[:5], sep="\n  ")
            raise

    def events(self) -> list[sink.Event]:
        """The sink, as it is now."""
        return sink.read(self.sink)

    # -- what the store says ------------------------------------------------------------------------------------------

    def keys(self, below: str) -> dict[str, str]:
        """Keys of this cluster's namespace and their values, by the servers; named by what follows `below`."""
        return self.servers.keys(f"/xchronos/ns/{self.namespace}/{below}")

    def owners(self) -> dict[int, str]:
        """Who owns each shard."""
        return {int(number): owner for number, owner in self.keys("var/scheduler/shards/").items()}

    def leader(self) -> DaemonProcess | None:
        """Who holds the election, if anybody does."""
        held = self.keys("var/scheduler/election").get("")
        return self.daemons.get(held) if held else None

    def owned(self) -> None:
        """Wait until every shard has an owner that runs."""
        eventually(self._all_owned, "every shard has an owner that runs", pause=0.2)

    def _all_owned(self) -> bool:
        owners = self.owners()
        running = {daemon.name for daemon in self.daemons.values() if daemon.running}
        return len(owners) == SHARDS and set(owners.values()) <= running


def told_of(history: Iterable[Execution]) -> int:
    """Of how many fire times a history tells."""
    return sum(1 if execution.missed is None else execution.missed.count for execution in history)


def units_of(shards: Iterable[int], units: Iterable[str]) -> frozenset[str]:
    """The units that belong to some shards."""
    wanted = set(shards)
    return frozenset(unit for unit in units if shard_of(unit) in wanted)


class Waits:
    """For how long processes had to wait for a CPU: on a machine that does other things too, that is nobody's fault."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._samples: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        last: dict[int, int] = {}
        while not self._over.wait(0.05):
            worst = 0
            for pid in self._pids():
                delay = _run_delay(pid)
                worst = max(worst, delay - last.get(pid, delay))
                last[pid] = delay
            self._samples.append((time.time(), worst / 1e9))

    def during(self, begin: float, end: float) -> float:
        """Seconds that any one of them had to wait between two instants (unix seconds), at most."""
        return sum(waited for at, waited in self._samples if begin - 0.1 <= at <= end + 0.1)


def _run_delay(pid: int) -> int:
    """Nanoseconds that the threads of a process have waited for a CPU."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total
