"""What a benchmark says: a figure, what it compares with in the same run, and its goals."""

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEADINGS = ("benchmark", "figure", "goal", "beside", "ratio", "goal")
_RELATIONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is the figure over that of the `reference`, `goal` what it should be, like `<= 20`.

    `ratio_goal` is the goal of the ratio: the one to trust where other work shares the machine.
    """

    name: str
    value: float
    unit: str = ""
    goal: str = ""
    reference: str = ""
    ratio: float | None = None
    ratio_goal: str = ""

    @property
    def missed(self) -> bool:
        """Whether a goal is missed."""
        return not _met(self.value, self.goal) or not _met(self.ratio, self.ratio_goal)

    def cells(self) -> tuple[str, ...]:
        """The row as the table shows it."""
        return (
            self.name,
            f"{figure(self.value)} {self.unit}".strip(),
            self.goal + ("" if _met(self.value, self.goal) else " MISSED"),
            self.reference,
            figure(self.ratio),
            self.ratio_goal + ("" if _met(self.ratio, self.ratio_goal) else " MISSED"),
        )


def _met(value: float | None, goal: str) -> bool:
    if not goal:
        return True
    relation, _, limit = goal.partition(" ")
    return value is not None and bool(_RELATIONS[relation](value, float(limit)))


def figure(value: float | None) -> str:
    """Three digits that count, and separators of thousands; empty for None."""
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def table(headings: Sequence[str], lines: Iterable[Sequence[str]], *, markdown: bool = False) -> str:
    """Aligned columns."""
    everything = [headings, *lines]
    widths = [max(len(line[column]) for line in everything) for column in range(len(headings))]
    if markdown:
        everything.insert(1, ["-" * width for width in widths])
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in everything]
    return "\n".join(f"| {' | '.join(line)} |" if markdown else "  ".join(line).rstrip() for line in padded)
