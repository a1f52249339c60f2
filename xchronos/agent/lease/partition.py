"""`OnPartition=stop`: ends such attempts before the store can give this machine up (see `lease_clock` for the margins).

Nothing here waits for the store. What the agent cannot do because it is paused or dead itself, its guardian does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeAlias

import msgspec
import structlog

from xchronos.agent.attempt.interfaces import AttemptEnd, Memory
from xchronos.agent.attempt.run import AttemptRun
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.retrying import patiently
from xchronos.aio import woken
from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import ExecutorUnavailable
from xchronos.model.policies import Outcome
from xchronos.model.records import StepResult

log = structlog.get_logger(__name__)

CUT_OFF = "this machine had lost the store (OnPartition=stop)"

SEVERED = "severed"
"""The memory's entry that says that everything of the attempt was killed: no step of it may be run again."""

KILLED = 128 + 9
"""The exit code of a container whose main process was killed."""

Prepare: TypeAlias = Callable[[], Coroutine[Any, Any, str]] | None
Kill: TypeAlias = Callable[[], Awaitable[bool]]


class Watchman(Protocol):
    """Kills in the agent's place; see `guarding.Guarding`."""

    @property
    def struck(self) -> bool:
        """Whether the agent before this one was away for longer than its lease was good for; known once ready."""
        ...

    def struck_since(self, at: Micros) -> bool:
        """Whether anything was struck for at `at` on the monotonic clock, or later: what has ended may be its doing."""
        ...

    def follow(self, lease_clock: LeaseClock) -> None:
        """Strike when `lease_clock` says that it is time to."""
        ...

    async def ready(self) -> None:
        """Return when everything that is started from now on is guarded. Raises OSError when it cannot be."""
        ...

    def end(self) -> None:
        """Nothing is left to guard."""
        ...


class _Ward:
    """An attempt that is minded."""

    def __init__(self, run: AttemptRun) -> None:
        self.run = run
        self.over = asyncio.Event()


class Partition:
    """Minds the attempts with `OnPartition=stop`. `watchman` is None where no process outlives the agent."""

    def __init__(self, clock: Clock, lease_clock: LeaseClock, watchman: Watchman | None = None) -> None:
        self._clock = clock
        self._lease_clock = lease_clock
        self._watchman = watchman
        self._wards: dict[_Ward, None] = {}
        self._news = asyncio.Event()
        lease_clock.listen(self._news.set)
        if watchman is not None:
            watchman.follow(lease_clock)

    async def in_contact(self, wanted: Callable[[], bool]) -> None:
        """Wait while the lease is about to end, unless it is not `wanted` any more.

        What began now would be ended at once, handed back, and placed here again, over and over.
        """
        while self._lease_clock.stage != "good" and wanted():
            await self._clock.sleep(self._lease_clock.ttl // 100)

    def permits(self) -> bool:
        """Whether a step of such an attempt may be started now; asked right before it is."""
        return self._lease_clock.stage != "over"

    async def run(self) -> None:
        """Look after the attempts until cancelled."""
        while True:
            self._news.clear()
            for ward in tuple(self._wards):
                self._apply(ward)
            stage = self._lease_clock.stage
            # With nothing left to do it is news that counts: a renewal, or the end of the lease.
            left = {"good": self._lease_clock.stops_in, "stopping": self._lease_clock.kills_in, "over": None}[stage]
            if left is None:
                await self._news.wait()
            else:
                await woken(self._clock, self._news, left)

    def _apply(self, ward: _Ward) -> None:
        stage = self._lease_clock.stage
        if stage != "good":
            ward.run.stop(CUT_OFF)
        if stage == "over":
            ward.over.set()

    async def carry_out(
        self,
        run: AttemptRun,
        prepare: Prepare,
        memory: Memory,
        kill: Kill,
        *,
        resumed: bool,
    ) -> AttemptEnd:
        """Walk an attempt to its end, or kill it when this machine's time is up.

        `kill` ends everything of the attempt at once, and says whether anything of it was still running; `resumed`
        tells that an earlier agent began it. What was ended because the store was away is lost, and not charged.
        """
        struck = memory.result(SEVERED) is not None
        if self._watchman is not None:
            try:
                await self._watchman.ready()
            except OSError as error:
                log.error("OnPartition=stop cannot be kept here", reason=str(error))  # noqa: TRY400 - nothing of ours failed
                await self._kill(kill)
                return AttemptEnd(Outcome.FAILED, f"OnPartition=stop cannot be kept here: {error}", "resources", ())
            struck = struck or (resumed and self._watchman.struck)
        if struck:
            await self._kill(kill)
            return _lost()
        lapses, began = self._lease_clock.lapses, self._clock.monotonic()
        earlier = memory.began() if resumed else None
        if earlier is not None:
            began = earlier  # it may have been struck for before the agent that began it put the time off again
        ward = _Ward(run)
        self._wards[ward] = None
        self._apply(ward)
        walk = asyncio.create_task(run.run(prepare))
        over = asyncio.create_task(ward.over.wait())
        try:
            await asyncio.wait({walk, over}, return_when=asyncio.FIRST_COMPLETED)
            if not walk.done():
                await self._sever(walk, memory, kill)
                return _lost()
        finally:
            self._wards.pop(ward, None)
            for task in (walk, over):
                task.cancel()
            await asyncio.wait({walk, over})
        end = walk.result()
        if end.outcome is Outcome.SUCCEEDED and not _killed(end):
            return end
        struck = self._watchman is not None and self._watchman.struck_since(began)
        if run.stop_reason != CUT_OFF and self._lease_clock.lapses == lapses and not struck:
            return end
        reason = CUT_OFF if CUT_OFF in end.reason or not end.reason else f"{CUT_OFF}: {end.reason}"
        return msgspec.structs.replace(end, outcome=Outcome.LOST, reason=reason)

    async def _sever(self, walk: "asyncio.Task[AttemptEnd]", memory: Memory, kill: Kill) -> None:
        """Let nothing more of it begin, and kill what there is."""
        log.warning("this machine's lease is about to end; what is left of an attempt is killed")
        walk.cancel()
        await asyncio.wait({walk})
        remembered = asyncio.create_task(memory.record(StepResult(SEVERED, "", "lost", reason=CUT_OFF)))
        try:
            await self._kill(kill)
        finally:
            await remembered

    async def _kill(self, kill: Kill) -> None:
        # Again until nothing runs: the engine may still be about to start what it was asked to.
        while await patiently(self._clock, kill, what="executor", kind=ExecutorUnavailable, longest=SECOND // 5):
            await self._clock.sleep(self._lease_clock.ttl // 50)


def _killed(end: AttemptEnd) -> bool:
    """Whether a success may be that of somebody who has sent SIGKILL, which SuccessExitStatus= can list."""
    return any(step.signal == "SIGKILL" or step.exit_code == KILLED for step in end.steps)


def _lost() -> AttemptEnd:
    return AttemptEnd(Outcome.LOST, CUT_OFF, "lost", ())
