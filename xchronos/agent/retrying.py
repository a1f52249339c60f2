"""Asking again: a store or an executor that is away for a while stops nothing that runs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from zlib import crc32

import structlog

from xchronos.agent.attempt.interfaces import Steps
from xchronos.aio import Backoff, first, retry
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
    """Ask until the answer is no error of `kind`. Meanwhile the log says that `what` does not answer.

    It says so immediately, when the reason changes, and each time that this has lasted twice as long as before.
    """
    began = clock.monotonic()
    said, again = "", 0

    def told(error: Exception) -> None:
        nonlocal said, again
        reason, lasted = str(error), clock.monotonic() - began
        if reason != said or lasted >= again:
            said, again = reason, max(2 * lasted, longest)
            log.warning("no answer; will ask again", of=what, reason=reason)

    return await retry(ask, kind, Backoff(clock, SECOND // 10, longest, ClockChance(clock)), told)


async def _await(future: "asyncio.Future[str]") -> None:
    await future


class PatientSteps:
    """Steps whose executor may be away for a while. It has started nothing then, so asking again is safe.

    A step that waits for its executor can be stopped without it: it is given up, and is not begun any more.
    """

    def __init__(self, steps: Steps, clock: Clock) -> None:
        self._steps = steps
        self._clock = clock
        self._asked: dict[str, Micros] = {}
        self._held_up: dict[str, Micros] = {}
        self._away: set[str] = set()
        self._given_up: dict[str, asyncio.Future[str]] = {}

    def call(self, step: Step, env: Mapping[str, str]) -> StepExit | None:
        """See `Steps.call`."""
        return self._steps.call(step, env)

    async def run(self, step: Step, env: Mapping[str, str]) -> StepExit:
        """See `Steps.run`."""
        self._asked[step.name] = self._clock.monotonic()
        try:
            return await self._run(step, env)
        except ExecutorUnavailable:
            pass
        given_up = self._given_up[step.name] = asyncio.get_running_loop().create_future()
        end = await first(self._insist(lambda: self._run(step, env)), _await(given_up))
        if end is None:
            return StepExit(signal=given_up.result(), reason="given up: it waited for its executor")
        return end

    async def _run(self, step: Step, env: Mapping[str, str]) -> StepExit:
        self._away.discard(step.name)
        self._held_up[step.name] = self._clock.monotonic() - self._asked[step.name]
        try:
            return await self._steps.run(step, env)
        except ExecutorUnavailable:
            self._away.add(step.name)
            raise

    def _give_up(self, step: Step, signal: str) -> bool:
        """Begin a step that waits for its executor no more. False when it does not wait."""
        given_up = self._given_up.get(step.name)
        if step.name not in self._away or given_up is None:
            return False
        if not given_up.done():
            given_up.set_result(signal)
        return True

    def held_up(self, step: Step) -> Micros:
        """How long a step has not been begun because its executor is, or was, away; in microseconds."""
        if step.name in self._away:
            return self._clock.monotonic() - self._asked[step.name]
        return self._held_up.get(step.name, 0)

    async def started(self, step: Step) -> int | None:
        """See `Steps.started`."""
        return await self._steps.started(step)

    async def stop(self, step: Step, signal: str) -> None:
        """See `Steps.stop`."""
        if not self._give_up(step, signal):
            await self._insist(lambda: self._steps.stop(step, signal))

    async def kill(self, step: Step) -> None:
        """See `Steps.kill`."""
        if not self._give_up(step, "SIGKILL"):
            await self._insist(lambda: self._steps.kill(step))

    def leaves(self, step: Step) -> bool:
        """See `Steps.leaves`."""
        return self._steps.leaves(step)

    def remembers(self, step: Step) -> bool:
        """See `Steps.remembers`."""
        return self._steps.remembers(step)

    async def tidy(self, step: Step) -> None:
        """See `Steps.tidy`."""
        await self._insist(lambda: self._steps.tidy(step))

    async def left_behind(self, signal: str = "") -> bool:
        """See `Steps.left_behind`."""
        return await self._steps.left_behind(signal)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(self._clock, call, what="executor", kind=ExecutorUnavailable)
