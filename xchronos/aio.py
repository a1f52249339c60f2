"""Waiting for several things, and asking again: one helper for each idea, and exact words on cancellation.

Nothing here knows a store or an engine. The caller gives the clock and the chance: a simulation that has its own runs
the same way every time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from xchronos.clock import Clock, Micros

T = TypeVar("T")


# -- several at a time ------------------------------------------------------------------------------------------------


async def cancel_and_wait(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel those of the tasks that have not ended, and return when all have.

    What a task returns or raises instead of being cancelled stays with it: whoever has the task can ask for it, and an
    error that nobody asks for is told by asyncio. A caller that is cancelled meanwhile is so immediately; the tasks
    have been cancelled by then, and end by themselves. The task that calls this must not be among them.
    """
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)


async def first(work: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, object]) -> T | None:
    """Run all of them until one ends: the result of `work`, or None when another one was first.

    - The first one's error is raised. Of several that end in the same turn of the loop the foremost argument counts;
      the results and the errors of the others are lost.
    - All that still run are cancelled, and have ended when this returns or raises. An error that one of them raises
      instead of being cancelled is told by asyncio: see `cancel_and_wait`.
    - When the caller is cancelled, all are cancelled and awaited, and then the cancellation goes on. A result or an
      error that came in that very turn is lost. A second cancellation does not wait for their ends.
    """
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(each) for each in (work, *others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winner = next(task for task in tasks if task.done())
    finally:
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # asked for here: nobody else has the task
        await cancel_and_wait(*tasks)
    result: T = winner.result()
    return result if winner is tasks[0] else None


async def woken(clock: Clock, event: asyncio.Event, limit: Micros) -> None:
    """Return as soon as the event is set, and after `limit` at the latest. The event stays set or unset as it is.

    When it is set already, no other task gets a turn. The waits are cancelled and not awaited, unlike those of `first`:
    they have nothing to clean up, and the loops that call this do so all the time.
    """
    if event.is_set():
        return
    news = asyncio.ensure_future(event.wait())
    timer = asyncio.ensure_future(clock.sleep(limit))
    try:
        await asyncio.wait((news, timer), return_when=asyncio.FIRST_COMPLETED)
    finally:
        news.cancel()
        timer.cancel()


# -- other threads ---------------------------------------------------------------------------------------------------


class Offload(Protocol):
    """Does work that only computes, and whose size others decide."""

    async def __call__(self, work: Callable[[], T], /) -> T:
        """What the function returns or raises."""
        ...


async def inline(work: Callable[[], T], /) -> T:
    """An Offload that does the work immediately, where it is asked for."""
    return work()


class Workshop:
    """An Offload that does one piece of work after the other, in a thread that has nothing else to do.

    The event loop goes on meanwhile: it waits for the interpreter's lock for one switch interval at a time.
    """

    def __init__(self, name: str) -> None:
        self._bench = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def __call__(self, work: Callable[[], T], /) -> T:
        """See `Offload`. A caller that is cancelled does not stop what has begun."""
        return await asyncio.get_running_loop().run_in_executor(self._bench, work)

    def close(self) -> None:
        """Begin nothing more. What has begun ends by itself."""
        self._bench.shutdown(wait=False, cancel_futures=True)


# -- again and again --------------------------------------------------------------------------------------------------


class Chance(Protocol):
    """Where a draw comes from: a seeded `random.Random`, or the module `random` itself."""

    def randrange(self, start: int, /) -> int:
        """A number from 0 up to, but not including, `start`."""
        ...


def spread(length: Micros, chance: Chance) -> Micros:
    """Between half of `length` and all of it, so that many who wait for the same thing do not all ask together."""
    half = length // 2
    return half + chance.randrange(length - half + 1)


class Backoff:
    """The pauses between tries: `first`, then each twice as long as the one before, and never longer than `longest`.

    Args:
        clock: What the pauses are measured by.
        first: The first pause, in microseconds.
        longest: The longest one; the same as `first` for pauses that do not grow.
        chance: Draws each pause anew between half of it and all of it; None: they are exact.
        free: So many pauses of no length come before the first one.

    Attributes:
        tries: How many pauses were taken since the beginning, or since `reset`.
    """

    def __init__(
        self, clock: Clock, first: Micros, longest: Micros, chance: Chance | None = None, *, free: int = 0
    ) -> None:
        self._clock = clock
        self._first = first
        self._longest = longest
        self._chance = chance
        self._free = free
        self.tries = 0

    def reset(self) -> None:
        """It worked: begin anew."""
        self.tries = 0

    def next(self) -> Micros:
        """The length of the next pause, for who takes it by itself."""
        doublings = self.tries - self._free
        self.tries += 1
        if doublings < 0:
            return 0
        # No pause is doubled more than 40 times between a microsecond and a week.
        length = min(self._first << min(doublings, 40), self._longest)
        return length if self._chance is None else spread(length, self._chance)

    async def pause(self) -> None:
        """Take the next pause."""
        await self._clock.sleep(self.next())


async def retry(
    ask: Callable[[], Awaitable[T]],
    on: type[Exception],
    backoff: Backoff,
    told: Callable[[Exception], None] | None = None,
) -> T:
    """Ask until there is an answer that is no error of the kind `on`, with a pause after each of these.

    `told` hears of each such error before its pause; what it raises ends the asking. Every other error is raised, and a
    cancellation goes through at any moment: to the question that is under way, or to the pause.
    """
    while True:
        try:
            return await ask()
        except on as error:
            if told is not None:
                told(error)
        await backoff.pause()


async def reached(clock: Clock, condition: Callable[[], bool], every: Micros, limit: Micros | None = None) -> bool:
    """Look every so often until the condition holds; False when it does not within `limit`. None: for ever.

    It is looked at before the first pause and after each one, so the time may be over by `every`.
    """
    began = clock.monotonic()
    while not condition():
        if limit is not None and clock.monotonic() - began >= limit:
            return False
        await clock.sleep(every)
    return True
