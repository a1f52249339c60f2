"""Units that are kept running on every machine (Global=): each machine that comes, or comes to fit, gets its copy."""

from xchronos.clock import Instant
from xchronos.engine.committer import Desk
from xchronos.engine.reconcile.machine_choice import Choosing
from xchronos.engine.reconcile.placements import placed
from xchronos.model.unit import Unit
from xchronos.registry.transitions import claim
from xchronos.scheduler.rejections import PASSING
from xchronos.scheduler.starts import started


class Everywhere:
    """Gives machines the copies that they lack, in one claim per unit with an execution for each machine."""

    def __init__(self, desk: Desk, choosing: Choosing) -> None:
        self._desk = desk
        self._choosing = choosing

    async def spread(self, changed: set[str], now: Instant) -> None:
        """Look at the machines that have changed for every such unit, and for some units at all machines."""
        desk = self._desk
        book, agenda = desk.book, desk.agenda
        some, agenda.spread = agenda.spread, set()
        names = sorted({*some, *(book.cursors.everywhere if changed else ())})
        if not names:
            return
        loaded = await desk.load(names)
        for name in names:
            found = loaded.get(name)
            if found is None or found.unit is None or desk.fence(name) is None:
                continue
            cursor = book.cursors.known.get(name)
            if cursor is None or cursor.busy or found.revision != cursor.unit_revision:
                # A write about it is under way, or its new text is still to be accepted.
                agenda.spread.add(name)
                continue
            machines = set(book.machines) if name in some else changed
            self._spread(found.unit, found.revision, machines, now)

    def _spread(self, unit: Unit, unit_revision: int, machines: set[str], now: Instant) -> None:
        desk = self._desk
        book = desk.book
        cursor, fence = book.cursors.known[unit.name], desk.fence(unit.name)
        schedule = cursor.schedule
        if fence is None or not schedule.everywhere or schedule.paused or schedule.finished:
            return
        entries = [book.open[execution_id] for execution_id in book.of_unit(unit.name)]
        if any(not entry.machine and not entry.execution.attempts for entry in entries):
            # A start that was not placed anywhere yet takes every machine that fits then; this is about what it leaves.
            desk.agenda.spread.add(unit.name)
            return
        stamp = desk.stamp(now)
        (first,) = started(unit, stamp, now, "kept", "it is kept running on every machine")
        views = [book.machines[name] for name in sorted(machines & book.machines.keys())]
        chosen = self._choosing.choose(unit, first.id, views, taken=self._choosing.homes(unit.name))
        if any(rejection.code in PASSING for rejection in chosen.rejections):
            desk.agenda.short.add(unit.name)
        room = desk.room - 1
        executions = [
            placed(first, machine, copy, 1, unit.revision, first.claimed_at)
            for copy, machine in enumerate(chosen.machines[:room])
        ]
        if executions:
            # Looked at again behind it: the write may be refused, and there may be more machines than it holds.
            desk.agenda.spread.add(unit.name)
            txn = claim(desk.keys, fence, schedule, cursor.revision, executions, unit_revision)
            desk.move_cursor(unit.name, cursor, txn, schedule, executions, unit)
