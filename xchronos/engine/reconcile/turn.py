"""One scheduling turn: all that there is to decide at one instant, in proportion to what is due or has changed."""

from xchronos.clock import Instant
from xchronos.engine.committer import Committer
from xchronos.engine.reconcile.completions import Completions
from xchronos.engine.reconcile.evictions import Evictions
from xchronos.engine.reconcile.fires import FireTimes
from xchronos.engine.reconcile.global_units import GlobalUnits
from xchronos.engine.reconcile.lost import LostAttempts
from xchronos.engine.reconcile.pending import PendingExecutions
from xchronos.engine.reconcile.units import UnitChanges
from xchronos.engine.reconcile.views import Views
from xchronos.engine.state.copy_history import CopyHistory


class Reconciler:
    """Takes turns over one committer. While `holding`, what runs is settled when it ends, but nothing new is begun."""

    def __init__(self, committer: Committer, copy_history: CopyHistory) -> None:
        self.holding = False
        self._work = committer.work
        views = Views(committer, copy_history)
        self._completions = Completions(committer)
        self._lost = LostAttempts(committer)
        self._pending = PendingExecutions(committer, views, self._completions)
        self._units = UnitChanges(committer, views)
        self._fire_times = FireTimes(committer, views)
        self._evictions = Evictions(committer, self._lost)
        self._global_units = GlobalUnits(committer, views)

    async def run(self, now: Instant) -> None:
        """Decide. What ends makes room first, then comes what has waited longest, then what is new."""
        work = self._work
        if work.changed and not self.holding:
            await self._units.accept_changed(now)
        self._units.expire(now)
        if work.reported:
            await self._completions.settle_reported(now)
        if work.lost_machines:
            self._lost.lose_machines(now)
        changed, work.changed_machines = work.changed_machines, set()
        self._evictions.look(changed, now)
        if not self.holding:
            await self._pending.place_pending(changed, now)
            await self._global_units.spread(changed, now)
            await self._fire_times.fire_due(now)
        self._evictions.make_way(now)
        if work.gone:
            self._units.forget_gone()
        if work.cancels:
            await self._completions.carry_out_cancels(now)
