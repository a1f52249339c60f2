"""Executions whose unit is destroyed, changes, never was, or is followed by others."""

import pytest
from engine_cluster import AGENT, SCHEDULER, Cluster, lasting, run, unit_text
from late_links import DiesBehind
from machines_world import FOR_EVER, kept, where

from xchronos.clock import MINUTE, SECOND, to_datetime
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


def test_destroyed_and_submitted_again_while_the_old_attempt_still_runs():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        when = cluster.clock.now() // SECOND - 10
        text = unit_text(f"TriggerAt={when}\nMaxAttempts=5\nTimeBetweenAttempts=1s")
        await cluster.registry.submit("a.service", text, now=cluster.clock.now())
        await cluster.sleep(2)
        await cluster.registry.destroy("a.service")
        await cluster.registry.submit("a.service", text, now=cluster.clock.now())
        await cluster.sleep(1)
        assert sorted(execution for _, execution, *_ in cluster.log)[1].endswith("/1")
        await cluster.sleep(60)
        history = await cluster.history("a.service")
        assert [(execution.copy, execution.outcome) for execution in history] == [(0, "cancelled"), (1, "succeeded")]
        assert set(cluster.starts.values()) == {1}

    run(scenario, lasting(30))


def test_destroyed_and_submitted_again_while_nobody_was_there():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerRepeatInterval=1s\nTriggerRepeatCount=2")
        await cluster.sleep(10)
        assert len(await cluster.history("a.service")) == 3
        await cluster.stop()
        await cluster.registry.destroy("a.service")
        await cluster.submit("a.service", "TriggerRepeatInterval=1s\nTriggerRepeatCount=2")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.start()
        await cluster.sleep(10)
        # A new life: its own three fires and the start by hand, nothing of the former one.
        assert len(await cluster.history("a.service")) == 4

    run(scenario)


def test_a_former_life_has_ended_for_whoever_takes_over_behind_the_new_ones_acceptance():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s1", roles=SCHEDULER)
        for machine in ("m1", "m2"):
            await cluster.start(machine, roles=AGENT)
        await kept(cluster, "a.service")
        await cluster.sleep(2)
        await cluster.kill("s1")
        await cluster.registry.destroy("a.service")
        await kept(cluster, "a.service")
        link = DiesBehind(cluster.store, cluster.keys.schedule("a.service"))
        await cluster.start("s2", roles=SCHEDULER, store=link)
        await cluster.sleep(60)
        assert link.over
        await cluster.kill("s2")
        await cluster.start("s3", roles=SCHEDULER)
        await cluster.sleep(60)
        assert [len(machines) for machines in (await where(cluster)).values()] == [1]

    run(scenario, FOR_EVER)


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
