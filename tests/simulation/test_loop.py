"""Processes on one loop: stopped, continued and ended each by itself, while the world goes on."""

import asyncio

import pytest

from xchronos.clock import SECOND
from xchronos.testing.simulation import loop as module
from xchronos.testing.simulation.loop import Process, SimulatedLoop, Stuck, WorldClock


def run(main):
    loop = SimulatedLoop()  # type: ignore[abstract]  # no files, sockets, signals: only what is asked of it
    return loop.run(main(loop, WorldClock(loop, 0)))


def test_a_stopped_process_finds_its_timers_late_and_its_turns_in_order():
    seen = []

    async def ticking(clock, name, every):
        while True:
            await clock.sleep(every)
            seen.append((name, clock.monotonic() // SECOND))

    async def main(loop, clock):
        one, two = Process("one"), Process("two")
        for process in (one, two):
            loop.spawn(process, ticking(clock, process.name, SECOND))
        await clock.sleep(SECOND * 3 // 2)
        loop.stop_process(one)
        assert one.stopped
        await clock.sleep(3 * SECOND)
        loop.continue_process(one)
        await clock.sleep(SECOND * 11 // 10)
        for process in (one, two):
            await loop.end_process(process)
        await clock.sleep(5 * SECOND)

    run(main)
    assert [at for name, at in seen if name == "two"] == [1, 2, 3, 4, 5]
    assert [at for name, at in seen if name == "one"] == [1, 4, 5]


def test_what_a_process_starts_belongs_to_it():
    done = []

    async def child(clock):
        await clock.sleep(SECOND)
        done.append("child")

    async def parent(clock):
        async with asyncio.TaskGroup() as group:
            group.create_task(child(clock))

    async def main(loop, clock):
        process = Process("one")
        loop.spawn(process, parent(clock))
        await asyncio.sleep(0.1)
        loop.stop_process(process)
        await clock.sleep(9 * SECOND)
        assert done == []
        loop.continue_process(process)
        await asyncio.sleep(0)
        await clock.sleep(SECOND)
        assert done == ["child"]

    run(main)


def test_an_ended_process_does_nothing_more_however_it_clings():
    async def clinging(clock):
        while True:
            try:
                await clock.sleep(SECOND)
            except asyncio.CancelledError:
                if clock.monotonic() > SECOND:
                    await clock.sleep(SECOND)
                raise

    async def main(loop, clock):
        process = Process("one")
        task = loop.spawn(process, clinging(clock))
        await clock.sleep(3 * SECOND // 2)
        await loop.end_process(process)
        assert task.done()
        assert not process.alive
        assert loop.elapsed == 3 * SECOND // 2

    run(main)


def test_asyncio_s_own_timers_and_threads_live_in_the_same_time():
    async def main(loop, clock):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        assert await asyncio.to_thread(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        assert clock.monotonic() == 60 * SECOND

    run(main)


def test_waiting_for_what_never_comes_and_turning_without_end_are_found(monkeypatch):
    async def waiting(loop, clock):
        await asyncio.Event().wait()

    async def turning(loop, clock):
        while True:
            await clock.sleep(0)

    with pytest.raises(Stuck, match="never comes"):
        run(waiting)
    monkeypatch.setattr(module, "MOST_TURNS", 1_000)
    with pytest.raises(Stuck, match="no end"):
        run(turning)


def test_a_callback_that_fails_is_a_finding():
    async def main(loop, clock):
        loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)
        return loop.troubles

    assert run(main) == ["a callback failed: ZeroDivisionError: integer division or modulo by zero"]
