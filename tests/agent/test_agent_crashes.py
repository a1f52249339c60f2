"""An agent that crashes at any moment, and time limits that neither that nor a jump of the clock moves."""

import asyncio
from collections.abc import Callable

import pytest

from tests.agent.worlds import LONG, OK, Cluster
from xchronos.agent.attempt import journal
from xchronos.clock import HOUR, SECOND
from xchronos.model.policies import Outcome

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
        execution = await c.begin(STEPS, 20)
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
        execution = await c.begin()
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


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "backward"])
def test_a_jump_of_the_wall_clock_moves_no_time_limit(play: Callable[..., None], jump: int) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin("Type=exec\nExecStart=a\nExecStartPost=b\nRuntimeMaxSec=60", 5)
        c.clock.jump(jump)  # while ExecStartPost= is at work, and RuntimeMaxSec= is still to be reckoned with
        began = c.clock.monotonic()
        attempt = await c.ended(execution, 7200)
        assert attempt.outcome is Outcome.TIMED_OUT
        assert 54 * SECOND < c.clock.monotonic() - began < 57 * SECOND

    play(test, {"start-0": (7200, OK), "start-post-0": (10, OK)})


@pytest.mark.parametrize("booted", [False, True], ids=["the same boot", "another boot"])
@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "backward"])
def test_nor_does_one_while_no_agent_is_there(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch, jump: int, booted: bool
) -> None:
    async def test(c: Cluster) -> None:
        await c.submit("ExecStart=/bin/work\nRuntimeMaxSec=30")
        execution = await c.place()
        began = c.clock.monotonic()
        c.boot()
        await c.clock.sleep(10 * SECOND)
        await c.crash()
        c.clock.jump(jump)
        await c.clock.sleep(10 * SECOND)
        if booted:
            # The engine may be on another machine, where the step goes on; then only the wall clock can be asked.
            monkeypatch.setattr(journal, "boot_id", lambda: "another")
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.TIMED_OUT, "start-0: RuntimeMaxSec=30s expired")
        took = (c.clock.monotonic() - began) // SECOND
        # (Over while nobody looked: the engine gets the time to tell that it had ended before that.)
        assert took == (30 if not booted else 25 if jump > 0 else 50)

    play(test, LONG)
