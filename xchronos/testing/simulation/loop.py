"""An event loop of made-up time with several *processes* on it, each of which can be stopped and continued alone.

Every callback belongs to the process in whose context it was made; what a task starts belongs to the task's process
(`test_what_a_process_starts_belongs_to_it`). While a process is stopped (SIGSTOP), its callbacks are held. They run in
the same order when it goes on: it then finds its timers late, and answers that came long ago
(`test_a_stopped_process_finds_its_timers_late_and_its_turns_in_order`). What belongs to no process is the world; it
never stops.

There is no selector, and there are no threads: `run_in_executor` calls the function immediately. So a run depends on
nothing but the program, and the same program takes the same course every time.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar

from xchronos.clock import SECOND, Micros

T = TypeVar("T")

CURRENT_PROCESS: ContextVar["Process | None"] = ContextVar("CURRENT_PROCESS", default=None)
"""The process that the running code belongs to; None: the world."""

MOST_TURNS = 2_000_000
"""How many callbacks a run may take. More of them mean that something goes on without end."""


class Stuck(RuntimeError):  # noqa: N818 - reads as what it says
    """Nothing can happen any more, or callbacks go on without end."""


class Process:
    """Something that can be stopped, continued and ended by itself.

    `held` has the callbacks of a stopped process; None while it runs. `alive` becomes False when it is killed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.held: list[_Handle] | None = None
        self.tasks: list[asyncio.Task[Any]] = []

    @property
    def stopped(self) -> bool:
        """Whether it is stopped now."""
        return self.held is not None


class _Handle:
    """A callback to come: what asyncio calls a Handle or a TimerHandle. `when_` is in seconds; `void`: cancelled."""

    __slots__ = ("args", "callback", "context", "owner", "void", "when_")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        owner: Process | None,
        when: float = 0.0,
    ) -> None:
        self.callback: Callable[..., object] = callback
        self.args = args
        self.context = context
        self.owner = owner
        self.void = False
        self.when_ = when

    def cancel(self) -> None:
        self.void = True
        self.callback, self.args = _nothing, ()

    def cancelled(self) -> bool:
        return self.void

    def when(self) -> float:
        return self.when_


class _Task(asyncio.Task[T]):
    """A task with a number as its hash, so that the order of a set of tasks does not depend on their addresses."""

    _numbers = count()

    def __new__(cls, *_: Any, **__: Any) -> "_Task[T]":
        self = super().__new__(cls)
        self.number = next(cls._numbers)
        return self

    number: int

    def __hash__(self) -> int:
        return self.number


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The loop.

    `elapsed` is the time since its start in microseconds, `turns` how many callbacks have run, and `troubles` what went
    wrong in them.
    """

    def __init__(self) -> None:
        self.elapsed: Micros = 0
        self.turns = 0
        self.troubles: list[str] = []
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[Micros, int, _Handle]] = []
        self._order = count()
        self._world = copy_context()
        self._closed = False
        _Task._numbers = count()  # noqa: SLF001 - this module's own

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end; it belongs to the world. Raises Stuck."""
        task = self.create_task(main)
        hooks = sys.get_asyncgen_hooks()
        asyncio._set_running_loop(self)  # noqa: SLF001 - meant for loops
        sys.set_asyncgen_hooks(finalizer=self._finish_generator)
        try:
            while not task.done():
                self._turn()
            return task.result()
        finally:
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(None)  # noqa: SLF001

    def _turn(self) -> None:
        ready = self._ready
        if not ready:
            self._advance()
        for _ in range(len(ready)):
            handle = ready.popleft()
            owner = handle.owner
            if owner is not None and owner.held is not None:
                owner.held.append(handle)
            elif not handle.void:
                self.turns += 1
                try:
                    handle.context.run(handle.callback, *handle.args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - as in every loop, a callback's error does not end it
                    self.call_exception_handler({"message": "a callback failed", "exception": error})
        if self.turns > MOST_TURNS:
            raise Stuck(f"{self.turns} callbacks, and no end of it")

    def _advance(self) -> None:
        timers = self._timers
        while timers and timers[0][2].void:
            heappop(timers)
        if not timers:
            raise Stuck("everything waits for something that never comes")
        self.elapsed = max(self.elapsed, timers[0][0])
        while timers and timers[0][0] <= self.elapsed:
            self._ready.append(heappop(timers)[2])

    def _finish_generator(self, generator: Any) -> None:
        self.create_task(generator.aclose())

    # -- processes ----------------------------------------------------------------------------------------------------

    def spawn(self, process: Process, work: Coroutine[Any, Any, T], name: str = "") -> "asyncio.Task[T]":
        """Start a task that belongs to a process."""
        context = self._world.copy()
        context.run(CURRENT_PROCESS.set, process)
        return self.create_task(work, name=name or process.name, context=context)

    def stop_process(self, process: Process) -> None:
        """SIGSTOP."""
        if process.held is None:
            process.held = []

    def continue_process(self, process: Process) -> None:
        """SIGCONT."""
        held, process.held = process.held or [], None
        self._ready.extend(held)

    async def end_process(self, process: Process) -> None:
        """SIGKILL: nothing that the process still does has an effect.

        Everything that a process can ask looks at its `alive`. Its tasks are cancelled, again and again, until all have
        ended (`test_an_ended_process_does_nothing_more_however_it_clings`).
        """
        process.alive = False
        self.continue_process(process)
        for _ in range(1_000):
            left = [task for task in process.tasks if not task.done()]
            if not left:
                process.tasks = []
                return
            for task in left:
                task.cancel()
            await asyncio.sleep(0)
        self.troubles.append(f"{process.name} cannot be ended: {left}")

    # -- what asyncio asks of a loop ----------------------------------------------------------------------------------

    def time(self) -> float:
        """The time since the start in seconds."""
        return self.elapsed / SECOND

    def at(self, moment: Micros, callback: Callable[..., object], *args: Any) -> _Handle:
        """Call something of the world at `moment`, in microseconds since the start."""
        handle = _Handle(callback, args, self._world, None, moment / SECOND)
        heappush(self._timers, (moment, next(self._order), handle))
        return handle

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> _Handle:  # type: ignore[override]
        """See asyncio."""
        if context is None:
            context = copy_context()
        handle = _Handle(callback, args, context, context.get(CURRENT_PROCESS))
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        """See asyncio."""
        if context is None:
            context = copy_context()
        handle = _Handle(callback, args, context, context.get(CURRENT_PROCESS), when)
        heappush(self._timers, (round(when * SECOND), next(self._order), handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        """See asyncio."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[T]":
        """See asyncio."""
        if context is None:
            context = copy_context()
        task: asyncio.Task[T] = _Task(coro, loop=self, name=name, context=context)
        owner = context.get(CURRENT_PROCESS)
        if owner is not None:
            if len(owner.tasks) > 200:  # drop those that have ended, now and then
                owner.tasks = [other for other in owner.tasks if not other.done()]
            owner.tasks.append(task)
        return task

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: Any) -> Awaitable[T]:  # type: ignore[override]  # noqa: ARG002
        """See asyncio. The function is called immediately and takes no time."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """See asyncio. Here every failure is a finding (`test_a_callback_that_fails_is_a_finding`)."""
        error = context.get("exception")
        self.troubles.append(f"{context['message']}: {type(error).__name__}: {error}" if error else context["message"])

    def get_debug(self) -> bool:
        """See asyncio."""
        return False

    def is_running(self) -> bool:
        """See asyncio."""
        return True

    def is_closed(self) -> bool:
        """See asyncio."""
        return self._closed

    def close(self) -> None:
        """See asyncio."""
        self._closed = True


class WorldClock:
    """A `Clock` on a simulated loop. `skew` is how far its wall clock is ahead of the true time."""

    def __init__(self, loop: SimulatedLoop, start: int, skew: Micros = 0) -> None:
        self._loop = loop
        self._start = start
        self.skew = skew

    def now(self) -> int:
        """The wall clock."""
        return self._start + self._loop.elapsed + self.skew

    def monotonic(self) -> Micros:
        """The time since the start."""
        return self._loop.elapsed

    async def sleep(self, length: Micros) -> None:
        """Return exactly `length` later, unless the process is stopped then."""
        if length <= 0:
            await asyncio.sleep(0)
            return
        loop = self._loop
        wake = loop.create_future()
        timer = loop.at(loop.elapsed + length, _wake, wake)
        try:
            await wake
        finally:
            timer.cancel()


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _nothing() -> None:
    """What a cancelled callback does."""
