"""What schedulers read when they start, after an outage, and when a shard or a unit changes hands."""

import asyncio
import gc
from collections import Counter

import pytest

from tests.engine.engine_cluster import AGENT, SCHEDULER, Cluster, unit_text
from tests.engine.schedulers_world import TTL, UNITS, PausableStore, World, scenario
from xchronos.errors import Compacted, StoreUnavailable
from xchronos.registry.keys import SHARDS
from xchronos.testing.clock import VirtualClock, run_virtual


class CountingStore(PausableStore):
    """Counts what is asked, and can be away for everybody."""

    def __init__(self, store, clock, random) -> None:
        super().__init__(store, clock, random)
        self.asked = Counter()

    async def get(self, key):
        self.asked["get"] += 1
        return await super().get(key)

    async def range(self, prefix, **options):
        self.asked[prefix] += 1
        return await super().range(prefix, **options)

    async def deliver(self, batches):
        async for batch in super().deliver(batches):
            if self.trouble == 1:
                raise StoreUnavailable("the connection is gone")
            yield batch


def test_after_an_outage_sessions_go_on_where_they_were():
    """Leases outlive an outage that is shorter than they are; then nothing has to be read again but what was asked."""

    async def play(world: World) -> None:
        stores = {}
        for machine in ("s1", "s2"):
            stores[machine] = CountingStore(world.cluster.store, world.clock, world.random)
            await world.cluster.start(machine, SCHEDULER, store=stores[machine], ttl=TTL)
        await world.begin()
        await world.cluster.sleep(5.2)
        for store in stores.values():
            store.asked.clear()
            store.trouble = 1
        await world.cluster.sleep(6)
        for store in stores.values():
            store.trouble = 0
        away = sum(sum(store.asked.values()) for store in stores.values())
        assert away < 100, "nobody asks again and again"
        await world.cluster.sleep(10)
        await world.balanced({"s1", "s2"})
        await world.check_every_tick_once()
        keys = world.cluster.keys
        for store in stores.values():
            assert store.asked[keys.machines] == store.asked[keys.placements] == 0, "no session began anew"

    scenario(play)


def test_a_start_reads_pages_not_units():
    async def play(world: World) -> None:
        await world.begin(chronos="TriggerRepeatInterval=1h")
        await world.join("s1")
        await world.cluster.sleep(3)
        await world.cluster.stop("s1")
        store = CountingStore(world.cluster.store, world.clock, world.random)
        for name in UNITS:
            await world.cluster.registry.set_desired(name, "paused")
            await world.cluster.registry.start(name, now=world.clock.now())
        await world.cluster.start("s1", SCHEDULER, store=store, ttl=TTL)
        await world.cluster.sleep(1)
        for name in UNITS:
            assert (await world.cluster.registry.unit(name)).schedule.paused
        assert sum(store.asked.values()) < 16, store.asked

    scenario(play)


@pytest.mark.parametrize("seed", range(4))
def test_units_that_change_while_their_shard_moves(seed):
    """Whatever is submitted, changed, started or destroyed around a handover is decided about by the new owner."""

    async def play(world: World) -> None:
        cluster = world.cluster
        await world.join("s1")
        await world.begin()
        await cluster.sleep(2.2)
        joining = asyncio.create_task(world.join("s2"))
        for step, name in enumerate(UNITS):
            await world.clock.sleep(world.random.randrange(12_000))
            match step % 4:
                case 0:
                    await cluster.registry.destroy(name)
                case 1:
                    await cluster.registry.set_desired(name, "paused")
                case 2:
                    await cluster.registry.start(name, now=world.clock.now())
                case 3:
                    await cluster.registry.submit(
                        f"new-{name}", unit_text("TriggerRepeatInterval=1s"), now=world.clock.now()
                    )
        await joining
        await cluster.sleep(5)
        await world.balanced({"s1", "s2"})
        for step, name in enumerate(UNITS):
            match step % 4:
                case 0:
                    assert await cluster.left_over(*(other for other in UNITS if other != name), "new-") == []
                case 1:
                    assert (await cluster.registry.unit(name)).schedule.paused
                case 2:
                    assert [run.trigger for run in await cluster.history(name)].count("manual") == 1
                case 3:
                    assert len(await cluster.history(f"new-{name}")) >= 4
        assert set(cluster.starts.values()) == {1}

    scenario(play, seed=seed)


def test_an_answer_that_is_lost_costs_a_term_and_nothing_else():
    async def play(world: World) -> None:
        daemon = await world.join("s1")
        await world.begin()
        await world.cluster.sleep(3.2)
        store, terms = daemon.store, await world.roster()
        store.losing = 5
        await world.cluster.sleep(3)
        assert store.losing == 0
        after = await world.roster()
        renewed = [number for number in range(SHARDS) if after.shards[number].term > terms.shards[number].term]
        assert renewed
        await world.cluster.sleep(3)
        await world.check_every_tick_once()
        await world.check_lateness(0, set(renewed), 1.0)

    scenario(play)


def test_a_unit_replaces_one_that_another_scheduler_owns():
    async def body(spec, machine):
        await asyncio.sleep(1000)

    async def main(clock: VirtualClock) -> None:
        cluster = Cluster(clock, body=body)
        await cluster.start("agent", AGENT)
        for machine in ("s1", "s2", "s3"):
            await cluster.start(machine, SCHEDULER)
        await cluster.sleep(1)
        names = [f"n{n}.service" for n in range(12)]
        for name in names:
            await cluster.submit(f"old-{name}", "TriggerRepeatInterval=1h\nConcurrency=forbid")
        await cluster.sleep(1)
        assert len(await cluster.registry.open_executions()) == 12
        for name in names:
            await cluster.submit(f"new-{name}", "TriggerRepeatInterval=1h", fleet=f"Replaces=old-{name}")
        await cluster.sleep(1)
        for name in names:
            (execution,) = await cluster.registry.open_executions(f"old-{name}")
            assert execution.attempts[0].reason == f"new-{name} replaces it (Replaces=)"
            assert execution.reason == f"1 unplaced: 1 machine runs new-{name}, which replaces it"
        await cluster.close()

    run_virtual(main)


class HungStore(PausableStore):
    """While `hung` is set, writes get no answer, and the news that comes says that the store has forgotten its past."""

    hung = False

    async def commit_many(self, txns):
        if self.hung:
            await asyncio.Event().wait()
        return await super().commit_many(txns)

    async def deliver(self, batches):
        async for batch in super().deliver(batches):
            if self.hung:
                raise Compacted(batch.revision)
            yield batch


def test_a_daemon_that_ends_while_a_session_does_leaves_nothing_at_work():
    """It is cancelled while the last writes of a session that has ended are waited for."""

    async def play(world: World) -> None:
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        store = HungStore(world.cluster.store, world.clock, world.random)
        await world.cluster.start("s1", SCHEDULER, store=store, ttl=TTL)
        await world.begin(["u.service"])
        await world.cluster.sleep(2.9)
        store.hung = True
        await world.cluster.sleep(0.3)
        await world.cluster.submit("v.service")
        await world.cluster.sleep(0.1)
        await world.cluster.kill("s1")
        await world.cluster.sleep(0.1)
        assert {task.get_name() for task in asyncio.all_tasks()} & {"batcher", "session"} == set()
        gc.collect()
        assert told == []

    scenario(play)
