"""Which machines take a fire time's copies: the best among those that can."""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from xchronos.model.unit import Unit
from xchronos.scheduler.feasibility import MachineView, fits
from xchronos.scheduler.ranking import Ranking
from xchronos.scheduler.rejections import Rejection, summary


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
        elif reasons := fits(unit, view):
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
