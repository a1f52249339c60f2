"""One scheduling turn: everything that there is to decide at one instant, in proportion to what is due or has changed.

The decisions themselves are `xchronos.scheduler`'s; the deciders here ask for them, turn the answers into records and
have them committed.
"""

from xchronos.clock import Instant
from xchronos.engine.copies import Copies
from xchronos.engine.desk import Desk
from xchronos.engine.firing import Firing
from xchronos.engine.placing import Placing
from xchronos.engine.settling import Settling


class Turns:
    """Takes turns over one desk. While `holding`, what runs is settled when it ends, but nothing new is begun."""

    def __init__(self, desk: Desk, copies: Copies) -> None:
        self.holding = False
        self._desk = desk
        self._settling = Settling(desk)
        self._placing = Placing(desk, self._settling, copies)
        self._firing = Firing(desk, self._placing)

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
        if not self.holding:
            await self._placing.place_pending(now)
            await self._firing.fire_due(now)
        if agenda.gone:
            self._firing.forget_gone()
        if agenda.cancels:
            await self._settling.carry_out_cancels(now)
        if agenda.displaced:
            self._settling.carry_out_displacements()
