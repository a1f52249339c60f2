"""Units that run on every machine: ones that join, are full, pause, drain, or come back."""

import asyncio
from random import Random

from tests.engine.engine_cluster import AGENT, BOTH, Cluster, run
from tests.engine.faulty_store import FaultyStore
from tests.engine.machines_world import FOR_EVER, kept, machines, waiting, where
from xchronos.clock import to_datetime


def test_a_machine_that_joins_gets_its_copy_of_what_runs_everywhere():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        await kept(cluster, "kept.service", "Global=true")
        await kept(cluster, "ssd.service", "Global=true\nMachineMetadata=disk=ssd")
        await cluster.submit("fired.service", "TriggerCron=0 * * * * *", fleet="Global=true")
        await cluster.sleep(70)
        assert await where(cluster) == {"kept.service": ["m1", "m2"]}
        assert await waiting(cluster) == {"ssd.service": "1 unplaced: 2 machines lack disk=ssd"}
        await cluster.start("m3", roles=AGENT, metadata={"disk": "ssd"})
        await cluster.sleep(1)
        assert await where(cluster) == {"kept.service": ["m1", "m2", "m3"], "ssd.service": ["m3"]}
        before = {(e.fire_time, e.attempts[0].machine) for e in await cluster.history("fired.service")}
        await cluster.sleep(60)
        after = {(e.fire_time, e.attempts[0].machine) for e in await cluster.history("fired.service")} - before
        assert sorted(machine for _, machine in after) == ["m1", "m2", "m3"]
        assert len({fire_time for fire_time, _ in after}) == 1
        # A machine that comes to fit, one that does not fit any more, and one that does again.
        await cluster.registry.wishes.set_metadata("m2", {"disk": "ssd"})
        await cluster.sleep(1)
        assert (await where(cluster))["ssd.service"] == ["m2", "m3"]
        await cluster.registry.wishes.set_metadata("m3", {}, ["disk"])
        await cluster.sleep(1)
        assert (await where(cluster))["ssd.service"] == ["m2"]
        (ended,) = await cluster.history("ssd.service")
        assert (ended.outcome, ended.reason) == ("lost", "m3 lacks disk=ssd")
        await cluster.registry.wishes.set_metadata("m3", {"disk": "ssd"})
        await cluster.sleep(1)
        assert await where(cluster) == {"kept.service": ["m1", "m2", "m3"], "ssd.service": ["m2", "m3"]}
        assert await waiting(cluster) == {}

    async def body(spec, machine):
        await asyncio.sleep(1 if spec.unit == "fired.service" else 1e9)

    run(scenario, body)


def test_what_runs_everywhere_over_restarts_pauses_and_machines_without_room():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2, slots=2)
        await kept(cluster, "one.service", "Global=true")
        await cluster.sleep(1)
        await cluster.start("m3", roles=AGENT, slots=1)
        await cluster.sleep(1)
        await kept(cluster, "two.service", "Global=true")
        await cluster.sleep(1)
        assert await where(cluster) == {"one.service": ["m1", "m2", "m3"], "two.service": ["m1", "m2"]}
        # The slot on m3 is free again, and then a scheduler comes that has heard of nothing.
        await cluster.registry.destroy("one.service")
        await cluster.sleep(1)
        assert await where(cluster) == {"two.service": ["m1", "m2", "m3"]}
        await cluster.registry.set_desired("two.service", "paused")
        await cluster.stop("m1")
        await cluster.start("m4", roles=BOTH)
        await cluster.sleep(5)
        assert await where(cluster) == {"two.service": ["m2", "m3"]}
        await cluster.registry.set_desired("two.service", "active")
        await cluster.sleep(1)
        assert await where(cluster) == {"two.service": ["m2", "m3", "m4"]}
        await cluster.start("m1", roles=BOTH)
        await cluster.sleep(1)
        assert await where(cluster) == {"two.service": ["m1", "m2", "m3", "m4"]}
        # Its new text concerns no more than the machines that are still to come.
        await kept(cluster, "two.service", "")
        await cluster.start("m5", roles=AGENT)
        await cluster.sleep(1)
        assert await where(cluster) == {"two.service": ["m1", "m2", "m3", "m4"]}
        await cluster.registry.destroy("two.service")
        await cluster.sleep(1)
        assert await cluster.left_over() == []

    run(scenario, FOR_EVER)


def test_a_machine_that_was_full_when_the_unit_came():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 1)
        await cluster.start("m2", roles=AGENT, slots=1, metadata={"small": "yes"})
        await kept(cluster, "first.service", "MachineMetadata=small=yes")
        await cluster.sleep(1)
        await kept(cluster, "all.service", "Global=true")
        await cluster.sleep(1)
        assert await where(cluster) == {"first.service": ["m2"], "all.service": ["m1"]}
        await cluster.registry.destroy("first.service")
        await cluster.sleep(1)
        assert await where(cluster) == {"all.service": ["m1", "m2"]}

    run(scenario, FOR_EVER)


def test_more_machines_than_one_txn_holds_get_their_copies():
    async def scenario(cluster: Cluster) -> None:
        cluster.store.max_operations = 8
        await machines(cluster, 2)
        await kept(cluster, "all.service", "Global=true")
        await cluster.sleep(1)
        await asyncio.gather(*(cluster.start(f"m{n}", roles=AGENT) for n in range(3, 21)))
        await cluster.sleep(2)
        assert (await where(cluster))["all.service"] == sorted(f"m{n}" for n in range(1, 21))

    run(scenario, FOR_EVER)


def test_a_copy_that_waits_for_a_machine_that_goes_is_over():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 1)
        await cluster.start("m2", roles=AGENT, store=FaultyStore(cluster.store, cluster.clock, Random(1)))
        await cluster.submit("a.service", "TriggerRepeatInterval=1h\nMaxAttempts=2", fleet="Global=true")
        await cluster.sleep(1)
        await cluster.registry.wishes.cordon("m2")
        await cluster.sleep(10)
        assert await waiting(cluster) == {"a.service": "m2 is cordoned"}
        await cluster.kill("m2")
        await cluster.sleep(30)
        assert await waiting(cluster) == {}
        assert {execution.reason for execution in await cluster.history("a.service")} == {"m2 is gone"}

    async def body(spec, machine):
        await asyncio.sleep(5 if spec.attempt == 1 else 1e9)
        return 1

    run(scenario, body)


def test_copies_on_every_machine_that_a_trigger_started_end_with_a_drain_and_wait_out_a_cordon():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        await cluster.submit("a.service", "TriggerRepeatInterval=1h\nMaxAttempts=2", fleet="Global=true")
        await cluster.sleep(1)
        await cluster.registry.wishes.cordon("m1")
        await cluster.sleep(10)
        # The first attempts have failed; the second one on m1 waits until the cordon is lifted.
        assert await where(cluster) == {"a.service": ["m2"]}
        assert await waiting(cluster) == {"a.service": "m1 is cordoned"}
        await cluster.registry.wishes.uncordon("m1")
        await cluster.sleep(1)
        assert await where(cluster) == {"a.service": ["m1", "m2"]}
        await cluster.registry.wishes.drain("m2", to_datetime(cluster.clock.now()))
        await cluster.sleep(2)
        assert await where(cluster) == {"a.service": ["m1"]}
        (ended,) = await cluster.history("a.service")
        assert (ended.outcome, ended.reason) == ("lost", "m2 is cordoned")
        assert [attempt.reason for attempt in ended.attempts] == ["start-0: exited with 1", "m2 is being drained"]

    async def body(spec, machine):
        if spec.attempt == 1:
            await asyncio.sleep(5)
            return 1
        await asyncio.sleep(1e9)
        return 0

    run(scenario, body)
