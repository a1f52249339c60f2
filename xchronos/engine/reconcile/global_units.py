"""Units that are kept running on every machine (Global=): each machine that comes, or comes to fit, gets its copy."""

from xchronos.clock import Instant
from xchronos.engine.committer import Committer
from xchronos.engine.reconcile.views import Views
from xchronos.engine.state.due_queue import UnitCursor
from xchronos.registry.transitions import claim
from xchronos.registry.units import Loaded
from xchronos.scheduler.acceptance import is_to_accept
from xchronos.scheduler.starts import is_spread, spread


class GlobalUnits:
    """Gives machines the copies that they lack, in one claim per unit with an execution for each machine."""

    def __init__(self, committer: Committer, views: Views) -> None:
        self._committer = committer
        self._views = views

    async def spread(self, changed: set[str], now: Instant) -> None:
        """Look at the machines that have changed for every such unit, and for some units at all machines."""
        committer, cluster, work = self._committer, self._committer.cluster, self._committer.work
        some, work.spread = work.spread, set()
        names = sorted({*some, *(cluster.cursors.everywhere if changed else ())})
        if not names:
            return
        loaded = await committer.load(names)
        for name in names:
            found = loaded.get(name)
            if found is None or committer.fence(name) is None:
                continue
            cursor = cluster.cursors.known.get(name)
            if cursor is None or cursor.busy or is_to_accept(cursor.schedule, found.revision, unit=found.unit):
                # A write about it is under way, or its new text is still to be accepted.
                work.spread.add(name)
                continue
            self._spread(found, cursor, set(cluster.machines) if name in some else changed, now)

    def _spread(self, found: Loaded, cursor: UnitCursor, machines: set[str], now: Instant) -> None:
        committer, cluster, work = self._committer, self._committer.cluster, self._committer.work
        unit, schedule, name = found.unit, cursor.schedule, found.name
        fence = committer.fence(name)
        if fence is None or not is_spread(schedule):
            return
        views = [cluster.machines[machine] for machine in sorted(machines & cluster.machines.keys())]
        decided = spread(unit, self._views.of(name), views, now, committer.stamp(now), committer.txn_room)
        if decided is None:
            work.spread.add(name)
            return
        if decided.short:
            work.short.add(name)
        self._views.carry_on(name, decided.last_machine)
        if decided.executions:
            # Looked at again after it: the write may be refused, and there may be more machines than it holds.
            work.spread.add(name)
            executions = decided.executions
            txn = claim(committer.keys, fence, schedule, cursor.revision, executions, found.revision)
            committer.move_cursor(name, cursor, txn, schedule, executions, unit)
