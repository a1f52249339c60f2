"""Runs steps as calls of a Python function in this process: for tests, benchmarks and in-process handlers."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import TypeAlias

from xchronos.executors.contract import Leftover, StepExit, StepSpec

Result: TypeAlias = StepExit | int | None
StepFunction: TypeAlias = Callable[[StepSpec], Result | Awaitable[Result]]


class CallableExecutor:
    """A step is a call of `function(spec)`, which may be async. It returns an exit code, a StepExit, or None: success.

    An exception means exit code 1, with its text as the reason. A plain function blocks the event loop and cannot be
    stopped. `stop` and `kill` cancel a coroutine, and the step then ends by their signal. Nothing survives the daemon,
    so nothing is ever adopted.
    """

    recoverable = False

    def __init__(self, name: str, function: StepFunction) -> None:
        self.name = name
        self._function = function
        self._begun: dict[tuple[str, int, str], tuple[datetime, Awaitable[Result]]] = {}
        self._running: dict[tuple[str, int, str], tuple[asyncio.Task[object], list[str]]] = {}

    async def probe(self) -> str:
        """The function's name, in the place of an engine's version."""
        return getattr(self._function, "__qualname__", repr(self._function))

    def call(self, spec: StepSpec) -> StepExit | None:
        """Call the function. Returns None when it has returned an awaitable; then `run` awaits that."""
        started = datetime.now(UTC)
        try:
            result = self._function(spec)
        except Exception as error:  # noqa: BLE001 - a step's failure is a result, whatever it raised
            return _raised(error, started)
        if inspect.isawaitable(result):
            self._begun[spec.identity] = started, result
            return None
        return _exit(result, started)

    async def run(self, spec: StepSpec) -> StepExit:
        """Call the function, unless `call` has done so before, and await what it returned."""
        if spec.identity not in self._begun:
            over = self.call(spec)
            if over is not None:
                return over
        started, awaitable = self._begun.pop(spec.identity)
        try:
            return _exit(await self._attend(spec, awaitable, started), started)
        except Exception as error:  # noqa: BLE001 - as above
            return _raised(error, started)

    async def _attend(self, spec: StepSpec, awaitable: Awaitable[Result], started: datetime) -> Result:
        task = asyncio.current_task()
        assert task is not None
        signals: list[str] = []
        self._running[spec.identity] = (task, signals)
        try:
            return await awaitable
        except asyncio.CancelledError:
            # One cancellation came from `stop`. Any other is the caller's and must go on
            # (`test_the_callers_cancellation_is_not_swallowed`).
            if not signals or task.uncancel() > 0:
                raise
            return StepExit(signal=signals[0], started_at=started, ended_at=datetime.now(UTC))
        finally:
            del self._running[spec.identity]

    async def stop(self, spec: StepSpec, signal: str) -> None:
        """Cancel the step's coroutine; its exit names the signal."""
        entry = self._running.get(spec.identity)
        if entry is not None and not entry[1]:
            entry[1].append(signal)
            entry[0].cancel()

    async def kill(self, spec: StepSpec) -> None:
        """Cancel the step's coroutine."""
        await self.stop(spec, "SIGKILL")

    async def release(self, execution: str, attempt: int) -> None:
        """Nothing is left of a call."""

    async def leftovers(self) -> list[Leftover]:
        """None: calls do not outlive the process."""
        return []

    async def remove(self, leftovers: Collection[Leftover]) -> None:
        """There is nothing to remove."""

    async def close(self) -> None:
        """There is nothing to close."""


def _exit(result: Result, started: datetime) -> StepExit:
    if isinstance(result, StepExit):
        return result
    return StepExit(int(result or 0), started_at=started, ended_at=datetime.now(UTC))


def _raised(error: Exception, started: datetime) -> StepExit:
    return StepExit(1, reason=f"{type(error).__name__}: {error}", started_at=started, ended_at=datetime.now(UTC))
