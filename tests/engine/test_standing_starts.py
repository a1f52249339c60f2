"""A start of a Global unit stands until it is stopped: each machine that comes to fit gets its copy, once."""

from collections import Counter
from random import Random

import pytest

from tests.engine.engine_cluster import AGENT, BOTH, SCHEDULER, Cluster, lasting, run
from tests.engine.faulty_store import FaultyStore
from tests.engine.machines_world import machines
from xchronos.model.policies import Outcome

EVERYWHERE = "Global=true"


def runs(cluster: Cluster, unit: str = "a.service") -> Counter[str]:
    """How often the unit was started on each machine."""
    return Counter(machine for _, execution, _, machine in cluster.log if execution.startswith(f"{unit}/"))


async def begin(cluster: Cluster, fleet: str = EVERYWHERE, chronos: str = "") -> None:
    await cluster.submit("a.service", chronos, fleet=fleet)
    await cluster.registry.start("a.service", now=cluster.clock.now())
    await cluster.sleep(2)


async def standing(cluster: Cluster) -> list[str]:
    return [one.reason for one in await cluster.registry.open_executions("a.service") if one.stands]


def test_whoever_comes_to_fit_gets_its_copy_once():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        await cluster.registry.wishes.cordon("m2")
        await cluster.sleep(1)
        await begin(cluster, "Global=true\nMachineMetadata=zone!=west")
        assert runs(cluster) == {"m1": 1}
        assert await standing(cluster) == [
            "every machine that fits has had its copy; one that comes to fit gets it, until this is stopped"
        ]
        await cluster.registry.wishes.uncordon("m2")
        await cluster.sleep(2)
        assert runs(cluster) == {"m1": 1, "m2": 1}
        await cluster.start("m3", roles=AGENT, metadata={"zone": "west"})
        await cluster.sleep(2)
        assert runs(cluster) == {"m1": 1, "m2": 1}
        await cluster.registry.wishes.set_metadata("m3", {"zone": "east"})
        await cluster.sleep(2)
        # Nobody gets it a second time: not for a change, not after a restart of everything, nor when it comes back.
        await cluster.registry.wishes.set_metadata("m1", {"rack": "7"})
        for name in list(cluster.running):
            await cluster.stop(name)
        for name in ("m3", "m2", "m1"):
            await cluster.start(name, roles=BOTH)
        await cluster.sleep(30)
        assert runs(cluster) == {"m1": 1, "m2": 1, "m3": 1}
        assert {one.outcome for one in await cluster.history("a.service")} == {Outcome.SUCCEEDED}

    run(scenario)


def test_until_it_is_stopped():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 1)
        await begin(cluster)
        await cluster.registry.stop("a.service", "enough")
        await cluster.sleep(1)
        await cluster.start("m2", roles=AGENT)
        await cluster.sleep(5)
        assert runs(cluster) == {"m1": 1}
        assert await standing(cluster) == []
        assert (await cluster.history("a.service"))[-1].reason == "enough"

    run(scenario)


def test_a_later_start_takes_its_place():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        await begin(cluster, chronos="Concurrency=forbid")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(2)
        assert runs(cluster) == {"m1": 2, "m2": 2}
        assert len(await standing(cluster)) == 1
        await cluster.start("m3", roles=AGENT)
        await cluster.sleep(2)
        assert runs(cluster) == {"m1": 2, "m2": 2, "m3": 1}

    run(scenario)


@pytest.mark.parametrize("chronos", ["TriggerStartDelay=1h", "TriggerCron=@daily"])
def test_a_unit_with_triggers_is_for_the_machines_of_the_moment(chronos):
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 1)
        await begin(cluster, chronos=chronos)
        await cluster.start("m2", roles=AGENT)
        await cluster.sleep(5)
        assert runs(cluster) == {"m1": 1}
        assert await standing(cluster) == []

    run(scenario)


def test_one_that_was_lost_is_begun_again_where_its_machine_comes_back():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles=SCHEDULER)
        await cluster.start("m1", roles=AGENT)
        await cluster.start("m2", roles=AGENT, store=FaultyStore(cluster.store, cluster.clock, Random(1)))
        await begin(cluster)
        assert runs(cluster) == {"m1": 1, "m2": 1}
        await cluster.kill("m2")
        await cluster.sleep(60)
        assert [one.outcome for one in await cluster.history("a.service")] == [Outcome.LOST]
        await cluster.start("m2", roles=AGENT)
        await cluster.sleep(5)
        assert runs(cluster) == {"m1": 1, "m2": 2}

    run(scenario, lasting(1e6))


def test_the_history_keeps_who_has_had_it():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 12)
        await begin(cluster, chronos="HistoryLimit=2")
        await cluster.sleep(10)
        assert len(await cluster.history("a.service")) == 12
        await cluster.registry.wishes.cordon("m3")
        await cluster.registry.wishes.uncordon("m3")
        await cluster.start("n1", roles=AGENT)
        await cluster.sleep(10)
        assert set(runs(cluster).values()) == {1}
        assert len(runs(cluster)) == 13
        # A new start, and the records of the old one are cut as any others are.
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(10)
        assert len(await cluster.history("a.service")) == 13

    run(scenario)


def test_more_machines_than_a_transaction_holds_and_a_slot_that_is_taken():
    async def scenario(cluster: Cluster) -> None:
        cluster.store.max_operations = 8
        await machines(cluster, 20)
        await cluster.start("full", roles=AGENT, slots=1)
        await cluster.submit("b.service", fleet="MachineID=full")
        await cluster.registry.start("b.service", now=cluster.clock.now())
        await cluster.sleep(1)
        await begin(cluster)
        assert len(runs(cluster)) == 20
        await cluster.registry.stop("b.service", "make room")
        await cluster.sleep(2)
        assert len(runs(cluster)) == 21
        assert set(runs(cluster).values()) == {1}
        numbers = [one.copy for one in await cluster.registry.open_executions("a.service")]
        assert len(numbers) == len(set(numbers)) == 22

    run(scenario, lasting(1e6))


def test_a_unit_that_is_changed_or_destroyed():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 1)
        await begin(cluster)
        # The same start goes on with the new text.
        await cluster.submit("a.service", "Priority=1", fleet=EVERYWHERE)
        await cluster.sleep(1)
        assert runs(cluster) == {"m1": 1}
        await cluster.submit("a.service", "Priority=1")
        await cluster.start("m2", roles=AGENT)
        await cluster.sleep(2)
        assert (runs(cluster), await standing(cluster)) == ({"m1": 1}, [])
        await begin(cluster)
        await cluster.registry.destroy("a.service")
        await cluster.sleep(2)
        assert await cluster.left_over() == []
        await cluster.submit("a.service", fleet=EVERYWHERE)
        await cluster.start("m3", roles=AGENT)
        await cluster.sleep(2)
        assert runs(cluster)["m3"] == 0

    run(scenario)
