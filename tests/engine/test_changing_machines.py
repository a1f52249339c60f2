"""Machines whose metadata change while things run and are placed on them, and whatever else is done to them."""

import asyncio
import contextlib
from random import Random

import pytest

from tests.engine.engine_cluster import AGENT, BOTH, Cluster, lasting, run
from tests.engine.faulty_store import FaultyStore
from tests.engine.machines_world import FOR_EVER, kept, machines, waiting, where
from xchronos.clock import SECOND, to_datetime
from xchronos.errors import NotFound


def test_changed_metadata_moves_what_no_longer_fits():
    async def scenario(cluster: Cluster) -> None:
        for machine, disk in (("m1", "ssd"), ("m2", "ssd"), ("m3", "hdd")):
            await cluster.start(machine, roles=BOTH if machine == "m1" else AGENT, metadata={"disk": disk})
        await cluster.registry.wishes.cordon("m2")
        await kept(cluster, "kept.service", "MachineMetadata=disk=ssd")
        await cluster.submit("job.service", "MaxAttempts=1", fleet="MachineMetadata=disk=ssd")
        await cluster.submit("any.service")
        for name in ("job.service", "any.service"):
            await cluster.registry.start(name, now=cluster.clock.now())
        await cluster.sleep(1)
        await cluster.registry.wishes.uncordon("m2")
        before = await where(cluster)
        assert (before["kept.service"], before["job.service"]) == (["m1"], ["m1"])
        await cluster.registry.wishes.set_metadata("m1", {"disk": "hdd"})
        await cluster.sleep(1)
        assert await where(cluster) == {**before, "kept.service": ["m2"], "job.service": ["m2"]}
        (job,) = await cluster.registry.open_executions("job.service")
        assert (job.attempts[0].outcome, job.attempts[0].reason) == ("lost", "m1 lacks disk=ssd (it has disk=hdd)")
        await cluster.registry.wishes.set_metadata("m2", {}, ["disk"])
        await cluster.sleep(1)
        assert await waiting(cluster) == dict.fromkeys(
            ("kept.service", "job.service"), "1 unplaced: 3 machines lack disk=ssd"
        )
        await cluster.registry.wishes.set_metadata("m3", {"disk": "ssd"})
        await cluster.sleep(1)
        assert await where(cluster) == {**before, "kept.service": ["m3"], "job.service": ["m3"]}

    run(scenario, FOR_EVER)


@pytest.mark.parametrize("seed", range(20))
def test_metadata_that_changes_while_things_are_placed(seed):
    """Whatever the order in which everybody hears of it: nothing is begun where it does not fit, nothing is charged."""
    begun: list[tuple[str, bool]] = []

    async def scenario(cluster: Cluster) -> None:
        random = Random(seed)
        for n in range(1, 4):
            connection = FaultyStore(cluster.store, cluster.clock, random)
            await cluster.start(f"m{n}", roles=BOTH if n == 1 else AGENT, store=connection)

        async def body(spec, machine):
            record = next(m for m in await cluster.registry.machines() if m.id == machine)
            begun.append((machine, record.metadata.get("disk") == "ssd"))
            await asyncio.sleep(0.5)

        cluster.body = body
        await cluster.submit("a.service", "TriggerRepeatInterval=100ms", fleet="MachineMetadata=disk=ssd")
        for _ in range(60):
            machine = f"m{random.randrange(1, 4)}"
            if random.random() < 0.5:
                await cluster.registry.wishes.set_metadata(machine, {"disk": "ssd"})
            else:
                await cluster.registry.wishes.set_metadata(machine, {"disk": random.choice(["hdd", "nvme"])})
            await cluster.sleep(random.random() * 0.5)
        for n in range(1, 4):
            await cluster.registry.wishes.set_metadata(f"m{n}", {"disk": "ssd"})
        await cluster.registry.set_desired("a.service", "paused")
        await cluster.sleep(60)
        history = await cluster.history("a.service")
        assert history
        assert {execution.outcome for execution in history} <= {"succeeded", "missed"}
        assert max(cluster.starts.values()) == 1
        # A step may begin while the news is on its way to its machine: then it is made to leave.
        wrong = sum(not right for _, right in begun)
        assert wrong <= len(begun) // 3

    run(scenario)


def test_everything_destroyed_and_gone_leaves_nothing():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 3)
        await kept(cluster, "everywhere.service", "Global=true")
        await kept(cluster, "kept.service", "Conflicts=other.*")
        await kept(cluster, "pair.service", "MachineOf=kept.service")
        await cluster.submit("fired.service", "TriggerRepeatInterval=1s\nLoadBalancing=round-robin\nAvailability=2")
        await cluster.sleep(5)
        await cluster.registry.wishes.drain("m2", to_datetime(cluster.clock.now()))
        await cluster.registry.wishes.set_metadata("m3", {"disk": "ssd"})
        await cluster.sleep(5)
        await cluster.stop("m3")
        await cluster.sleep(5)
        for name in await cluster.registry.unit_names():
            await cluster.registry.destroy(name)
        await cluster.sleep(5)
        await cluster.registry.wishes.uncordon("m2")
        for machine in ("m2", "m1"):
            await cluster.stop(machine)
        await cluster.registry.wishes.forget("m3")
        assert [item.key for item in (await cluster.store.range("")).items] == []

    run(scenario, lasting(20))


@pytest.mark.parametrize("seed", [*range(10), 279, 347, 397])
def test_whatever_is_done_to_machines_all_is_where_it_belongs_in_the_end(seed):
    async def scenario(cluster: Cluster) -> None:
        random = Random(seed)
        names = [f"m{n}" for n in range(1, 6)]

        async def join(machine: str) -> None:
            connection = FaultyStore(cluster.store, cluster.clock, random, trouble=0.01 if seed % 2 else 0.0)
            disk = {"disk": random.choice(["ssd", "hdd"])}
            await cluster.start(machine, roles=random.choice([BOTH, AGENT]), store=connection, metadata=disk)

        async def act() -> None:
            machine, wishes = random.choice(names), cluster.registry.wishes
            alive, now = machine in cluster.running, cluster.clock.now()
            match random.randrange(7):
                case 0 if not alive:
                    await join(machine)
                case 1 if alive and len(cluster.running) > 2:
                    await cluster.stop(machine, grace=random.randrange(0, 5) * SECOND)
                case 2 if alive and len(cluster.running) > 2:
                    await cluster.kill(machine)
                case 3:
                    await wishes.cordon(machine)
                case 4:
                    await wishes.uncordon(machine)
                case 5:
                    await wishes.drain(machine, to_datetime(now + random.randrange(0, 20) * SECOND))
                case 6:
                    await wishes.set_metadata(machine, {"disk": random.choice(["ssd", "hdd"])})

        await cluster.start("s", store=FaultyStore(cluster.store, cluster.clock, random), roles={"scheduler"})
        for machine in names:
            await join(machine)
        await kept(cluster, "all.service", "Global=true")
        await kept(cluster, "ssd.service", "Global=true\nMachineMetadata=disk=ssd")
        await kept(cluster, "three.service", chronos="Availability=3")
        await kept(cluster, "web.service", "MachineMetadata=disk=ssd")
        await kept(cluster, "log.service", "MachineOf=web.service")
        for n in range(2):
            await kept(cluster, f"x{n}.service", "Conflicts=x*.service")
        await cluster.submit("fired.service", "TriggerRepeatInterval=3s\nMaxAttempts=1")
        for _ in range(60):
            with contextlib.suppress(NotFound):
                await act()
            await cluster.sleep(random.random() * 3)
        for machine in names:
            if machine not in cluster.running:
                await join(machine)
            await cluster.registry.wishes.uncordon(machine)
        await cluster.registry.wishes.set_metadata("m1", {"disk": "ssd"})
        await cluster.registry.set_desired("fired.service", "paused")
        await cluster.sleep(120)
        ssd = [m.id for m in await cluster.registry.machines() if m.metadata["disk"] == "ssd"]
        placed = await where(cluster)
        assert await waiting(cluster) == {}
        assert placed["all.service"] == names
        assert placed["ssd.service"] == ssd
        assert len(set(placed["three.service"])) == len(placed["three.service"]) == 3
        assert placed["web.service"] == placed["log.service"]
        assert placed["web.service"][0] in ssd
        assert len(placed["x0.service"]) == len(placed["x1.service"]) == 1
        assert placed["x0.service"] != placed["x1.service"]
        assert max(cluster.starts.values()) == 1
        history = await cluster.history("fired.service")
        assert {execution.outcome for execution in history} <= {"succeeded", "missed"}
        for name in await cluster.registry.unit_names():
            await cluster.registry.destroy(name)
        await cluster.sleep(60)
        for machine in (*names, "s"):
            await cluster.stop(machine)
        # A machine's last word may not have reached the store.
        await cluster.sleep(30)
        for machine in await cluster.registry.wishes.all():
            await cluster.registry.wishes.forget(machine)
        assert [item.key for item in (await cluster.store.range("")).items] == []

    async def body(spec, machine):
        await asyncio.sleep(2 if spec.unit == "fired.service" else 1e9)

    run(scenario, body)
