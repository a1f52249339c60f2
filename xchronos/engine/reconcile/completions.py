"""The ends of executions: what follows an attempt, a lost machine, a wish to stop; and what an end sets off."""

from collections.abc import Sequence

import msgspec
import structlog

from xchronos.clock import Instant, to_datetime
from xchronos.engine.committer import Committer
from xchronos.engine.state.cluster_state import OpenExecution
from xchronos.model.lifecycle import execution_after
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution
from xchronos.model.unit import Unit
from xchronos.registry.keys import unit_of
from xchronos.registry.units import Loaded
from xchronos.scheduler.retry import Again, End, after_attempt
from xchronos.scheduler.starts import lacking, started
from xchronos.store.contract import Guard

log = structlog.get_logger(__name__)

KEPT_ATTEMPTS = 20
"""How many attempts the record of an execution keeps where they have no limit: lost ones, and those of such a unit."""


class Completions:
    """Takes executions off their machines, or out of the queue."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer

    async def settle_reported(self, now: Instant) -> None:
        """Decide what follows the attempts that their agents have handed back."""
        committer = self._committer
        noted, committer.work.reported = committer.work.reported, set()
        ids = {execution_id for execution_id in noted if committer.fence(unit_of(execution_id)) is not None}
        loaded = await committer.load(sorted({unit_of(execution_id) for execution_id in ids}))
        units = {name: found.unit for name, found in loaded.items() if found.unit is not None}
        await committer.load(sorted({name for unit in units.values() for name in (*unit.on_success, *unit.on_failure)}))
        for execution_id in sorted(ids):
            entry = committer.cluster.open.get(execution_id)
            if entry is not None and entry.reported and not entry.busy:
                self._settle(execution_id, entry, units.get(unit_of(execution_id)), now)

    def _settle(self, execution_id: str, entry: OpenExecution, unit: Unit | None, now: Instant) -> None:
        execution = entry.execution
        attempt = execution.current
        assert attempt is not None
        cancelled = self._committer.work.cancels.pop(execution_id, "")
        if cancelled and not execution.stop_requested:
            execution = msgspec.structs.replace(execution, stop_requested=cancelled)
        if unit is None:
            verdict: End | Again = End(attempt.outcome or Outcome.LOST, attempt.reason)
        else:
            verdict = after_attempt(unit, execution, attempt, now)
        settled = msgspec.structs.replace(
            execution, attempts=_with(execution, attempt, unit), current=None, reason=verdict.reason
        )
        if isinstance(verdict, Again):
            delayed = msgspec.structs.replace(
                settled,
                state=execution_after("reported", "delay"),
                due_at=to_datetime(verdict.due_at),
                deadline=None if verdict.deadline is None else to_datetime(verdict.deadline),
                waits_since=to_datetime(now),
            )
            self._committer.move(execution_id, entry, delayed)
            return
        ended = msgspec.structs.replace(
            settled, state=execution_after("reported", "end"), outcome=verdict.outcome, ended_at=attempt.ended_at
        )
        self._finish(execution_id, entry, ended, unit, now)

    async def end(
        self,
        execution_id: str,
        entry: OpenExecution,
        outcome: Outcome,
        reason: str,
        now: Instant,
        upon: Loaded | None = None,
    ) -> None:
        """End an execution that no machine has; `upon` is as in `Committer.move`."""
        committer, name = self._committer, unit_of(execution_id)
        found = (await committer.load([name])).get(name)
        unit = found.unit if found is not None else None
        if unit is not None:
            await committer.load((*unit.on_success, *unit.on_failure))
        if committer.cluster.open.get(execution_id) is not entry or entry.busy:
            # Loading took a while; whatever has happened meanwhile is looked at by itself.
            return
        ended = msgspec.structs.replace(
            entry.execution,
            state=execution_after(entry.execution.state, "end"),
            outcome=outcome,
            reason=reason,
            ended_at=to_datetime(now),
        )
        self._finish(execution_id, entry, ended, unit, now, upon)

    def _finish(
        self,
        execution_id: str,
        entry: OpenExecution,
        ended: Execution,
        unit: Unit | None,
        now: Instant,
        upon: Loaded | None = None,
    ) -> None:
        chained = self._chain(unit, ended, now) if unit is not None else []
        # A new start by somebody else at the very same instant must not be overwritten.
        guards = [Guard(self._committer.keys.pending_execution(execution.id), 0) for execution in chained]
        self._committer.move(execution_id, entry, ended, unit, chained, guards, upon)

    def _chain(self, unit: Unit, ended: Execution, now: Instant) -> list[Execution]:
        """What OnSuccess= and OnFailure= start: every copy of each unit named."""
        if ended.outcome is Outcome.SUCCEEDED:
            names: Sequence[str] = unit.on_success
        elif ended.outcome in (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.LOST):
            names = unit.on_failure
        else:
            return []
        chained: list[Execution] = []
        for name in names:
            found = self._committer.units.peek(name)
            if found is None or found.unit is None or found.unit.masked or found.unit.template:
                log.warning("a unit to be started by another one cannot be", unit=name, by=ended.id)
                continue
            begin = started(found.unit, self._committer.stamp(now), now, "chain", f"{ended.outcome} of {ended.id}")
            if found.unit.keep_running:
                cluster = self._committer.cluster
                running = [cluster.open[execution_id].execution for execution_id in cluster.of_unit(name)]
                begin = lacking(found.unit, begin, running)
            chained += begin
        room = self._committer.room - 2
        if len(chained) > room:
            log.error("more is to be started than one Txn holds", by=ended.id, left_out=len(chained) - room)
        return chained[:room]

    # -- machines and wishes ----------------------------------------------------------------------------------------

    def lose_machines(self, now: Instant) -> None:
        """What was placed on machines that are gone goes back: to other machines, or to its end."""
        work, cluster = self._committer.work, self._committer.cluster
        work.lost_machines -= set(cluster.machines)
        for machine in sorted(work.lost_machines):
            left = False
            for execution_id, entry in list(cluster.on_machine(machine)):
                if self._committer.fence(unit_of(execution_id)) is None:
                    continue
                left = True
                if not entry.busy and not entry.reported:
                    self._lose(execution_id, entry, now)
            if not left:
                work.lost_machines.discard(machine)

    def _lose(self, execution_id: str, entry: OpenExecution, now: Instant) -> None:
        absent = [Guard(self._committer.keys.machine(entry.machine), 0)]
        self._give_back(execution_id, entry, "the machine was lost", f"was lost with {entry.machine}", now, absent)

    def take_back(self, execution_id: str, entry: OpenExecution, reason: str, now: Instant) -> None:
        """Take an execution from its machine, whose agent has not begun it yet; refused when it has."""
        self._give_back(execution_id, entry, reason, f"was not begun: {reason}", now)

    def _give_back(
        self,
        execution_id: str,
        entry: OpenExecution,
        reason: str,
        what: str,
        now: Instant,
        guards: Sequence[Guard] = (),
    ) -> None:
        """The attempt on its machine is lost, for a reason; the execution is to be placed anew."""
        execution, unit, moment = entry.execution, entry.unit, to_datetime(now)
        assert execution.current is not None
        attempt = msgspec.structs.replace(execution.current, outcome=Outcome.LOST, reason=reason, ended_at=moment)
        wish = execution.stop_requested or self._committer.work.cancels.pop(execution_id, "")
        back = msgspec.structs.replace(
            execution,
            attempts=_with(execution, attempt, unit),
            current=None,
            stop_requested=wish,
            reason=wish or f"attempt {attempt.number} {what}",
        )
        if wish:
            state = execution_after(execution.state, "end")
            back = msgspec.structs.replace(back, state=state, outcome=Outcome.CANCELLED, ended_at=moment)
        else:
            deadline = None
            if unit is not None and unit.start_deadline is not None:
                deadline = to_datetime(now + unit.start_deadline)
            state = execution_after(execution.state, "lose")
            back = msgspec.structs.replace(back, state=state, deadline=deadline, waits_since=moment)
        self._committer.move(execution_id, entry, back, extra=guards)

    async def carry_out_cancels(self, now: Instant) -> None:
        """End what has to end, or ask its machine to.

        A wish stays until it is seen to be granted: a write of the agent's own may come before ours.
        """
        work, cluster = self._committer.work, self._committer.cluster
        for execution_id, reason in list(work.cancels.items()):
            entry = cluster.open.get(execution_id)
            if entry is None or (entry.machine and entry.execution.stop_requested):
                # Its shard may have been lost, and its wish with it, while another one was carried out.
                work.cancels.pop(execution_id, None)
            elif not entry.machine and not entry.busy:
                await self.end(execution_id, entry, Outcome.CANCELLED, reason, now)
            elif not entry.busy and not entry.reported:
                self._committer.move(
                    execution_id, entry, msgspec.structs.replace(entry.execution, stop_requested=reason)
                )


def _with(execution: Execution, attempt: Attempt, unit: Unit | None) -> tuple[Attempt, ...]:
    attempts = (*execution.attempts, attempt)
    if unit is not None and (unit.keep_running or not unit.retry.max_attempts):
        return attempts[-KEPT_ATTEMPTS:]
    lost = [one for one in attempts if one.outcome is Outcome.LOST]
    gone = {one.number for one in lost[:-KEPT_ATTEMPTS]}
    return tuple(one for one in attempts if one.number not in gone) if gone else attempts
