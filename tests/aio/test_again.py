"""Asking again: how long the pauses are, what ends the asking, and waiting until something is so."""

import asyncio
import random
from random import Random

import pytest

from xchronos.aio import Backoff, reached, retry, spread
from xchronos.clock import DAY, MILLISECOND, SECOND
from xchronos.testing.clock import VirtualClock, run_virtual


def pauses(backoff: Backoff, count: int) -> list[int]:
    return [backoff.next() for _ in range(count)]


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_reset():
    backoff = Backoff(VirtualClock(), SECOND, 5 * SECOND)
    assert pauses(backoff, 5) == [SECOND, 2 * SECOND, 4 * SECOND, 5 * SECOND, 5 * SECOND]
    assert backoff.tries == 5
    backoff.reset()
    assert backoff.tries == 0
    assert pauses(backoff, 2) == [SECOND, 2 * SECOND]


def test_pauses_do_not_grow_beyond_the_longest_however_often_it_is_tried():
    backoff = Backoff(VirtualClock(), 1, DAY)
    assert pauses(backoff, 5_000)[-1] == DAY
    assert pauses(Backoff(VirtualClock(), SECOND, SECOND), 3) == [SECOND] * 3
    assert pauses(Backoff(VirtualClock(), 9 * SECOND, SECOND), 2) == [SECOND] * 2


def test_free_tries_come_first():
    assert pauses(Backoff(VirtualClock(), SECOND, 9 * SECOND, free=2), 4) == [0, 0, SECOND, 2 * SECOND]


def test_chance_draws_each_pause_between_half_of_it_and_all_of_it():
    drawn = [pauses(Backoff(VirtualClock(), SECOND, 4 * SECOND, Random(seed)), 3) for seed in range(200)]
    for number, length in enumerate((SECOND, 2 * SECOND, 4 * SECOND)):
        lengths = [each[number] for each in drawn]
        assert length // 2 <= min(lengths) < 6 * length // 10
        assert 9 * length // 10 < max(lengths) <= length
    assert pauses(Backoff(VirtualClock(), SECOND, 4 * SECOND, Random(7)), 3) == drawn[7], (
        "the same seed, the same pauses"
    )


def test_a_spread_reaches_both_of_its_ends():
    assert {spread(4, random) for _ in range(500)} == {2, 3, 4}
    assert {spread(1, Random(1)) for _ in range(50)} <= {0, 1}
    assert spread(0, Random(1)) == 0


def test_it_is_asked_until_there_is_an_answer():
    async def main(clock):
        asked, told = [], []

        async def ask() -> str:
            asked.append(clock.monotonic())
            if len(asked) < 4:
                raise ConnectionError(f"away {len(asked)}")
            return "here"

        backoff = Backoff(clock, SECOND, 3 * SECOND)
        assert await retry(ask, ConnectionError, backoff, lambda error: told.append(str(error))) == "here"
        assert asked == [0, SECOND, 3 * SECOND, 6 * SECOND]
        assert told == ["away 1", "away 2", "away 3"]
        assert backoff.tries == 3

    run_virtual(main)


def test_any_other_error_ends_the_asking():
    async def main(clock):
        async def ask() -> None:
            raise ValueError("not that kind")

        with pytest.raises(ValueError, match="not that kind"):
            await retry(ask, ConnectionError, Backoff(clock, SECOND, SECOND))
        assert clock.monotonic() == 0

    run_virtual(main)


def test_who_is_told_may_end_the_asking():
    async def main(clock):
        async def ask() -> None:
            raise ConnectionError("away")

        def told(error: Exception) -> None:
            if clock.monotonic() >= 3 * SECOND:
                raise TimeoutError from error

        with pytest.raises(TimeoutError):
            await retry(ask, ConnectionError, Backoff(clock, SECOND, SECOND), told)
        assert clock.monotonic() == 3 * SECOND

    run_virtual(main)


@pytest.mark.parametrize("when", [500 * MILLISECOND, 1500 * MILLISECOND])
def test_a_cancellation_ends_the_question_or_the_pause(when):
    async def main(clock):
        ended = []

        async def ask() -> None:
            try:
                await clock.sleep(SECOND)
            finally:
                ended.append(clock.monotonic())
            raise ConnectionError("away")

        caller = asyncio.create_task(retry(ask, ConnectionError, Backoff(clock, SECOND, SECOND)))
        await clock.sleep(when)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert clock.monotonic() == when
        assert ended == [min(when, SECOND)]

    run_virtual(main)


def test_what_is_so_already_takes_no_time():
    async def main(clock):
        assert await reached(clock, lambda: True, SECOND, 0)
        assert clock.monotonic() == 0

    run_virtual(main)


def test_it_is_looked_at_until_it_is_so_or_the_time_is_over():
    async def main(clock):
        looks = []

        def so() -> bool:
            looks.append(clock.monotonic())
            return clock.monotonic() >= 3 * SECOND

        assert await reached(clock, so, SECOND)
        assert looks == [0, SECOND, 2 * SECOND, 3 * SECOND]
        assert not await reached(clock, lambda: False, 2 * SECOND, 3 * SECOND)
        assert clock.monotonic() == 7 * SECOND
        assert not await reached(clock, lambda: False, SECOND, 0)
        assert clock.monotonic() == 7 * SECOND

    run_virtual(main)


def test_waiting_until_something_is_so_can_be_cancelled():
    async def main(clock):
        waiter = asyncio.create_task(reached(clock, lambda: False, SECOND))
        await clock.sleep(5 * SECOND)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    run_virtual(main)
