"""Executions whose unit is destroyed, changes, never was, or is followed by others."""

import pytest

from tests.engine.engine_cluster import Cluster, lasting, run
from xchronos.clock import MINUTE, to_datetime
from xchronos.errors import NotFound
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution
from xchronos.registry.codec import encode
from xchronos.store.contract import Put, Txn


def test_destroy_stops_what_runs_and_leaves_nothing():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start(slots=1)
        await cluster.submit("a.service", "TriggerRepeatInterval=1s")
        await cluster.sleep(5)
        await cluster.registry.destroy("a.service")
        await cluster.sleep(5)
        assert await cluster.left_over() == []
        with pytest.raises(NotFound):
            await cluster.registry.unit("a.service")

    run(scenario, lasting(3600))


def test_chains():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.start("m2", roles={"agent"})
        await cluster.submit("after.service", "Availability=2")
        await cluster.submit("alarm.service")
        chain = "OnSuccess=after.service nowhere.service\nOnFailure=alarm.service"
        await cluster.submit("good.service", "TriggerRepeatInterval=1h", unit=chain)
        await cluster.submit("better.service", "TriggerRepeatInterval=1h", unit=chain)
        await cluster.submit("bad.service", "TriggerRepeatInterval=1h\nMaxAttempts=2", unit=chain)
        await cluster.sleep(30)
        assert len(cluster.started("after.service")) == 4
        assert len(cluster.started("alarm.service")) == 1
        (alarm,) = await cluster.history("alarm.service")
        assert alarm.trigger == "chain"
        assert await cluster.left_over("after", "alarm", "good", "better", "bad") == []

    async def body(spec, machine):
        return 1 if spec.unit == "bad.service" else 0

    run(scenario, body)


def test_what_was_started_for_a_unit_that_does_not_exist_is_removed():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        ghost = Execution("ghost.service", _moment(cluster), state="delayed", trigger="chain")
        await cluster.store.commit(Txn((), (Put(cluster.keys.pending_execution(ghost.id), encode(ghost)),)))
        stray = Execution("stray.service", _moment(cluster), state="placed", current=Attempt(1, "m1"))
        await cluster.store.commit(Txn((), (Put(cluster.keys.placement("m1", stray.id), encode(stray)),)))
        await cluster.sleep(5)
        assert await cluster.left_over() == ["/xchronos/var/executions/" + stray.id]
        await cluster.stop()
        await cluster.start()
        await cluster.sleep(5)

    run(scenario)


def test_the_text_of_a_running_attempt_and_cordons():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.start("m2", roles={"agent"})
        await cluster.registry.wishes.cordon("m1")
        await cluster.sleep(1)
        await cluster.submit("a.service", "TriggerRepeatInterval=10s")
        await cluster.sleep(35)
        assert {machine for *_, machine in cluster.log} == {"m2"}
        await cluster.registry.wishes.uncordon("m1")
        assert Outcome.SUCCEEDED in {e.outcome for e in await cluster.history("a.service")}

    run(scenario)


def _moment(cluster: Cluster):
    return to_datetime(cluster.clock.now() + MINUTE)
