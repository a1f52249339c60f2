"""The first of several, and cancelling: who counts, who is cancelled, and what has ended when."""

import asyncio
import gc

import pytest

from xchronos.aio import cancel_and_wait, first
from xchronos.clock import SECOND
from xchronos.testing.clock import VirtualClock, run_virtual


class Work:
    """Some work of a length. `ends` is how its end came; a cancelled one cleans up for `cleanup` first."""

    def __init__(self, clock: VirtualClock, length: int, *, cleanup: int = 0, error: Exception | None = None) -> None:
        self.clock, self.length, self.cleanup, self.error = clock, length, cleanup, error
        self.ends: list[tuple[str, int]] = []

    async def run(self) -> str:
        try:
            await self.clock.sleep(self.length)
        except asyncio.CancelledError:
            await self.clock.sleep(self.cleanup)
            self.ends.append(("cancelled", self.clock.monotonic()))
            raise
        self.ends.append(("done", self.clock.monotonic()))
        if self.error is not None:
            raise self.error
        return f"after {self.length // SECOND}"


def test_the_result_is_the_works_when_it_is_first():
    async def main(clock):
        work, other = Work(clock, SECOND), Work(clock, 5 * SECOND, cleanup=SECOND)
        assert await first(work.run(), other.run()) == "after 1"
        assert clock.monotonic() == 2 * SECOND, "the other one has had time to clean up"
        assert (work.ends, other.ends) == ([("done", SECOND)], [("cancelled", 2 * SECOND)])

    run_virtual(main)


def test_it_is_none_when_another_one_is_first_and_the_work_has_ended_by_then():
    async def main(clock):
        work, late = Work(clock, 9 * SECOND, cleanup=3 * SECOND), Work(clock, 10 * SECOND)
        assert await first(work.run(), Work(clock, SECOND).run(), late.run()) is None
        assert work.ends == [("cancelled", 4 * SECOND)]
        assert late.ends == [("cancelled", SECOND)]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main)


def test_of_those_that_end_together_the_foremost_counts():
    async def main(clock):
        async def told(name: str) -> str:
            return name

        event = asyncio.Event()
        event.set()
        assert await first(told("work"), event.wait()) == "work"
        assert await first(event.wait(), told("other")) is True
        failing = Work(clock, SECOND, error=ValueError("the last"))
        assert await first(clock.sleep(2 * SECOND), Work(clock, SECOND).run(), failing.run()) is None

    run_virtual(main)


@pytest.mark.parametrize("place", [0, 1])
def test_the_error_of_the_first_is_raised_after_the_others_have_ended(place):
    async def main(clock):
        slow = Work(clock, 9 * SECOND, cleanup=SECOND)
        works = [slow.run()]
        works.insert(place, Work(clock, SECOND, error=ValueError("broken")).run())
        with pytest.raises(ValueError, match="broken"):
            await first(*works)
        assert slow.ends == [("cancelled", 2 * SECOND)]

    run_virtual(main)


def test_a_cancelled_caller_ends_all_of_them_before_it_goes():
    async def main(clock):
        works = [Work(clock, 9 * SECOND, cleanup=SECOND), Work(clock, 9 * SECOND, cleanup=2 * SECOND)]
        caller = asyncio.create_task(first(*(work.run() for work in works)))
        await clock.sleep(SECOND)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert clock.monotonic() == 3 * SECOND
        assert [work.ends for work in works] == [[("cancelled", 2 * SECOND)], [("cancelled", 3 * SECOND)]]

    run_virtual(main)


@pytest.mark.parametrize("cancelled", [True, False])
def test_what_is_lost_is_lost_quietly_and_what_breaks_while_it_is_cancelled_is_told(cancelled):
    async def main(clock):
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        broken = Work(clock, SECOND, error=ValueError("in the same turn"))
        caller = asyncio.create_task(first(clock.sleep(SECOND), broken.run()))
        if cancelled:
            await clock.sleep(SECOND)
            caller.cancel()
        await asyncio.wait({caller})
        assert caller.cancelled() is cancelled
        assert broken.ends == [("done", SECOND)]

        async def fails() -> None:
            try:
                await clock.sleep(9 * SECOND)
            finally:
                raise ValueError("no way to clean up")

        await first(clock.sleep(SECOND), fails())
        del caller
        gc.collect()
        assert told == ["no way to clean up"]

    run_virtual(main)


def test_a_second_cancellation_does_not_wait_for_their_ends():
    async def main(clock):
        work = Work(clock, 9 * SECOND, cleanup=4 * SECOND)
        caller = asyncio.create_task(first(work.run()))
        await clock.sleep(SECOND)
        caller.cancel()
        await clock.sleep(SECOND)
        assert not caller.done()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert (clock.monotonic(), work.ends) == (2 * SECOND, [])
        await clock.sleep(4 * SECOND)
        assert work.ends == [("cancelled", 5 * SECOND)], "it ends all the same"

    run_virtual(main)


def test_a_caller_that_is_cancelled_while_the_losers_end_is_cancelled():
    async def main(clock):
        work = Work(clock, 9 * SECOND, cleanup=4 * SECOND)
        caller = asyncio.create_task(first(work.run(), Work(clock, SECOND).run()))
        await clock.sleep(2 * SECOND)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert clock.monotonic() == 2 * SECOND

    run_virtual(main)


def test_work_that_is_cancelled_from_inside_cancels_its_caller():
    async def main(clock):
        async def cut() -> None:
            raise asyncio.CancelledError

        slow = Work(clock, 9 * SECOND)
        with pytest.raises(asyncio.CancelledError):
            await first(cut(), slow.run())
        assert slow.ends == [("cancelled", 0)]

    run_virtual(main)


def test_cancelling_waits_for_the_slowest_and_leaves_what_has_ended_alone():
    async def main(clock):
        over = asyncio.create_task(Work(clock, 0).run())
        await over
        works = [Work(clock, 9 * SECOND, cleanup=SECOND), Work(clock, 9 * SECOND, cleanup=3 * SECOND)]
        tasks = [asyncio.create_task(work.run()) for work in works]
        await clock.sleep(SECOND)
        await cancel_and_wait(*tasks, over)
        assert clock.monotonic() == 4 * SECOND
        assert [task.cancelled() for task in (*tasks, over)] == [True, True, False]
        await cancel_and_wait()
        await cancel_and_wait(over)
        assert over.result() == "after 0"

    run_virtual(main)


def test_what_a_cancelled_task_raises_stays_with_it():
    async def main(clock):
        async def fails() -> None:
            try:
                await clock.sleep(9 * SECOND)
            finally:
                raise ValueError("no way to clean up")

        task = asyncio.create_task(fails())
        await clock.sleep(SECOND)
        await cancel_and_wait(task)
        with pytest.raises(ValueError, match="no way"):
            task.result()

    run_virtual(main)


def test_a_caller_of_cancelling_that_is_cancelled_leaves_the_tasks_cancelled():
    async def main(clock):
        work = Work(clock, 9 * SECOND, cleanup=5 * SECOND)
        task = asyncio.create_task(work.run())
        await clock.sleep(SECOND)
        caller = asyncio.create_task(cancel_and_wait(task))
        await clock.sleep(SECOND)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert clock.monotonic() == 2 * SECOND
        await asyncio.wait({task})
        assert work.ends == [("cancelled", 6 * SECOND)]

    run_virtual(main)
