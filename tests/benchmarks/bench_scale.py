"""What a scheduler's decisions cost with few and with many machines and units, in made-up time.

One scheduler, a store in memory, and machines that are records only, so what is placed stays. A thousand units fire
every second for ten seconds: what a fire time costs is the process's whole CPU time, the decision, the claim, the store
(in memory) and the watch that brings the news back. Then all others fire once each, a thousand a second: of a unit that
has not been at hand lately the file is read and compiled anew. Every size is a process of its own, and is compared with a
thousand units on ten machines.
"""

import gc
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from sortedcontainers import SortedList

from tests.benchmarks.rows import Row
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import SECOND
from xchronos.daemon.roles import Roles, RolesContext, RolesOptions
from xchronos.model.compile.unit import compile_unit
from xchronos.model.records import Capacity, Machine
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys
from xchronos.registry.units import record_of
from xchronos.scheduler import feasibility
from xchronos.store.contract import KeyValue, Put, Txn
from xchronos.store.memory import MemoryStore
from xchronos.store.paging import RevisionedTable
from xchronos.store.transactions import Change
from xchronos.testing.clock import VirtualClock, run_virtual
from xchronos.unitfile import HostFacts

ROOT = Path(__file__).resolve().parents[2]

WORDS = {
    "us_per_first_fire": ("the first fire of a unit", "us"),
    "us_per_unit_accepted": ("CPU of a unit accepted", "us"),
    "ms_per_idle_second": ("CPU of a second in which nothing is due", "ms"),
    "KiB_per_unit": ("memory of a unit", "KiB"),
    "MiB_at_the_end": ("memory at the end, simulated store included", "MiB"),
    "most_on_a_machine": ("most on a machine", ""),
    "least_on_a_machine": ("least on a machine", ""),
}

FIRES = 1_000
"""How many units fire in one second."""

UNIT = (
    "[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Fleet]\nMachineMetadata=zone=z{zone}\n[X-Chronos]\n"
    "Executor=python\nTriggerStartDelay={delay}s\nTriggerRepeatInterval=1s\nTriggerRepeatCount={again}\n"
)
ZONES = 5
WARM_UP = 600
"""Virtual seconds until the first fire time."""

ROUNDS = 10
"""How often the first thousand units fire."""

SIZES = ((10, 1_000), (1_000, 1_000), (1_000, 100_000))
BUDGET = 600.0
TINY = {"sizes": ((5, 20), (5, 40)), "fires": 20}


class ManyKeys(RevisionedTable):
    """Keys in an order that is quickly kept: a hundred thousand insertions into a list are not the subject."""

    def __init__(self, rows: dict[str, KeyValue]) -> None:
        super().__init__(rows)
        self._order: Any = SortedList(rows)

    def follow(self, changes: Iterable[Change]) -> None:
        """See `RevisionedTable.follow`."""
        for event, previous in changes:
            if event.kind == "delete":
                self._order.remove(event.key)
            elif previous is None:
                self._order.add(event.key)

    def _between(self, begin: str, end: str | None) -> tuple[int, int]:
        return self._order.bisect_left(begin), len(self._order) if end is None else self._order.bisect_left(end)


class ManyRows(MemoryStore):
    """A memory store for a hundred thousand units."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self._table = ManyKeys(self._rows)


def _resident() -> float:
    """This process's memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def _fill(store: MemoryStore, keys: Keys, machines: int, units: int, fires: int) -> None:
    puts = [
        Put(
            keys.machine(f"m{n:04}"),
            encode(Machine(f"m{n:04}", metadata={"zone": f"z{n % ZONES}"}, executors=("python",), capacity=Capacity())),
        )
        for n in range(machines)
    ]
    texts = {}
    for n in range(units):
        wave, zone = n // fires, n % ZONES
        if (wave, zone) not in texts:
            delay, again = (WARM_UP, ROUNDS - 1) if wave == 0 else (WARM_UP + ROUNDS + 5 + wave, 0)
            text = UNIT.format(zone=zone, delay=delay, again=again).encode()
            texts[wave, zone] = encode(record_of(text, compile_unit("u.service", text, [], "")))
        puts.append(Put(keys.job(f"u{n:06}.service"), texts[wave, zone]))
    for first in range(0, len(puts), 100):
        await store.commit(Txn((), tuple(puts[first : first + 100])))


async def _measure(clock: VirtualClock, machines: int, units: int, fires: int, directory: Path) -> dict[str, float]:
    keys, store = Keys(), ManyRows(clock)
    await _fill(store, keys, machines, units, fires)
    empty = _resident()
    place = HostContext("s", HostFacts(hostname="s", machine_id="s"), {}, directory / "secrets", 1 << 20)
    context = RolesContext(store, keys, clock, place, {}, directory)
    roles = Roles(context, RolesOptions(instance="s", roles=frozenset(("scheduler",))))
    began = time.process_time()
    await roles.start()
    while len(roles.engine._session._committer.cluster.cursors.known) < units:
        await clock.sleep(SECOND // 10)
    accepting = time.process_time() - began
    accepted = _resident()
    gc.collect()
    gc.freeze()
    await clock.sleep((WARM_UP - 100) * SECOND - clock.monotonic())
    began = time.process_time()
    await clock.sleep(50 * SECOND)
    idle = (time.process_time() - began) / 50
    await clock.sleep(49 * SECOND)
    often = await _waves(clock, roles, fires * ROUNDS, fires)
    others = await _waves(clock, roles, units - fires, fires)
    loads = [view.attempts for view in roles.engine._session._committer.cluster.machines.values()]
    figures = {"us_per_fire": statistics.median(often) * 1e6}
    if others:
        figures["us_per_first_fire"] = statistics.median(others) * 1e6
    return figures | {
        "us_per_unit_accepted": accepting / units * 1e6,
        "ms_per_idle_second": idle * 1e3,
        "KiB_per_unit": (accepted - empty) * 1024 / units,
        "MiB_at_the_end": _resident(),
        "most_on_a_machine": max(loads),
        "least_on_a_machine": min(loads),
    }


async def _waves(clock: VirtualClock, roles: Roles, count: int, fires: int) -> list[float]:
    """CPU seconds per fire time, of every second until so many have been placed, `fires` a second."""

    def placed() -> int:
        return sum(view.attempts for view in roles.engine._session._committer.cluster.machines.values())

    begin, costs = placed(), []
    for _ in range(count // fires + 20):
        before, began = placed(), time.process_time()
        if before - begin == count:
            return costs
        await clock.sleep(SECOND)
        cost = time.process_time() - began
        if placed() > before:
            costs.append(cost / (placed() - before))
    raise RuntimeError(f"{placed() - begin} of {count} are placed, and no more of them")


def _child(machines: int, units: int, fires: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    feasibility.ENOUGH_TO_BEGIN = 1 << 30  # nothing is ever begun here
    with tempfile.TemporaryDirectory() as name:

        async def main(clock: VirtualClock) -> None:
            print(json.dumps(await _measure(clock, machines, units, fires, Path(name))), flush=True)
            os._exit(0)

        run_virtual(main)


def run(sizes: tuple[tuple[int, int], ...] = SIZES, fires: int = FIRES) -> list[Row]:
    """Several figures of each size (machines, units), of which so many units fire in one second."""
    rows: list[Row] = []
    few = 0.0
    for machines, units in sizes:
        command = [sys.executable, "-m", "tests.benchmarks.bench_scale", str(machines), str(units), str(fires)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=BUDGET, check=True)
        figures: dict[str, float] = json.loads(done.stdout)
        name, fire = f"scale: {machines:,} machines, {units:,} units", figures.pop("us_per_fire")
        few = few or fire
        rows.append(Row(f"{name}, CPU of a fire", fire, "us", reference="the fewest", ratio=fire / few))
        rows += [Row(f"the same, {WORDS[key][0]}", value, WORDS[key][1]) for key, value in figures.items()]
    return rows


if __name__ == "__main__":  # one size, in a process of its own
    _child(*map(int, sys.argv[1:]))
