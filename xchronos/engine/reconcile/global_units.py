"""Units that are kept running on every machine (Global=): each machine that comes, or comes to fit, gets its copy."""

from xchronos.clock import Instant
from xchronos.engine.committer import Committer
from xchronos.engine.reconcile.machine_choice import MachineChoice
from xchronos.engine.reconcile.placements import placed
from xchronos.model.unit import Unit
from xchronos.registry.transitions import claim
from xchronos.scheduler.rejections import PASSING
from xchronos.scheduler.starts import started


class GlobalUnits:
    """Gives machines the copies that they lack, in one claim per unit with an execution for each machine."""

    def __init__(self, committer: Committer, machine_choice: MachineChoice) -> None:
        self._committer = committer
        self._machine_choice = machine_choice

    async def spread(self, changed: set[str], now: Instant) -> None:
        """Look at the machines that have changed for every such unit, and for some units at all machines."""
        committer = self._committer
        cluster, work = committer.cluster, committer.work
        some, work.spread = work.spread, set()
        names = sorted({*some, *(cluster.cursors.everywhere if changed else ())})
        if not names:
            return
        loaded = await committer.load(names)
        for name in names:
            found = loaded.get(name)
            if found is None or found.unit is None or committer.fence(name) is None:
                continue
            cursor = cluster.cursors.known.get(name)
            if cursor is None or cursor.busy or found.revision != cursor.unit_revision:
                # A write about it is under way, or its new text is still to be accepted.
                work.spread.add(name)
                continue
            machines = set(cluster.machines) if name in some else changed
            self._spread(found.unit, found.revision, machines, now)

    def _spread(self, unit: Unit, unit_revision: int, machines: set[str], now: Instant) -> None:
        committer = self._committer
        cluster = committer.cluster
        cursor, fence = cluster.cursors.known[unit.name], committer.fence(unit.name)
        schedule = cursor.schedule
        if fence is None or not schedule.everywhere or schedule.paused or schedule.finished:
            return
        entries = [cluster.open[execution_id] for execution_id in cluster.of_unit(unit.name)]
        if any(not entry.machine and not entry.execution.attempts for entry in entries):
            # A start that was not placed anywhere yet takes every machine that fits then; this is about what it leaves.
            committer.work.spread.add(unit.name)
            return
        stamp = committer.stamp(now)
        (first,) = started(unit, stamp, now, "kept", "it is kept running on every machine")
        views = [cluster.machines[name] for name in sorted(machines & cluster.machines.keys())]
        chosen = self._machine_choice.choose(unit, first.id, views, taken=self._machine_choice.homes(unit.name))
        if any(rejection.code in PASSING for rejection in chosen.rejections):
            committer.work.short.add(unit.name)
        room = committer.room - 1
        executions = [
            placed(first, machine, copy, 1, unit.revision, first.claimed_at)
            for copy, machine in enumerate(chosen.machines[:room])
        ]
        if executions:
            # Looked at again behind it: the write may be refused, and there may be more machines than it holds.
            committer.work.spread.add(unit.name)
            txn = claim(committer.keys, fence, schedule, cursor.revision, executions, unit_revision)
            committer.move_cursor(unit.name, cursor, txn, schedule, executions, unit)
