"""Executions of one unit that meet: Concurrency=, and what waits in a queue."""

from itertools import pairwise

import pytest

from tests.engine.engine_cluster import Cluster, lasting, run
from xchronos.clock import to_datetime
from xchronos.errors import Conflict
from xchronos.model.records import Execution
from xchronos.registry.transitions import put
from xchronos.store.contract import Txn

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


def test_fire_times_that_were_skipped_do_not_use_up_max_runs():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.submit("a.service", "TriggerRepeatInterval=10s\nConcurrency=forbid\nMaxRuns=3")
        await cluster.sleep(200)
        outcomes = [outcome for _, outcome in await cluster.outcomes("a.service")]
        assert outcomes == ["succeeded", "skipped", "skipped"] * 2 + ["succeeded"]
        assert (await cluster.registry.unit("a.service")).schedule.finished.startswith("MaxRuns")

    run(scenario, lasting(25))


def test_what_is_queued_goes_on_with_a_scheduler_that_comes_when_its_turn_has_come():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s1", roles={"scheduler"})
        await cluster.start("m1", roles={"agent"})
        await cluster.submit("a.service", "Concurrency=queue")
        for _ in range(2):
            await cluster.registry.start("a.service", now=cluster.clock.now())
            await cluster.sleep(1)
        assert len(cluster.started("a.service")) == 1
        await cluster.stop("s1")
        await cluster.sleep(30)
        assert [outcome for _, outcome in await cluster.outcomes("a.service")] == ["succeeded"]
        await cluster.start("s2", roles={"scheduler"})
        await cluster.sleep(30)
        assert [outcome for _, outcome in await cluster.outcomes("a.service")] == ["succeeded"] * 2

    run(scenario, lasting(25))


def test_what_was_queued_to_replace_others_replaces_them_whoever_dies_in_between():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s1", roles={"scheduler"})
        await cluster.start("m1", roles={"agent"})
        await cluster.submit("a.service", "Concurrency=replace")
        (first,) = await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(1)
        await cluster.stop("s1")
        # As far as its scheduler had come: it is queued, and nobody has been asked to end.
        moment = to_datetime(cluster.clock.now())
        second = Execution("a.service", moment, state="queued", trigger="manual", claimed_at=moment)
        await cluster.store.commit(Txn((), (put(cluster.keys, second),)))
        await cluster.start("s2", roles={"scheduler"})
        await cluster.sleep(60)
        ends = {execution.id: execution.outcome for execution in await cluster.history("a.service")}
        assert ends == {first: "cancelled", second.id: "succeeded"}

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
