"""More than the machines can begin: nothing piles up on them, and who begins nothing stops nobody else."""

from itertools import pairwise

import pytest

from tests.engine.engine_cluster import AGENT, SCHEDULER, Cluster, run
from xchronos.model.records import Machine
from xchronos.registry.codec import encode
from xchronos.scheduler import feasibility
from xchronos.store.contract import Put, Txn

FEW = 20
QUICK = "TriggerRepeatInterval=100\nMisfireThreshold=1h\nHistoryLimit=10"


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(feasibility, "ENOUGH_TO_BEGIN", FEW)


async def _hanging(cluster: Cluster, name: str) -> None:
    """A machine whose record is there and whose agent does nothing."""
    record = Machine(name, instance=name, executors=("python",))
    await cluster.store.commit(Txn((), (Put(cluster.keys.machine(name), encode(record)),)))


async def _placed(cluster: Cluster, machine: str) -> int:
    return len((await cluster.store.range(cluster.keys.machine_placements(machine))).items)


def test_a_machine_that_begins_nothing_is_given_no_more_when_there_is_no_other():
    async def scenario(cluster: Cluster) -> None:
        await _hanging(cluster, "m2")
        await cluster.start("m1", roles=SCHEDULER)
        await cluster.submit("a.service", QUICK)
        await cluster.sleep(60)
        assert FEW <= await _placed(cluster, "m2") <= FEW + 31
        # It comes to life: what was due meanwhile is claimed now, every fire time of it once.
        await cluster.start("m2", roles=AGENT)
        await cluster.sleep(20)
        assert len(cluster.started("a.service")) == len(cluster.starts) >= 790
        assert await _placed(cluster, "m2") <= 2

    run(scenario)


def test_a_crowd_is_claimed_at_once_whatever_the_machines_have():
    async def scenario(cluster: Cluster) -> None:
        await _hanging(cluster, "m2")
        await cluster.start("m1", roles=SCHEDULER)
        for number in range(10 * FEW):
            await cluster.submit(f"u{number}.service", "TriggerStartDelay=5s")
        await cluster.sleep(6)
        assert await _placed(cluster, "m2") == 10 * FEW

    run(scenario)


def test_many_units_that_repeat_wait_behind_what_they_have():
    async def scenario(cluster: Cluster) -> None:
        await _hanging(cluster, "m2")
        await cluster.start("m1", roles=SCHEDULER)
        for number in range(3 * FEW):
            await cluster.submit(
                f"u{number}.service", "TriggerRepeatInterval=1s\nMisfireThreshold=1h\nHistoryLimit=100"
            )
        await cluster.sleep(30)
        assert await _placed(cluster, "m2") == 3 * FEW
        # What is begun makes room, in turn: nobody waits for ever, and nobody's fire time is lost.
        await cluster.start("m2", roles=AGENT)
        await cluster.sleep(30)
        for number in range(3 * FEW):
            assert 59 <= len(cluster.started(f"u{number}.service")) <= 61

    run(scenario)


def test_a_cordoned_machine_that_has_room_does_not_count():
    async def scenario(cluster: Cluster) -> None:
        await _hanging(cluster, "m2")
        record = Machine("m3", instance="m3", executors=("python",), cordoned=True)
        await cluster.store.commit(Txn((), (Put(cluster.keys.machine("m3"), encode(record)),)))
        await cluster.start("m1", roles=SCHEDULER)
        await cluster.submit("a.service", QUICK)
        await cluster.sleep(60)
        assert FEW <= await _placed(cluster, "m2") <= FEW + 31

    run(scenario)


def test_a_machine_that_begins_nothing_stops_nobody():
    async def scenario(cluster: Cluster) -> None:
        await _hanging(cluster, "m2")
        await cluster.start("m1")
        await cluster.submit("stuck.service", QUICK, fleet="MachineID=m2")
        await cluster.submit("well.service", QUICK, fleet="MachineID=m1")
        await cluster.sleep(30)
        starts = cluster.started("well.service")
        assert len(starts) >= 299
        assert all(0.099 <= later - earlier <= 0.111 for earlier, later in pairwise(starts))
        assert await _placed(cluster, "m2") > FEW

    run(scenario)
