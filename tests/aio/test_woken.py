"""Waiting for news, but not for ever."""

import asyncio

import pytest

from xchronos.aio import woken
from xchronos.clock import HOUR, SECOND
from xchronos.testing.clock import VirtualClock, run_virtual


def test_it_returns_as_soon_as_the_event_is_set() -> None:
    async def main(clock: VirtualClock) -> int:
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(3, event.set)
        await woken(clock, event, HOUR)
        return clock.monotonic()

    assert run_virtual(main) == 3 * SECOND


def test_it_returns_at_the_limit_and_leaves_the_event_alone() -> None:
    async def main(clock: VirtualClock) -> tuple[int, bool]:
        event = asyncio.Event()
        await woken(clock, event, HOUR)
        return clock.monotonic(), event.is_set()

    assert run_virtual(main) == (HOUR, False)


def test_it_takes_no_time_when_the_event_is_set_already() -> None:
    async def main(clock: VirtualClock) -> tuple[int, bool]:
        event = asyncio.Event()
        event.set()
        await woken(clock, event, HOUR)
        return clock.monotonic(), event.is_set()

    assert run_virtual(main) == (0, True)


@pytest.mark.parametrize("early", [True, False])
def test_it_leaves_no_task_behind(early: bool) -> None:
    async def main(clock: VirtualClock) -> None:
        waiter = asyncio.create_task(woken(clock, asyncio.Event(), HOUR))
        await clock.sleep(SECOND if early else 2 * HOUR)
        waiter.cancel()
        await asyncio.wait({waiter})
        await clock.sleep(1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main)
