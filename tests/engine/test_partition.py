"""A machine that loses the store while it works: what ends, what goes on, what is recorded, and what runs elsewhere."""

import asyncio

import pytest

from tests.engine.engine_cluster import Cluster, run
from tests.engine.partition_world import ONCE, TTL, Sink, play, three
from xchronos.clock import HOUR, SECOND
from xchronos.executors.contract import StepExit
from xchronos.model.policies import Outcome


def test_a_cut_off_attempt_of_stop_has_ended_before_anybody_can_start_it_elsewhere():
    sink = Sink()

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1", "m2")
        await c.submit("job.service", f"{ONCE}\nConcurrency=forbid")
        await c.sleep(10)
        machine = sink.rows[0][2]
        links[machine].cut = True
        cut_at = c.at()
        await c.sleep(100)
        first, second = sink.rows
        assert first[2] == machine != second[2]
        assert first[5] == "killed"
        assert cut_at + 0.4 * TTL <= first[4] <= cut_at + 0.6 * TTL + 0.1, "two renewals may fail"
        assert cut_at + 0.8 * TTL <= second[3] <= cut_at + TTL + 2
        assert second[5] == "ended"
        links[machine].cut = False
        await c.sleep(60)
        assert len(sink.rows) == 2
        (execution,) = await c.history("job.service")
        assert execution.outcome is Outcome.SUCCEEDED
        assert [(a.machine, a.outcome, a.late) for a in execution.attempts] == [
            (machine, Outcome.LOST, None),
            (second[2], Outcome.SUCCEEDED, None),
        ]

    play(scenario, sink)


@pytest.mark.parametrize("back", [True, False], ids=["while the other one runs", "after the execution has ended"])
def test_a_cut_off_attempt_of_continue_goes_on_and_its_late_result_is_told(back):
    sink = Sink(60)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1", "m2")
        await c.submit("job.service", ONCE)
        await c.sleep(10)
        machine = sink.rows[0][2]
        sink.lengths = {"m1": 30, "m2": 30}
        links[machine].cut = True
        cut_at = c.at()
        await c.sleep(20 if back else 120)
        links[machine].cut = False
        await c.sleep(200)
        first, second = sink.rows
        assert (first[2], first[5]) == (machine, "ended")
        assert cut_at + 0.8 * TTL <= second[3] <= cut_at + TTL + 2
        (execution,) = await c.history("job.service")
        assert execution.outcome is Outcome.SUCCEEDED
        lost, won = execution.attempts
        assert (lost.outcome, lost.late) == (Outcome.LOST, Outcome.SUCCEEDED)
        assert "it ended after its machine was given up: succeeded" in lost.reason
        assert [step.outcome for step in lost.steps] == ["succeeded"]
        assert (won.outcome, won.late) == (Outcome.SUCCEEDED, None)

    play(scenario, sink)


def test_the_only_machine_takes_its_own_attempt_up_again():
    sink = Sink(60)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1")
        await c.submit("job.service", ONCE)
        await c.sleep(10)
        links["m1"].cut = True
        await c.sleep(25)
        (waiting,) = await c.registry.open_executions()
        assert waiting.state == "waiting"
        assert waiting.attempts[0].outcome is Outcome.LOST
        links["m1"].cut = False
        await c.sleep(10)
        (running,) = await c.registry.open_executions()
        assert (running.state, running.current.number) == ("running", 2)
        await c.sleep(60)
        (row,) = sink.rows
        assert row[5] == "ended"
        (execution,) = await c.history("job.service")
        assert execution.outcome is Outcome.SUCCEEDED
        lost, won = execution.attempts
        assert (lost.outcome, lost.late) == (Outcome.LOST, Outcome.SUCCEEDED)
        assert won.reason == "attempt 1, which had been given up, went on here"
        assert won.steps == ()

    play(scenario, sink)


def test_what_was_taken_up_again_can_be_stopped():
    sink = Sink(HOUR / SECOND)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1")
        await c.submit("job.service", ONCE)
        await c.sleep(10)
        links["m1"].cut = True
        await c.sleep(25)
        links["m1"].cut = False
        await c.sleep(10)
        (running,) = await c.registry.open_executions()
        await c.registry.stop(running.id, "enough")
        await c.sleep(5)
        (row,) = sink.rows
        assert row[5] == "killed"
        (execution,) = await c.history("job.service")
        assert (execution.outcome, execution.reason) == (Outcome.CANCELLED, "enough")

    play(scenario, sink)


def test_what_goes_on_without_a_placement_ends_with_its_unit():
    sink = Sink(HOUR / SECOND)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1", "m2")
        await c.submit("job.service", ONCE)
        await c.sleep(10)
        links[sink.rows[0][2]].cut = True
        await c.sleep(25)
        links[sink.rows[0][2]].cut = False
        await c.sleep(30)
        assert [row[5] for row in sink.rows] == ["", ""]
        await c.registry.destroy("job.service")
        await c.sleep(15)
        assert [row[5] for row in sink.rows] == ["killed", "killed"]
        await c.sleep(15)
        assert await c.left_over() == []

    play(scenario, sink)


def test_what_is_kept_running_has_one_successor_and_ends_when_its_machine_is_back():
    sink = Sink(HOUR / SECOND)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1", "m2")
        await c.submit("web.service", "", service="Type=simple\nRestart=always")
        await c.sleep(10)
        machine = sink.rows[0][2]
        links[machine].cut = True
        await c.sleep(30)
        assert [row[5] for row in sink.rows] == ["", ""], "cut off, it goes on"
        links[machine].cut = False
        await c.sleep(10)
        assert [row[5] for row in sink.rows] == ["killed", ""], "back, it makes way for its successor"

    play(scenario, sink)


def test_forbid_never_overlaps_and_never_stays_blocked():
    sink = Sink(7)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1", "m2")
        await c.submit("job.service", "TriggerCron=@every 5s\nConcurrency=forbid\nMisfireThreshold=1h")
        for turn in range(8):
            await c.sleep(23 + turn)
            link = links[("m1", "m2")[turn % 2]]
            link.cut = True
            await c.sleep(5 + 4 * turn)
            link.cut = False
        await c.sleep(60)
        before = len(sink.rows)
        await c.sleep(60)
        assert len(sink.rows) >= before + 5, "it goes on"
        assert sink.overlaps() == []
        for execution in await c.history("job.service"):
            assert execution.outcome in (Outcome.SUCCEEDED, Outcome.SKIPPED)

    play(scenario, sink)


def test_a_jump_of_the_wall_clock_ends_nothing():
    sink = Sink(60)

    async def scenario(c: Cluster) -> None:
        await three(c, sink, "m1", "m2")
        await c.submit(
            "job.service", f"{ONCE}\nConcurrency=forbid", service="RuntimeMaxSec=10min\nTimeoutStartSec=5min"
        )
        await c.sleep(10)
        for jump in (HOUR, -2 * HOUR, HOUR):
            c.clock.jump(jump)
            await c.sleep(15)
        await c.sleep(60)
        assert [row[5] for row in sink.rows] == ["ended"]
        (execution,) = await c.history("job.service")
        assert len(execution.attempts) == 1

    play(scenario, sink)


def test_a_step_ended_with_a_code_of_its_own_while_stopping_is_not_charged():
    seen = []

    async def body(spec, machine):
        seen.append((spec.attempt, machine))
        try:
            await asyncio.sleep(3600 if spec.attempt == 1 else 1)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            return StepExit(3)
        return 0

    async def scenario(c: Cluster) -> None:
        sink = Sink()
        links = await three(c, sink, "m1", "m2")
        await c.submit("job.service", f"{ONCE}\nOnPartition=stop\nMaxAttempts=1")
        await c.sleep(10)
        links[seen[0][1]].cut = True
        await c.sleep(7)  # it has been stopped, and the machine is not given up yet
        links[seen[0][1]].cut = False
        await c.sleep(60)
        (execution,) = await c.history("job.service")
        assert [a.outcome for a in execution.attempts] == [Outcome.LOST, Outcome.SUCCEEDED]
        assert "OnPartition=stop" in execution.attempts[0].reason

    run(scenario, body=body)


def test_an_agent_that_hangs_until_its_guardian_has_struck_charges_nobody():
    """The loop stands still for most of the TTL; what it hears first is that the step was killed."""
    seen = []

    async def body(spec, machine):
        seen.append((spec.attempt, machine))
        await killed[spec.attempt - 1].wait()
        return StepExit(signal="SIGKILL") if spec.attempt == 1 else 0

    killed = [asyncio.Event(), asyncio.Event()]
    killed[1].set()

    async def scenario(c: Cluster) -> None:
        await three(c, Sink(), "m1", "m2")
        await c.submit("job.service", f"{ONCE}\nOnPartition=stop\nMaxAttempts=1")
        await c.sleep(10)
        assert len(seen) == 1
        killed[0].set()
        c.clock.advance(round(0.85 * TTL * SECOND))
        await c.sleep(60)
        (execution,) = await c.history("job.service")
        assert [a.outcome for a in execution.attempts] == [Outcome.LOST, Outcome.SUCCEEDED]

    run(scenario, body=body)
