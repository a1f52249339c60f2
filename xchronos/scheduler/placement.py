"""Which machines take a fire time's copies: the best of those that can, and none that another copy has or has had."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from xchronos.model.records import Execution
from xchronos.model.unit import Unit
from xchronos.scheduler.feasibility import MachineView, fits
from xchronos.scheduler.ranking import Ranking
from xchronos.scheduler.rejections import Rejection, summary
from xchronos.scheduler.view import View, fire_prefix


class PlacementDecision(msgspec.Struct, frozen=True):
    """The machines chosen, one per copy, best first; how many copies found none.

    `rejections` are why other machines are refused: all of them when a copy found none, and of a Global unit; else
    nobody has looked at all machines.
    """

    machines: tuple[str, ...]
    unplaced: int = 0
    rejections: tuple[Rejection, ...] = ()

    @property
    def summary(self) -> str:
        """`1 unplaced: 2 machines lack region=us-east-1, 1 already runs a copy`; empty when nothing is unplaced."""
        return f"{self.unplaced} unplaced: {summary(self.rejections)}" if self.unplaced else ""


def place(
    unit: Unit,
    views: Iterable[MachineView] | Ranking,
    *,
    copies: int | None = None,
    taken: Collection[str] = (),
    avoid: Sequence[str] = (),
    seed: str = "",
    last: str = "",
    own: str = "",
) -> PlacementDecision:
    """Choose a machine for each of `copies` copies of one fire time (default: Availability), all distinct.

    A Global unit gets one on every machine that fits, whatever `copies` says; if that is none and none is `taken`, one
    copy counts as unplaced.

    Args:
        unit: What is to run.
        views: Every machine that is alive. A Ranking of them is looked at no further than necessary.
        copies: How many copies to place.
        taken: Ids of machines that other copies of the same fire time hold.
        avoid: Ids of machines to come back to only if no other fits, oldest first (a retry goes elsewhere).
        seed: Decides LoadBalancing=random; the execution's id. The same seed gives the same choice anywhere.
        last: Where LoadBalancing=round-robin went last.
        own: The machine whose room the copy keeps already (see `keeps_its_machine`).
    """
    ranking = views if isinstance(views, Ranking) else Ranking(views)
    wanted = len(ranking.views) if unit.is_global else unit.availability if copies is None else copies
    tried = {machine: position for position, machine in enumerate(avoid)}
    chosen: list[str] = []
    second: list[tuple[int, MachineView]] = []
    rejections: list[Rejection] = []

    def consider(view: MachineView) -> None:
        if view.machine.id in taken:
            rejections.append(Rejection(view.machine.id, "copy"))
        elif reasons := fits(unit, view.without(unit.name) if view.machine.id == own else view):
            rejections.extend(reasons)
        else:
            chosen.append(view.machine.id)

    for view in ranking.ordered(unit, seed, last):
        if len(chosen) == wanted:
            break
        if view.machine.id in tried:
            second.append((tried[view.machine.id], view))
        else:
            consider(view)
    for _, view in sorted(second, key=lambda ranked: ranked[0]):
        if len(chosen) == wanted:
            break
        consider(view)
    if unit.is_global:
        wanted = max(len(chosen), 0 if taken else 1)
    missing = wanted - len(chosen)
    return PlacementDecision(tuple(chosen), missing, tuple(rejections) if missing or unit.is_global else ())


def stands(unit: Unit) -> bool:
    """Whether a start of the unit stands until it is stopped: each machine gets a copy once, whenever it comes to fit.

    A fire time of a Global unit is for the machines of its moment, and one that is kept running needs no start.
    """
    return unit.is_global and not unit.triggers and not unit.keep_running


def last_machine_after(unit: Unit, decision: PlacementDecision, last: str) -> str:
    """Where LoadBalancing=round-robin has gone last when the decision is carried out; `last`: where it was before."""
    return decision.machines[-1] if unit.load_balancing == "round-robin" and decision.machines else last


def asks_history(unit: Unit) -> bool:
    """Whether a machine for an execution depends on where copies of the same fire time have run that have ended.

    Whoever decides about one then gives the view their machines (`View.ended`). What a unit that is kept running has
    had before is of no interest: its copies begin anew all the time.
    """
    return not unit.keep_running and (unit.availability > 1 or unit.is_global)


def keeps_its_machine(unit: Unit) -> bool:
    """Whether a copy of the unit that pauses between two attempts comes back to its machine, and so keeps its room.

    Every machine has its own copy of a Global unit, and what is kept running stays where it is. Any other retry goes
    elsewhere, if it can: it keeps nothing.
    """
    return unit.is_global or unit.keep_running


def machines_of_copies(unit: Unit, execution_id: str, view: View) -> set[str]:
    """The machines that the other copies of the same fire time have, or have had.

    Of a unit that is kept running, those of all others: a copy may have been added, or stopped and started again.
    """
    prefix = fire_prefix(execution_id)
    others = view.of_unit() if unit.keep_running else [one for one in view.active if one.startswith(prefix)]
    taken: set[str] = set()
    for other in others:
        held = view.open[other]
        if other == execution_id:
            continue
        if held.machine:
            taken.add(held.machine)
        elif held.execution.attempts:
            taken.add(held.execution.attempts[-1].machine)
    if not unit.keep_running:
        taken.update(machine for other, machine in view.ended.items() if other != execution_id)
    return taken


def place_one(unit: Unit, execution: Execution, view: View) -> PlacementDecision:
    """A machine for one copy by itself: none that another copy has or has had, and a retry goes elsewhere.

    A start of a Global unit that was not placed anywhere yet takes every machine that fits instead.
    """
    execution_id = execution.id
    if unit.is_global and not execution.attempts:
        taken = view.homes() if unit.keep_running else machines_of_copies(unit, execution_id, view)
        return place(unit, view.ranking, taken=taken, seed=execution_id, last=view.last_machine)
    taken = machines_of_copies(unit, execution_id, view)
    tried = [attempt.machine for attempt in reversed(execution.attempts)]
    more: dict[str, Any] = {"taken": taken, "seed": execution_id, "last": view.last_machine, "own": execution.home}
    if tried and keeps_its_machine(unit):
        home = view.ranking.views.get(tried[0])
        chosen = place(unit, [home] if home is not None else [], copies=1, **more)
        if chosen.machines or unit.is_global:
            return chosen
    avoid = tuple(dict.fromkeys(tried))[::-1]
    return place(unit, view.ranking, copies=1, avoid=avoid, **more)
