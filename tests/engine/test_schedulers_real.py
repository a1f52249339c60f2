"""Schedulers that come and go, on real stores and in real time."""

from pathlib import Path

import pytest

from tests.engine.schedulers_world import World
from tests.services.etcd import EtcdCluster
from xchronos.clock import SECOND, SystemClock
from xchronos.registry.keys import SHARDS
from xchronos.store import Store
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.store import EtcdStore
from xchronos.store.sqlite.store import SqliteStore

TTL = 2 * SECOND
LOADED = 2.0
"""Seconds that a machine with other work to do may add."""


async def come_and_go(stores: list[Store]) -> None:
    """One store is the cluster's own, the others are the connections of schedulers."""
    own, *connections = stores
    world = World(SystemClock(), own, ttl=TTL)
    await world.join("s1", connections[0])
    await world.begin()
    await world.cluster.sleep(2)
    since = world.cluster.at()
    for machine, store in (("s2", connections[1]), ("s3", connections[2])):
        await world.join(machine, store)
        await world.cluster.sleep(1)
    await world.balanced({"s1", "s2", "s3"})
    await world.cluster.sleep(1)
    await world.check_lateness(since, set(range(SHARDS)), 1 + LOADED)
    since, shares = world.cluster.at(), await world.shards()
    await world.cluster.kill("s1")
    await world.cluster.sleep(5)
    await world.balanced({"s2", "s3"})
    await world.check_lateness(since, shares["s1"], 2 + 1 + LOADED, others=LOADED)
    await world.join("s1", connections[3])
    await world.cluster.stop("s2")
    await world.cluster.sleep(2)
    await world.balanced({"s1", "s3"})
    await world.check_every_tick_once()
    late = sorted(late for fires in (await world.lateness()).values() for _, late in fires)
    print(
        f"{len(late)} fire times, the median one {late[len(late) // 2] * 1000:.1f} ms late, the last one {late[-1]:.2f} s"
    )
    await world.cluster.close()


@pytest.mark.etcd
async def test_on_etcd(etcd_server: EtcdCluster) -> None:
    etcd_server.ctl("del", "", "--prefix")
    access = EtcdAccess(endpoints=tuple(url.partition("//")[2] for url in etcd_server.endpoints))
    stores: list[Store] = [await EtcdStore.open(access) for _ in range(5)]
    await come_and_go(stores)
    for store in stores:
        await store.close()


async def test_on_sqlite(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store")
    await come_and_go([store] * 5)
