"""Which machine an execution goes to: what `scheduler.placement` says, and what it has to know for that."""

from collections.abc import Collection, Iterable, Sequence

from xchronos.engine.committer import Committer
from xchronos.engine.state.cluster_state import fire_prefix
from xchronos.engine.state.copy_history import CopyHistory
from xchronos.model.records import Execution
from xchronos.model.unit import Unit
from xchronos.scheduler.feasibility import MachineView
from xchronos.scheduler.placement import PlacementDecision, place
from xchronos.scheduler.ranking import Ranking


class MachineChoice:
    """Chooses machines, by what the book and the history say of where executions are and have been."""

    def __init__(self, committer: Committer, copies: CopyHistory) -> None:
        self._committer = committer
        self._copy_history = copies

    def choose(
        self,
        unit: Unit,
        execution_id: str,
        views: Iterable[MachineView] | Ranking,
        *,
        copies: int | None = None,
        taken: Collection[str] = (),
        avoid: Sequence[str] = (),
    ) -> PlacementDecision:
        """Machines for copies of a unit; round-robin goes on from there."""
        cluster = self._committer.cluster
        last = cluster.last_machine.get(unit.name, "")
        chosen = place(unit, views, copies=copies, taken=taken, avoid=avoid, seed=execution_id, last=last)
        if unit.load_balancing == "round-robin" and chosen.machines:
            cluster.last_machine[unit.name] = chosen.machines[-1]
        return chosen

    def homes(self, unit: str) -> set[str]:
        """The machines that have an execution of a unit, or had it last."""
        entries = [self._committer.cluster.open[execution_id] for execution_id in self._committer.cluster.of_unit(unit)]
        placed = {entry.machine for entry in entries if entry.machine}
        return placed | {
            entry.execution.attempts[-1].machine for entry in entries if not entry.machine and entry.execution.attempts
        }

    async def machines_of_copies(self, unit: Unit, execution_id: str) -> set[str]:
        """The machines that the other copies of the same fire time have, or have had.

        Of a unit that is kept running, those of all others: a copy may have been added, or stopped and started again.
        """
        taken: set[str] = set()
        cluster = self._committer.cluster
        for sibling in cluster.of_unit(unit.name) if unit.keep_running else cluster.siblings(execution_id):
            if sibling == execution_id:
                continue
            entry = cluster.open[sibling]
            attempts = entry.execution.attempts if not entry.machine else ()
            if entry.machine or attempts:
                taken.add(entry.machine or attempts[-1].machine)
        if (unit.availability > 1 or unit.is_global) and not unit.keep_running:
            ended = await self._copy_history.ended(fire_prefix(execution_id))
            taken.update(machine for other, machine in ended.items() if other != execution_id)
        return taken

    def again(self, unit: Unit, execution_id: str, execution: Execution, taken: Collection[str]) -> PlacementDecision:
        """A machine for one copy by itself: not one of the other copies', and a retry goes elsewhere."""
        cluster = self._committer.cluster
        tried = [attempt.machine for attempt in reversed(execution.attempts)]
        if tried and (unit.is_global or unit.keep_running):
            # Every machine has its own copy of a Global unit; and what is kept running stays where it is, if it can.
            home = cluster.machines.get(tried[0])
            chosen = self.choose(unit, execution_id, [home] if home is not None else [], copies=1, taken=taken)
            if chosen.machines or unit.is_global:
                return chosen
        avoid = tuple(dict.fromkeys(tried))[::-1]
        return self.choose(unit, execution_id, cluster.ranking, copies=1, taken=taken, avoid=avoid)
