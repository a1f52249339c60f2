"""What has OnPartition=stop while its machine loses the store: step by step, on a machine that is made up."""

from collections.abc import Awaitable, Callable

import pytest

from tests.agent.worlds import FIRE, OK, Cluster, Hand
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.lease.partition import CUT_OFF
from xchronos.clock import SECOND
from xchronos.executors.contract import Leftover, StepExit, StepSpec
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution

TTL = 10 * SECOND
STOP = "OnPartition=stop"
LONG = {"start-0": (7200.0, OK)}


@pytest.fixture
def play(play: Callable[..., None]) -> Callable[..., None]:
    """As elsewhere, on a machine that is not alone, and whose lease was renewed just now."""

    def leased(test: Callable[[Cluster], Awaitable[None]], plans: object = None, watchman: Hand | None = None) -> None:
        async def main(c: Cluster) -> None:
            c.lease_clock = LeaseClock(c.clock, TTL)
            c.lease_clock.renewed(0)
            await test(c)

        play(main, plans, watchman=watchman)

    return leased


async def running(c: Cluster, service: str = "ExecStart=a", more: str = STOP) -> Execution:
    await c.submit(f"Type=oneshot\n{service}", more)
    execution = await c.place()
    c.boot()
    await c.clock.sleep(SECOND)
    return execution


def test_it_is_asked_first_and_killed_then_and_nothing_of_it_is_run_any_more(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await running(c, "ExecStart=a\nExecStopPost=c\nTimeoutStopSec=60")
        c.world.deaf.add("start-0")
        await c.clock.sleep(5 * SECOND - 1)
        assert c.world.signals == []
        await c.clock.sleep(SECOND // 10)
        assert c.world.signals == [("start-0", "SIGTERM")]
        await c.clock.sleep(2 * SECOND - SECOND // 10)
        assert c.world.signals == [("start-0", "SIGTERM")]
        attempt = await c.ended(execution, 1)
        assert c.world.signals[1] == ("start-0", "SIGKILL")
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, CUT_OFF)
        assert c.world.starts == ["start-0"]

    play(test, LONG)


def test_what_obeys_ends_as_its_unit_says(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await running(c, "ExecStart=a\nExecStopPost=c")
        attempt = await c.ended(execution, 7)
        assert c.world.starts == ["start-0", "stop-post-0"]
        assert attempt.outcome is Outcome.LOST
        assert attempt.reason.startswith(CUT_OFF)
        assert [step.outcome for step in attempt.steps] == ["cancelled", "succeeded"]

    play(test, LONG)


def test_a_renewal_in_time_changes_nothing(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await running(c)
        for _ in range(10):
            await c.clock.sleep(4 * SECOND)
            c.lease_clock.renewed(c.clock.monotonic())
        assert c.world.signals == []
        assert (await c.placed(execution)).state == "running"

    play(test, LONG)


def test_a_renewal_while_it_is_stopped_spares_it_the_killing(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await running(c, "ExecStart=a\nTimeoutStopSec=30")
        c.world.deaf.add("start-0")
        await c.clock.sleep(6 * SECOND)
        for _ in range(6):
            c.lease_clock.renewed(c.clock.monotonic())
            await c.clock.sleep(3 * SECOND)
        assert c.world.signals == [("start-0", "SIGTERM")]
        attempt = await c.ended(execution, 20)
        assert c.world.signals[1:] == [("start-0", "SIGKILL")], "by TimeoutStopSec="
        assert attempt.outcome is Outcome.LOST

    play(test, LONG)


def test_the_stores_word_that_the_lease_is_over_kills_at_once(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await running(c)
        c.world.deaf.add("start-0")
        c.lease_clock.lapse()
        await c.clock.sleep(SECOND // 10)
        assert c.world.signals[-1] == ("start-0", "SIGKILL")
        assert (await c.ended(execution, 1)).outcome is Outcome.LOST

    play(test, LONG)


def test_when_time_is_up_nothing_is_started(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        c.lease_clock.lapse()
        execution = await running(c)
        await c.clock.sleep(60 * SECOND)
        assert c.world.starts == []
        assert (await c.placed(execution)).state == "placed"
        # What may go on may also begin: the claim is durable.
        await c.submit("Type=oneshot\nExecStart=a", "OnPartition=continue", name="other.service")
        other = await c.place(name="other.service")
        await c.clock.sleep(SECOND)
        assert c.world.starts == ["start-0"]
        assert (await c.placed(other)).state == "running"
        c.lease_clock.renewed(c.clock.monotonic())
        await c.clock.sleep(SECOND)
        assert (await c.placed(execution)).state == "running"
        assert c.world.starts == ["start-0", "start-0"]

    play(test, LONG)


def test_a_step_is_not_started_by_an_agent_that_hung_right_before_until_time_was_up(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        run = c.executor.run

        async def run_late(spec: StepSpec) -> StepExit:
            if spec.step == "start-0":
                c.clock.advance(9 * SECOND)  # nobody else has a turn meanwhile, nor can kill anything
            return await run(spec)

        c.executor.run = run_late  # type: ignore[method-assign]
        execution = await running(c, "ExecStartPre=a\nExecStart=b")
        assert (await c.ended(execution, 10)).outcome is Outcome.LOST
        assert c.world.starts == ["start-pre-0"]

    play(test, LONG)


def test_what_was_killed_is_not_begun_again_by_the_next_agent(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await running(c)
        c.world.deaf.add("start-0")
        c.store.take_down()
        await c.clock.sleep(20 * SECOND)
        assert c.world.signals[-1] == ("start-0", "SIGKILL")
        await c.crash()
        c.store.bring_up()
        c.lease_clock.renewed(c.clock.monotonic())
        c.boot()
        attempt = await c.ended(execution, 10)
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, CUT_OFF)
        assert c.world.starts == ["start-0"]

    play(test, LONG)


def test_what_a_guardian_may_have_killed_is_not_begun_again(play: Callable[..., None]) -> None:
    watchman = Hand()

    async def test(c: Cluster) -> None:
        execution = await running(c)
        await c.crash()
        watchman.struck = True
        c.executor.left = [Leftover(execution.id, 1, "start-0", True, "it still runs")]
        remove = c.executor.remove

        async def remove_some(left: object) -> None:
            await remove(left)  # type: ignore[arg-type]
            if len(c.executor.removed) >= 3:
                c.executor.left = []

        c.executor.remove = remove_some  # type: ignore[method-assign, assignment]
        c.boot()
        attempt = await c.ended(execution, 10)
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, CUT_OFF)
        assert c.world.starts == ["start-0"]
        assert len(c.executor.removed) >= 3, "again, until nothing is left"
        assert watchman.asked == 2
        # What begins now concerns nobody who has died before.
        c.lease_clock.renewed(c.clock.monotonic())
        other = await c.place(copy=1)
        await c.clock.sleep(SECOND)
        now = await c.placed(other)
        assert now is not None
        assert now.state == "running"
        assert c.world.starts == ["start-0", "start-0"]

    play(test, LONG, watchman)


def test_without_a_guardian_it_is_refused(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await running(c)
        attempt = await c.ended(execution, 1)
        assert attempt.outcome is Outcome.FAILED
        assert attempt.reason == "OnPartition=stop cannot be kept here: no more processes"
        assert c.world.starts == []

    play(test, LONG, Hand(broken=True))


def test_a_guardian_is_for_those_only_that_need_one(play: Callable[..., None]) -> None:
    watchman = Hand()

    async def test(c: Cluster) -> None:
        await running(c, more="OnPartition=continue")
        assert c.world.starts == ["start-0"]
        assert watchman.asked == 0

    play(test, LONG, watchman)


def test_an_engine_that_is_away_is_asked_again_until_it_kills(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await running(c)
        c.world.deaf.add("start-0")
        await c.clock.sleep(6 * SECOND)
        c.executor.away = 4
        attempt = await c.ended(execution, 10)
        assert attempt.outcome is Outcome.LOST
        assert c.world.signals[-1] == ("start-0", "SIGKILL")

    play(test, LONG)


def test_a_natural_end_stays_what_it_is(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await running(c)
        attempt = await c.ended(execution, 10)
        assert (attempt.outcome, attempt.reason) == (Outcome.FAILED, "start-0: exited with 7")

    play(test, {"start-0": (3.0, StepExit(7, started_at=FIRE))})


def test_what_is_taken_up_when_the_lease_is_over_is_killed(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        execution = await running(c)
        await c.crash()
        await c.clock.sleep(TTL)
        c.boot()
        attempt = await c.ended(execution, 10)
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, CUT_OFF)
        assert c.world.starts == ["start-0"]
        assert c.world.signals[-1] == ("start-0", "SIGKILL")

    play(test, LONG)


def test_what_waits_for_the_store_can_be_cancelled(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.clock.sleep(6 * SECOND)
        execution = await running(c)
        assert c.world.starts == []
        await c.ask_to_stop(execution, "by hand")
        attempt = await c.ended(execution, 1)
        assert (attempt.outcome, attempt.reason) == (Outcome.CANCELLED, "by hand")
        assert c.world.starts == []

    play(test, LONG)
