"""A clock that jumps: hours of schedule in milliseconds, the same way every time.

`run_virtual` runs a coroutine on an event loop of made-up time. When every task of the loop waits for a timer, the
clock jumps to the nearest one. The clock's own `sleep` and asyncio's timers (`asyncio.sleep`, `asyncio.timeout`,
`wait(timeout=...)`) use the same time, so they always agree::

    async def night(clock: VirtualClock) -> None:
        await clock.sleep(8 * HOUR)  # returns immediately, and it is eight hours later
        clock.jump(-HOUR)            # somebody sets the wall clock back

    run_virtual(night)

Work in threads (`asyncio.to_thread`, `loop.run_in_executor`) takes no time: the clock stands still until it is done.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple, Unpack

from xchronos.clock import SECOND, Instant, Micros

START: Instant = 1_900_000_000 * SECOND
"""Where the wall clock begins by default: 2030-03-17T17:46:40Z."""

STUCK = 10.0
"""Real seconds without any event, timer or thread, after which the loop concludes that everything waits for ever."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualClock:
    """A `Clock` of made-up time. It works only inside `run_virtual`."""

    def __init__(self, start: Instant = START) -> None:
        self._elapsed: Micros = 0
        self._wall = start

    def now(self) -> Instant:
        """The wall clock."""
        return self._wall + self._elapsed

    def monotonic(self) -> Micros:
        """The time since the start."""
        return self._elapsed

    async def sleep(self, length: Micros) -> None:
        """Return exactly `length` later. For a length that is not positive: after the other tasks have had a turn."""
        if length <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        wake = loop.create_future()
        timer = loop.call_at((self._elapsed + length) / SECOND, _wake, wake)
        try:
            await wake
        finally:
            timer.cancel()

    def jump(self, length: Micros) -> None:
        """Set the wall clock forward, or backward if `length` is negative. No sleeper notices."""
        self._wall += length

    def advance(self, length: Micros) -> None:
        """Let time pass without giving any task a turn, as when the whole process is stopped for a while."""
        if length < 0:
            raise ValueError(f"time cannot pass by {length} us: expected a length that is not negative")
        self._elapsed += length


class _Jumping(selectors.DefaultSelector):
    """The event loop's selector. A loop waits here when nothing is ready; this one lets the clock jump instead.

    `outside` is how many real seconds it waits before each jump. `threads` is how many threads are at work now; the
    clock does not jump while there are any.
    """

    def __init__(self, clock: VirtualClock, outside: float) -> None:
        super().__init__()
        self._clock = clock
        self._outside = outside
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self.threads:
            ready = super().select(STUCK)
            if not ready and not self.threads:
                raise RuntimeError("every task waits for something that never comes")
            return ready
        if self._outside:
            ready = super().select(self._outside)
        if not ready:
            self._clock.advance(max(round(timeout * SECOND), 1))
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that lives in a `VirtualClock`'s time."""

    def __init__(self, clock: VirtualClock, outside: float = 0.0) -> None:
        self._jumping = _Jumping(clock, outside)
        self._virtual = clock
        self._threads = ThreadPoolExecutor(thread_name_prefix="virtual")
        super().__init__(self._jumping)
        # A timer is due when its time is nearer than this. asyncio's own nanosecond is lost in the rounding of a float
        # after some weeks, and then a timer that is exactly due would never run.
        self._clock_resolution = 0.5 / SECOND

    def time(self) -> float:
        """The virtual clock's monotonic time in seconds."""
        return self._virtual.monotonic() / SECOND

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> "asyncio.Future[T]":
        """As the base class. Time stands still until the thread is done, even when nobody waits for it any more."""
        work = (executor or self._threads).submit(func, *args)
        self._jumping.threads += 1
        result = asyncio.wrap_future(work, loop=self)
        # Registered after the callback of `result`, so it runs after that: the clock must not jump between the end of
        # the thread and the news of it.
        work.add_done_callback(lambda _: self.call_soon_threadsafe(self._thread_ended))
        return result

    def _thread_ended(self) -> None:
        self._jumping.threads -= 1

    def close(self) -> None:
        """As the base class. Waits for the threads."""
        self._threads.shutdown()
        super().close()


def run_virtual(main: Callable[[VirtualClock], Awaitable[T]], start: Instant = START, *, outside: float = 0.0) -> T:
    """Run `main(clock)` to its end in made-up time and return its result.

    `outside` is for coroutines that also wait for what happens outside of the loop (sockets, processes, threads of
    their own): before every jump the loop waits for it so many real seconds. Raises RuntimeError when everything waits
    for ever.
    """
    clock = VirtualClock(start)

    async def body() -> T:
        return await main(clock)

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock, outside)) as runner:
        return runner.run(body())


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
