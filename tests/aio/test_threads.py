"""Work in other threads: who runs where, what comes back, and who has ended when."""

import asyncio
import threading

import pytest

from xchronos.aio import Elsewhere, Workshop, in_thread, inline


async def test_work_in_a_thread_has_a_loop_of_its_own_and_its_result_comes_back():
    async def work() -> tuple[int, object]:
        await asyncio.sleep(0)
        return threading.get_ident(), asyncio.get_running_loop()

    thread, loop = await in_thread(work, "aside")
    assert thread != threading.get_ident()
    assert loop is not asyncio.get_running_loop()


async def test_what_it_raises_is_raised_and_what_cancels_itself_is_cancelled():
    async def fail() -> None:
        raise KeyError("gone")

    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(KeyError, match="gone"):
        await in_thread(fail, "aside")
    with pytest.raises(asyncio.CancelledError):
        await in_thread(give_up, "aside")


async def test_a_caller_that_is_cancelled_waits_until_the_work_has_ended():
    began, ended = threading.Event(), threading.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            ended.set()

    caller = asyncio.create_task(in_thread(work, "aside"))
    await asyncio.to_thread(began.wait, 10)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_calls_into_another_loop():
    here = Elsewhere(asyncio.get_running_loop())
    mine = threading.get_ident()

    async def where() -> int:
        return threading.get_ident()

    def broken() -> None:
        raise KeyError("here")

    async def work() -> list[int]:
        with pytest.raises(KeyError, match="here"):
            await here.call(broken)
        return [threading.get_ident(), await here.run(where()), await here.call(threading.get_ident)]

    there, *both = await in_thread(work, "aside")
    assert both == [mine, mine]
    assert there != mine


async def test_a_call_that_is_given_up_is_cancelled_there():
    here = Elsewhere(asyncio.get_running_loop())
    given_up = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    async def work() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(here.run(never()), 0.01)

    await in_thread(work, "aside")
    async with asyncio.timeout(10):
        await given_up.wait()


async def test_a_workshop_does_one_thing_after_the_other_while_the_loop_goes_on():
    workshop = Workshop("units")
    gate, running, most = threading.Event(), [], []

    def work() -> int:
        running.append(1)
        most.append(len(running))
        gate.wait(10)
        running.pop()
        return threading.get_ident()

    asked = [asyncio.create_task(workshop(work)) for _ in range(3)]
    await asyncio.sleep(0.05)
    gate.set()
    threads = {await each for each in asked}
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert max(most) == 1
    workshop.close()
    with pytest.raises(RuntimeError):
        await workshop(work)


async def test_inline_work_is_done_here():
    assert await inline(threading.get_ident) == threading.get_ident()
