"""The agent between a store and what it runs: fences, outages, lost answers, crashes, shutdown, leftovers."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from worlds import FIRE, KEYS, OK, Cluster

from xchronos.clock import HOUR, MINUTE, SECOND
from xchronos.executors.contract import Leftover, StepExit
from xchronos.model.policies import Outcome
from xchronos.model.records import Capacity, Execution
from xchronos.registry.codec import encode
from xchronos.store.contract import Delete, Put, Txn
from xchronos.testing.clock import VirtualClock, run_virtual

ONE = "Type=oneshot\nExecStart=/bin/work"
LONG = {"start-0": (60.0, OK)}

Test = Callable[[Cluster], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Run a test in a cluster of its own, in made-up time."""

    def play(test: Test, plans: object = None, *, recoverable: bool = True) -> None:
        async def main(clock: VirtualClock) -> None:
            cluster = Cluster(clock, tmp_path, plans, recoverable=recoverable)  # type: ignore[arg-type]
            await test(cluster)
            await cluster.crash()
            await cluster.memory.close()

        run_virtual(main)

    return play


def test_a_success_is_recorded_by_the_agent_itself(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.SUCCEEDED, "")
        assert [step.name for step in attempt.steps] == ["start-0"]
        assert await c.placed(execution) is None
        await c.clock.sleep(SECOND)
        assert c.executor.released == [(execution.id, 1)]
        assert c.registry.get_sample_value("xchronos_attempts_started_total") == 1
        assert c.registry.get_sample_value("xchronos_attempts_total", {"outcome": "succeeded"}) == 1
        assert c.registry.get_sample_value("xchronos_attempts_running") == 0

    play(test)


def test_a_failure_goes_back_to_the_scheduler(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.FAILED, "start-0: exited with 3")
        now = await c.placed(execution)
        assert now is not None
        assert now.state == "reported"

    play(test, {"start-0": (1.0, StepExit(3, started_at=FIRE))})


def test_a_success_is_handed_back_when_a_chain_needs_it(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place(report=True)
        c.boot()
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED
        assert await c.history(execution) is None

    play(test)


# -- the fence around the start ---------------------------------------------------------------------------------------


def test_a_stop_before_the_start_starts_nothing(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place(stop_requested="by hand")
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.CANCELLED, "by hand")
        assert c.world.starts == []

    play(test)


@pytest.mark.parametrize("how", ["stop", "take away"])
@pytest.mark.parametrize("ticks", range(0, 40, 3))
def test_a_change_between_claim_and_start(play: Callable[..., None], how: str, ticks: int) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        c.boot()
        await c.agent.ready.wait()
        execution = await c.place()
        for _ in range(ticks):
            await asyncio.sleep(0)
        before = await c.placed(execution)
        assert before is not None
        if how == "stop":
            await c.ask_to_stop(execution, "by hand")
            attempt = await c.ended(execution)
            assert attempt.outcome is Outcome.CANCELLED
            assert attempt.reason.startswith("by hand")
        else:
            await c.memory.commit(Txn((), (Delete(KEYS.placement("m1", execution.id)),)))
            await c.clock.sleep(120 * SECOND)
            assert await c.history(execution) is None
            assert await c.placed(execution) is None
        if before.state == "placed":
            assert c.world.starts == []
        else:
            assert c.world.signals in ([("start-0", "SIGTERM")], [])

    play(test, LONG)


def test_what_the_machine_cannot_run_is_for_another_one(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE + "\n[X-Fleet]\nMachineMetadata=disk=ssd")
        execution = await c.place()
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason, attempt.started_at) == (Outcome.LOST, "m1 lacks disk=ssd", None)
        assert c.world.starts == []

    play(test)


def test_what_the_scheduler_knew_sooner_is_looked_up(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE + "\n[X-Fleet]\nMachineMetadata=disk=ssd")
        c.wanted = msgspec.structs.replace(c.machine, metadata={"disk": "ssd"})
        execution = await c.place()
        c.boot()
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED

    play(test)


def test_a_cordon_keeps_nothing_that_was_placed_before_it(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        c.machine = msgspec.structs.replace(c.machine, cordoned=True)
        execution = await c.place()
        c.boot()
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED

    play(test)


CROWDS = {
    "conflict": ("\n[X-Fleet]\nConflicts=other.*", Capacity(), "m1 is taken by a conflict with other.service"),
    "slots": ("", Capacity(slots=1), "m1 has no free slot (1 of 1 are taken)"),
}


@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("how", ["both at once", "taken up"])
def test_two_schedulers_that_did_not_know_of_each_other(play: Callable[..., None], crowd: str, how: str) -> None:
    more, capacity, words = CROWDS[crowd]

    async def test(c: Cluster) -> None:
        c.machine = msgspec.structs.replace(c.machine, capacity=capacity)
        await c.submit(ONE, name="other.service")
        await c.place(name="other.service")
        if how == "taken up":
            c.boot()
            await c.clock.sleep(SECOND)
            await c.crash()
        await c.submit(ONE + more)
        late = await c.place()
        c.boot()
        attempt = await c.ended(late)
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, words)
        await c.clock.sleep(70 * SECOND)
        again = await c.place(copy=1)
        assert (await c.ended(again)).outcome is Outcome.SUCCEEDED

    play(test, LONG)


def test_room_that_was_taken_away_is_free_at_once(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        c.machine = msgspec.structs.replace(c.machine, capacity=Capacity(slots=1))
        await c.submit(ONE)
        first = await c.place()
        c.boot()
        await c.clock.sleep(SECOND)
        c.world.deaf.add("start-0")
        await c.memory.commit(Txn((), (Delete(KEYS.placement("m1", first.id)),)))
        second = await c.place(copy=1)
        await c.clock.sleep(SECOND)
        now = await c.placed(second)
        assert now is not None
        assert now.state == "running"

    play(test, LONG)


# -- what has to go elsewhere -----------------------------------------------------------------------------------------


async def ask_to_leave(c: Cluster, execution: Execution, reason: str) -> None:
    now = await c.placed(execution)
    assert now is not None
    assert now.current is not None
    wanted = msgspec.structs.replace(now, current=msgspec.structs.replace(now.current, leave=reason))
    await c.memory.commit(Txn((), (Put(KEYS.placement("m1", execution.id), encode(wanted)),)))


@pytest.mark.parametrize("when", ["before", "running", "crashed", "stopped"])
def test_leaving(play: Callable[..., None], when: str) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        if when == "before":
            await ask_to_leave(c, execution, "m1 is being drained")
        c.boot()
        await c.clock.sleep(SECOND)
        if when != "before":
            if when == "crashed":
                await c.crash()
            if when == "stopped":
                await c.ask_to_stop(execution, "enough")
            await ask_to_leave(c, execution, "m1 is being drained")
            if when == "crashed":
                c.boot()
        attempt = await c.ended(execution, 10)
        wanted = (Outcome.CANCELLED, "enough") if when == "stopped" else (Outcome.LOST, "m1 is being drained")
        assert (attempt.outcome, attempt.reason) == wanted
        assert c.world.signals == ([] if when == "before" else [("start-0", "SIGTERM")])

    play(test, LONG)


@pytest.mark.parametrize("ticks", range(0, 30, 2))
def test_leaving_at_any_moment_of_a_start(play: Callable[..., None], ticks: int) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        c.boot()
        await c.agent.ready.wait()
        execution = await c.place()
        for _ in range(ticks):
            await asyncio.sleep(0)
        await ask_to_leave(c, execution, "m1 is being drained")
        attempt = await c.ended(execution, 10)
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, "m1 is being drained")

    play(test, LONG)


def test_one_that_ends_by_itself_has_not_left(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE + "\nExecStopPost=/bin/post")
        execution = await c.place()
        c.boot()
        await c.clock.sleep(65 * SECOND)
        await ask_to_leave(c, execution, "m1 is being drained")
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED

    play(test, LONG | {"stop-post-0": (20.0, OK)})


def test_a_destroyed_unit_is_not_begun(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        await c.memory.commit(Txn((), (Delete(KEYS.job("job.service")),)))
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.CANCELLED, "the unit was destroyed")

    play(test)


def test_a_changed_unit_runs_as_it_is_now(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        c.boot()
        await c.ended(await c.place())
        await c.submit("Type=oneshot\nExecStartPre=/bin/new\nExecStart=/bin/work")
        await c.memory.commit(Txn((), (Delete(KEYS.execution(f"job.service/{KEYS and '20300317T174640.000000Z'}/0")),)))
        await c.ended(await c.place(2))
        assert c.world.starts == ["start-0", "start-pre-0", "start-0"]

    play(test)


def test_an_unmet_condition_skips(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE + "\n[Unit]\nConditionPathExists=/nonexistent")
        execution = await c.place()
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (
            Outcome.SKIPPED, "condition not met: ConditionPathExists=/nonexistent",
        )  # fmt: skip
        assert c.world.starts == []

    play(test)


# -- a store that is away ---------------------------------------------------------------------------------------------


def test_an_outage_stops_nothing_and_starts_nothing(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        await c.clock.sleep(5 * SECOND)
        c.store.take_down()
        other = await c.place(name="job.service", copy=1)
        await c.clock.sleep(600 * SECOND)
        assert c.world.starts == ["start-0"]
        assert c.world.signals == []
        now = await c.placed(execution)
        assert now is not None
        assert now.state == "running"
        c.store.bring_up()
        attempt = await c.ended(execution)
        assert attempt.outcome is Outcome.SUCCEEDED
        assert (await c.ended(other)).outcome is Outcome.SUCCEEDED
        assert c.world.starts == ["start-0", "start-0"]

    play(test, LONG)


@pytest.mark.parametrize("lost", range(1, 5))
@pytest.mark.parametrize("code", [0, 3])
def test_lost_answers_repeat_nothing(play: Callable[..., None], lost: int, code: int) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.store.lose = lost
        c.boot()
        attempt = await c.ended(execution)
        await c.clock.sleep(60 * SECOND)
        assert attempt.outcome is (Outcome.FAILED if code else Outcome.SUCCEEDED)
        assert c.world.starts == ["start-0"]
        assert c.executor.released == [(execution.id, 1)]

    play(test, {"start-0": (1.0, StepExit(code, started_at=FIRE))})


@pytest.mark.parametrize("followed", ["", "at once", "soon"])
@pytest.mark.parametrize("begun", [False, True], ids=["placed", "running"])
@pytest.mark.parametrize("recoverable", [False, True])
def test_old_news_of_an_attempt_that_has_ended_begins_nothing(
    play: Callable[..., None], followed: str, begun: bool, recoverable: bool
) -> None:
    async def test(c: Cluster) -> None:
        c.executor.recoverable = recoverable
        await c.submit("Type=oneshot\nExecStart=a", "MaxAttempts=3")
        execution = await c.place()
        old = await c.memory.get(KEYS.placement("m1", execution.id))
        c.boot()
        if begun:
            await c.clock.sleep(SECOND)
            old = await c.memory.get(KEYS.placement("m1", execution.id))
        assert old is not None
        reported = await c.ended(execution)
        await c.clock.sleep(SECOND)
        new = await c.memory.get(KEYS.placement("m1", execution.id))
        assert new is not None
        c.agent._take(old)  # as a watch may tell it that comes late
        if followed:
            if followed == "soon":
                await asyncio.sleep(0)
            c.agent._take(new)
        await c.clock.sleep(10 * SECOND)
        assert c.world.starts == ["start-0"]
        assert await c.ended(execution) == reported
        # Nor does it keep others waiting.
        await c.submit("Type=oneshot\nExecStart=a", name="other.service")
        assert (await c.ended(await c.place(name="other.service"), 60)).outcome is Outcome.FAILED

    play(test, {"start-0": (5, StepExit(1, started_at=FIRE))})


def test_an_engine_that_is_away_is_waited_for(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.executor.away = 5
        c.boot()
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED
        c.executor.away = 3
        await c.clock.sleep(60 * SECOND)
        assert c.executor.released == [(execution.id, 1)]
        assert c.world.starts == ["start-0"]

    play(test)


# -- stop while it runs -----------------------------------------------------------------------------------------------


def test_a_stop_ends_what_runs(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit("ExecStart=/bin/work\nExecStop=/bin/stop")
        execution = await c.place()
        c.boot()
        await c.clock.sleep(5 * SECOND)
        await c.ask_to_stop(execution, "by hand")
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.CANCELLED, "by hand")
        assert c.world.starts == ["start-0", "stop-0"]
        assert [(step.name, step.outcome) for step in attempt.steps] == [
            ("stop-0", "succeeded"), ("start-0", "cancelled"),
        ]  # fmt: skip

    play(test, LONG)


def test_a_stop_is_not_overwritten_by_the_report(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        await c.clock.sleep(SECOND)
        c.store.take_down()  # the agent does not hear of the stop before it reports the failure
        await c.ask_to_stop(execution, "by hand")
        await c.clock.sleep(60 * SECOND)
        c.store.bring_up()
        attempt = await c.ended(execution)
        assert attempt.outcome is Outcome.FAILED
        now = await c.placed(execution)
        assert now is not None
        assert now.stop_requested == "by hand"

    play(test, {"start-0": (10.0, StepExit(3, started_at=FIRE))})


def test_what_was_taken_away_is_stopped_and_not_recorded(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        await c.clock.sleep(SECOND)
        await c.memory.commit(Txn((), (Delete(KEYS.placement("m1", execution.id)),)))
        await c.clock.sleep(SECOND)
        assert c.world.signals == [("start-0", "SIGTERM")]
        assert await c.placed(execution) is None
        assert await c.history(execution) is None
        assert c.executor.released == [(execution.id, 1)]

    play(test, LONG)


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_old_news_of_what_is_over_changes_nothing(play: Callable[..., None], ends: str) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        c.store.late = 3 * SECOND
        c.boot()
        execution = await c.place()
        await c.clock.sleep(30 * SECOND)
        assert c.world.starts == ["start-0"]
        assert c.executor.released == [(execution.id, 1)]
        attempt = await c.ended(execution)
        assert attempt.outcome is (Outcome.SUCCEEDED if ends == "well" else Outcome.FAILED)
        assert c.registry.get_sample_value("xchronos_attempts_total", {"outcome": "lost"}) is None
        # Placed here again, it is another one.
        await c.memory.commit(Txn((), (Delete(KEYS.placement("m1", execution.id)),)))
        await c.place(2)
        await c.clock.sleep(30 * SECOND)
        assert c.world.starts == ["start-0", "start-0"]

    play(test, None if ends == "well" else {"start-0": (1.0, StepExit(3, started_at=FIRE))}, recoverable=False)


def test_a_placement_that_came_back_is_another_one(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        await c.clock.sleep(SECOND)
        c.store.take_down()
        await c.memory.commit(Txn((), (Delete(KEYS.placement("m1", execution.id)),)))
        await c.place(2)
        c.store.bring_up()
        attempt = await c.ended(execution)
        assert (attempt.number, attempt.outcome) == (2, Outcome.SUCCEEDED)
        assert c.world.starts == ["start-0", "start-0"]
        assert c.world.signals == [("start-0", "SIGTERM")]

    play(test, LONG)


def test_progress_and_output_of_what_runs(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit("Type=oneshot\nExecStartPre=/bin/a\nExecStart=/bin/work")
        execution = await c.place()
        c.boot()
        await c.clock.sleep(SECOND)
        seen = await c.agent.progress(execution.id)
        assert seen is not None
        assert [step.name for step in seen.steps] == ["start-pre-0"]
        assert await c.agent.progress("other") is None
        assert await c.agent.logs(execution, 1) == []
        where = c.directory / "attempts/job.service/20300317T174640.000000Z-0-1"
        for name in ("stop-post-0", "start-10", "start-2", "start-pre-0", "notes", "artifact-0"):
            (where / f"{name}.log").touch()
        assert [name for name, _ in await c.agent.logs(execution, 1)] == [
            "start-pre-0", "start-2", "start-10", "stop-post-0",
        ]  # fmt: skip
        assert await c.agent.logs(execution, 2) == []

    play(test, LONG)


# -- crashes ----------------------------------------------------------------------------------------------------------

STEPS = "Type=oneshot\nExecStartPre=/bin/a\nExecStart=/bin/b\nExecStart=/bin/c\nExecStop=/bin/d\nExecStopPost=/bin/e"
ALL = ["start-pre-0", "start-0", "start-1", "stop-0", "stop-post-0"]


@pytest.mark.parametrize("ticks", range(0, 150, 5))
@pytest.mark.parametrize("recoverable", [True, False])
def test_a_crash_anywhere(play: Callable[..., None], ticks: int, recoverable: bool) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(STEPS)
        execution = await c.place()
        c.boot()
        for _ in range(ticks):
            await asyncio.sleep(0)
        if ticks % 2:
            await asyncio.sleep(0.001)
        await c.crash()
        await c.clock.sleep(SECOND)
        c.boot()
        attempt = await c.ended(execution)
        await c.clock.sleep(SECOND)
        if recoverable:
            assert attempt.outcome is Outcome.SUCCEEDED
            assert c.world.starts == ALL
            assert [step.name for step in attempt.steps] == ALL
        else:
            assert attempt.outcome in (Outcome.SUCCEEDED, Outcome.LOST)
            assert c.world.starts == ALL[: len(c.world.starts)]
        assert not list(c.directory.glob("attempts/*/*/scratch"))

    play(test, recoverable=recoverable)


@pytest.mark.parametrize("recoverable", [True, False])
def test_a_crash_while_a_step_runs(play: Callable[..., None], recoverable: bool) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(STEPS)
        execution = await c.place()
        c.boot()
        await c.clock.sleep(20 * SECOND)
        await c.crash()
        await c.clock.sleep(20 * SECOND)
        c.boot()
        attempt = await c.ended(execution)
        if recoverable:
            assert attempt.outcome is Outcome.SUCCEEDED
            assert c.world.starts == ALL
        else:
            assert attempt.outcome is Outcome.LOST
            assert "kept no journal" in attempt.reason
            assert c.world.starts == ALL[:2]

    play(test, LONG, recoverable=recoverable)


def test_an_unreadable_journal_is_a_loss(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        await c.clock.sleep(SECOND)
        await c.crash()
        for path in c.directory.glob("attempts/*/*/unit.json"):
            path.write_text("{")
        c.boot()
        attempt = await c.ended(execution)
        assert attempt.outcome is Outcome.LOST
        assert "its journal cannot be read" in attempt.reason

    play(test, LONG)


def test_a_time_limit_goes_on_over_a_crash(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit("ExecStart=/bin/work\nRuntimeMaxSec=30")
        execution = await c.place()
        began = c.clock.monotonic()
        c.boot()
        await c.clock.sleep(10 * SECOND)
        await c.crash()
        await c.clock.sleep(10 * SECOND)
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.TIMED_OUT, "start-0: RuntimeMaxSec=30s expired")
        assert 30 * SECOND <= c.clock.monotonic() - began < 31 * SECOND

    play(test, LONG)


# -- shutdown ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "backward"])
def test_a_jump_of_the_wall_clock_moves_no_time_limit(play: Callable[..., None], jump: int) -> None:
    async def test(c: Cluster) -> None:
        await c.submit("Type=exec\nExecStart=a\nExecStartPost=b\nRuntimeMaxSec=60")
        execution = await c.place()
        c.boot()
        await c.clock.sleep(5 * SECOND)
        c.clock.jump(jump)  # while ExecStartPost= is at work, and RuntimeMaxSec= is still to be reckoned with
        began = c.clock.monotonic()
        attempt = await c.ended(execution, 7200)
        assert attempt.outcome is Outcome.TIMED_OUT
        assert 54 * SECOND < c.clock.monotonic() - began < 57 * SECOND

    play(test, {"start-0": (7200, OK), "start-post-0": (10, OK)})


def test_drain_waits_then_stops_then_records(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        await c.clock.sleep(SECOND)
        began = c.clock.monotonic()
        await c.agent.drain(10 * SECOND)
        assert 10 * SECOND <= c.clock.monotonic() - began < 11 * SECOND
        attempt = await c.ended(execution, 1)
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, "xchronosd is shutting down")
        later = await c.place(copy=1)
        await c.clock.sleep(SECOND)
        now = await c.placed(later)
        assert now is not None
        assert now.state == "placed"

    play(test, LONG)


def test_drain_lets_the_quick_ones_end(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        await c.clock.sleep(SECOND)
        await c.agent.drain(100 * SECOND)
        assert (await c.ended(execution, 1)).outcome is Outcome.SUCCEEDED
        assert c.world.signals == []
        await c.agent.drain(0)

    play(test, LONG)


@pytest.mark.parametrize("ticks", range(0, 30, 2))
def test_drain_starts_nothing_that_is_on_its_way(play: Callable[..., None], ticks: int) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        c.boot()
        await c.agent.ready.wait()
        execution = await c.place()
        for _ in range(ticks):
            await asyncio.sleep(0)
        await c.agent.drain(0)
        await c.clock.sleep(SECOND)
        now = await c.placed(execution)
        assert now is not None
        assert now.state in ("placed", "reported")
        if now.state == "placed":
            assert c.world.starts == []

    play(test, LONG)


def test_drain_does_not_wait_for_a_store_that_is_away(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        await c.clock.sleep(SECOND)
        c.store.take_down()
        await c.agent.drain(SECOND)
        await c.crash()
        c.store.bring_up()
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, "xchronosd is shutting down")
        assert c.world.starts == ["start-0"]

    play(test, LONG)


# -- what is left over ------------------------------------------------------------------------------------------------


def test_leftovers_go_and_what_is_placed_here_stays(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        mine = Leftover(execution.id, 1, "start-0", running=True, what="mine")
        older = Leftover(execution.id, 0, "start-0", running=False, what="an earlier attempt's")
        other = Leftover("x.service/20300317T174640.000000Z/0", 1, "start-0", running=True, what="other")
        c.executor.left = [mine, older, other]
        c.executor.away = 2
        stray = c.directory / "attempts/x.service/20300317T174640.000000Z-0-1/scratch"
        stray.mkdir(parents=True)
        c.boot()
        await c.clock.sleep(10 * SECOND)
        assert c.executor.removed == [older, other]
        assert not stray.exists()
        assert stray.parent.exists()
        assert (c.directory / "attempts/job.service/20300317T174640.000000Z-0-1/scratch").exists()

    play(test, LONG)


def test_output_is_kept_for_as_many_attempts_as_history(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE, "HistoryLimit=2")
        c.boot()
        for number in range(1, 6):
            execution = await c.place(number)
            await c.ended(execution)
            await c.memory.commit(Txn((), (Delete(KEYS.execution(execution.id)),)))
        await c.clock.sleep(SECOND)
        kept = sorted(path.name[-1] for path in (c.directory / "attempts/job.service").iterdir())
        assert kept == ["4", "5"]

    play(test)


def test_output_goes_with_its_unit(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        root = c.directory / "attempts"
        for name in ("job.service", "stays.service", "runs.service", "other.service"):
            await c.submit(ONE, name=name)
        for name in ("job.service", "stays.service"):
            execution = await c.place(name=name)
            if name == "job.service":
                c.boot()
            await c.ended(execution)
        c.world.plans["start-0"] = (2 * 3600.0, OK)
        runs = await c.place(name="runs.service")
        (root / "away.service/20200101T000000.000000Z-0-1").mkdir(parents=True)
        (root / "stray").write_text("no unit's")
        await c.clock.sleep(SECOND)
        assert sorted(path.name for path in root.iterdir()) == [
            "away.service", "job.service", "runs.service", "stays.service", "stray",
        ]  # fmt: skip
        for name in ("job.service", "runs.service"):
            await c.memory.commit(Txn((), (Delete(KEYS.job(name)),)))
        c.store.take_down()
        await c.clock.sleep(HOUR)
        assert (root / "job.service").exists(), "nobody knows what is gone while the store does not answer"
        c.store.bring_up()
        await c.clock.sleep(30 * MINUTE)
        assert sorted(path.name for path in root.iterdir()) == ["runs.service", "stays.service", "stray"]
        await c.ended(runs)
        await c.clock.sleep(30 * MINUTE)
        assert sorted(path.name for path in root.iterdir()) == ["stays.service", "stray"]

    play(test)


def test_a_unit_that_comes_back_soon_keeps_its_output(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        home = c.directory / "attempts/job.service"
        home.mkdir(parents=True)
        c.boot()
        await c.clock.sleep(SECOND)
        await c.submit(ONE)
        await c.clock.sleep(HOUR)
        assert home.exists()

    play(test)


def test_a_record_that_cannot_be_read_harms_nobody(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        await c.memory.commit(Txn((), (Put(KEYS.placement("m1", "bad.service/20300317T174640.000000Z/0"), b"{"),)))
        odd = Execution("odd.service", FIRE, state="placed")
        await c.memory.commit(Txn((), (Put(KEYS.placement("m1", odd.id), encode(odd)),)))
        execution = await c.place()
        c.boot()
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED

    play(test)


def test_a_defect_fails_the_attempt_and_no_other(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)

        async def broken(spec: object) -> StepExit:
            raise RuntimeError("a defect")

        c.executor.run = broken  # type: ignore[method-assign]
        execution = await c.place()
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (
            Outcome.FAILED, "this agent could not carry out the attempt: see its log",
        )  # fmt: skip

    play(test)
