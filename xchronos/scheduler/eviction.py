"""What must not stay on its machine: that is drained or fits no more, a peer has left it, another unit replaces it."""

from collections.abc import Iterable
from typing import Literal

from xchronos.clock import Instant, to_instant
from xchronos.model.records import Execution, Machine
from xchronos.model.unit import Unit
from xchronos.scheduler.feasibility import MachineView, displaced, unfit
from xchronos.scheduler.reasons import Reason, because
from xchronos.scheduler.rejections import words_of
from xchronos.scheduler.view import HeldExecution

Way = Literal["leaves", "take back", "ask"]
"""How an execution leaves: it was asked before or ends anyhow; the scheduler takes it back, as its agent has not begun
it; or its agent is asked to end the attempt."""


def must_leave(unit: Unit | None, machine: Machine, execution: Execution, now: Instant) -> Reason | None:
    """Why an execution must leave its machine, whose record is `machine`; None when it may stay.

    A drain moves immediately what was not begun and what is kept running; the rest has until `drain_until`. `unit` is
    None when nothing is known of it.
    """
    until = machine.drain_until
    moves = execution.state == "placed" or (unit is not None and unit.keep_running)
    if until is not None and (moves or to_instant(until) <= now):
        why = f": {machine.cordon_reason}" if machine.cordon_reason else ""
        return because("drained", machine=machine.id, why=why)
    if unit is None:
        return None
    # An engine that does not answer just now is no reason: its containers run on.
    against = [rejection for rejection in unfit(unit, machine) if rejection.code != "docker"]
    return because("machine-refuses", machine=machine.id, why=words_of(against)) if against else None


def way_out(execution: Execution) -> Way:
    """How an execution that must leave its machine does so."""
    current = execution.current
    if execution.stop_requested or current is None or current.leave:
        return "leaves"
    return "take back" if execution.state == "placed" else "ask"


def replaces_others(unit: Unit | None) -> bool:
    """Whether units have to leave a machine when this one comes (`Replaces=`)."""
    return unit is not None and bool(unit.requirements.replaces)


def whom_it_replaces(unit: Unit, view: MachineView) -> tuple[frozenset[str], Reason]:
    """The units that have to leave a machine because `unit` is there, and why."""
    return frozenset(displaced(unit, view)), because("replaced-by-unit", by=unit.name)


def peers(unit: Unit | None) -> tuple[str, ...]:
    """The units that this one has to be beside (`MachineOf=`)."""
    return unit.requirements.peers if unit is not None else ()


def follows_its_peer(unit: Unit | None) -> bool:
    """Whether it moves after a peer that is on another machine now; a run that ends by itself stays."""
    return unit is not None and unit.keep_running


def peer_is_elsewhere(peer: str) -> Reason:
    """Why what follows a peer has to leave a machine."""
    return because("follows-peer", peer=peer)


def moves_away(executions: Iterable[HeldExecution], machine: str) -> bool:
    """Whether a unit is about to leave a machine, and is on another one already: its new life, as a rule.

    `executions` are all that there is of the unit.
    """
    leaves, elsewhere = True, False
    for held in executions:
        if held.machine == machine:
            leaves = leaves and bool(held.execution.stop_requested)
        elif held.machine:
            elsewhere = True
    return leaves and elsewhere
