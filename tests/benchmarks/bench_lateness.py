"""How late one daemon on a real etcd starts what is due, and what each execution costs: beside go-etcd-cron.

One process with both roles, or one instance of go-etcd-cron, on a fresh etcd each. Three measurements:

- jobs that are due once a second each, spread evenly over it: 8, 500 and 2,000 fires a second. How late the start of
  each is; the CPU of the process and of etcd; the requests that etcd has for it. What an idle second asks of etcd is
  measured before the first is due and taken off, and so are renewals of leases;
- more than can be carried;
- 20,000 one-shots that are due at one instant: until the last has started, and until all are recorded.

It is not the same work: go-etcd-cron calls first and then leaves one counter; we claim before the start, record start
and end, and keep the history. The steps are Python calls that do nothing, theirs a call that answers immediately.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks import peer
from tests.benchmarks.daemons import Ours, Side, cpu_of, requests
from tests.benchmarks.rows import Row
from tests.services.etcd import EtcdCluster, missing, version

SERVICES = frozenset(["etcd"])
TO_WRITE = 1_000
"""Jobs that each side can take up in a second, at least."""

CLAIMED_ALL = 60
"""Seconds in which 20,000 units are accepted, and more."""


@dataclass(frozen=True)
class Sizes:
    """What is measured, and for how long."""

    repeat: int = 3
    """How often everything."""
    rates: tuple[tuple[int, float], ...] = ((8, 20.0), (500, 6.0), (2_000, 6.0))
    """Fires a second, and the seconds for which they are counted."""
    offered: tuple[int, float] = (2_000, 0.1)
    """Jobs, and the seconds between two fire times of each: more than can be carried."""
    loaded: float = 6.0
    """Seconds under load in which it is counted."""
    settling: float = 7.0
    """Seconds between the first fire time and the first count: histories are full and are cut."""
    idle: float = 5.0
    """Seconds before the first fire time in which the requests of an idle cluster are counted."""
    one_shots: int = 20_000
    """Jobs that are due at one instant."""


TINY = {"sizes": Sizes(1, ((4, 1.0),), (10, 0.2), 1.0, 1.0, 0.5, 20)}

GOALS: dict[str, dict[str, tuple[str, str]]] = {
    "500": {"p50": ("<= 1.5", ""), "p99": ("<= 4", ""), "cpu": ("", "<= 1"), "requests": ("<= 0.5", "")},
    "2,000": {"p50": ("<= 3", ""), "p99": ("<= 15", ""), "cpu": ("", "<= 1")},
    "8": {"cpu": ("", "<= 1.5"), "requests": ("<= 2.1", "")},
}
"""By the fires of a second: the goal of a figure, and of its ratio to that of go-etcd-cron."""

Make = Callable[[str, Path], Side]


@contextmanager
def running(make: Make) -> Iterator[tuple[Side, EtcdCluster]]:
    """One side on a fresh etcd, both removed at the end."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("XCHRONOS_BENCH_DIR")) as name:
        (Path(name) / "etcd").mkdir()
        etcd = EtcdCluster(Path(name) / "etcd", fast=False, arguments=("--quota-backend-bytes", str(4 << 30)))
        etcd.start()
        try:
            side = make(etcd.endpoints[0].removeprefix("http://"), Path(name) / "side")
            try:
                side.ask("look")
                yield side, etcd
            finally:
                side.end()
        finally:
            etcd.kill()


def steady(make: Make, jobs: int, every: float, sizes: Sizes, seconds: float) -> dict[str, float]:
    """Each of the jobs every so many seconds, spread evenly."""
    with running(make) as (side, etcd):
        due = float(int(time.time() + 4 + sizes.idle + jobs / TO_WRITE))
        side.add(jobs, due, every / jobs, every)
        side.ready(jobs)
        left = due - sizes.idle - 0.3 - time.time()
        if left < 0:
            raise TimeoutError(f"{jobs} jobs were taken up {-left:.1f} s too late")
        time.sleep(left)
        asked = requests(etcd)
        time.sleep(sizes.idle)
        idle = (requests(etcd) - asked) / sizes.idle
        time.sleep(due + sizes.settling - time.time())
        processes = (side.process.pid, etcd.members[0].process.pid)
        side.ask("reset")
        asked, used, first = requests(etcd), [cpu_of(each) for each in processes], side.ask("look")
        time.sleep(seconds)
        last, spent = side.ask("look"), [cpu_of(each) for each in processes]
        asked = requests(etcd) - asked
        late = side.ask("dump")
        took = last["at"] - first["at"]
        done = last["recorded"] - first["recorded"]
        if not done:
            raise RuntimeError(f"nothing has ended in {seconds:.0f} s")
        own, store = (after - before for before, after in zip(used, spent, strict=True))
        return {
            # What started before and ends now is not carried, and neither is what starts and piles up.
            "rate": min(done, last["started"] - first["started"]) / took,
            "p50": late["p50"], "p99": late["p99"], "early": late["early"],
            "own": own / done * 1e6, "etcd": store / done * 1e6, "cpu": (own + store) / done * 1e6,
            "requests": max(0.0, asked - idle * took) / done,
        }  # fmt: skip


def at_one_instant(make: Make, jobs: int) -> dict[str, float]:
    """One-shots that are due together: seconds until all have started, and until all are recorded."""
    with running(make) as (side, _):
        due = float(int(time.time() + 6 + jobs / TO_WRITE * 2))
        side.add(jobs, due, 0.0, None)
        side.ready(jobs)
        if time.time() > due - 1:
            raise TimeoutError(f"{jobs} one-shots were taken up {time.time() - due + 1:.1f} s too late")
        time.sleep(due - time.time())
        while (seen := side.ask("look"))["started"] < jobs:
            if time.time() > due + CLAIMED_ALL:
                raise TimeoutError(f"{seen['started']} of {jobs} have started")
            time.sleep(0.05)
        return {"started": seen["at"] - due, "recorded": side.recorded(jobs) - due}


class Runs:
    """The figures of both sides, made in turns: what is slow on one of them meets both."""

    def __init__(self, measure: Callable[[Make], dict[str, float]], repeat: int, *, both: bool) -> None:
        self._ours, self._theirs = [], []
        for _ in range(repeat):
            self._ours.append(measure(Ours))
            if both:
                self._theirs.append(measure(peer.Theirs))

    def row(self, name: str, figure: str, unit: str = "", goals: tuple[str, str] = ("", "")) -> Row:
        """The median, beside that of go-etcd-cron where it was measured."""
        value = statistics.median(run[figure] for run in self._ours)
        if not self._theirs:
            return Row(name, value, unit, goals[0])
        reference = statistics.median(run[figure] for run in self._theirs)
        ratio = value / reference if reference else None
        return Row(name, value, unit, goals[0], peer.NAME, ratio, goals[1] if reference else "")


def run(sizes: Sizes = Sizes()) -> list[Row]:
    """The table's rows: medians of several runs."""
    if reason := missing():
        raise RuntimeError(reason)
    if absent := peer.missing():
        print(f"ours alone: {absent}", file=sys.stderr)
    newer = version() >= (3, 5)
    rows: list[Row] = []

    def runs(measure: Callable[[Make], dict[str, float]]) -> Runs:
        return Runs(measure, sizes.repeat, both=not absent)

    for rate, seconds in sizes.rates:
        found = runs(partial(steady, jobs=rate, every=1.0, sizes=sizes, seconds=seconds))
        goals = GOALS.get(f"{rate:,}", {})
        rows += [
            found.row(f"etcd: {rate:,} fires/s spread out, lateness p50", "p50", "ms", goals.get("p50", ("", ""))),
            found.row("the same, p99", "p99", "ms", goals.get("p99", ("", ""))),
            found.row("the same, started early", "early", "", ("<= 0", "")),
            *_costs(found, goals),
        ]
    jobs, every = sizes.offered
    full = runs(partial(steady, jobs=jobs, every=every, sizes=sizes, seconds=sizes.loaded))
    goals = {"cpu": ("", "<= 1.3" if newer else "<= 1"), "requests": ("<= 0.05", "")}
    rows += [
        full.row("etcd: more due than can be carried", "rate", "/s", ("", ">= 1" if newer else ">= 1.2")),
        *_costs(full, goals),
    ]
    crowd = runs(partial(at_one_instant, jobs=sizes.one_shots))
    return [
        *rows,
        crowd.row(f"etcd: {sizes.one_shots:,} one-shots at one instant, all started", "started", "s", ("<= 2.5", "")),
        crowd.row("the same, all recorded", "recorded", "s", ("<= 2.1" if newer else "<= 3.5", "")),
    ]


def _costs(found: Runs, goals: dict[str, tuple[str, str]]) -> list[Row]:
    return [
        found.row("the same, CPU of each, etcd's included", "cpu", "us", goals.get("cpu", ("", ""))),
        found.row("the same, CPU of the process for each", "own", "us"),
        found.row("the same, CPU of etcd for each", "etcd", "us"),
        found.row("the same, requests of each", "requests", "", goals.get("requests", ("", ""))),
    ]
