"""Attempts after the first: retries, units that are kept running, machines and schedulers that are lost or stop."""

import asyncio
from itertools import pairwise
from random import Random

from tests.engine.engine_cluster import Cluster, lasting, run
from tests.engine.faulty_store import FaultyStore
from xchronos.clock import SECOND


async def failing(spec, machine):
    return 1


def test_retries_prefer_another_machine_and_wait_in_between():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.start("m2", roles={"agent"})
        await cluster.submit("a.service", "TriggerRepeatInterval=1h\nMaxAttempts=3\nTimeBetweenAttempts=10s")
        await cluster.sleep(60)
        (execution,) = await cluster.history("a.service")
        assert execution.outcome == "failed"
        machines = [attempt.machine for attempt in execution.attempts]
        assert [attempt.number for attempt in execution.attempts] == [1, 2, 3]
        assert machines[0] != machines[1]
        at = cluster.started("a.service")
        assert [round(later - earlier) for earlier, later in pairwise(at)] == [10, 10]

    run(scenario, failing)


def test_kept_running_units_keep_their_last_attempts_only():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        text = b"[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=1\n[X-Chronos]\nExecutor=python\n"
        await cluster.registry.submit("kept.service", text, now=cluster.clock.now())
        await cluster.sleep(3600)
        (execution,) = await cluster.registry.open_executions("kept.service")
        assert len(execution.attempts) == 20
        assert execution.attempts[-1].number >= 100
        numbers = [attempt.number for attempt in execution.attempts]
        assert numbers == list(range(numbers[0], numbers[0] + 20))

    run(scenario, lasting(20))


def test_every_attempt_that_counts_is_kept_and_the_last_of_those_that_were_lost():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.start("m2", roles={"agent"}, metadata={"here": "yes"})
        await cluster.submit("fails.service", "TriggerRepeatInterval=1h\nMaxAttempts=25\nTimeBetweenAttempts=1s")
        await cluster.sleep(60)
        (failed,) = await cluster.history("fails.service")
        assert [attempt.number for attempt in failed.attempts] == list(range(1, 26))
        # What it needs goes from machine to machine: the attempts that it loses by that are not counted.
        chronos = "TriggerRepeatInterval=1h\nMaxAttempts=2\nTimeBetweenAttempts=1s"
        await cluster.submit("moves.service", chronos, fleet="MachineMetadata=here=yes")
        for turn in range(25):
            await cluster.sleep(5)
            there, here = ("m2", "m1") if turn % 2 == 0 else ("m1", "m2")
            await cluster.registry.wishes.set_metadata(there, {}, ["here"])
            await cluster.registry.wishes.set_metadata(here, {"here": "yes"})
        await cluster.sleep(5)
        (moved,) = await cluster.registry.open_executions("moves.service")
        assert [attempt.number for attempt in moved.attempts] == [1, *range(7, 27)]

    async def body(spec, machine):
        if spec.unit == "moves.service" and spec.attempt > 1:
            await asyncio.sleep(1e9)
        return 1

    run(scenario, body)


def test_what_is_kept_running_is_never_begun_beside_itself():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        text = b"[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=1\n[X-Chronos]\nExecutor=python\n"
        registry, name = cluster.registry, "kept.service"
        await registry.submit(name, text, now=cluster.clock.now())
        await cluster.submit("often.service", "TriggerRepeatInterval=1min", unit=f"OnSuccess={name}")
        assert await registry.start(name, now=cluster.clock.now()) == []
        await cluster.sleep(300)
        assert await registry.start(name, now=cluster.clock.now()) == []
        (first,) = await registry.open_executions(name)
        assert first.trigger == "kept"

        await cluster.submit("often.service", "TriggerRepeatInterval=1min")
        await registry.stop(name, "by hand")
        await cluster.sleep(50)
        assert await registry.open_executions(name) == []
        (second,) = await registry.start(name, now=cluster.clock.now())
        await cluster.sleep(300)
        (running,) = await registry.open_executions(name)
        assert running.id == second
        assert len(running.attempts) > 3

        await registry.stop(name, "by hand")
        await cluster.sleep(50)
        await cluster.submit("often.service", "TriggerRepeatInterval=1min", unit=f"OnSuccess={name}")
        await cluster.sleep(300)
        (third,) = await registry.open_executions(name)
        assert third.trigger == "chain"

    run(scenario, lasting(20))


def test_a_lost_machine_and_its_return():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles={"scheduler"})
        connection = FaultyStore(cluster.store, cluster.clock, Random(1))
        await cluster.start("m1", roles={"agent"}, store=connection)
        await cluster.submit("a.service", "TriggerRepeatInterval=1h\nStartDeadline=1h")
        await cluster.submit("g.service", "TriggerRepeatInterval=1h", fleet="Global=true")
        await cluster.submit("stopped.service", "TriggerRepeatInterval=1h")
        await cluster.sleep(5)
        await cluster.kill("m1")
        await cluster.registry.stop("stopped.service", "by hand")
        await cluster.sleep(15)
        (execution,) = await cluster.registry.open_executions("a.service")
        assert (execution.state, execution.attempts[0].outcome) == ("waiting", "lost")
        (execution,) = await cluster.history("g.service")
        assert (execution.outcome, execution.reason) == ("lost", "m1 is gone")
        (execution,) = await cluster.history("stopped.service")
        assert (execution.outcome, execution.reason) == ("cancelled", "by hand")
        await cluster.start("m1", roles={"agent"})
        await cluster.sleep(60)
        (execution,) = await cluster.history("a.service")
        assert [attempt.outcome for attempt in execution.attempts] == ["lost", "succeeded"]

    run(scenario, lasting(30))


def test_a_machine_that_is_gone_when_the_scheduler_comes_up():
    async def scenario(cluster: Cluster) -> None:
        scheduler = FaultyStore(cluster.store, cluster.clock, Random(1))
        agent = FaultyStore(cluster.store, cluster.clock, Random(1))
        await cluster.start("s", roles={"scheduler"}, store=scheduler)
        await cluster.start("m1", roles={"agent"}, store=agent)
        await cluster.submit("a.service", "TriggerRepeatInterval=1h")
        await cluster.sleep(1)
        await cluster.kill("s")
        await cluster.kill("m1")
        await cluster.sleep(20)
        await cluster.start("s2", roles={"scheduler"})
        await cluster.start("m2", roles={"agent"})
        await cluster.sleep(60)
        (execution,) = await cluster.history("a.service")
        assert [(attempt.machine, attempt.outcome) for attempt in execution.attempts] == [
            ("m1", "lost"),
            ("m2", "succeeded"),
        ]

    run(scenario, lasting(10))


def test_a_standby_takes_over_within_the_lease():
    async def scenario(cluster: Cluster) -> None:
        connection = FaultyStore(cluster.store, cluster.clock, Random(1))
        await cluster.start("s1", roles={"scheduler"}, store=connection)
        await cluster.start("s2", roles={"scheduler"})
        await cluster.start("m1", roles={"agent"})
        await cluster.submit("a.service", "TriggerRepeatInterval=1s")
        await cluster.sleep(5)
        await cluster.kill("s1")
        await cluster.sleep(30)
        at = cluster.started("a.service")
        gaps = [later - earlier for earlier, later in pairwise(at)]
        assert max(gaps) <= 11.5
        assert set(cluster.starts.values()) == {1}
        assert len(at) >= 35

    run(scenario)


def test_a_node_that_stops_settles_what_ends_and_begins_nothing_new():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("ending.service", "TriggerRepeatInterval=1h")
        await cluster.submit("ticking.service", "TriggerRepeatInterval=1s")
        await cluster.sleep(3.5)
        before = len(cluster.started("ticking.service"))
        await cluster.stop("m1", grace=20 * SECOND)
        assert len(cluster.started("ticking.service")) == before
        assert [str(execution.outcome) for execution in await cluster.history("ending.service")] == ["failed"]
        assert await cluster.registry.open_executions() == []

    async def ends_badly(spec, machine):
        if spec.unit == "ending.service":
            await asyncio.sleep(10)
            return 1
        return 0

    run(scenario, ends_badly)
