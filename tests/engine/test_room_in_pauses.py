"""What a unit holds is not free between two attempts: its machine's room, its neighbours, its place beside a peer."""

import pytest

from tests.engine.engine_cluster import SCHEDULER, Cluster, lasting, run, unit_text
from tests.engine.machines_world import kept, waiting, where


async def _pausing(cluster: Cluster, **options) -> None:
    """Two units that want one machine: the first one has it, and ends every second for three seconds."""
    await cluster.start("m1", **options)
    service = "Restart=always\nRestartSec=3"
    await cluster.registry.submit(
        "a.service", unit_text(service=service).replace(b"oneshot", b"simple"), now=cluster.clock.now()
    )
    await cluster.sleep(0.5)


@pytest.mark.parametrize("declares", ["a", "b"])
@pytest.mark.parametrize("schedulers", [1, 3])
def test_what_a_unit_holds_is_not_free_between_two_attempts(declares, schedulers):
    async def scenario(cluster: Cluster) -> None:
        for number in range(1, schedulers):
            await cluster.start(f"s{number}", roles=SCHEDULER)
        await cluster.sleep(20)
        fleet = {"a": "Conflicts=b.service", "b": ""}[declares]
        await cluster.start("m1")
        text = unit_text(service="Restart=always\nRestartSec=3", fleet=fleet).replace(b"oneshot", b"simple")
        await cluster.registry.submit("a.service", text, now=cluster.clock.now())
        await cluster.sleep(0.5)
        await kept(cluster, "b.service", "Conflicts=a.service" if declares == "b" else "")
        await cluster.sleep(30)
        assert cluster.started("b.service") == []
        assert len(cluster.started("a.service")) >= 3
        assert await waiting(cluster) == {"b.service": "1 unplaced: 1 machine is taken by a conflict with a.service"}
        # A scheduler that comes to know of it in a pause knows as much.
        while (await cluster.registry.open_executions("a.service"))[0].state != "delayed":
            await cluster.sleep(0.1)
        for name in [name for name in cluster.running if name != "m1"]:
            await cluster.stop(name)
        await cluster.start("s9", roles=SCHEDULER)
        await cluster.sleep(30)
        assert cluster.started("b.service") == []
        # What it held is free when it is over.
        await cluster.registry.destroy("a.service")
        await cluster.sleep(2)
        assert await where(cluster) == {"b.service": ["m1"]}

    run(scenario, lasting(1))


def test_the_only_slot_is_kept_between_two_attempts():
    async def scenario(cluster: Cluster) -> None:
        await _pausing(cluster, slots=1)
        await kept(cluster, "b.service", "")
        await cluster.sleep(30)
        assert cluster.started("b.service") == []
        assert len(cluster.started("a.service")) >= 3

    run(scenario, lasting(1))


def test_a_peer_may_come_while_what_it_follows_pauses():
    async def scenario(cluster: Cluster) -> None:
        await _pausing(cluster)
        while (await cluster.registry.open_executions("a.service"))[0].state != "delayed":
            await cluster.sleep(0.1)
        await cluster.submit("b.service", "TriggerStartDelay=1", fleet="MachineOf=a.service")
        await cluster.sleep(0.5)
        assert len(cluster.started("b.service")) == 1

    run(scenario, lasting(1))
