"""A store or an engine that is away, answers that are lost, and news that is old."""

import asyncio
from collections.abc import Callable

import pytest

from tests.agent.worlds import FIRE, KEYS, LONG, ONE, Cluster
from xchronos.clock import SECOND
from xchronos.executors.contract import StepExit
from xchronos.model.policies import Outcome
from xchronos.store.contract import Delete, Txn


def test_an_outage_stops_nothing_and_starts_nothing(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin(seconds=5)
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


@pytest.mark.parametrize("service", [ONE, "Type=simple\nExecStart=a"])
def test_what_is_stopped_while_its_engine_is_away_is_not_started_behind_that(
    play: Callable[..., None], service: str
) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(service)
        execution = await c.place()
        c.executor.away = 1_000
        c.boot()
        await c.clock.sleep(SECOND)
        await c.ask_to_stop(execution, "enough")
        await c.clock.sleep(SECOND)
        c.executor.away = 0
        assert (await c.ended(execution, 60)).outcome in (Outcome.CANCELLED, Outcome.LOST)
        assert c.world.starts == []

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
        execution = await c.begin()
        c.store.take_down()
        await c.memory.commit(Txn((), (Delete(KEYS.placement("m1", execution.id)),)))
        await c.place(2)
        c.store.bring_up()
        attempt = await c.ended(execution)
        assert (attempt.number, attempt.outcome) == (2, Outcome.SUCCEEDED)
        assert c.world.starts == ["start-0", "start-0"]
        assert c.world.signals == [("start-0", "SIGTERM")]

    play(test, LONG)
