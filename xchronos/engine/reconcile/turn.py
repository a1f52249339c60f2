"""One scheduling turn: everything that there is to decide at one instant, in proportion to what is due or has changed.

The decisions themselves are `xchronos.scheduler`'s; the deciders here ask for them, turn the answers into records and
have them committed.
"""

from xchronos.clock import Instant
from xchronos.engine.committer import Committer
from xchronos.engine.reconcile.completions import Completions
from xchronos.engine.reconcile.evictions import Evictions
from xchronos.engine.reconcile.fires import FireTimes
from xchronos.engine.reconcile.global_units import GlobalUnits
from xchronos.engine.reconcile.machine_choice import MachineChoice
from xchronos.engine.reconcile.placements import Placements
from xchronos.engine.state.copy_history import CopyHistory


class Reconciler:
    """Takes turns over one desk. While `holding`, what runs is settled when it ends, but nothing new is begun."""

    def __init__(self, committer: Committer, copies: CopyHistory) -> None:
        self.holding = False
        self._committer = committer
        self._completions = Completions(committer)
        machine_choice = MachineChoice(committer, copies)
        self._placements = Placements(committer, self._completions, machine_choice)
        self._fire_times = FireTimes(committer, self._placements, machine_choice)
        self._evictions = Evictions(committer, self._completions)
        self._global_units = GlobalUnits(committer, machine_choice)

    async def run(self, now: Instant) -> None:
        """Decide. What ends makes room first, then comes what has waited longest, then what is new."""
        work = self._committer.work
        if work.changed and not self.holding:
            await self._fire_times.reconcile_changed(now)
        self._fire_times.expire(now)
        if work.reported:
            await self._completions.settle_reported(now)
        if work.lost_machines:
            self._completions.lose_machines(now)
        changed, work.changed_machines = work.changed_machines, set()
        self._evictions.look(changed, now)
        if not self.holding:
            await self._placements.place_pending(now)
            await self._global_units.spread(changed, now)
            await self._fire_times.fire_due(now)
        self._evictions.make_way(now)
        if work.gone:
            self._fire_times.forget_gone()
        if work.cancels:
            await self._completions.carry_out_cancels(now)
