"""What has to end before its time: it is stopped, has to leave, or was taken away."""

from collections.abc import Callable

import msgspec
import pytest

from tests.agent.worlds import FIRE, KEYS, LONG, OK, ONE, Cluster
from xchronos.clock import SECOND
from xchronos.executors.contract import StepExit
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution
from xchronos.registry.codec import encode
from xchronos.store.contract import Delete, Put, Txn


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
        execution = await c.begin_for(ticks)
        await ask_to_leave(c, execution, "m1 is being drained")
        attempt = await c.ended(execution, 10)
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, "m1 is being drained")

    play(test, LONG)


def test_one_that_ends_by_itself_has_not_left(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin(ONE + "\nExecStopPost=/bin/post", 65)
        await ask_to_leave(c, execution, "m1 is being drained")
        assert (await c.ended(execution)).outcome is Outcome.SUCCEEDED

    play(test, LONG | {"stop-post-0": (20.0, OK)})


def test_a_stop_ends_what_runs(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin("ExecStart=/bin/work\nExecStop=/bin/stop", 5)
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
        execution = await c.begin()
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
        execution = await c.begin()
        await c.memory.commit(Txn((), (Delete(KEYS.placement("m1", execution.id)),)))
        await c.clock.sleep(SECOND)
        assert c.world.signals == [("start-0", "SIGTERM")]
        assert await c.placed(execution) is None
        assert await c.history(execution) is None
        assert c.executor.released == [(execution.id, 1)]

    play(test, LONG)
