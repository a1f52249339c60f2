"""Work in other threads: who runs where, what comes back, and who has ended when."""

import asyncio
import threading

import pytest

from xchronos.aio import Workshop, inline


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
