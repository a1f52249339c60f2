"""Several schedulers: they share the shards, and whoever joins, leaves, dies or is paused costs nobody a fire time."""

import asyncio
from collections import Counter
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from tests.engine.schedulers_world import TTL, PausableStore, World, scenario
from xchronos.clock import SECOND
from xchronos.engine.engine import Engine
from xchronos.engine.leader.duties import LeaderDuty
from xchronos.engine.state.context import SchedulerContext
from xchronos.errors import Conflict, StoreError
from xchronos.registry.keys import SHARDS
from xchronos.store.contract import Put, Txn


@pytest.mark.parametrize("seed", range(6))
def test_one_three_five_two(seed):
    """Every tick is decided about exactly once, and nobody but the dead keeps anything waiting."""

    async def play(world: World) -> None:
        await world.join("s1")
        await world.begin()
        await world.cluster.sleep(3.3)
        for machine in ("s2", "s3"):
            await world.join(machine)
        await world.cluster.sleep(4.1)
        await world.balanced({"s1", "s2", "s3"})
        await asyncio.gather(world.join("s4"), world.join("s5"))
        await world.cluster.sleep(5.2)
        await world.balanced({"s1", "s2", "s3", "s4", "s5"})
        await world.check_lateness(0, set(range(SHARDS)), 1.0)
        since, dead = world.cluster.at(), (await world.shards())["s1"]
        await world.cluster.kill("s1")
        await world.cluster.sleep(15)
        await world.balanced({"s2", "s3", "s4", "s5"})
        await world.check_lateness(since, dead, 11.0)
        since, bequeathed = world.cluster.at(), await world.shards()
        await world.cluster.stop("s4")
        await world.cluster.stop("s2")
        await world.cluster.sleep(7)
        await world.balanced({"s3", "s5"})
        await world.check_lateness(since, bequeathed["s2"] | bequeathed["s4"], 1.0)
        await world.check_every_tick_once()

    scenario(play, seed=seed)


def test_a_handover_takes_less_than_a_second_and_only_the_moved_shards_notice():
    async def play(world: World) -> None:
        daemon = await world.join("s1")
        assert daemon.metrics.get_sample_value("xchronos_shards") == 16
        assert daemon.metrics.get_sample_value("xchronos_leader") == 1
        await world.begin()
        await world.cluster.sleep(5.5)
        since = world.cluster.at()
        await world.join("s2")
        await world.cluster.sleep(0.5)
        await world.balanced({"s1", "s2"})
        await world.cluster.sleep(6)
        moved = (await world.shards())["s2"]
        assert len(moved) == 8
        await world.check_lateness(since, moved, 0.5)
        await world.check_every_tick_once()
        assert daemon.metrics.get_sample_value("xchronos_shards") == 8
        assert daemon.metrics.get_sample_value("xchronos_terms_total") == 16

    scenario(play)


@pytest.mark.parametrize("seed", range(3))
def test_nobody_waits_for_the_dead_to_take_what_others_have_left(seed):
    """A second one dies, and a third one leaves, while the first one's lease still lives."""

    async def play(world: World) -> None:
        for machine in ("s1", "s2", "s3", "s4"):
            await world.join(machine)
        await world.begin()
        await world.cluster.sleep(5.2)
        before, since = await world.shards(), world.cluster.at()
        await world.cluster.kill("s1")
        await world.cluster.sleep(4)
        await world.cluster.kill("s2")
        await world.cluster.sleep(1)
        await world.cluster.stop("s3")
        left = world.cluster.at()
        await world.cluster.sleep(14)
        await world.balanced({"s4"})
        await world.check_lateness(since, before["s1"] | before["s2"], 11.0, others=1.5)
        await world.check_lateness(left + 2, before["s1"] | before["s2"], 11.0)
        await world.check_every_tick_once()
        await world.join("s1")
        await world.cluster.sleep(2)
        await world.balanced({"s1", "s4"})

    scenario(play, seed=seed)


def test_who_was_suspected_wrongly_gets_its_share():
    async def play(world: World) -> None:
        for machine in ("s1", "s2", "s3"):
            await world.join(machine)
        await world.begin()
        await world.cluster.sleep(3.2)
        store = world.connection("s2")
        store.going.clear()
        await world.cluster.sleep(1)
        await world.cluster.stop("s3")
        await world.cluster.sleep(2)
        assert len((await world.shards())["s1"]) + len((await world.shards())["s2"]) == SHARDS
        store.going.set()
        await world.cluster.sleep(4)
        await world.balanced({"s1", "s2"})
        await world.check_every_tick_once()

    scenario(play)


@pytest.mark.parametrize("seed", range(4))
def test_a_paused_scheduler_costs_its_lease_and_all_its_late_writes_are_refused(seed):
    async def play(world: World) -> None:
        for machine in ("s1", "s2", "s3"):
            await world.join(machine)
        await world.begin()
        await world.cluster.sleep(5.2)
        before, paused = await world.shards(), world.connection("s1")
        terms = {held.term for held in (await world.roster()).shards.values() if held.owner == "s1"}
        since = world.cluster.at()
        paused.going.clear()
        await world.cluster.sleep(20 + seed / 4)
        await world.balanced({"s2", "s3"})
        resumed = world.clock.now()
        paused.going.set()
        await world.cluster.sleep(3)
        await world.balanced({"s1", "s2", "s3"})
        late = [answer for at, txn, answer in paused.answers if at >= resumed and txn.guards[0].revision in terms]
        assert len(late) >= 10, "it had decided much that it could not write"
        assert not any(answer.succeeded for answer in late)
        await world.cluster.sleep(5)
        # When it was back, it got shards of others.
        back = (await world.shards())["s1"]
        await world.check_lateness(since, before["s1"] | back, 11.0)
        await world.check_lateness(since + 12, back, 0.5)
        await world.check_every_tick_once()

    scenario(play, seed=seed)


def test_a_daemon_that_is_back_within_its_lease_takes_over_what_its_former_life_has_left():
    async def play(world: World) -> None:
        await world.join("s1")
        await world.join("s2")
        await world.begin()
        await world.cluster.sleep(5.2)
        before, since = await world.shards(), world.cluster.at()
        leader = (await world.roster()).election.owner
        await world.cluster.kill(leader)
        await world.cluster.sleep(1)
        await world.join(leader)
        await world.cluster.sleep(1)
        await world.balanced({"s1", "s2"})
        assert await world.shards() == before
        assert (await world.roster()).election is not None
        await world.cluster.sleep(15)
        await world.check_lateness(since, before[leader], 2.0)
        await world.check_every_tick_once()

    scenario(play)


def test_a_store_that_cannot_be_used_any_more_ends_a_scheduler_for_one_reason():
    async def play(world: World) -> None:
        await world.join("s1")
        await world.begin()
        await world.cluster.store.close()
        with pytest.raises(StoreError, match="closed"):
            await world.cluster.running["s1"].wait()

    scenario(play)


def test_two_daemons_cannot_have_one_id():
    async def play(world: World) -> None:
        await world.join("s1")
        await world.begin()
        store = world.cluster.store
        second = Engine(
            SchedulerContext(store, world.cluster.keys, world.clock, TTL, "s1"),
            CollectorRegistry(),
            instance="somebody else",
        )
        with pytest.raises(Conflict, match="another scheduler has the machine id 's1'"):
            await second.run()
        assert world.cluster.at() == pytest.approx(20, abs=4), "a dead one's record would have been gone by then"
        await world.cluster.sleep(1)
        await world.balanced({"s1"})
        # The same identity, twice: the one that came first has to go.
        third = asyncio.create_task(
            Engine(
                SchedulerContext(store, world.cluster.keys, world.clock, TTL, "s1"), CollectorRegistry(), instance="s1"
            ).run()
        )
        with pytest.raises(Conflict, match="another scheduler has the machine id 's1'"):
            await world.cluster.running["s1"].wait()
        await world.cluster.sleep(5)
        await world.balanced({"s1"})
        await world.check_every_tick_once()
        third.cancel()
        await asyncio.wait({third})

    scenario(play)


def test_one_leads_and_is_replaced_at_once():
    async def play(world: World) -> None:
        async def sweep(machine: str, guard) -> None:
            done = await world.cluster.store.commit(Txn((guard,), (Put(f"/chores/{machine}", b""),)))
            assert done.succeeded
            did[machine] += 1

        did = Counter()
        engines = {}
        for machine in ("s1", "s2"):
            store = PausableStore(world.cluster.store, world.clock, world.random)
            duties = [LeaderDuty("sweep", SECOND, partial(sweep, machine))]
            engine = Engine(
                SchedulerContext(store, world.cluster.keys, world.clock, TTL, machine),
                CollectorRegistry(),
                instance="1",
                duties=duties,
            )
            engines[machine] = asyncio.create_task(engine.run())
            await engine.ready.wait()
        await world.cluster.sleep(5)
        assert set(did) == {"s1"}
        assert did["s1"] >= 4
        assert (await world.roster()).election.owner == "s1"
        engines["s1"].cancel()
        await asyncio.wait({engines["s1"]})
        await world.cluster.sleep(0.2)
        assert (await world.roster()).election.owner == "s2"
        await world.balanced({"s2"})
        await world.cluster.sleep(5)
        assert did["s2"] >= 3
        assert did["s1"] <= 5
        engines["s2"].cancel()
        await asyncio.wait({engines["s2"]})
        assert (await world.cluster.store.range(world.cluster.keys.root)).items == []

    scenario(play)
