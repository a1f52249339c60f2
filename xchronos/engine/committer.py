"""Where decisions become writes: each is fenced, assumed in memory, and confirmed or taken back by its answer.

`state/open_execution` says what memory holds meanwhile. Every decision leaves one line in the log, at level debug: what
became of it, with the execution, its machine and the reason. It is written when the answer has come, so what it says
has happened; `refused` and `unanswered` name what was decided and was not, or may not have been, written.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import structlog

from xchronos.clock import Instant
from xchronos.engine.metrics import SchedulerMetrics
from xchronos.engine.state.context import DoubtListener, Fences, HistoryListener, SchedulerContext, SessionMemory
from xchronos.engine.state.due_queue import UnitCursor
from xchronos.engine.state.open_execution import MemoryEvent, OpenExecution
from xchronos.errors import StoreError
from xchronos.model.records import Execution, Schedule
from xchronos.model.unit import Unit
from xchronos.registry.keys import unit_of
from xchronos.registry.transitions import move
from xchronos.registry.units import Loaded
from xchronos.scheduler.starts import off_the_grids
from xchronos.store.batcher import Batcher
from xchronos.store.contract import Committed, Guard, Txn

log = structlog.get_logger(__name__)

_ROOT = logging.getLogger()
"""Knows the level of the log, which may change while the daemon runs. To ask structlog at every decision would cost ten
times as much as a line that is not wanted."""

MOST_IN_FLIGHT = 2_000
"""How many writes may be under way before nothing more is claimed."""


class Committer:
    """What all deciders share: memory, and the way to the store.

    `fences` gives the guard of every write about a unit, None when the unit is another scheduler's; `doubts` is told of
    the fence of a write that has no answer, `history` of every record that is added to a unit's history.
    """

    def __init__(
        self,
        context: SchedulerContext,
        memory: SessionMemory,
        fences: Fences,
        doubts: DoubtListener,
        history: HistoryListener,
        batcher: Batcher,
        metrics: SchedulerMetrics,
    ) -> None:
        self.cluster = memory.cluster
        self.work = memory.work
        self.units = memory.units
        self.unreadable = memory.unreadable
        self.keys = context.keys
        self.reader = context.reader
        self.metrics = metrics
        self.fence = fences.fence
        self._doubts = doubts
        self._history = history
        self._batcher = batcher
        self._last_stamp: Instant = 0
        self.in_flight = 0
        self._under_way: Counter[str] = Counter()

    @property
    def txn_room(self) -> int:
        """How many guards, and how many operations, a Txn may have."""
        return self._batcher.max_operations

    @property
    def full(self) -> bool:
        """Whether nothing more is to be claimed just now; the answers to what is under way say when that is over."""
        return self.in_flight >= MOST_IN_FLIGHT

    def stamp(self, now: Instant) -> Instant:
        """`now` as the fire time of something that no trigger fires: never the same twice."""
        self._last_stamp = off_the_grids(max(now, self._last_stamp + 1))
        return self._last_stamp

    async def load(self, names: Sequence[str]) -> dict[str, Loaded]:
        """Those of the units that exist and can be read; those at hand cost nothing.

        One that cannot be read has no fence from here on, and is in `unreadable`.
        """
        found = await self.units.get_many(names)
        return {name: one for name, one in found.items() if isinstance(one, Loaded)}

    # -- executions -------------------------------------------------------------------------------------------------

    def move(
        self,
        execution_id: str,
        entry: OpenExecution,
        target: Execution,
        unit: Unit | None = None,
        also: Sequence[Execution] = (),
        extra: Sequence[Guard] = (),
        upon: Loaded | None = None,
    ) -> None:
        """Take an execution from where it is to where `target` says, and write the new executions `also`.

        With `upon` it is refused when the unit's record has changed: then that is read again, with the cursor.

        Until the answer comes it is busy; one that has no machine is entered where it goes, one that has a machine
        stays there until the watch says that it has left.
        """
        fence = self.fence(target.unit)
        if fence is None:
            return
        known = entry.revision
        source = self.keys.location(entry.machine, execution_id)
        if upon is not None:
            extra = (*extra, Guard(self.keys.job(target.unit), upon.revision))
        txn = move(self.keys, fence, source, known, target, also, extra)
        assumed = self.cluster.assume(execution_id, entry, target, unit)
        added = self.expect(also, unit)

        def done(result: Committed | None) -> None:
            if _ROOT.isEnabledFor(logging.DEBUG):
                self._tell(result, (target, *also), stays=execution_id if entry.machine else "")
            if result is None or not result.succeeded:
                self.work.refusals += 1
                self._take_back(execution_id, assumed, _event(result), known)
                self._forget(added, result)
                if upon is not None:
                    self.work.refused.add(target.unit)
                return
            self._confirm(execution_id, assumed, result.revision)
            for new_id, new in added:
                self._confirm(new_id, new, result.revision)
            self.metrics.settled(target)
            if target.state == "ended":
                self._history.ended(target.id)

        self.submit(txn, done)

    def expect(self, executions: Iterable[Execution], unit: Unit | None) -> list[tuple[str, OpenExecution]]:
        """Enter new executions that are being written."""
        added: list[tuple[str, OpenExecution]] = []
        for execution in executions:
            if execution.state == "ended" or (unit is not None and execution.unit != unit.name):
                # Memory holds no history, and another unit's scheduler may be somebody else: the watch will tell.
                continue
            execution_id = execution.id
            if execution_id in self.cluster.open:
                # An identity is never used twice: it is not new, so the write will be refused, or the watch will tell.
                continue
            added.append((execution_id, self.cluster.assume_new(execution_id, execution, unit)))
        return added

    def _confirm(self, execution_id: str, assumed: OpenExecution, revision: int) -> None:
        action = self.cluster.answered(execution_id, assumed, "confirmed", revision)
        if action == "revise" and not assumed.machine:
            # Its moment may have come while it was being written.
            self.work.look.add(execution_id)

    def _forget(self, added: Iterable[tuple[str, OpenExecution]], result: Committed | None) -> None:
        for execution_id, entry in added:
            self._take_back(execution_id, entry, _event(result), 0)

    def _take_back(self, execution_id: str, assumed: OpenExecution, event: MemoryEvent, known: int) -> None:
        """A write was refused, or has no answer: what it was decided upon has changed, and the watch says how.

        Or its other guards have failed. `known` is the revision that it was decided upon.
        """
        action = self.cluster.answered(execution_id, assumed, event, known)
        if action == "keep":
            return
        # Others may have been refused for the sake of where it was not after all.
        self.work.left(unit_of(execution_id), self.cluster)
        if action == "return":
            self.work.note(execution_id, self.cluster)

    def _tell(self, result: Committed | None, decided: Iterable[Execution], stays: str = "") -> None:
        """One line per decision; the execution with the id `stays` was to stay where it is."""
        told = log.bind()
        failure = "unanswered" if result is None else "" if result.succeeded else "refused"
        for execution in decided:
            current = execution.current
            fields = {"execution": execution.id, "machine": current.machine if current is not None else ""}
            if current is not None and execution.id == stays:
                decision, reason = "asked to end", execution.stop_requested or current.leave
            else:
                decision, reason = execution.state, _reason(execution)
            if failure:
                told.debug(failure, decision=decision, reason=reason, **fields)
            else:
                told.debug(decision, reason=reason, **fields)

    # -- cursors ----------------------------------------------------------------------------------------------------

    def move_cursor(
        self,
        unit: str,
        cursor: UnitCursor,
        txn: Txn,
        schedule: Schedule,
        executions: Sequence[Execution] = (),
        meaning: Unit | None = None,
    ) -> None:
        """Commit a claim: the cursor's next state and the executions of the fire times that it has passed."""
        cursor.busy = True
        added = self.expect(executions, meaning)

        def done(result: Committed | None) -> None:
            if _ROOT.isEnabledFor(logging.DEBUG):
                self._tell(result, executions)
            if result is None or not result.succeeded:
                # The unit or its cursor has changed, or the shard is not ours any more: the records decide.
                self._forget(added, result)
                if self.cluster.cursors.known.get(unit) is cursor:
                    self.cluster.cursors.drop(unit)
                self.work.refused.add(unit)
                self.work.refusals += 1
                return
            for execution_id, entry in added:
                self._confirm(execution_id, entry, result.revision)
            if self.cluster.cursors.known.get(unit) is cursor:
                self.cluster.cursors.set(unit, schedule, result.revision)
            self.metrics.claimed(executions)
            for execution in executions:
                if execution.state == "ended":
                    self._history.ended(execution.id)

        self.submit(txn, done)

    # -- the store ----------------------------------------------------------------------------------------------------

    def quiet(self, numbers: Iterable[int]) -> bool:
        """Whether no write about any of the shards is under way."""
        return not any(self._under_way[self.keys.shard(number)] for number in numbers)

    def submit(self, txn: Txn, then: Callable[[Committed | None], None]) -> None:
        """Commit; `then` gets the answer, or None when there was none and nobody knows what happened.

        The first guard is the fence.
        """
        fence = txn.guards[0]
        self.in_flight += 1
        self._under_way[fence.key] += 1

        def answered(answer: Committed | StoreError) -> None:
            self.in_flight -= 1
            self._under_way[fence.key] -= 1
            if isinstance(answer, StoreError):
                log.warning("a write has no answer", reason=str(answer))
                self._doubts.doubt(fence)
                then(None)
            else:
                then(answer)
            self.work.wake()

        self._batcher.send(txn, answered)


def _event(result: Committed | None) -> MemoryEvent:
    if result is None:
        return "unanswered"
    return "confirmed" if result.succeeded else "refused"


def _reason(execution: Execution) -> str:
    """Why an execution is where it is, for the log: in its record's words, else what has set it off."""
    if execution.reason:
        return execution.reason
    if execution.attempts:
        last = execution.attempts[-1]
        words = f"attempt {last.number} on {last.machine}: {last.outcome or 'ended'}"
        return f"{words}, {last.reason}" if last.reason else words
    return f"it is due: {execution.trigger}"
