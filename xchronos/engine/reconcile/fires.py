"""Fire times: whatever is due is claimed, as fast as the store and the machines take it."""

import asyncio
from collections.abc import Mapping

import structlog

from xchronos.clock import Instant
from xchronos.engine.committer import Committer
from xchronos.engine.reconcile.views import NO_COPIES, Views
from xchronos.registry.transitions import claim
from xchronos.registry.units import Loaded
from xchronos.scheduler.acceptance import is_to_accept
from xchronos.scheduler.fire import begun_before, fire

log = structlog.get_logger(__name__)

FIRED_BETWEEN_NEWS = 128
"""How many units are decided about before others get a turn: bounds how long a crowded second holds everything up."""

RESUMED = 16
"""How many units that were put off get their turn before it is asked again whether the machines have enough."""


class FireTimes:
    """Moves the cursors past what is due."""

    def __init__(self, committer: Committer, views: Views) -> None:
        self._committer = committer
        self._views = views

    async def fire_due(self, now: Instant) -> None:
        """Claim what is due: who is behind must still hear the news."""
        committer, cluster = self._committer, self._committer.cluster
        cursors, backpressure = cluster.cursors, cluster.backpressure
        while not committer.full:
            enough = backpressure.everywhere(cluster.machines.values())
            if not enough:
                cursors.resume(RESUMED)
            batch = cursors.due(now, FIRED_BETWEEN_NEWS)
            if not batch:
                return
            if enough:
                cursors.put_off.update((name, None) for name in batch if backpressure.waits(name))
                batch = [name for name in batch if name not in cursors.put_off]
            loaded = await committer.load(batch)
            for name in batch:
                found = loaded.get(name)
                if found is not None:
                    begun = self._begun(name, found)
                    ended = await self._views.ended_copies(begun) if begun else NO_COPIES
                    self._fire(found, now, ended)
            await asyncio.sleep(0)

    def _begun(self, name: str, loaded: Loaded) -> str:
        """The fire time of which an earlier Txn holds some copies, as `begun_before` says."""
        cursor = self._committer.cluster.cursors.known.get(name)
        if cursor is None or cursor.busy:
            return ""
        return begun_before(loaded.unit, cursor.schedule)

    def _fire(self, loaded: Loaded, now: Instant, ended: Mapping[str, str]) -> None:
        committer, name = self._committer, loaded.name
        cursor = committer.cluster.cursors.known.get(name)
        fence = committer.fence(name)
        if cursor is None or cursor.busy or fence is None:
            return
        unit, schedule = loaded.unit, cursor.schedule
        if is_to_accept(schedule, loaded.revision, unit=unit):
            # Its new text, or the new rules of its time zone, decide about this fire time too.
            committer.work.changed[name] = None
            committer.work.wake()
            return
        fired = fire(unit, schedule, self._views.of(name, ended), now, committer.txn_room - 1)
        if fired.problem:
            log.warning("a unit's trigger cannot compute here; the unit is left alone", unit=name, reason=fired.problem)
            committer.unreadable.schedule(name, fired.problem)
            return
        self._views.cancel(fired.cancelled)
        self._views.carry_on(name, fired.last_machine)
        for late in fired.late:
            committer.metrics.late(late)
        txn = claim(committer.keys, fence, fired.schedule, cursor.revision, fired.executions, loaded.revision)
        committer.move_cursor(name, cursor, txn, fired.schedule, fired.executions, unit)
