"""What must not stay where it is: on a machine that is drained, that does not fit any more, or that a peer has left."""

import msgspec

from xchronos.clock import SECOND, Instant, Micros, to_instant
from xchronos.engine.committer import Committer
from xchronos.engine.reconcile.completions import Completions
from xchronos.engine.state.cluster_state import OpenExecution
from xchronos.model.records import Machine
from xchronos.registry.keys import unit_of
from xchronos.scheduler.feasibility import MachineView, displaced, unfit
from xchronos.scheduler.rejections import words_of

LOOK_AGAIN: Micros = SECOND
"""How often a draining machine is looked at: for its deadline, and for what another scheduler has just put there."""


class Evictions:
    """Has executions leave their machines: at once what has not begun, else by asking the machine's agent."""

    def __init__(self, committer: Committer, completions: Completions) -> None:
        self._committer = committer
        self._completions = completions
        self._draining: dict[str, Instant] = {}
        self._unsettled: set[str] = set()
        """Peers of which something that follows them is on another machine still."""

    def look(self, changed: set[str], now: Instant) -> None:
        """Look at what is on machines whose record has changed, and on those that are being drained."""
        machines = self._committer.cluster.machines
        for name in changed:
            view = machines.get(name)
            if view is not None and view.machine.drain_until is not None:
                self._draining[name] = now
            else:
                self._draining.pop(name, None)
        # (One that seems further away was set before the clock was set back.)
        due = [name for name, at in self._draining.items() if at <= now or at > now + LOOK_AGAIN]
        for name in sorted({*changed, *due}):
            view = machines.get(name)
            if view is None:
                self._draining.pop(name, None)
                continue
            if name in self._draining:
                self._draining[name] = now + LOOK_AGAIN
            self._look_at(view, now)

    def _look_at(self, view: MachineView, now: Instant) -> None:
        cluster = self._committer.cluster
        for execution_id, entry in list(cluster.on_machine(view.machine.id)):
            if self._committer.fence(unit_of(execution_id)) is None or entry.reported:
                continue
            reason = _why(view.machine, entry, now)
            if reason and not self._leave(execution_id, entry, reason, now):
                self._committer.work.changed_machines.add(entry.machine)

    def make_way(self, now: Instant) -> None:
        """Units have come to machines: what depends on them (MachineOf=) follows, and whom they replace goes."""
        cluster = self._committer.cluster
        arrived, cluster.arrived = cluster.arrived, set()
        displacing, cluster.displacing = cluster.displacing, set()
        self._follow(arrived, now)
        for machine, execution_id in sorted(displacing):
            self._displace(machine, cluster.open.get(execution_id), now)

    def _displace(self, machine: str, entry: OpenExecution | None, now: Instant) -> None:
        view = self._committer.cluster.machines.get(machine)
        if view is None or entry is None or entry.machine != machine or entry.unit is None:
            return
        gone = set(displaced(entry.unit, view))
        for execution_id, other in list(self._committer.cluster.on_machine(machine)) if gone else ():
            name = unit_of(execution_id)
            if name in gone and self._committer.fence(name) is not None and not other.reported:
                reason = f"{entry.unit.name} replaces it (Replaces=)"
                if not self._leave(execution_id, other, reason, now):
                    self._committer.cluster.displacing.add((machine, entry.execution.id))

    def _follow(self, arrived: set[str], now: Instant) -> None:
        committer, cluster = self._committer, self._committer.cluster
        unsettled, self._unsettled = self._unsettled, set()
        for peer in sorted(arrived | unsettled):
            for execution_id in sorted(cluster.followers.get(peer, ())):
                entry = cluster.open[execution_id]
                if not entry.machine:
                    # Once is enough: who wakes at every turn takes them without end.
                    if peer in arrived:
                        committer.work.look.add(execution_id)
                        committer.work.wake()
                    continue
                view, unit = cluster.machines.get(entry.machine), entry.unit
                if unit is None or not unit.keep_running:
                    continue
                if view is None:
                    # It is either given up, or its machine comes back and has to be compared with the peer's.
                    self._unsettled.add(peer)
                    continue
                if peer in view.running:
                    if self._moves_away(peer, entry.machine):
                        self._unsettled.add(peer)
                    continue
                if committer.fence(unit.name) is not None and not entry.reported:
                    reason = f"{peer} is on another machine now (MachineOf)"
                    if not self._leave(execution_id, entry, reason, now):
                        self._unsettled.add(peer)

    def _moves_away(self, peer: str, machine: str) -> bool:
        """Whether a unit is about to leave a machine, and is on another one already: its new life, as a rule."""
        cluster = self._committer.cluster
        here = True
        elsewhere = False
        for execution_id in cluster.active.get(peer, ()):
            entry = cluster.open[execution_id]
            if entry.machine == machine:
                here = here and bool(entry.execution.stop_requested)
            elif entry.machine:
                elsewhere = True
        return here and elsewhere

    def _leave(self, execution_id: str, entry: OpenExecution, reason: str, now: Instant) -> bool:
        """Have it leave. True: it was asked before, or is to end anyhow; else it is looked at until it has left."""
        if entry.busy:
            return False
        execution, current = entry.execution, entry.execution.current
        if execution.stop_requested or current is None or current.leave:
            return True
        if execution.state == "placed":
            self._completions.take_back(execution_id, entry, reason, now)
        else:
            asked = msgspec.structs.replace(execution, current=msgspec.structs.replace(current, leave=reason))
            self._committer.move(execution_id, entry, asked)
        return False


def _why(machine: Machine, entry: OpenExecution, now: Instant) -> str:
    """Why an execution must leave its machine; empty when it may stay."""
    unit, until = entry.unit, machine.drain_until
    if until is not None and (
        entry.execution.state == "placed" or (unit is not None and unit.keep_running) or to_instant(until) <= now
    ):
        why = f": {machine.cordon_reason}" if machine.cordon_reason else ""
        return f"{machine.id} is being drained{why}"
    if unit is None:
        return ""
    # An engine that does not answer just now is no reason: its containers run on.
    against = [reason for reason in unfit(unit, machine) if reason.code != "docker"]
    return f"{machine.id} {words_of(against)}" if against else ""
