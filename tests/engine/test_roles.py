"""Daemons that have only some of the roles."""

import asyncio

import pytest

from tests.engine.cut_store import CutStore
from tests.engine.engine_cluster import Cluster
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import VirtualClock, run_virtual


@pytest.mark.parametrize("roles", [{"api"}, {"intake"}, {"api", "intake"}])
def test_a_daemon_that_neither_schedules_nor_runs_anything_stays_and_notices_that_the_store_is_away(roles: set[str]):
    async def main(clock: VirtualClock) -> None:
        store = CutStore(MemoryStore(clock), clock)
        cluster = Cluster(clock, store)
        daemon = await cluster.start(roles=frozenset(roles))
        ended = asyncio.create_task(daemon.wait())
        await cluster.sleep(30)
        assert not ended.done()
        assert daemon.health() == []
        store.cut = True
        await cluster.sleep(30)
        assert daemon.health() == ["no answer from the job store: the link is cut"]
        store.cut = False
        await cluster.sleep(30)
        assert daemon.health() == []
        assert not ended.done()
        ended.cancel()
        await cluster.stop()

    run_virtual(main)
