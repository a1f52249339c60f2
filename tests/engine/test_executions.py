"""Whole daemons in made-up time: overlap, retries, copies, machines that come and go, ends."""

import asyncio
from itertools import pairwise
from random import Random

import pytest
from engine_cluster import Cluster, run, unit_text
from faulty_store import FaultyStore

from xchronos.clock import MINUTE, SECOND, to_datetime
from xchronos.errors import Conflict, NotFound
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution
from xchronos.registry.codec import encode
from xchronos.store.contract import Put, Txn


def lasting(seconds):
    async def body(spec, machine):
        await asyncio.sleep(seconds)
        return 0

    return body


async def failing(spec, machine):
    return 1


OVERLAPS = {
    # Every 10 s for 25 s each: started at, and the outcomes in order of fire times.
    "allow": ([0, 10, 20], ["succeeded"] * 3),
    "forbid": ([0], ["succeeded", "skipped", "skipped"]),
    "queue": ([0, 25, 50], ["succeeded"] * 3),
    "replace": ([0, 10, 20], ["cancelled", "cancelled", "succeeded"]),
}


@pytest.mark.parametrize("mode", OVERLAPS)
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("how", ["triggered", "manual"])
def test_overlap(mode, copies, how):
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        if copies == 2:
            await cluster.start("m2", roles={"agent"})
        trigger = "TriggerRepeatInterval=10s\nTriggerRepeatCount=2\n" if how == "triggered" else ""
        begin = cluster.at()
        await cluster.submit("a.service", f"{trigger}Concurrency={mode}\nAvailability={copies}")
        for _ in range(3 if how == "manual" else 0):
            await cluster.registry.start("a.service", now=cluster.clock.now())
            await cluster.sleep(10)
        await cluster.sleep(120)
        starts, outcomes = OVERLAPS[mode]
        assert [round(at - begin) for at in cluster.started("a.service")] == sorted(starts * copies)
        seen = await cluster.outcomes("a.service")
        per_fire = outcomes if mode == "forbid" and how == "triggered" else None
        if per_fire is None:
            assert [outcome for _, outcome in seen] == [outcome for outcome in outcomes for _ in range(copies)]
        else:
            assert [outcome for _, outcome in seen] == ["succeeded"] * copies + ["skipped"] * 2

    run(scenario, lasting(25))


def test_two_starts_at_once_of_a_unit_that_forbids_overlap():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "Concurrency=forbid")
        now = cluster.clock.now()
        first = await cluster.registry.start("a.service", now=now)
        second = await cluster.registry.start("a.service", now=now + 50)
        with pytest.raises(Conflict):
            await cluster.registry.start("a.service", now=now)
        await cluster.sleep(60)
        ends = {execution.id: execution.outcome for execution in await cluster.history("a.service")}
        assert ends == {first[0]: "succeeded", second[0]: "skipped"}

    run(scenario, lasting(5))


@pytest.mark.parametrize(
    ("mode", "outcomes"),
    [
        ("forbid", ["succeeded", "skipped", "skipped"]),
        ("queue", ["succeeded", "succeeded", "succeeded"]),
        ("replace", ["cancelled", "cancelled", "succeeded"]),
    ],
)
def test_fire_times_that_are_found_together_overlap_each_other(mode, outcomes):
    """Nobody scheduled for a while, and then all that is due is claimed in one Txn."""

    async def scenario(cluster):
        await cluster.start("m1")
        await cluster.submit("a.service", f"TriggerRepeatInterval=3s\nTriggerStartDelay=1s\nConcurrency={mode}")
        await cluster.stop("m1")
        await cluster.sleep(8)
        await cluster.start("m1")
        await cluster.sleep(0.5)
        await cluster.registry.set_desired("a.service", "paused")
        await cluster.sleep(30)
        history = await cluster.history("a.service")
        assert [execution.outcome for execution in history] == outcomes
        ran = [
            (attempt.started_at, attempt.ended_at)
            for execution in history
            for attempt in execution.attempts
            if attempt.started_at is not None
        ]
        assert all(ended <= started for (_, ended), (started, _) in pairwise(sorted(ran)))

    run(scenario, lasting(2))


def test_what_waits_in_a_queue_or_for_its_moment_can_be_stopped():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "Concurrency=queue")
        for n in range(2):
            await cluster.registry.start("a.service", now=cluster.clock.now() + 50 * n)
        await cluster.submit("b.service", "TriggerRepeatInterval=1h\nRandomizedDelay=10h")
        await cluster.sleep(1)
        queued = [e.id for e in await cluster.registry.open_executions() if e.state in ("queued", "delayed")]
        assert len(queued) == 2
        for execution_id in queued:
            assert await cluster.registry.stop(execution_id, "enough") == [execution_id]
        await cluster.sleep(1)
        for execution_id in queued:
            execution = await cluster.registry.execution(execution_id)
            assert (execution.outcome, execution.reason) == ("cancelled", "enough")
        await cluster.registry.stop("a.service", "all of it")
        await cluster.sleep(1)
        assert await cluster.registry.open_executions("a.service") == []

    run(scenario, lasting(500))


def test_retries_prefer_another_machine_and_wait_in_between():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.start("m2", roles={"agent"})
        await cluster.submit("a.service", "TriggerRepeatInterval=1h\nMaxAttempts=3\nTimeBetweenAttempts=10s")
        await cluster.sleep(60)
        (execution,) = await cluster.history("a.service")
        assert execution.outcome == "failed"
        machines = [attempt.machine for attempt in execution.attempts]
        assert [attempt.number for attempt in execution.attempts] == [1, 2, 3]
        assert machines[0] != machines[1]
        at = cluster.started("a.service")
        assert [round(later - earlier) for earlier, later in pairwise(at)] == [10, 10]

    run(scenario, failing)


def test_kept_running_units_keep_their_last_attempts_only():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        text = b"[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=1\n[X-Chronos]\nExecutor=python\n"
        await cluster.registry.submit("kept.service", text, now=cluster.clock.now())
        await cluster.sleep(3600)
        (execution,) = await cluster.registry.open_executions("kept.service")
        assert len(execution.attempts) == 20
        assert execution.attempts[-1].number >= 100
        numbers = [attempt.number for attempt in execution.attempts]
        assert numbers == list(range(numbers[0], numbers[0] + 20))

    run(scenario, lasting(20))


def test_what_is_kept_running_is_never_begun_beside_itself():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        text = b"[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=1\n[X-Chronos]\nExecutor=python\n"
        registry, name = cluster.registry, "kept.service"
        await registry.submit(name, text, now=cluster.clock.now())
        await cluster.submit("often.service", "TriggerRepeatInterval=1min", unit=f"OnSuccess={name}")
        assert await registry.start(name, now=cluster.clock.now()) == []
        await cluster.sleep(300)
        assert await registry.start(name, now=cluster.clock.now()) == []
        (first,) = await registry.open_executions(name)
        assert first.trigger == "kept"

        await cluster.submit("often.service", "TriggerRepeatInterval=1min")
        await registry.stop(name, "by hand")
        await cluster.sleep(50)
        assert await registry.open_executions(name) == []
        (second,) = await registry.start(name, now=cluster.clock.now())
        await cluster.sleep(300)
        (running,) = await registry.open_executions(name)
        assert running.id == second
        assert len(running.attempts) > 3

        await registry.stop(name, "by hand")
        await cluster.sleep(50)
        await cluster.submit("often.service", "TriggerRepeatInterval=1min", unit=f"OnSuccess={name}")
        await cluster.sleep(300)
        (third,) = await registry.open_executions(name)
        assert third.trigger == "chain"

    run(scenario, lasting(20))


def test_availability_and_global_units():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("three.service", "TriggerRepeatInterval=1h\nAvailability=3")
        await cluster.submit("everywhere.service", "TriggerRepeatInterval=1h", fleet="Global=true")
        await cluster.submit("later.service", "TriggerRepeatInterval=1h\nRandomizedDelay=1s", fleet="Global=true")
        await cluster.sleep(5)
        assert len(cluster.started("three.service")) == 1
        waiting = await cluster.registry.open_executions("three.service")
        assert [execution.state for execution in waiting] == ["running", "waiting", "waiting"]
        assert waiting[1].reason == "1 unplaced: 1 machine already runs a copy"
        await cluster.start("m2", roles={"agent"})
        await cluster.start("m3", roles={"agent"})
        await cluster.sleep(1)
        assert {machine for *_, machine in cluster.log if _[1].startswith("three")} == {"m1", "m2", "m3"}
        await cluster.registry.start("everywhere.service", now=cluster.clock.now())
        await cluster.sleep(3600)
        for name, copies in (("three", [3, 3]), ("everywhere", [1, 3, 3]), ("later", [1, 3])):
            history = await cluster.history(f"{name}.service")
            fires = {}
            for execution in history:
                fires.setdefault(execution.fire_time, []).append(execution.attempts[0].machine)
            assert [len(machines) for machines in fires.values()][: len(copies)] == copies[: len(fires)]
            assert all(len(set(machines)) == len(machines) for machines in fires.values())

    run(scenario, lasting(60))


def test_round_robin_goes_on_after_a_restart():
    async def scenario(cluster: Cluster) -> None:
        for machine in ("m1", "m2", "m3"):
            await cluster.start(machine, roles={"agent"})
        await cluster.start("s", roles={"scheduler"})
        await cluster.submit("a.service", "TriggerRepeatInterval=10s\nLoadBalancing=round-robin")
        await cluster.sleep(15)
        await cluster.stop("s")
        await cluster.start("s", roles={"scheduler"})
        await cluster.sleep(20)
        assert [machine for *_, machine in cluster.log] == ["m1", "m2", "m3", "m1"]

    run(scenario)


def test_slots_are_given_by_priority_as_soon_as_they_are_free():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start(slots=2)
        for name, priority in (("low", 0), ("high", 10)):
            await cluster.submit(f"{name}.service", f"Priority={priority}")
        for n in range(4):
            for name in ("low", "high"):
                await cluster.registry.start(f"{name}.service", now=cluster.clock.now() + 50 * n)
        await cluster.sleep(45)
        order = [(round(at / 10), execution.partition(".")[0]) for at, execution, *_ in cluster.log]
        assert sorted(order[:2]) == [(0, "high"), (0, "low")] or order[:2] == [(0, "high"), (0, "high")]
        names = [name for _, name in order]
        assert names[2:4] in (["high", "high"], ["high", "low"])
        assert len(order) == 8
        assert [sum(1 for at, _ in order if at == slot) for slot in range(4)] == [2] * 4

    run(scenario, lasting(10))


def test_start_deadline():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles={"scheduler"})
        await cluster.submit("a.service", "TriggerRepeatInterval=1h\nStartDeadline=30s", unit="OnFailure=b.service")
        await cluster.submit("q.service", "Concurrency=queue\nStartDeadline=30s\nTriggerRepeatInterval=1h")
        await cluster.sleep(29)
        assert await cluster.history("a.service") == []
        await cluster.sleep(2)
        (execution,) = await cluster.history("a.service")
        assert execution.outcome == "missed"
        assert execution.reason.startswith("StartDeadline passed while it waited")
        assert "no machine is alive" in execution.reason

    run(scenario)


def test_a_lost_machine_and_its_return():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles={"scheduler"})
        connection = FaultyStore(cluster.store, cluster.clock, Random(1))
        await cluster.start("m1", roles={"agent"}, store=connection)
        await cluster.submit("a.service", "TriggerRepeatInterval=1h\nStartDeadline=1h")
        await cluster.submit("g.service", "TriggerRepeatInterval=1h", fleet="Global=true")
        await cluster.submit("stopped.service", "TriggerRepeatInterval=1h")
        await cluster.sleep(5)
        await cluster.kill("m1")
        await cluster.registry.stop("stopped.service", "by hand")
        await cluster.sleep(15)
        (execution,) = await cluster.registry.open_executions("a.service")
        assert (execution.state, execution.attempts[0].outcome) == ("waiting", "lost")
        (execution,) = await cluster.history("g.service")
        assert (execution.outcome, execution.reason) == ("lost", "m1 is gone")
        (execution,) = await cluster.history("stopped.service")
        assert (execution.outcome, execution.reason) == ("cancelled", "by hand")
        await cluster.start("m1", roles={"agent"})
        await cluster.sleep(60)
        (execution,) = await cluster.history("a.service")
        assert [attempt.outcome for attempt in execution.attempts] == ["lost", "succeeded"]

    run(scenario, lasting(30))


def test_a_machine_that_is_gone_when_the_scheduler_comes_up():
    async def scenario(cluster: Cluster) -> None:
        scheduler = FaultyStore(cluster.store, cluster.clock, Random(1))
        agent = FaultyStore(cluster.store, cluster.clock, Random(1))
        await cluster.start("s", roles={"scheduler"}, store=scheduler)
        await cluster.start("m1", roles={"agent"}, store=agent)
        await cluster.submit("a.service", "TriggerRepeatInterval=1h")
        await cluster.sleep(1)
        await cluster.kill("s")
        await cluster.kill("m1")
        await cluster.sleep(20)
        await cluster.start("s2", roles={"scheduler"})
        await cluster.start("m2", roles={"agent"})
        await cluster.sleep(60)
        (execution,) = await cluster.history("a.service")
        assert [(attempt.machine, attempt.outcome) for attempt in execution.attempts] == [
            ("m1", "lost"),
            ("m2", "succeeded"),
        ]

    run(scenario, lasting(10))


def test_a_standby_takes_over_within_the_lease():
    async def scenario(cluster: Cluster) -> None:
        connection = FaultyStore(cluster.store, cluster.clock, Random(1))
        await cluster.start("s1", roles={"scheduler"}, store=connection)
        await cluster.start("s2", roles={"scheduler"})
        await cluster.start("m1", roles={"agent"})
        await cluster.submit("a.service", "TriggerRepeatInterval=1s")
        await cluster.sleep(5)
        await cluster.kill("s1")
        await cluster.sleep(30)
        at = cluster.started("a.service")
        gaps = [later - earlier for earlier, later in pairwise(at)]
        assert max(gaps) <= 11.5
        assert set(cluster.starts.values()) == {1}
        assert len(at) >= 35

    run(scenario)


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


def test_copies_never_share_a_machine_even_when_one_has_ended():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("two.service", "TriggerRepeatInterval=1h\nAvailability=2")
        await cluster.sleep(60)
        (waiting,) = await cluster.registry.open_executions("two.service")
        assert waiting.state == "waiting"
        assert waiting.reason == "1 unplaced: 1 machine already runs a copy"
        # A scheduler that was not there when the first copy ran knows it from the history.
        await cluster.stop("m1")
        await cluster.start("m1")
        await cluster.sleep(60)
        assert [execution.state for execution in await cluster.registry.open_executions("two.service")] == ["waiting"]
        await cluster.start("m2", roles={"agent"})
        await cluster.sleep(60)
        assert await cluster.registry.open_executions("two.service") == []
        machines = [execution.attempts[0].machine for execution in await cluster.history("two.service")]
        assert machines == ["m1", "m2"]

    run(scenario, lasting(5))


def test_a_copy_that_is_tried_again_does_not_keep_its_own_machine_from_itself():
    async def failing(spec, machine):
        return 1

    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit(
            "two.service", "TriggerRepeatInterval=1h\nAvailability=2\nMaxAttempts=3\nTimeBetweenAttempts=10s"
        )
        await cluster.sleep(60)
        (ended,) = await cluster.history("two.service")
        assert [attempt.machine for attempt in ended.attempts] == ["m1", "m1", "m1"]
        (waiting,) = await cluster.registry.open_executions("two.service")
        assert (waiting.copy, waiting.state) == (1, "waiting")

    run(scenario, failing)


def test_what_no_machine_takes_does_not_pile_up_without_end():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("far.service", "TriggerRepeatInterval=1s", fleet="MachineMetadata=region=moon")
        await cluster.sleep(150)
        open_ = await cluster.registry.open_executions("far.service")
        assert len(open_) == 100
        missed = await cluster.history("far.service")
        assert len(missed) == 51
        assert {str(execution.outcome) for execution in missed} == {"missed"}
        assert "100 executions of the unit wait for a machine already" in missed[0].reason
        await cluster.start("m2", roles={"agent"}, metadata={"region": "moon"})
        await cluster.sleep(5)
        assert len(cluster.started("far.service")) >= 100

    run(scenario)


def test_a_node_that_stops_settles_what_ends_and_begins_nothing_new():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("ending.service", "TriggerRepeatInterval=1h")
        await cluster.submit("ticking.service", "TriggerRepeatInterval=1s")
        await cluster.sleep(3.5)
        before = len(cluster.started("ticking.service"))
        await cluster.stop("m1", grace=20 * SECOND)
        assert len(cluster.started("ticking.service")) == before
        assert [str(execution.outcome) for execution in await cluster.history("ending.service")] == ["failed"]
        assert await cluster.registry.open_executions() == []

    async def ends_badly(spec, machine):
        if spec.unit == "ending.service":
            await asyncio.sleep(10)
            return 1
        return 0

    run(scenario, ends_badly)
