"""An executor that is away: what that does to the time of steps, and to an agent that is asked to end."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.agent.worlds import LONG, OK, ONE, Cluster, Plan, Remembers, World, WorldSteps, service
from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.agent.attempt.run import AttemptRun
from xchronos.agent.retrying import PatientSteps
from xchronos.clock import SECOND
from xchronos.errors import ExecutorUnavailable
from xchronos.executors.contract import StepExit, StepSpec
from xchronos.limits import ENGINE_AWAY_SECONDS
from xchronos.model.policies import Outcome
from xchronos.model.unit import Step
from xchronos.testing.clock import VirtualClock, run_virtual


class AwaySteps(WorldSteps):
    """Steps whose executor is away for a time when a step is asked for: seconds by its name."""

    def __init__(self, world: World, away: Mapping[str, float]) -> None:
        super().__init__(world)
        self.away = away
        self.asked: dict[str, int] = {}

    async def run(self, step: Step, env: Mapping[str, str]) -> StepExit:
        now = self.world.clock.monotonic()
        asked = self.asked.setdefault(step.name, now)
        await asyncio.sleep(0.01)  # the time of a refused connection
        if now - asked < self.away.get(step.name, 0) * SECOND:
            raise ExecutorUnavailable("the engine is away")
        return await super().run(step, env)


def walk(text: str, away: Mapping[str, float], plans: Mapping[str, Plan]) -> tuple[AttemptEnd, World, float]:
    """An attempt's end, its world, and the seconds that it took."""
    seen: list[tuple[World, float]] = []

    async def main(clock: VirtualClock) -> AttemptEnd:
        world = World(clock, plans)
        steps = PatientSteps(AwaySteps(world, away), clock)
        end = await AttemptRun(service(text), steps, Remembers(clock), clock, steps.held_up).run()
        seen.append((world, clock.monotonic() / SECOND))
        return end

    end = run_virtual(main)
    return end, *seen[0]


TIMES = "TimeoutStartSec=500ms\nTimeoutStopSec=500ms\n"


@pytest.mark.parametrize("step", ["start-pre-0", "start-0", "stop-post-0"])
@pytest.mark.parametrize("away", [0.4, 3, 60, ENGINE_AWAY_SECONDS - 20])
def test_a_steps_time_begins_when_its_executor_is_back(step: str, away: float) -> None:
    text = f"Type=oneshot\n{TIMES}ExecStartPre=/bin/p\nExecStart=/bin/s\nExecStopPost=/bin/u"
    end, world, _ = walk(text, {step: away}, {step: (0.3, OK)})
    assert end.outcome is Outcome.SUCCEEDED, end.reason
    assert world.starts == ["start-pre-0", "start-0", "stop-post-0"]


def test_then_its_limit_holds_as_ever() -> None:
    end, world, took = walk(f"Type=oneshot\n{TIMES}ExecStart=/bin/s", {"start-0": 60}, {"start-0": (2.0, OK)})
    assert end.outcome is Outcome.TIMED_OUT
    assert world.starts == ["start-0"]
    assert 60 <= took < 70


def test_nobody_waits_for_an_executor_for_ever() -> None:
    end, world, took = walk(f"Type=oneshot\n{TIMES}ExecStart=/bin/s", {"start-0": 1e9}, {})
    assert end.outcome is Outcome.TIMED_OUT
    assert world.starts == []
    assert ENGINE_AWAY_SECONDS <= took < ENGINE_AWAY_SECONDS + 10


@pytest.mark.parametrize("silent", ["refuses", "hangs"])
def test_drain_does_not_wait_for_an_executor_that_is_away(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    """What runs cannot be stopped then: it goes on, and the next agent takes it up."""

    async def test(c: Cluster) -> None:
        async def away(spec: StepSpec | None = None, signal: str = "") -> str:
            if silent == "hangs":
                await asyncio.sleep(1e6)
            raise ExecutorUnavailable("the engine is away")

        execution = await c.begin(f"{ONE}\nTimeoutStopSec=90")
        began = c.clock.monotonic()
        with monkeypatch.context() as patch:
            for call in ("probe", "stop", "kill"):
                patch.setattr(c.executor, call, away)
            assert not await c.agent.drain(2 * SECOND)
            assert c.clock.monotonic() - began < 5 * SECOND
            await c.crash()
        c.boot()
        assert (await c.ended(execution)).outcome is Outcome.LOST
        assert c.world.starts == ["start-0"]

    play(test, LONG)


def test_drain_waits_for_a_deaf_step_of_an_executor_that_answers(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await c.begin(f"{ONE}\nTimeoutStopSec=20")
        c.world.deaf.add("start-0")
        began = c.clock.monotonic()
        assert await c.agent.drain(2 * SECOND)
        assert 22 * SECOND <= c.clock.monotonic() - began < 24 * SECOND
        assert (await c.ended(execution, 1)).outcome is Outcome.LOST

    play(test, LONG)
