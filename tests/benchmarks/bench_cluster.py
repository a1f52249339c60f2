"""What a cluster on a real etcd carries: scheduler and agent are processes of their own, etcd is one server beside them.

Three measurements, each on a fresh etcd, whose own metrics count the requests:

- 20,000 units due in the same second: how long until the last claim is durable, and requests for each execution;
- a load beyond what can be carried: executions a second whose claim, start and end are all recorded;
- 10,000 units of which none is due: requests a second.

The steps are Python calls that do nothing. The load is offered to the bare protocol, too (`bare`): two processes that
claim, and that record starts and ends, as fast as they can.
"""

import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from tests.benchmarks.bare import SIDES, serve
from tests.benchmarks.daemons import GIVEN, UNIT
from tests.benchmarks.rows import Row
from tests.services.etcd import EtcdCluster, missing
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import SECOND, SystemClock, to_datetime
from xchronos.daemon.main import calm_collector
from xchronos.daemon.roles import Roles, RolesContext, RolesOptions
from xchronos.engine.metrics import STATES
from xchronos.executors.noop import CallableExecutor
from xchronos.model.compile.unit import compile_unit
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys
from xchronos.registry.units import record_of
from xchronos.store.contract import Put, Txn
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.store import EtcdStore
from xchronos.unitfile import HostFacts

ROOT = Path(__file__).resolve().parents[2]
SERVICES = frozenset(["etcd"])

CARRIED = ">= 0.52"
"""Of the bare protocol's executions: 6,000 a second where it has 11,600, as on two quiet cores."""

SAMPLE = 0.05
"""Seconds between two looks of a process at its counters."""

PATIENCE = 90.0
"""Seconds that a measurement may take before it is given up."""


@dataclass(frozen=True)
class Sizes:
    """What is measured, and for how long."""

    repeat: int = 3
    """How often each but the idle cluster."""
    at_once: int = 20_000
    """Units that are due in the same second."""
    lead: float = 20.0
    """Seconds in which the first thousands of these units can be submitted and taken."""
    offered: tuple[int, int] = (900, 100)
    """Units, and the milliseconds between two fire times of each: more than can be carried."""
    settling: float = 3.0
    """Seconds under load before anything is counted."""
    loaded: float = 8.0
    """Seconds under load in which it is."""
    idle: int = 10_000
    """Units of which none is due."""
    still: float = 20.0
    """Seconds with nothing due."""


TINY = {"sizes": Sizes(repeat=1, at_once=20, lead=6.0, offered=(20, 100), settling=1.0, loaded=1.0, idle=20, still=0.5)}


# -- the processes under measurement -----------------------------------------------------------------------------------


async def _serve(role: str, endpoints: str, directory: Path) -> None:
    """Be a scheduler or an agent, and tell the counters again and again, a line of JSON each."""
    clock, keys = SystemClock(), Keys()
    store = await EtcdStore.open(EtcdAccess(endpoints=tuple(endpoints.split(","))))
    place = HostContext(role, HostFacts(hostname=role, machine_id=role), {}, directory / "secrets", 1 << 20)
    executors = {"python": CallableExecutor("python", lambda spec: 0)}
    context = RolesContext(store, keys, clock, place, executors, directory / role)
    house = Roles(context, RolesOptions(instance=role, roles=frozenset([role])))
    calm_collector()
    await house.start()
    wanted = {
        **{f"claimed {state}": ("xchronos_claims_total", {"state": state}) for state in STATES},
        "units": ("xchronos_units", {}),
        "ended": ("xchronos_attempts_total", {"outcome": "succeeded"}),
    }
    while True:
        sample = {name: house.metrics.get_sample_value(*which) or 0.0 for name, which in wanted.items()}
        sample["claims"] = sum(sample.pop(f"claimed {state}") for state in STATES)
        print(json.dumps(sample | {"at": time.time(), "cpu": time.process_time()}), flush=True)
        await asyncio.sleep(SAMPLE)


class Part:
    """A scheduler or an agent, seen from outside."""

    def __init__(self, role: str, endpoint: str, directory: Path) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.bench_cluster", role, endpoint, str(directory)]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}, text=True
        )
        self.samples: list[dict[str, float]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.samples.append(json.loads(line))

    def reaches(self, name: str, value: float, limit: float = PATIENCE) -> float:
        """When a counter first had this value (unix seconds)."""
        end = time.monotonic() + limit
        seen = 0
        while True:
            for sample in self.samples[seen:]:
                seen += 1
                if sample[name] >= value:
                    return sample["at"]
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.process.args!r} has ended")
            if time.monotonic() > end:
                raise TimeoutError(f"{name} is {self.samples[-1][name] if self.samples else None} after {limit:.0f} s")
            time.sleep(SAMPLE)

    def end(self) -> None:
        """kill -9: there is nothing to be kept."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Bench:
    """One etcd, one scheduler, one agent."""

    def __init__(self, etcd: EtcdCluster, directory: Path, scheduler: str, agent: str) -> None:
        self.etcd = etcd
        self.endpoint = etcd.endpoints[0].removeprefix("http://")
        self.scheduler = Part(scheduler, self.endpoint, directory)
        self.agent = Part(agent, self.endpoint, directory)
        self.scheduler.reaches("units", 0)
        self.agent.reaches("ended", 0)

    def submit(self, count: int, trigger: Callable[[int], str]) -> None:
        """Write so many units, many in one Txn: what is measured comes afterwards."""

        async def write() -> None:
            store, keys = await EtcdStore.open(EtcdAccess(endpoints=(self.endpoint,))), Keys()
            try:
                for base in range(0, count, 100):
                    puts = []
                    for number in range(base, min(base + 100, count)):
                        name, text = f"u{number}.service", UNIT + trigger(number)
                        record = record_of(text.encode(), compile_unit(name, text))
                        puts.append(Put(keys.job(name), encode(record)))
                    await store.commit(Txn((), puts))
            finally:
                await store.close()

        asyncio.run(write())

    def requests(self) -> int:
        """How many requests etcd has seen, by its own count; streams count by what was asked on them."""
        calls = self.etcd.calls()
        metrics = self.etcd.members[0].metrics()
        name = 'grpc_server_msg_received_total{grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}'
        return sum(calls[method] for method in GIVEN) + int(metrics.get(name, 0))

    def end(self) -> None:
        """End both."""
        self.scheduler.end()
        self.agent.end()


@contextmanager
def bench(scheduler: str = "scheduler", agent: str = "agent") -> Iterator[Bench]:
    """A fresh one, removed at the end."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("XCHRONOS_BENCH_DIR")) as name:
        (Path(name) / "etcd").mkdir()
        etcd = EtcdCluster(Path(name) / "etcd", fast=False, arguments=("--quota-backend-bytes", str(4 << 30)))
        etcd.start()
        try:
            found = Bench(etcd, Path(name), scheduler, agent)
            try:
                yield found
            finally:
                found.end()
        finally:
            etcd.kill()


# -- the measurements --------------------------------------------------------------------------------------------------


def at_once(count: int, lead: float) -> dict[str, float]:
    """Everything is due in the same second."""
    with bench() as b:
        due = int(time.time() + lead) + count // 1_500
        b.submit(count, lambda number: f"TriggerAt={due}\n")
        b.scheduler.reaches("units", count)
        left = due - time.time()
        if left < 2:
            raise TimeoutError(f"{count} units were taken in {2 - left:.1f} s too late")
        time.sleep(left - 1)
        before = b.requests()
        claimed = b.scheduler.reaches("claims", count) - due
        ended = b.agent.reaches("ended", count) - due
        requests = b.requests() - before
        return {"claimed": claimed, "ended": ended, "requests_per_execution": requests / count}


def sustained(units: int, interval: int, settling: float, seconds: float) -> dict[str, float]:
    """More is due than can be carried."""
    with bench() as b:
        b.submit(units, lambda n: f"TriggerStartDelay={n * interval // units}\nTriggerRepeatInterval={interval}\n")
        b.scheduler.reaches("units", units)
        return _carried(b, settling, seconds)


def bare(settling: float, seconds: float) -> dict[str, float]:
    """The same by the bare protocol."""
    with bench("bare-scheduler", "bare-agent") as b:
        return _carried(b, settling, seconds)


def _carried(b: Bench, settling: float, seconds: float) -> dict[str, float]:
    time.sleep(settling)
    before, first, other = b.requests(), b.agent.samples[-1], b.scheduler.samples[-1]
    time.sleep(seconds)
    last, after = b.agent.samples[-1], b.scheduler.samples[-1]
    requests = b.requests() - before
    done = last["ended"] - first["ended"]
    if not done:
        raise RuntimeError(f"nothing has ended in {seconds:.0f} s")
    ended, claimed = done / (last["at"] - first["at"]), after["claims"] - other["claims"]
    return {
        # What was claimed before and ends now is not carried, and neither is what is claimed and piles up.
        "per_second": min(ended, claimed / (after["at"] - other["at"])),
        "agent_us": (last["cpu"] - first["cpu"]) / done * 1e6,
        "scheduler_us": (after["cpu"] - other["cpu"]) / claimed * 1e6,
        "requests_per_execution": requests / done,
    }


def idle(count: int, seconds: float) -> dict[str, float]:
    """Nothing is due for a year."""
    with bench() as b:
        far = to_datetime(SystemClock().now() + 365 * 86_400 * SECOND).isoformat()
        b.submit(count, lambda number: f"TriggerAt={far}\n")
        b.scheduler.reaches("units", count)
        time.sleep(2)
        before, ranges, first = b.requests(), b.etcd.calls()["Range"], b.scheduler.samples[-1]
        time.sleep(seconds)
        last = b.scheduler.samples[-1]
        return {
            "per_second": (b.requests() - before) / seconds,
            "ranges_per_second": (b.etcd.calls()["Range"] - ranges) / seconds,
            "cpu": (last["cpu"] - first["cpu"]) / (last["at"] - first["at"]),
        }


def run(sizes: Sizes = Sizes()) -> list[Row]:
    """The table's rows; medians of several runs, but for the idle cluster."""
    if reason := missing():
        raise RuntimeError(reason)

    def beside(name: str, figure: str, unit: str = "", goal: str = "", ratio_goal: str = "") -> Row:
        value = median(load, figure)
        return Row(name, value, unit, goal, "the bare protocol", value / median(least, figure), ratio_goal)

    def median(runs: list[dict[str, float]], name: str) -> float:
        return statistics.median(figures[name] for figures in runs)

    crowd = [at_once(sizes.at_once, sizes.lead) for _ in range(sizes.repeat)]
    load, least = [], []
    for _ in range(sizes.repeat):
        load.append(sustained(*sizes.offered, sizes.settling, sizes.loaded))
        least.append(bare(sizes.settling, sizes.loaded))
    still = idle(sizes.idle, sizes.still)
    return [
        Row(f"etcd: {sizes.at_once:,} units due at once, all claimed", median(crowd, "claimed"), "s", "<= 3"),
        Row("the same, all run and their ends recorded", median(crowd, "ended"), "s"),
        Row("the same, requests for each execution", median(crowd, "requests_per_execution"), "", "< 0.2"),
        beside("etcd: no-op executions, claim, start and end recorded", "per_second", "/s", ">= 6000", CARRIED),
        beside("the same, CPU of the scheduler for each", "scheduler_us", "us"),
        beside("the same, CPU of the agent for each", "agent_us", "us"),
        beside("the same, requests for each", "requests_per_execution"),
        Row(f"etcd: {sizes.idle:,} units, none due: requests", still["per_second"], "/s"),
        Row("the same, reads", still["ranges_per_second"], "/s"),
    ]


if __name__ == "__main__":  # one of the processes
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if sys.argv[1] in SIDES:
        asyncio.run(serve(sys.argv[1], sys.argv[2], SAMPLE))
    asyncio.run(_serve(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
