"""Schedulers that come and go, on a real etcd and in real time."""

from random import Random

import pytest
from schedulers_world import World
from services.etcd import EtcdCluster

from xchronos.clock import SECOND, SystemClock
from xchronos.registry.keys import SHARDS
from xchronos.store.etcd import EtcdStore
from xchronos.store.etcd_access import EtcdAccess

pytestmark = pytest.mark.etcd
TTL = 2 * SECOND


async def test_schedulers_join_die_and_leave_on_etcd(etcd_server: EtcdCluster) -> None:
    etcd_server.ctl("del", "", "--prefix")
    access = EtcdAccess(endpoints=tuple(url.partition("//")[2] for url in etcd_server.endpoints))
    clock = SystemClock()
    world = World(clock, await EtcdStore.open(access), ttl=TTL)
    stores = [await EtcdStore.open(access) for _ in range(4)]
    world.random = Random(1)
    await world.join("s1", stores[0])
    await world.begin()
    await world.cluster.sleep(3)
    since = world.cluster.at()
    for machine, store in (("s2", stores[1]), ("s3", stores[2])):
        await world.join(machine, store)
        await world.cluster.sleep(1)
    await world.balanced({"s1", "s2", "s3"})
    await world.cluster.sleep(2)
    # Generous in what a machine with other work to do may add.
    await world.check_lateness(since, set(range(SHARDS)), 3.0)
    since, shares = world.cluster.at(), await world.shards()
    await world.cluster.kill("s1")
    await world.cluster.sleep(6)
    await world.balanced({"s2", "s3"})
    await world.check_lateness(since, shares["s1"], 2 + 1 + 2, others=2.0)
    late = [late for fires in (await world.lateness(since)).values() for _, late in fires]
    print("latest", max(late), "median", sorted(late)[len(late) // 2])
    await world.join("s1", stores[3])
    await world.cluster.stop("s2")
    await world.cluster.sleep(2)
    await world.balanced({"s1", "s3"})
    await world.check_every_tick_once()
    await world.cluster.close()
    for store in stores:
        await store.close()
