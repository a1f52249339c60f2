"""Executions that are taken from their machines: those are gone, or their agents have not begun what must leave."""

from collections.abc import Sequence

from xchronos.clock import Instant
from xchronos.engine.committer import Committer
from xchronos.engine.state.open_execution import OpenExecution
from xchronos.model.records import Execution
from xchronos.registry.keys import unit_of
from xchronos.scheduler.completion import lose, take_back
from xchronos.scheduler.reasons import Reason
from xchronos.store.contract import Guard


class LostAttempts:
    """Brings executions back from their machines: to wait for other ones, or to their end."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer

    def lose_machines(self, now: Instant) -> None:
        """What was placed on machines that are gone goes back."""
        work, cluster = self._committer.work, self._committer.cluster
        work.lost_machines -= set(cluster.machines)
        for machine in sorted(work.lost_machines):
            left = False
            for execution_id, entry in list(cluster.on_machine(machine)):
                if self._committer.fence(unit_of(execution_id)) is None:
                    continue
                left = True
                if not entry.busy and not entry.reported:
                    lost = lose(entry.unit, entry.execution, now, self._cancelled(execution_id))
                    # Refused when the machine is back.
                    self._bring_back(execution_id, entry, lost, [Guard(self._committer.keys.machine(machine), 0)])
            if not left:
                work.lost_machines.discard(machine)

    def take_back(self, execution_id: str, entry: OpenExecution, reason: Reason, now: Instant) -> None:
        """Take an execution from its machine, whose agent has not begun it yet; refused when it has."""
        back = take_back(entry.unit, entry.execution, reason, now, self._cancelled(execution_id))
        self._bring_back(execution_id, entry, back, ())

    def _cancelled(self, execution_id: str) -> Reason | None:
        return self._committer.work.cancels.pop(execution_id, None)

    def _bring_back(self, execution_id: str, entry: OpenExecution, back: Execution, guards: Sequence[Guard]) -> None:
        self._committer.move(execution_id, entry, back, extra=guards)
