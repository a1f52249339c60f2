"""A scheduler tells from memory where executions are."""

from tests.engine.engine_cluster import Cluster, lasting
from xchronos.testing.clock import VirtualClock, run_virtual


def test_an_engine_knows_where_an_execution_is_until_it_has_ended():
    async def main(clock: VirtualClock) -> None:
        cluster = Cluster(clock, body=lasting(60))
        daemon = await cluster.start("m1", slots=1)
        for name in ("first.service", "second.service"):
            await cluster.submit(name)
        (runs,) = await cluster.registry.start("first.service", now=clock.now())
        await cluster.sleep(1)
        (waits,) = await cluster.registry.start("second.service", now=clock.now())
        await cluster.sleep(1)
        engine = daemon.engine
        assert [await engine.machine_of(name) for name in (runs, waits, "first.service/none/0")] == ["m1", "", None]
        await cluster.sleep(90)
        assert [await engine.machine_of(name) for name in (runs, waits)] == [None, "m1"]
        await cluster.stop()
        # Nothing is in memory where nothing is scheduled.
        assert await engine.machine_of(waits) is None

    run_virtual(main)
