"""`OnPartition=stop`: ends such attempts before the store can give this machine up (the margins: `lease_clock`).

Nothing here waits for the store. What the agent cannot do, because it is paused or dead itself, its guardian does.
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
from xchronos.aio import first, reached, woken
from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import ExecutorUnavailable
from xchronos.model.policies import Outcome
from xchronos.model.records import StepResult

log = structlog.get_logger(__name__)

CUT_OFF = "this machine had lost the store (OnPartition=stop)"
"""What an attempt is stopped for, and recorded with, whose machine may be given up soon."""

SEVERED_ENTRY = "severed"
"""The memory's entry that says that all of the attempt was killed: no step of it may be run again. No step is called
so."""

EXIT_KILLED = 128 + 9
"""The exit code of a container whose main process was sent SIGKILL."""

KILL_RETRY_LIMIT: Micros = SECOND // 5
"""The longest pause before an executor that does not answer is asked again to kill."""


Prepare: TypeAlias = Callable[[], Coroutine[Any, Any, str]] | None
KillAttempt: TypeAlias = Callable[[], Awaitable[bool]]


class Watchman(Protocol):
    """Kills in the agent's place: a guardian, as the agent sees it (`guardian.client.GuardianClient`)."""

    @property
    def struck(self) -> bool:
        """Whether the agent before this one was away for longer than its lease was good for. Known once it is ready."""
        ...

    def struck_since(self, at: Micros) -> bool:
        """Whether the guardian has struck at `at` on the monotonic clock, or later. What has ended may be its doing."""
        ...

    def follow(self, lease_clock: LeaseClock) -> None:
        """Strike when the lease clock says that it is time to."""
        ...

    async def ready(self) -> None:
        """Return when everything that is started from now on is guarded. Raises OSError when it cannot be."""
        ...

    def end(self) -> None:
        """Nothing is left to guard."""
        ...


class _Ward:
    """An attempt that is looked after. `over` is set when its time is up."""

    def __init__(self, run: AttemptRun) -> None:
        self.run = run
        self.over = asyncio.Event()


class Partition:
    """Looks after the attempts with `OnPartition=stop`. `watchman` is None where no process outlives the agent."""

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
        """Wait while the lease is about to end; stop waiting when what waits is not `wanted` any more.

        An attempt that began now would be ended immediately, handed back, and placed here again, over and over. Pinned
        by `test_when_time_is_up_nothing_is_started`.
        """
        lease_clock = self._lease_clock
        await reached(self._clock, lambda: lease_clock.stage == "good" or not wanted(), lease_clock.ttl // 100)

    def permits(self) -> bool:
        """Whether a step of such an attempt may be started now. Asked right before each start, without an await after.

        Pinned by `test_a_step_is_not_started_by_an_agent_that_hung_right_before_until_time_was_up`.
        """
        return self._lease_clock.stage != "over"

    async def run(self) -> None:
        """Look after the attempts until cancelled."""
        while True:
            self._news.clear()
            for ward in tuple(self._wards):
                self._apply(ward)
            stage = self._lease_clock.stage
            # When nothing is left to do, only news changes that: a renewal, or the end of the lease.
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
        kill: KillAttempt,
        *,
        resumed: bool,
    ) -> AttemptEnd:
        """Walk an attempt to its end, or kill it when this machine's time is up.

        `prepare` is the walk's. `kill` ends everything of the attempt and says whether anything of it still ran.
        `resumed`: an earlier agent began it. What is ended because the store was away is lost, and not charged.
        """
        struck = memory.result(SEVERED_ENTRY) is not None
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
            began = earlier  # the guardian may have struck before the agent that began it put the deadline off again
        ward = _Ward(run)
        self._wards[ward] = None
        self._apply(ward)
        try:
            end = await first(run.run(prepare), ward.over.wait())
        finally:
            self._wards.pop(ward, None)
        if end is None:
            await self._sever(memory, kill)
            return _lost()
        if end.outcome is Outcome.SUCCEEDED and not _killed(end):
            return end
        struck = self._watchman is not None and self._watchman.struck_since(began)
        if run.stop_reason != CUT_OFF and self._lease_clock.lapses == lapses and not struck:
            return end
        reason = CUT_OFF if CUT_OFF in end.reason or not end.reason else f"{CUT_OFF}: {end.reason}"
        return msgspec.structs.replace(end, outcome=Outcome.LOST, reason=reason)

    async def _sever(self, memory: Memory, kill: KillAttempt) -> None:
        """Kill what there is of an attempt whose walk was cancelled, so that nothing more of it begins."""
        log.warning("this machine's lease is about to end; what is left of an attempt is killed")
        remembered = asyncio.create_task(memory.record(StepResult(SEVERED_ENTRY, "", "lost", reason=CUT_OFF)))
        try:
            await self._kill(kill)
        finally:
            await remembered

    async def _kill(self, kill: KillAttempt) -> None:
        # Again until nothing runs: an executor may still be about to start what it was asked to start.
        while await patiently(self._clock, kill, what="executor", kind=ExecutorUnavailable, longest=KILL_RETRY_LIMIT):
            await self._clock.sleep(self._lease_clock.ttl // 50)


def _killed(end: AttemptEnd) -> bool:
    """Whether what counts as a success may be SIGKILL's doing (SuccessExitStatus= can list that)."""
    return any(step.signal == "SIGKILL" or step.exit_code == EXIT_KILLED for step in end.steps)


def _lost() -> AttemptEnd:
    return AttemptEnd(Outcome.LOST, CUT_OFF, "lost", ())
