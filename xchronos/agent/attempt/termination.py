"""Bringing steps to an end: the stop signal, a time to obey it, SIGKILL. The same for what ended steps leave behind."""

import asyncio
from collections.abc import Collection
from typing import Any, Literal, TypeAlias

from xchronos.agent.attempt.interfaces import Steps
from xchronos.aio import first
from xchronos.clock import MILLISECOND, SECOND, Clock, Micros
from xchronos.model.unit import Service, Step
from xchronos.unitfile.timespan import format_timespan

LEFTOVER_POLL: Micros = 20 * MILLISECOND
"""The pause between two looks for processes that a step has left behind, while they are being ended."""

LEFTOVER_DEATH_LIMIT: Micros = 5 * SECOND
"""How long left-behind processes are waited for after SIGKILL. A process that hangs in the kernel must not hold up the
attempt."""

ADOPTION_GRACE: Micros = 5 * SECOND
"""How long an executor has to tell how an adopted step ended, even if the step's own time is over by then."""

AnyTask: TypeAlias = "asyncio.Task[Any]"
EndCause: TypeAlias = Literal["", "stop", "timeout"]
LimitSetting: TypeAlias = Literal["TimeoutStartSec", "TimeoutStopSec", "RuntimeMaxSec"]


def limit_of(service: Service, setting: LimitSetting) -> Micros | None:
    """The time, in microseconds, that a setting gives a command; None for no limit."""
    if setting == "TimeoutStartSec":
        return service.timeout_start
    return service.timeout_stop if setting == "TimeoutStopSec" else service.runtime_max


async def wait(
    tasks: Collection[AnyTask], clock: Clock, limit: Micros | None, asked: "asyncio.Future[None] | None" = None
) -> EndCause:
    """Wait until one of the tasks is done (""), `asked` is ("stop"), or `limit` has passed ("timeout")."""
    # One turn of the loop first: a task that ends without waiting for anything needs no timer and no future.
    await asyncio.sleep(0)
    if any(task.done() for task in tasks):
        return ""
    waiters: set[asyncio.Future[Any]] = {*tasks}
    if asked is not None:
        waiters.add(asked)
    waiting = asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    await (waiting if limit is None else first(waiting, clock.sleep(limit)))
    if any(task.done() for task in tasks):
        return ""
    return "stop" if asked is not None and asked.done() else "timeout"


class Termination:
    """Ends the steps of one attempt, as KillSignal, KillMode, TimeoutStopSec and SendSIGKILL say."""

    def __init__(self, service: Service, steps: Steps, clock: Clock) -> None:
        self._service = service
        self._steps = steps
        self._clock = clock

    @property
    def late(self) -> str:
        """What is said of something that outlived the stop signal and its time to obey."""
        service = self._service
        return f"within TimeoutStopSec={format_timespan(service.timeout_stop or 0)} after {service.kill_signal}"

    @property
    def spared(self) -> str:
        """Why something was left running."""
        return "left running: KillMode=none" if self._service.kill_mode == "none" else "left running: SendSIGKILL=no"

    async def end(self, step: Step, task: AnyTask) -> tuple[bool, str]:
        """End a running step. Returns whether it has ended, and what went wrong.

        A unit may forbid the signal (KillMode=none) or the killing (SendSIGKILL=no): then the step may run on.
        """
        service = self._service
        if service.kill_mode == "none":
            return False, ""
        await self._steps.stop(step, service.kill_signal)
        if not await wait({task}, self._clock, service.timeout_stop):
            return True, ""
        trouble = f"{step.name}: it did not end {self.late}"
        if not service.send_sigkill:
            return False, trouble
        await self._steps.kill(step)
        await asyncio.wait({task})
        return True, f"{trouble} and was killed"

    async def clear_away(self) -> str:
        """End what ended steps have left behind. Returns what went wrong; "" when nothing did.

        KillMode=control-group asks first and kills what does not obey; KillMode=mixed kills.
        """
        service, trouble = self._service, ""
        if service.kill_mode not in ("control-group", "mixed"):
            return ""
        if service.kill_mode == "control-group":
            if not await self._steps.left_behind(service.kill_signal) or await self._gone(service.timeout_stop):
                return ""
            trouble = f"processes that its steps had left running did not end {self.late}"
        if service.send_sigkill and await self._steps.left_behind("SIGKILL"):
            await self._gone(LEFTOVER_DEATH_LIMIT)
        return trouble

    async def _gone(self, limit: Micros | None) -> bool:
        """Wait until nothing is left behind. False when that took too long."""
        began = self._clock.monotonic()
        while await self._steps.left_behind():
            if limit is not None and self._clock.monotonic() - began >= limit:
                return False
            await self._clock.sleep(LEFTOVER_POLL)
        return True
