"""The clock that jumps."""

import asyncio
import threading
import time

import pytest

from xchronos.clock import DAY, HOUR, SECOND
from xchronos.testing import clock as module
from xchronos.testing.clock import START, VirtualClock, run_virtual


def test_a_night_takes_no_time() -> None:
    async def night(clock: VirtualClock) -> tuple[int, int]:
        await clock.sleep(8 * HOUR)
        return clock.now(), clock.monotonic()

    began = time.monotonic()
    assert run_virtual(night) == (START + 8 * HOUR, 8 * HOUR)
    assert time.monotonic() - began < 1


def test_sleepers_wake_in_order_and_to_the_microsecond() -> None:
    woken: list[tuple[int, int]] = []

    async def sleeper(clock: VirtualClock, length: int) -> None:
        await clock.sleep(length)
        woken.append((length, clock.monotonic()))

    async def main(clock: VirtualClock) -> None:
        lengths = [7, 1, SECOND + 1, SECOND, 400 * DAY + 3, 400 * DAY + 1]
        await asyncio.gather(*(sleeper(clock, length) for length in lengths))

    run_virtual(main)
    assert woken == [(length, length) for length in (1, 7, SECOND, SECOND + 1, 400 * DAY + 1, 400 * DAY + 3)]


def test_timers_of_asyncio_share_the_clock() -> None:
    async def main(clock: VirtualClock) -> int:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        await asyncio.sleep(1)
        return clock.monotonic()

    assert run_virtual(main) == HOUR + SECOND


def test_a_jump_of_the_wall_wakes_nobody() -> None:
    async def main(clock: VirtualClock) -> tuple[int, int]:
        sleeper = asyncio.create_task(clock.sleep(HOUR))
        await asyncio.sleep(0)
        clock.jump(-DAY)
        await sleeper
        return clock.now() - START, clock.monotonic()

    assert run_virtual(main) == (HOUR - DAY, HOUR)


def test_a_paused_process_finds_its_timers_late() -> None:
    async def main(clock: VirtualClock) -> int:
        sleeper = asyncio.create_task(clock.sleep(SECOND))
        await asyncio.sleep(0)
        clock.advance(HOUR)
        await sleeper
        with pytest.raises(ValueError, match="not negative"):
            clock.advance(-1)
        return clock.monotonic()

    assert run_virtual(main) == HOUR


def test_no_sleep_still_gives_the_others_a_turn() -> None:
    async def main(clock: VirtualClock) -> list[str]:
        seen: list[str] = []
        other = asyncio.create_task(clock.sleep(0))
        other.add_done_callback(lambda _: seen.append("other"))
        await clock.sleep(-5)
        seen.append("main")
        await other
        await asyncio.sleep(0)
        return seen

    assert sorted(run_virtual(main)) == ["main", "other"]


def test_cancelling_a_sleeper_is_quiet() -> None:
    async def main(clock: VirtualClock) -> int:
        sleeper = asyncio.create_task(clock.sleep(SECOND))
        await asyncio.sleep(0)
        sleeper.cancel()
        await asyncio.wait({sleeper})
        await clock.sleep(2 * SECOND)
        return clock.monotonic()

    assert run_virtual(main) == 2 * SECOND


def test_threads_take_no_time() -> None:
    async def main(clock: VirtualClock) -> int:
        sleeper = asyncio.create_task(clock.sleep(HOUR))
        await asyncio.to_thread(time.sleep, 0.05)
        reached = clock.monotonic()
        await sleeper
        return reached

    assert run_virtual(main) == 0


def test_what_happens_outside_is_waited_for() -> None:
    async def main(clock: VirtualClock) -> int:
        happened = asyncio.Event()
        loop = asyncio.get_running_loop()
        timer = threading.Timer(0.02, lambda: loop.call_soon_threadsafe(happened.set))
        timer.start()
        async with asyncio.timeout(5):
            await happened.wait()
        timer.join()
        return clock.monotonic()

    assert run_virtual(main, outside=2.0) == 0


def test_waiting_for_ever_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUCK", 0.01)

    async def main(clock: VirtualClock) -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="waits for something that never comes"):
        run_virtual(main)
