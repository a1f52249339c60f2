"""A placement on this machine: what is known of it, what others tell it, and how its end is recorded.

Others are the watch of the store (the record changed, or is gone) and the agent's shutdown. They may call at any time;
what they say is acted upon immediately when an attempt runs, and checked before one begins (`placement_runner`).
"""

import asyncio

import msgspec
import structlog

from xchronos.agent import outcomes
from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.agent.attempt_runner import AttemptRunner
from xchronos.agent.context import AgentContext
from xchronos.agent.placement_record import PlacementRecord
from xchronos.clock import to_datetime
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution
from xchronos.model.unit import Unit
from xchronos.scheduler.policies.partition import outlives_lease
from xchronos.store.contract import Event, KeyValue

log = structlog.get_logger(__name__)

TAKEN_AWAY = "it was taken away from this machine"
"""What an attempt is stopped for whose placement is gone."""


class Placement:
    """What an agent has of one placement. `before` is what it had of the same execution until now.

    Attributes:
        record: The placement's record.
        before: As above; None once nothing of that is at work any more.
        attempt: The attempt, once it is recorded as begun.
        began: This agent has recorded that the attempt starts.
        end: How the attempt ended; None until then.
        alone: The store has given this machine up, and the attempt goes on here nevertheless (OnPartition=continue).
        unread: A newer agent has begun it, and this one cannot read what: it is left alone.
        leaving: Why another machine is to try instead; "" while this one is to go on.
        task: The task that works on it, set by the agent; None when the work is over.
    """

    def __init__(
        self, context: AgentContext, item: KeyValue | Event, execution: Execution, before: "Placement | None" = None
    ) -> None:
        self.record = PlacementRecord(context, item, execution)
        self.before = before
        self.attempt: AttemptRunner | None = None
        self.began = False
        self.end: AttemptEnd | None = None
        self.alone = False
        self.unread = False
        self.leaving = self.record.attempt.leave
        self.task: asyncio.Task[None] | None = None
        self._context = context
        self._holds: Unit | None = None
        self._lapses = context.lease_clock.lapses
        self._wish_watch: asyncio.Task[None] | None = None
        if execution.state == "running":
            context.admission.expect(self)

    @property
    def execution(self) -> Execution:
        """The execution, as this agent knows it."""
        return self.record.execution

    @property
    def at_work(self) -> bool:
        """Whether the attempt was begun and has not ended yet."""
        return self.attempt is not None and self.end is None

    # -- what others tell it ------------------------------------------------------------------------------------------

    def changed(self, item: KeyValue | Event) -> None:
        """The record was rewritten: by this agent, or to ask for a stop. Raises StoreError if it cannot be read."""
        if not self.record.take_in(item):
            return
        execution = self.record.execution
        if execution.stop_requested:
            self.stop(execution.stop_requested)
        elif execution.current is not None and execution.current.leave:
            self.leave(execution.current.leave)

    def lost(self) -> None:
        """The placement is gone from the store: this agent recorded its end, or somebody took it away."""
        if self.record.taken_away:
            return
        self.record.taken_away = True
        self.make_room()
        attempt = self.attempt if self.end is None else None
        if attempt is not None and self._is_given_up() and outlives_lease(attempt.unit):
            log.warning("this machine was given up; the attempt goes on", execution=self.execution.id)
            self.alone = True
            watch = self._context.late_results.watch_wish(self.execution.id, attempt.stop)
            self._wish_watch = asyncio.create_task(watch, name=f"wish of {self.execution.id}")
        else:
            self.stop(TAKEN_AWAY)

    def _is_given_up(self) -> bool:
        """Whether the store may have given this machine up since the placement came."""
        return self._context.lease_clock.lapses > self._lapses

    def leave(self, reason: str) -> None:
        """End what runs, as the unit says, for another machine to try: the attempt is lost, not cancelled."""
        self.leaving = self.leaving or reason
        self.stop(reason)

    def stop(self, reason: str) -> None:
        """End what runs, as the unit says. An attempt that was not begun, or has ended, has nothing that could end."""
        if self.attempt is not None:
            self.attempt.stop(reason)
        elif self.before is not None:
            self.before.stop(reason)

    def called_off(self) -> AttemptEnd | None:
        """How an attempt that was not begun ends, because somebody wants it to; None: nobody does."""
        stop_requested = self.record.execution.stop_requested
        if stop_requested:
            return outcomes.cancelled(stop_requested)
        return outcomes.lost(self.leaving) if self.leaving else None

    async def look_again(self) -> bool:
        """Read the record anew. False when it is gone, or another one by now."""
        item = await self.record.read()
        if item is None:
            return False
        self.changed(item)
        return True

    # -- its room on this machine -------------------------------------------------------------------------------------

    def take_room(self, unit: Unit) -> None:
        """Count among what this machine runs, unless the placement is gone."""
        if not self.record.taken_away:
            self._holds = unit
            self._context.admission.take(unit)
        self._context.admission.settle(self)

    def make_room(self) -> None:
        """Count no longer among what this machine runs: others may come from now on."""
        unit, self._holds = self._holds, None
        if unit is not None:
            self._context.admission.release(unit)

    def let_go(self) -> None:
        """The work on it is over."""
        self._context.admission.settle(self)
        self.make_room()
        if self._wish_watch is not None:
            self._wish_watch.cancel()

    # -- its end ------------------------------------------------------------------------------------------------------

    async def close(self, end: AttemptEnd) -> None:
        """Record the attempt's end. When the placement is gone, the end is told as a late result.

        Checks anew before each try what the end is, as a request to stop may have come while it was written. Pinned by
        `test_a_stop_is_not_overwritten_by_the_report`.
        """
        record, ended_at = self.record, to_datetime(self._context.clock.now())
        while not record.taken_away:
            execution = record.execution
            if execution.state == "reported":
                record.ended = True  # an answer was lost on its way, or what was read first is long past
                return
            if end.outcome is Outcome.CANCELLED and self.attempt is not None and not execution.stop_requested:
                # It was stopped, by this daemon or an earlier one, but nobody wants the execution to end.
                end = msgspec.structs.replace(end, outcome=Outcome.LOST)
            self.end = end
            attempt = outcomes.ended(record.attempt, end, ended_at)
            if await record.end(attempt):
                self.make_room()
                if end.outcome is not Outcome.SUCCEEDED:
                    log.info(
                        "attempt ended",
                        execution=execution.id, attempt=attempt.number, outcome=end.outcome.value, reason=end.reason,
                    )  # fmt: skip
                return
            if not await self.look_again():
                break
        log.info(
            "the placement is gone: recorded already, or taken away",
            execution=record.execution.id, outcome=end.outcome.value,
        )  # fmt: skip
        late = self._late_result(end)
        if late is not None:
            self._context.late_results.put(record.execution.id, outcomes.ended(record.attempt, late, ended_at))

    def _late_result(self, end: AttemptEnd) -> AttemptEnd | None:
        """What is to be told of an attempt that is recorded as lost; None: no more than that."""
        if self.attempt is None or end.outcome is Outcome.LOST:
            return None
        stopped_for_that = end.outcome is Outcome.CANCELLED and self.attempt.stop_reason == TAKEN_AWAY
        return None if stopped_for_that else end

    def progress(self) -> Attempt | None:
        """The attempt, with the steps that it has finished here so far; None for a record without one."""
        current = self.execution.current
        if current is None or self.attempt is None:
            return current
        return msgspec.structs.replace(current, steps=tuple(self.attempt.results))
