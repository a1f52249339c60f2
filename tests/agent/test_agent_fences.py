"""The fence around the start: what came in between, and what two schedulers did not know of each other."""

from collections.abc import Callable

import msgspec
import pytest

from tests.agent.worlds import KEYS, LONG, ONE, Cluster
from xchronos.clock import SECOND
from xchronos.model.policies import Outcome
from xchronos.model.records import Capacity
from xchronos.store.contract import Delete, Txn


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
        execution = await c.begin_for(ticks)
        before = await c.placed(execution)
        assert before is not None
        if how == "stop":
            await c.ask_to_stop(execution, "by hand")
            attempt = await c.ended(execution)
            assert attempt.outcome is Outcome.CANCELLED
            assert attempt.reason.startswith("by hand")
            assert (attempt.started_at is None) == (before.state == "placed"), "what was not begun was not recorded so"
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
        assert not attempt.crowded
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
        assert (attempt.outcome, attempt.reason, attempt.crowded) == (Outcome.LOST, words, True)
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


def test_two_attempts_of_one_execution_are_never_at_work_side_by_side(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE + "\nTimeoutStopSec=20")
        first = await c.place()
        c.boot()
        await c.clock.sleep(SECOND)
        c.world.deaf.add("start-0")
        await c.memory.commit(Txn((), (Delete(KEYS.placement("m1", first.id)),)))
        second = await c.place(2)
        await c.clock.sleep(15 * SECOND)
        assert c.world.starts == ["start-0"]
        assert c.world.signals == [("start-0", "SIGTERM")]
        now = await c.placed(second)
        assert now is not None
        assert now.state == "placed", "it has not begun"
        assert (await c.ended(second)).outcome is Outcome.SUCCEEDED
        assert c.world.starts == ["start-0", "start-0"]
        assert c.world.signals == [("start-0", "SIGTERM"), ("start-0", "SIGKILL")]

    play(test, LONG)


def test_an_attempt_whose_fate_cannot_be_known_keeps_no_other_waiting(play: Callable[..., None]) -> None:
    async def test(c: Cluster) -> None:
        lost = await c.begin()
        await c.crash()
        other = await c.place(copy=1)
        c.boot()
        assert (await c.ended(lost)).outcome is Outcome.LOST
        assert (await c.ended(other)).outcome is Outcome.SUCCEEDED

    play(test, LONG, recoverable=False)
