"""The ends of executions: what follows an attempt or a request to stop, and what an end sets off."""

from collections.abc import Sequence

import msgspec
import structlog

from xchronos.clock import Instant
from xchronos.engine.committer import Committer
from xchronos.engine.state.open_execution import OpenExecution
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution
from xchronos.model.unit import Unit
from xchronos.registry.keys import unit_of
from xchronos.registry.units import Loaded
from xchronos.scheduler.completion import chain, chain_of, complete, finish
from xchronos.scheduler.reasons import Reason
from xchronos.store.contract import Guard

log = structlog.get_logger(__name__)


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
        units = {name: found.unit for name, found in loaded.items()}
        await committer.load(sorted({name for unit in units.values() for name in chain_of(unit)}))
        for execution_id in sorted(ids):
            entry = committer.cluster.open.get(execution_id)
            if committer.fence(unit_of(execution_id)) is None:
                # Its unit cannot be read: what follows the attempt is for somebody who can.
                continue
            if entry is not None and entry.reported and not entry.busy:
                unit = units.get(unit_of(execution_id))
                cancelled = committer.work.cancels.pop(execution_id, None)
                settled = complete(unit, entry.execution, now, cancelled)
                if settled.state == "ended":
                    self._end(execution_id, entry, settled, now, unit)
                else:
                    committer.move(execution_id, entry, settled, unit)

    async def have_chain(self, unit: Unit) -> None:
        """Have the units at hand that an end of this one may start. Raises StoreError."""
        names = chain_of(unit)
        if names:
            await self._committer.load(names)

    def finish(
        self,
        execution_id: str,
        entry: OpenExecution,
        outcome: Outcome,
        reason: Reason,
        now: Instant,
        unit: Unit | None,
        upon: Loaded | None = None,
    ) -> None:
        """End an execution that no machine has; its unit's chain is at hand. `upon` is as in `Committer.move`."""
        self._end(execution_id, entry, finish(entry.execution, outcome, reason, now), now, unit, upon)

    def _end(
        self,
        execution_id: str,
        entry: OpenExecution,
        ended: Execution,
        now: Instant,
        unit: Unit | None,
        upon: Loaded | None = None,
    ) -> None:
        chained = self._chain(unit, ended, now) if unit is not None else ()
        # A new start by somebody else at the very same instant must not be overwritten.
        guards = [Guard(self._committer.keys.pending_execution(execution.id), 0) for execution in chained]
        self._committer.move(execution_id, entry, ended, unit, chained, guards, upon)

    def _chain(self, unit: Unit, ended: Execution, now: Instant) -> Sequence[Execution]:
        committer, cluster, names = self._committer, self._committer.cluster, chain_of(unit)
        if not names:
            return ()
        found = {name: committer.units.peek(name) for name in names}
        units = {name: one.unit for name, one in found.items() if isinstance(one, Loaded)}
        running = {name: [cluster.open[other].execution for other in cluster.of_unit(name)] for name in names}
        chained = chain(unit, ended, units, running, now, [committer.stamp(now) for _ in names])
        for name in chained.unstartable:
            log.warning("a unit to be started by another one cannot be", unit=name, by=ended.id)
        room = committer.txn_room - 2
        if len(chained.executions) > room:
            log.error("more is to be started than one Txn holds", by=ended.id, left_out=len(chained.executions) - room)
        return chained.executions[:room]

    async def carry_out_cancels(self, now: Instant) -> None:
        """End what has to end, or ask its machine to.

        It is asked for until it is seen to be granted: a write of the agent's own may come before ours.
        """
        work, cluster = self._committer.work, self._committer.cluster
        for execution_id, reason in list(work.cancels.items()):
            entry = cluster.open.get(execution_id)
            if entry is None or (entry.machine and entry.execution.stop_requested):
                # Its shard may have been lost, and what was to end with it, while another one was carried out.
                work.cancels.pop(execution_id, None)
            elif not entry.machine and not entry.busy:
                await self._cancel(execution_id, entry, reason, now)
            elif not entry.busy and not entry.reported:
                asked = msgspec.structs.replace(entry.execution, stop_requested=reason.text)
                self._committer.move(execution_id, entry, asked)

    async def _cancel(self, execution_id: str, entry: OpenExecution, reason: Reason, now: Instant) -> None:
        name = unit_of(execution_id)
        found = (await self._committer.load([name])).get(name)
        unit = found.unit if found is not None else None
        if unit is not None:
            await self.have_chain(unit)
        if self._committer.cluster.open.get(execution_id) is entry and not entry.busy:
            # (Else: loading took a while; whatever has happened meanwhile is looked at by itself.)
            self.finish(execution_id, entry, Outcome.CANCELLED, reason, now, unit)
