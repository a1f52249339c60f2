"""What must not stay where it is: on a machine that is drained, that does not fit any more, or that a peer has left."""

import msgspec

from xchronos.clock import SECOND, Instant, Micros
from xchronos.engine.committer import Committer
from xchronos.engine.reconcile.lost import LostAttempts
from xchronos.engine.state.open_execution import OpenExecution
from xchronos.registry.keys import unit_of
from xchronos.scheduler.eviction import (
    follows_its_peer,
    moves_away,
    must_leave,
    peer_is_elsewhere,
    way_out,
    whom_it_replaces,
)
from xchronos.scheduler.feasibility import MachineView
from xchronos.scheduler.reasons import Reason

DRAINING_LOOKED_AT_EVERY: Micros = SECOND
"""How often a draining machine is looked at: for its deadline, and for what another scheduler has just put there."""


class Evictions:
    """Has executions leave their machines: immediately what has not begun, else by asking the machine's agent."""

    def __init__(self, committer: Committer, lost: LostAttempts) -> None:
        self._committer = committer
        self._lost = lost
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
        due = [name for name, at in self._draining.items() if at <= now or at > now + DRAINING_LOOKED_AT_EVERY]
        for name in sorted({*changed, *due}):
            view = machines.get(name)
            if view is None:
                self._draining.pop(name, None)
                continue
            if name in self._draining:
                self._draining[name] = now + DRAINING_LOOKED_AT_EVERY
            self._look_at(view, now)

    def _look_at(self, view: MachineView, now: Instant) -> None:
        if not view.machine.reads.level:
            # Its record cannot be read here: what it has, and what is wanted of it, is not known.
            return
        for execution_id, entry in list(self._committer.cluster.on_machine(view.machine.id)):
            if self._committer.fence(unit_of(execution_id)) is None or entry.reported:
                continue
            reason = must_leave(entry.unit, view.machine, entry.execution, now)
            if reason is not None and not self._leave(execution_id, entry, reason, now):
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
        cluster = self._committer.cluster
        view = cluster.machines.get(machine)
        if view is None or entry is None or entry.machine != machine or entry.unit is None:
            return
        gone, reason = whom_it_replaces(entry.unit, view)
        for execution_id, other in list(cluster.on_machine(machine)) if gone else ():
            name = unit_of(execution_id)
            is_ours = self._committer.fence(name) is not None
            if name in gone and is_ours and not other.reported and not self._leave(execution_id, other, reason, now):
                cluster.displacing.add((machine, entry.execution.id))

    def _follow(self, arrived: set[str], now: Instant) -> None:
        committer, cluster = self._committer, self._committer.cluster
        unsettled, self._unsettled = self._unsettled, set()
        for peer in sorted(arrived | unsettled):
            for execution_id in sorted(cluster.followers.get(peer, ())):
                entry = cluster.open[execution_id]
                if entry.machine:
                    if self._stays_apart(peer, execution_id, entry, now):
                        self._unsettled.add(peer)
                elif peer in arrived:
                    # Once is enough: who wakes at every turn takes them without end.
                    committer.work.look.add(execution_id)
                    committer.work.wake()

    def _stays_apart(self, peer: str, execution_id: str, entry: OpenExecution, now: Instant) -> bool:
        """Have what follows a peer leave a machine that the peer is not on. Whether it has to be looked at again."""
        cluster = self._committer.cluster
        view, unit = cluster.machines.get(entry.machine), entry.unit
        if unit is None or not follows_its_peer(unit):
            return False
        if view is None:
            # It is either given up, or its machine comes back and has to be compared with the peer's.
            return True
        if peer in view.running:
            return moves_away([cluster.open[other] for other in cluster.active.get(peer, ())], entry.machine)
        if self._committer.fence(unit.name) is None or entry.reported:
            return False
        return not self._leave(execution_id, entry, peer_is_elsewhere(peer), now)

    def _leave(self, execution_id: str, entry: OpenExecution, reason: Reason, now: Instant) -> bool:
        """Have it leave. True: it was asked before, or is to end anyhow; else it is looked at until it has left."""
        if entry.busy:
            return False
        execution = entry.execution
        way = way_out(execution)
        if way == "take back":
            self._lost.take_back(execution_id, entry, reason, now)
        elif way == "ask":
            assert execution.current is not None
            current = msgspec.structs.replace(execution.current, leave=reason.text)
            self._committer.move(execution_id, entry, msgspec.structs.replace(execution, current=current))
        return way == "leaves"
