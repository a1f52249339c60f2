"""Asking again: a store or an executor that is away for a while stops nothing that runs."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from zlib import crc32

import structlog

from xchronos.agent.attempt.interfaces import Steps
from xchronos.aio import Backoff, retry
from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import ExecutorUnavailable, StoreError
from xchronos.executors.contract import StepExit
from xchronos.model.unit import Step

log = structlog.get_logger(__name__)

T = TypeVar("T")


class ClockChance:
    """Chance by what the monotonic clock reads: no two machines were booted at the same microsecond."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def randrange(self, start: int, /) -> int:
        """See `aio.Chance`."""
        return crc32(self._clock.monotonic().to_bytes(8, "big")) % start


async def patiently(
    clock: Clock,
    ask: Callable[[], Awaitable[T]],
    *,
    what: str,
    kind: type[Exception] = StoreError,
    longest: Micros = 5 * SECOND,
) -> T:
    """Ask until the answer is no error of `kind`. Meanwhile the log says that `what` does not answer."""

    def told(error: Exception) -> None:
        log.warning("no answer; will ask again", of=what, reason=str(error))

    return await retry(ask, kind, Backoff(clock, SECOND // 10, longest, ClockChance(clock)), told)


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

    def leaves(self, step: Step) -> bool:
        """See `Steps.leaves`."""
        return self._steps.leaves(step)

    async def tidy(self, step: Step) -> None:
        """See `Steps.tidy`."""
        await self._insist(lambda: self._steps.tidy(step))

    async def left_behind(self, signal: str = "") -> bool:
        """See `Steps.left_behind`."""
        return await self._steps.left_behind(signal)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(self._clock, call, what="executor", kind=ExecutorUnavailable)
