"""One scheduling turn: everything that there is to decide at one instant, in proportion to what is due or has changed.

The decisions themselves are `xchronos.scheduler`'s; the deciders here ask for them, turn the answers into records and
have them committed.
"""

from xchronos.clock import Instant
from xchronos.engine.committer import Desk
from xchronos.engine.reconcile.completions import Settling
from xchronos.engine.reconcile.evictions import Leaving
from xchronos.engine.reconcile.fires import Firing
from xchronos.engine.reconcile.global_units import Everywhere
from xchronos.engine.reconcile.machine_choice import Choosing
from xchronos.engine.reconcile.placements import Placing
from xchronos.engine.state.copy_history import Copies


class Turns:
    """Takes turns over one desk. While `holding`, what runs is settled when it ends, but nothing new is begun."""

    def __init__(self, desk: Desk, copies: Copies) -> None:
        self.holding = False
        self._desk = desk
        self._settling = Settling(desk)
        choosing = Choosing(desk, copies)
        self._placing = Placing(desk, self._settling, choosing)
        self._firing = Firing(desk, self._placing, choosing)
        self._leaving = Leaving(desk, self._settling)
        self._everywhere = Everywhere(desk, choosing)

    async def run(self, now: Instant) -> None:
        """Decide. What ends makes room first, then comes what has waited longest, then what is new."""
        agenda = self._desk.agenda
        if agenda.changed and not self.holding:
            await self._firing.reconcile_changed(now)
        self._firing.expire(now)
        if agenda.reported:
            await self._settling.settle_reported(now)
        if agenda.lost_machines:
            self._settling.lose_machines(now)
        changed, agenda.changed_machines = agenda.changed_machines, set()
        self._leaving.look(changed, now)
        if not self.holding:
            await self._placing.place_pending(now)
            await self._everywhere.spread(changed, now)
            await self._firing.fire_due(now)
        self._leaving.make_way(now)
        if agenda.gone:
            self._firing.forget_gone()
        if agenda.cancels:
            await self._settling.carry_out_cancels(now)
