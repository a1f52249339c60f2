"""Whole daemons over one store in a real Consul, each with a client of its own, on the real clock."""

import asyncio
from itertools import pairwise

import pytest

from tests.engine.engine_cluster import Cluster
from xchronos.clock import SystemClock
from xchronos.errors import StoreUnavailable
from xchronos.store.consul.access import ConsulAccess
from xchronos.store.consul.store import ConsulStore

pytestmark = pytest.mark.consul

UNITS = 6


async def ended(cluster: Cluster) -> list[list[float]]:
    """The fire times of the ended executions of each unit."""
    while True:
        try:
            return [
                sorted(e.fire_time.timestamp() for e in await cluster.history(f"u{n}.service") if e.outcome is not None)
                for n in range(UNITS)
            ]
        except StoreUnavailable:
            await asyncio.sleep(0.2)


async def test_every_fire_time_once_through_an_outage(make_consul, tmp_path) -> None:
    """Two schedulers with agents; Consul is killed and comes back: each fire time has one record, each attempt one start."""
    server = await asyncio.to_thread(make_consul)
    access = ConsulAccess(agents=(server.addresses[0].removeprefix("http://"),), timeout=2.0)
    stores = [await ConsulStore.open(access) for _ in range(2)]
    cluster = Cluster(SystemClock(), stores[0])
    cluster.directory = tmp_path
    for number, store in enumerate(stores):
        await cluster.start(f"m{number + 1}", store=store)
    for number in range(UNITS):
        await cluster.submit(f"u{number}.service", "TriggerRepeatInterval=250ms\nMisfirePolicy=IGNORE_MISFIRE_POLICY")

    async def reach(count: int) -> None:
        async with asyncio.timeout(60):
            while min(map(len, await ended(cluster))) < count:  # noqa: ASYNC110 - it happens in other places
                await asyncio.sleep(0.1)

    await reach(4)
    await asyncio.to_thread(server.members[0].kill)
    await asyncio.sleep(1)
    before = sum(cluster.starts.values())
    await asyncio.sleep(1)
    assert sum(cluster.starts.values()) == before, "nothing starts without a durable claim"
    await asyncio.to_thread(server.start)
    await reach(20)
    for machine in ("m1", "m2"):
        await cluster.stop(machine)
    assert set(cluster.starts.values()) == {1}
    assert {machine for _, _, _, machine in cluster.log} == {"m1", "m2"}
    for fires in await ended(cluster):
        # Of the last ones, some may have been under way when their machine was stopped.
        steps = {round(later - earlier, 3) for earlier, later in pairwise(fires[:16])}
        assert steps == {0.25}, "no fire time is without its record, none has two"
    for store in stores:
        await store.close()
