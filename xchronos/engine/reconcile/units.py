"""Units: acceptance of what is new or has changed, the end of a TTL, and what a destroyed unit leaves."""

from itertools import islice

import structlog

from xchronos.clock import Instant, to_instant
from xchronos.engine.committer import Committer
from xchronos.engine.reconcile.views import Views
from xchronos.registry.transitions import claim, expire_unit, forget_unit
from xchronos.registry.units import Loaded
from xchronos.scheduler.acceptance import Accepted, CannotTell, EndsFirst, UnitChange, accept_change, is_reborn
from xchronos.scheduler.reasons import because
from xchronos.scheduler.timing.schedule import Resumed
from xchronos.store.contract import Committed, Guard

log = structlog.get_logger(__name__)

FORGOTTEN_TOGETHER = 500
"""How many destroyed units' traces are removed at a time: what is due meanwhile does not wait for thousands of them."""

TOLD_ONE_BY_ONE = 20
"""So many units that are removed together have a line in the log each."""

ACCEPTED_IN_A_TURN = 32
"""How many new or changed units a turn takes in: they take far longer than what is due."""


class UnitChanges:
    """Begins, changes and ends the schedules of units."""

    def __init__(self, committer: Committer, views: Views) -> None:
        self._committer = committer
        self._views = views
        self._to_forget: list[str] = []
        self._forgetting = 0
        self._removed: list[str] = []

    async def accept_changed(self, now: Instant) -> None:
        """Accept what is new; fit cursors to what has changed. Some units in each turn: what is due must not wait."""
        committer, work = self._committer, self._committer.work
        if committer.full:
            return
        batch = list(islice(work.changed, ACCEPTED_IN_A_TURN))
        for name in batch:
            del work.changed[name]
        if work.changed:
            work.wake()
        mine = [name for name in batch if committer.fence(name) is not None]
        loaded = await committer.load(mine)
        for name in mine:
            fence = committer.fence(name)
            if name in loaded and fence is not None:
                self._accept(loaded[name], fence, now)

    def _accept(self, loaded: Loaded, fence: Guard, now: Instant) -> None:
        committer, work, name = self._committer, self._committer.work, loaded.name
        cursor = committer.cluster.cursors.known.get(name)
        if name in work.refused or (cursor is not None and cursor.busy):
            # A cursor that has to be read again is not known to be none: taken for that, a new life would pass for the
            # unit's first (`test_a_cursor_in_doubt_is_not_taken_for_none`).
            work.changed[name] = None
            return
        old = cursor.schedule if cursor is not None else None
        record = loaded.record
        resumed = None if record.resumed_at is None else Resumed(to_instant(record.resumed_at), record.skip_missed)
        paused = record.desired == "paused"
        change = UnitChange(loaded.unit, loaded.revision, loaded.created, paused, resumed)
        if is_reborn(change, old):
            # Nothing of its former life concerns it, nor does the news of its end, which may be all that the watch
            # has brought.
            work.gone.discard(name)
            committer.cluster.last_machine.pop(name, None)
        else:
            # Whoever waited for the unit to be accepted has waited long enough.
            work.look.update(committer.cluster.of_unit(name))
        decision = accept_change(change, old, self._views.of(name), now, committer.stamp(now))
        if isinstance(decision, CannotTell):
            log.warning("a unit's trigger cannot compute here; the unit is left alone", unit=name, reason=decision.why)
            committer.unreadable.schedule(name, decision.why)
            return
        if isinstance(decision, EndsFirst):
            if decision.reborn:
                work.cancels.update(decision.cancelled)
            else:
                self._views.cancel(decision.cancelled)
            work.changed[name] = None
            return
        self._write(loaded, decision, fence)

    def _write(self, loaded: Loaded, decision: Accepted, fence: Guard) -> None:
        committer, work, name, schedule = self._committer, self._committer.work, loaded.name, decision.schedule
        cursors = committer.cluster.cursors
        if decision.everywhere:
            work.spread.add(name)
        cursor = cursors.known.get(name)
        if cursor is not None and schedule == cursor.schedule:
            return
        known = cursor.revision if cursor is not None else 0
        if cursor is None:
            cursor = cursors.begin(name, schedule)
        begun, reborn = decision.executions, decision.reborn
        txn = claim(committer.keys, fence, schedule, known, begun, loaded.revision, fresh_history=reborn)
        committer.move_cursor(name, cursor, txn, schedule, begun, loaded.unit)
        if reborn:
            work.changed[name] = None  # looked at once more when it is accepted

    def expire(self, now: Instant) -> None:
        """Destroy the units whose TTL has ended, unless they have changed meanwhile."""
        committer = self._committer
        for name in committer.cluster.cursors.expired(now):
            cursor, fence = committer.cluster.cursors.known[name], committer.fence(name)
            if fence is not None:
                log.info("TTL ended: unit is destroyed", unit=name)
                txn = expire_unit(committer.keys, fence, name, cursor.unit_revision)
                committer.submit(txn, lambda result, name=name: self._expired(name, result))  # type: ignore[misc]

    def _expired(self, name: str, result: Committed | None) -> None:
        if result is None or not result.succeeded:
            # The unit is another one now; its cursor is read again, and says when that one ends.
            self._committer.cluster.cursors.drop(name)
            self._committer.work.refused.add(name)

    def forget_gone(self) -> None:
        """Destroyed units: stop what runs of them, and once nothing does, remove everything they left."""
        committer, cluster, work = self._committer, self._committer.cluster, self._committer.work
        if not self._to_forget:
            self._to_forget = sorted(work.gone, reverse=True)
        while self._to_forget and self._forgetting < FORGOTTEN_TOGETHER:
            name = self._to_forget.pop()
            if name not in work.gone:
                continue
            fence = committer.fence(name)
            if fence is None:
                work.gone.discard(name)
                continue
            entries = {execution_id: cluster.open[execution_id] for execution_id in cluster.of_unit(name)}
            running = [execution_id for execution_id, entry in entries.items() if entry.machine or entry.busy]
            self._views.cancel(dict.fromkeys(running, because("destroyed")))
            cursor = cluster.cursors.known.get(name)
            if running or (cursor is not None and cursor.busy):
                continue
            work.gone.discard(name)
            self._forgetting += 1
            txn = forget_unit(committer.keys, fence, name)
            committer.submit(txn, lambda result, name=name: self._forgotten(name, result))  # type: ignore[misc]

    def _forgotten(self, name: str, result: Committed | None) -> None:
        cluster = self._committer.cluster
        self._forgetting -= 1
        cursor = cluster.cursors.known.get(name)
        if cursor is None or not cursor.busy:  # else its next life is under way, and the answer to that decides
            cluster.cursors.drop(name)
            cluster.last_machine.pop(name, None)
            if result is not None and result.succeeded:
                self._removed.append(name)
            else:
                # Submitted again meanwhile.
                self._committer.work.refused.add(name)
        if not self._forgetting:
            self._tell_removed()

    def _tell_removed(self) -> None:
        """Say which units were removed; of very many, a line each would take longer than to remove them."""
        removed, self._removed = self._removed, []
        if len(removed) > TOLD_ONE_BY_ONE:
            log.info("many units removed", count=len(removed), units=removed[:TOLD_ONE_BY_ONE])
            return
        for name in removed:
            log.info("unit removed", unit=name)
