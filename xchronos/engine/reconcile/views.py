"""What the decisions of a turn may read: views of what is known, and the history where a decision depends on it."""

from collections.abc import Mapping

from xchronos.engine.committer import Committer
from xchronos.engine.state.copy_history import CopyHistory
from xchronos.scheduler.reasons import Reason
from xchronos.scheduler.view import View

NO_COPIES: Mapping[str, str] = {}
"""The machines of copies that have ended, where nobody asks for them."""


class Views:
    """Makes views of one unit each."""

    def __init__(self, committer: Committer, copy_history: CopyHistory) -> None:
        self._cluster = committer.cluster
        self._work = committer.work
        self._copy_history = copy_history

    def of(self, unit: str, ended: Mapping[str, str] = NO_COPIES) -> View:
        """What is known of a unit at this moment; it has to be made anew whenever something may have changed."""
        cluster = self._cluster
        return View(
            cluster.ranking,
            cluster.open,
            cluster.active.get(unit, ()),
            cluster.queued.get(unit, ()),
            cluster.undecided.get(unit, ()),
            cluster.standing.get(unit, ()),
            len(cluster.waiting.get(unit, ())),
            cluster.last_machine.get(unit, ""),
            ended,
            self._work.cancels,
        )

    async def ended_copies(self, prefix: str, *, lost: bool = True) -> Mapping[str, str]:
        """By id, the last machine of each ended copy of a fire time, with those that were `lost`. Raises StoreError."""
        return await self._copy_history.ended(prefix, lost=lost)

    def carry_on(self, unit: str, last_machine: str) -> None:
        """LoadBalancing=round-robin of a unit goes on after this machine; an empty one changes nothing."""
        if last_machine:
            self._cluster.last_machine[unit] = last_machine

    def cancel(self, cancelled: Mapping[str, Reason]) -> None:
        """Have executions end, for the reasons given; one that is to end already keeps its reason."""
        for execution_id, reason in cancelled.items():
            self._work.cancels.setdefault(execution_id, reason)
