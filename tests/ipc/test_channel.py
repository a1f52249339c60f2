"""Calls between two processes: what comes back, what is raised, what is cancelled, and what the end of one means."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from xchronos.errors import Compacted, NotFound, Problem, StoreUnavailable, UnitFileError
from xchronos.ipc import CallFailed, Channel, Disconnected, Method, pair


class Sum(msgspec.Struct):
    """Two numbers."""

    left: int
    right: int


ADD: Method[Sum, int] = Method("add", Sum, int)
FAIL: Method[str, None] = Method("fail", str, None)
WAIT: Method[None, None] = Method("wait", None, None)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Channel, Channel]]:
    """Both sides of a connection, as if each were in a process of its own."""
    here, there = (Channel(end) for end in pair())
    runs = [asyncio.create_task(each.run()) for each in (here, there)]
    try:
        yield here, there
    finally:
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)


async def test_answers_come_to_who_asked_in_any_order_and_both_ways():
    async with connected() as (here, there):
        gate = asyncio.Event()

        async def add(asked: Sum) -> int:
            if asked.left == 1:
                await gate.wait()
            return asked.left + asked.right

        there.serve(ADD, add)
        here.serve(ADD, add)
        slow = asyncio.create_task(here.call(ADD, Sum(1, 1)))
        assert await here.call(ADD, Sum(2, 3)) == 5
        assert await there.call(ADD, Sum(20, 3)) == 23
        assert not slow.done()
        gate.set()
        assert await slow == 2


@pytest.mark.parametrize(
    "error",
    [
        NotFound("there is no unit a.service"),
        StoreUnavailable("the disk is full"),
        Compacted(7),
        UnitFileError([Problem("no such key", "a.service", 3), Problem("odd", severity="warning")]),
    ],
)
async def test_our_errors_are_raised_as_they_are(error):
    async with connected() as (here, there):

        async def fail(_: str) -> None:
            raise error

        there.serve(FAIL, fail)
        with pytest.raises(type(error)) as told:
            await here.call(FAIL, "")
        assert str(told.value) == str(error)
        assert vars(told.value) == vars(error)


async def test_an_error_of_a_narrower_class_is_told_as_the_nearest_that_everybody_knows():
    class Private(NotFound):
        pass

    async with connected() as (here, there):

        async def fail(_: str) -> None:
            raise Private("gone")

        there.serve(FAIL, fail)
        with pytest.raises(NotFound, match="gone") as told:
            await here.call(FAIL, "")
        assert type(told.value) is NotFound


async def test_what_nobody_foresaw_is_told_and_the_channel_goes_on():
    async with connected() as (here, there):

        async def fail(_: str) -> None:
            raise KeyError("oh")

        async def add(asked: Sum) -> int:
            return asked.left + asked.right

        there.serve(FAIL, fail)
        there.serve(ADD, add)
        with pytest.raises(CallFailed, match=r"fail: KeyError\('oh'\)"):
            await here.call(FAIL, "")
        with pytest.raises(CallFailed, match="wait: KeyError"):
            await here.call(WAIT, None)
        assert await here.call(ADD, Sum(1, 2)) == 3


async def test_a_caller_that_is_cancelled_cancels_what_it_has_called():
    async with connected() as (here, there):
        began, ended = asyncio.Event(), asyncio.Event()

        async def wait(_: None) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        there.serve(WAIT, wait)
        caller = asyncio.create_task(here.call(WAIT, None))
        await asyncio.wait_for(began.wait(), 10)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await asyncio.wait_for(ended.wait(), 10)


async def test_the_end_of_one_side_ends_the_calls_of_the_other_and_what_it_has_done_for_them():
    ends = pair()
    here, there = (Channel(end) for end in ends)
    running, other = asyncio.create_task(here.run()), asyncio.create_task(there.run())
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(_: None) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    there.serve(WAIT, wait)
    here.serve(WAIT, wait)
    callers = [asyncio.create_task(here.call(WAIT, None)), asyncio.create_task(there.call(WAIT, None))]
    await asyncio.wait_for(began.wait(), 10)
    other.cancel()
    for caller in callers:
        with pytest.raises(Disconnected):
            await asyncio.wait_for(caller, 10)
    await asyncio.wait_for(running, 10)  # it returns by itself
    await asyncio.wait_for(ended.wait(), 10)
    with pytest.raises(Disconnected):
        await here.call(WAIT, None)


async def test_a_large_answer_arrives_whole():
    data: Method[int, bytes] = Method("data", int, bytes)
    async with connected() as (here, there):

        async def make(size: int) -> bytes:
            return b"x" * size

        there.serve(data, make)
        for size in (0, 1, 30_000_000):
            answer = await here.call(data, size)
            assert len(answer) == size


async def test_what_is_not_served_is_passed_on_to_the_process_beyond():
    async with connected() as (here, middle), connected() as (beyond_middle, beyond):

        async def add(asked: Sum) -> int:
            return asked.left + asked.right

        async def fail(_: str) -> None:
            raise NotFound("not there either")

        async def wait(_: None) -> None:
            return None

        beyond.serve(ADD, add)
        beyond.serve(FAIL, fail)
        middle.serve(WAIT, wait)
        middle.forward(beyond_middle)
        assert await here.call(ADD, Sum(2, 3)) == 5
        with pytest.raises(NotFound, match="not there either"):
            await here.call(FAIL, "")
        await here.call(WAIT, None)  # served in the middle
