"""More than the machines can begin: nothing piles up on them, and who begins nothing stops nobody else."""

from itertools import pairwise

import pytest
from engine_cluster import Cluster, run

from xchronos.engine import pressure
from xchronos.model.records import Machine
from xchronos.registry.codec import encode
from xchronos.store.contract import Put, Txn

FEW = 20
QUICK = "TriggerRepeatInterval=100\nMisfireThreshold=1h\nHistoryLimit=10"


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(pressure, "MOST_UNBEGUN", FEW)


async def _hanging(cluster: Cluster, name: str) -> None:
    """A machine whose record is there and whose agent does nothing."""
    record = Machine(name, instance=name, executors=("python",))
    await cluster.store.commit(Txn((), (Put(cluster.keys.machine(name), encode(record)),)))


async def _placed(cluster: Cluster, machine: str) -> int:
    return len((await cluster.store.range(cluster.keys.machine_placements(machine))).items)


def test_a_machine_that_begins_nothing_is_given_no_more_when_there_is_no_other():
    async def scenario(cluster: Cluster) -> None:
        await _hanging(cluster, "m2")
        await cluster.start("m1", roles=frozenset(("scheduler",)))
        await cluster.submit("a.service", QUICK)
        await cluster.sleep(60)
        assert FEW <= await _placed(cluster, "m2") <= FEW + 31
        # It comes to life: what was due meanwhile is claimed now, every fire time of it once.
        await cluster.start("m2", roles=frozenset(("agent",)))
        await cluster.sleep(20)
        assert len(cluster.started("a.service")) == len(cluster.starts) >= 790
        assert await _placed(cluster, "m2") <= 2

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
