"""What an ended step has left on the machine: gone before the next step begins, and only after its end is durable."""

import asyncio

import pytest

from tests.agent.worlds import Remembers, World, WorldSteps, service
from xchronos.agent.attempt.run import AttemptRun
from xchronos.executors.contract import StepExit
from xchronos.model.policies import Outcome
from xchronos.model.unit import Step
from xchronos.testing.clock import VirtualClock, run_virtual

TWO_LINES = "Type=oneshot\nExecStart=/bin/a\nExecStart=/bin/b"


def test_what_a_step_leaves_is_gone_before_the_next_one_begins() -> None:
    async def main(clock: VirtualClock) -> None:
        class Looks(World):
            def begin(self, identity: object, name: str) -> "asyncio.Future[StepExit]":
                assert name != "start-1" or (self.tidied == ["start-0"] and "start-0" in memory.ended)
                return super().begin(identity, name)

        world, memory = Looks(clock, {}), Remembers(clock)
        world.leaving = {"start-0", "start-1"}
        end = await AttemptRun(service(TWO_LINES), WorldSteps(world), memory, clock).run()
        assert end.outcome == Outcome.SUCCEEDED
        assert world.tidied == ["start-0", "start-1"]

    run_virtual(main)


@pytest.mark.parametrize("kind", ["Type=simple", "Type=oneshot"])
def test_a_killed_daemon_removes_what_a_step_has_left(kind: str) -> None:
    async def main(clock: VirtualClock) -> None:
        class Dies(WorldSteps):
            async def tidy(self, step: Step) -> None:
                if not world.tidied:
                    world.tidied.append("not")
                    raise asyncio.CancelledError  # the daemon is killed between the record and the removal
                await super().tidy(step)

        world, memory = World(clock, {}), Remembers(clock)
        world.leaving = {"start-0"}
        unit = service(f"{kind}\nExecStart=/bin/a\nExecStopPost=/bin/b")
        with pytest.raises(asyncio.CancelledError):
            await AttemptRun(unit, Dies(world), memory, clock).run()
        assert "start-0" in memory.ended
        end = await AttemptRun(unit, Dies(world), memory, clock).run()
        assert (end.outcome, world.starts) == (Outcome.SUCCEEDED, ["start-0", "stop-post-0"])
        assert world.tidied == ["not", "start-0"]

    run_virtual(main)


def test_what_only_the_engine_knows_stays_while_the_disk_is_full() -> None:
    async def main(clock: VirtualClock) -> None:
        world, memory = World(clock, {}), Remembers(clock)
        world.leaving, memory.full = {"start-0"}, True
        await AttemptRun(service(TWO_LINES), WorldSteps(world), memory, clock).run()
        assert world.tidied == []

    run_virtual(main)
