"""Units that are destroyed and submitted again: what is left of their former life, and when that is heard of."""

import asyncio
from contextlib import asynccontextmanager
from random import Random

import pytest

from tests.engine.engine_cluster import AGENT, SCHEDULER, Cluster, lasting, run, unit_text
from tests.engine.faulty_store import FaultyStore
from tests.engine.late_links import DiesBehind, Late, Meanwhile
from tests.engine.machines_world import FOR_EVER, kept, where
from xchronos.clock import SECOND
from xchronos.errors import StoreUnavailable
from xchronos.store.contract import Delete, Put


def test_destroyed_and_submitted_again_while_the_old_attempt_still_runs():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        when = cluster.clock.now() // SECOND - 10
        text = unit_text(f"TriggerAt={when}\nMaxAttempts=5\nTimeBetweenAttempts=1s")
        await cluster.registry.submit("a.service", text, now=cluster.clock.now())
        await cluster.sleep(2)
        await cluster.registry.destroy("a.service")
        await cluster.registry.submit("a.service", text, now=cluster.clock.now())
        await cluster.sleep(1)
        assert sorted(execution for _, execution, *_ in cluster.log)[1].endswith("/1")
        await cluster.sleep(60)
        history = await cluster.history("a.service")
        assert [(execution.copy, execution.outcome) for execution in history] == [(0, "cancelled"), (1, "succeeded")]
        assert set(cluster.starts.values()) == {1}

    run(scenario, lasting(30))


def test_destroyed_and_submitted_again_while_nobody_was_there():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerRepeatInterval=1s\nTriggerRepeatCount=2")
        await cluster.sleep(10)
        assert len(await cluster.history("a.service")) == 3
        await cluster.stop()
        await cluster.registry.destroy("a.service")
        await cluster.submit("a.service", "TriggerRepeatInterval=1s\nTriggerRepeatCount=2")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.start()
        await cluster.sleep(10)
        # A new life: its own three fires and the start by hand, nothing of the former one.
        assert len(await cluster.history("a.service")) == 4

    run(scenario)


def test_a_former_life_has_ended_for_whoever_takes_over_behind_the_new_ones_acceptance():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s1", roles=SCHEDULER)
        for machine in ("m1", "m2"):
            await cluster.start(machine, roles=AGENT)
        await kept(cluster, "a.service")
        await cluster.sleep(2)
        await cluster.kill("s1")
        await cluster.registry.destroy("a.service")
        await kept(cluster, "a.service")
        link = DiesBehind(cluster.store, cluster.keys.schedule("a.service"))
        await cluster.start("s2", roles=SCHEDULER, store=link)
        await cluster.sleep(60)
        assert link.over
        await cluster.kill("s2")
        await cluster.start("s3", roles=SCHEDULER)
        await cluster.sleep(60)
        assert [len(machines) for machines in (await where(cluster)).values()] == [1]

    run(scenario, FOR_EVER)


class LateUnits(Late):
    """Only the watch of the units brings nothing; and once a unit cannot be read."""

    fails = False

    @asynccontextmanager
    async def watch(self, prefix, *, revision=0):
        async with self.inner.watch(prefix, revision=revision) as batches:
            yield self.deliver(batches) if "/jobs/" in prefix else batches

    async def get(self, key):
        if self.fails and "/jobs/" in key:
            self.fails = False
            raise StoreUnavailable("once")
        return await super().get(key)


def test_a_new_life_is_not_taken_for_the_former_one_whose_end_was_heard_of_alone():
    async def scenario(cluster: Cluster) -> None:
        link = LateUnits(cluster.store)
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT, store=FaultyStore(cluster.store, cluster.clock, Random(1)))
        await kept(cluster, "a.service")
        await cluster.sleep(2)
        assert await where(cluster) == {"a.service": ["m1"]}
        # Nobody ends what runs there: what is left of the unit waits for that.
        await cluster.kill("m1")
        await cluster.registry.destroy("a.service")
        await cluster.sleep(1)
        link.going.clear()
        await cluster.start("m2", roles=AGENT)
        await kept(cluster, "a.service")
        # A turn fails: everything is read again, also that the unit is there, long before the watch says so.
        await cluster.submit("b.service")
        link.fails = True
        await cluster.registry.start("b.service", now=cluster.clock.now())
        await cluster.sleep(5)
        assert not link.fails
        link.going.set()
        await cluster.sleep(60)
        assert await where(cluster) == {"a.service": ["m2"], "b.service": ["m2"]}

    run(scenario, FOR_EVER)


@pytest.mark.parametrize("stopped", [False, True])
def test_what_is_started_of_a_new_life_that_nobody_has_heard_of_is_not_taken_for_the_former_ones(stopped: bool):
    async def scenario(cluster: Cluster) -> None:
        link = LateUnits(cluster.store)
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT)
        await cluster.submit("a.service", "TriggerRepeatInterval=1h")
        await cluster.sleep(5)
        link.going.clear()
        await cluster.registry.destroy("a.service")
        await cluster.submit("a.service", "TriggerRepeatInterval=2h")
        started = await cluster.registry.start("a.service", now=cluster.clock.now())
        if stopped:
            await cluster.registry.stop("a.service", "stopped by hand")
        await cluster.sleep(5)
        link.going.set()
        await cluster.sleep(60)
        history = {execution.id: execution.outcome for execution in await cluster.history("a.service")}
        assert [history.get(execution_id) for execution_id in started] == ["cancelled" if stopped else "succeeded"]

    run(scenario, lasting(20))


class SlowClaims(Meanwhile):
    """What moves a cursor is under way for `slow` seconds before it is carried out."""

    kind = Delete
    slow = 0.0

    async def commit_many(self, txns):
        if any(isinstance(one, Put) and self.what in one.key for txn in txns for one in txn.operations):
            await asyncio.sleep(self.slow)
        return await super().commit_many(txns)


def test_a_new_life_whose_acceptance_is_under_way_while_the_end_of_the_former_one_is_refused():
    async def scenario(cluster: Cluster) -> None:
        async def comes_back() -> None:
            link.slow = 2.0
            await kept(cluster, "a.service")
            await cluster.sleep(0.5)

        link = SlowClaims(cluster.store, cluster.keys.schedule("a.service"))
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT)
        await kept(cluster, "a.service")
        await cluster.sleep(5)
        link.meanwhile = comes_back
        await cluster.registry.destroy("a.service")
        await cluster.sleep(60)
        assert link.happened
        assert await where(cluster) == {"a.service": ["m1"]}

    run(scenario, FOR_EVER)
