"""Asking again: a store or an executor that is away for a while stops nothing that runs."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from zlib import crc32

import structlog

from xchronos.agent.attempt.interfaces import Steps
from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import ExecutorUnavailable, StoreError
from xchronos.executors.contract import StepExit
from xchronos.model.unit import Step

log = structlog.get_logger(__name__)

T = TypeVar("T")


def spread(clock: Clock, length: Micros) -> Micros:
    """Between half of `length` and all of it, so that many who wait for the same thing do not all ask together.

    The monotonic clock decides: no two machines were booted in the same microsecond.
    """
    half = length // 2
    return half + crc32(clock.monotonic().to_bytes(8, "big")) % (length - half + 1)


async def patiently(
    clock: Clock,
    ask: Callable[[], Awaitable[T]],
    *,
    what: str,
    kind: type[Exception] = StoreError,
    longest: Micros = 5 * SECOND,
) -> T:
    """Ask until the answer is no error of `kind`. Meanwhile the log says that `what` does not answer."""
    pause = SECOND // 10
    while True:
        try:
            return await ask()
        except kind as error:
            log.warning("no answer; will ask again", of=what, reason=str(error))
            await clock.sleep(spread(clock, pause))
            pause = min(pause * 2, longest)


class PatientSteps:
    """Steps whose executor may be away for a while. It has started nothing then, so asking again is safe."""

    def __init__(self, steps: Steps, clock: Clock) -> None:
        self._steps = steps
        self._clock = clock

    def call(self, step: Step, env: Mapping[str, str]) -> StepExit | None:
        """See `Steps.call`."""
        return self._steps.call(step, env)

    async def run(self, step: Step, env: Mapping[str, str]) -> StepExit:
        """See `Steps.run`."""
        return await self._insist(lambda: self._steps.run(step, env))

    async def started(self, step: Step) -> int | None:
        """See `Steps.started`."""
        return await self._steps.started(step)

    async def stop(self, step: Step, signal: str) -> None:
        """See `Steps.stop`."""
        await self._insist(lambda: self._steps.stop(step, signal))

    async def kill(self, step: Step) -> None:
        """See `Steps.kill`."""
        await self._insist(lambda: self._steps.kill(step))

    async def left_behind(self, signal: str = "") -> bool:
        """See `Steps.left_behind`."""
        return await self._steps.left_behind(signal)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(self._clock, call, what="executor", kind=ExecutorUnavailable)
