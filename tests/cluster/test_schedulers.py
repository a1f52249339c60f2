"""Schedulers die, sleep, come and go under load: every tick exactly once, and who is not concerned is not late."""

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.cluster.checker import Disturbance, check, lateness, told
from tests.cluster.cluster import FULL, Cluster, Waits, eventually, units_of
from tests.cluster.units import Window, due, names, recorder, until
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution

pytestmark = [
    pytest.mark.slow,
    pytest.mark.etcd,
    pytest.mark.usefixtures("cluster_services"),
    pytest.mark.timeout(1800),  # ends only what hangs
]

UNITS = names(500 if FULL else 100)
TTL = 3.0 if FULL else 2.0
SURVIVING = 0.1
"""Seconds by which nothing may be late that is not concerned."""

MOVED = TTL + 1
"""Seconds by which nothing may be late that has to be taken over."""


class Load:
    """Schedulers and agents apart, and units that fire every second while something is done to the schedulers."""

    def __init__(self, cluster: Cluster, schedulers: int, seconds: float) -> None:
        self.cluster = cluster
        self.agents = [cluster.daemon(f"a{number}", "agent") for number in range(2)]
        self.schedulers = [cluster.daemon(f"s{number}", "scheduler") for number in range(schedulers)]
        cluster.start(*self.agents, *self.schedulers)
        self.balanced()
        self.window = Window(seconds, delay=8)
        cluster.submit(dict.fromkeys(UNITS, recorder(self.window)))
        until(self.window.first.timestamp() + 1)
        self.disturbances: list[Disturbance] = []
        self.moved: list[float] = []

    def balanced(self) -> dict[int, str]:
        """Wait until every scheduler that runs owns something, nobody else does, and nothing is on the move."""
        cluster = self.cluster
        wanted = {daemon.name for daemon in self.schedulers if daemon.running and not daemon.stopped()}
        before: dict[int, str] = {}

        def all_owned() -> dict[int, str]:
            nonlocal before
            known, before = before, cluster.owners()
            return known if len(known) == 16 and set(known.values()) == wanted and known == before else {}

        return eventually(all_owned, f"{sorted(wanted)} own all shards, and each of them some", 30, 0.2)

    def disturb(self, what: Callable[[], Any]) -> None:
        """Do something that moves shards, and wait until it has moved them."""
        before, began = self.cluster.owners(), time.time()
        what()
        after = self.balanced()
        moved = {shard for shard, owner in before.items() if after[shard] != owner}
        self.moved.append(time.time() - began)
        self.disturbances.append(Disturbance(began, units_of(moved, UNITS)))

    def judge(self, waits: Waits, figures: Callable[..., None]) -> list[Execution]:
        """Everything that must hold, whatever was done."""
        self.window.wait()
        fires = self.window.fires()
        history = self.cluster.settled(UNITS, len(UNITS) * len(fires))
        found = check(self.cluster.events(), history, due(UNITS, fires))
        assert not found, told(found)
        assert {execution.outcome for execution in history} == {Outcome.SUCCEEDED}
        raw = lateness(history, self.disturbances, MOVED + 1)
        late = lateness(history, self.disturbances, MOVED + 1, waits.during)
        figures(
            executions=len(history), moves=len(self.disturbances), late_surviving=raw.surviving, late_moved=raw.moved,
            late_surviving_without_waiting_for_a_cpu=late.surviving,
        )  # fmt: skip
        assert late.surviving <= SURVIVING
        assert late.moved <= MOVED
        return history


def test_the_leader_is_killed_again_and_again(figures: Callable[..., None]) -> None:
    kills = 10 if FULL else 2
    dice = random.Random(7)
    with Cluster(ttl=TTL) as cluster, Waits(cluster.pids) as waits:
        load = Load(cluster, 3, seconds=kills * 14 if FULL else 20)
        for _ in range(kills):
            time.sleep(dice.uniform(0.5, 2.5))
            victim = eventually(cluster.leader, "somebody leads")
            load.disturb(victim.kill)
            load.disturb(victim.start)
        assert time.time() < load.window.last.timestamp(), "the load ended before the kills did"
        load.judge(waits, figures)


def test_schedulers_come_and_go(figures: Callable[..., None]) -> None:
    pause = 4 if FULL else 0.5
    with Cluster(ttl=TTL) as cluster, Waits(cluster.pids) as waits:
        load = Load(cluster, 1, seconds=60 if FULL else 26)
        for names_ in (("s1", "s2"), ("s3", "s4")):
            time.sleep(pause)
            fresh = [cluster.daemon(name, "scheduler") for name in names_]
            load.schedulers += fresh
            load.disturb(partial(cluster.start, *fresh))
        for victim, end in zip(load.schedulers[:3], ("terminate", "kill", "terminate"), strict=True):
            time.sleep(pause)
            load.disturb(getattr(victim, end))
        assert time.time() < load.window.last.timestamp(), "the load ended before the last change"
        load.judge(waits, figures)


def test_every_late_write_of_a_scheduler_that_slept_is_refused(figures: Callable[..., None]) -> None:
    with Cluster(ttl=TTL) as cluster, Waits(cluster.pids) as waits:
        load = Load(cluster, 3, seconds=24 if FULL else 14)
        # It falls asleep with a claim in its hand.
        sleeper = next(daemon for daemon in load.schedulers if daemon is cluster.leader())
        mine = {shard for shard, owner in cluster.owners().items() if owner == sleeper.name}
        sleeper.arm("write", min(units_of(mine, UNITS)))
        eventually(sleeper.stopped, "the leader stops within a claim")
        asleep = time.time()
        load.disturbances.append(Disturbance(asleep, units_of(mine, UNITS)))
        load.balanced()
        moved = time.time() - asleep
        time.sleep(1)
        woken = time.time()
        load.disturb(sleeper.resume)
        history = load.judge(waits, figures)
        terms = {write.term for write in sleeper.fenced() if write.at < asleep}
        late = [write for write in sleeper.fenced() if write.at > woken and write.term in terms]
        assert late, "it was stopped before a write, and wrote nothing when it woke"
        assert not [write for write in late if write.succeeded], late
        assert len(history) == len(UNITS) * len(load.window.fires())
        figures(late_writes=len(late), late_writes_that_succeeded=0, shards_moved_after=moved)
