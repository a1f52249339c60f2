"""Two checkouts compared: the same benchmark of each in turns, and the ratios of their figures.

What else the machine does meets two runs alike that follow one another. So each run here is held against the run there
that comes next, and what is told is the median of these ratios, not the ratio of two medians.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.benchmarks.rows import Row, figure

HEADINGS = ("benchmark", "here", "there", "here / there", "of the pairs", "beside", "of the ratios")
_SAME = "the same"


class Key(NamedTuple):
    """What rows of two runs have in common when they tell the same."""

    name: str
    unit: str
    reference: str


@dataclass(frozen=True)
class Comparison:
    """One figure here and there: the medians of both, and the ratios here / there of the runs that make a pair.

    Where only one of the checkouts has the figure, there are no ratios.
    """

    key: Key
    here: float | None
    there: float | None
    ratios: tuple[float, ...]
    beside: tuple[float, ...]
    """The same of what the figures come to beside their reference; empty where they have none."""

    @property
    def ratio(self) -> float | None:
        """The median of the ratios."""
        return median(self.ratios) if self.ratios else None

    def cells(self) -> tuple[str, ...]:
        """The comparison as the table shows it."""
        return (
            self.key.name,
            f"{figure(self.here)} {self.key.unit}".strip() if self.here is not None else "none",
            f"{figure(self.there)} {self.key.unit}".strip() if self.there is not None else "none",
            figure(self.ratio),
            f"{figure(min(self.ratios))} to {figure(max(self.ratios))}" if self.ratios else "",
            self.key.reference,
            figure(median(self.beside)) if self.beside else "",
        )


def by_key(rows: Iterable[Row]) -> dict[Key, Row]:
    """The rows by what they tell; "the same, ..." continues the last name that does not begin so.

    Raises:
        ValueError: two rows tell the same, so nobody could say which belongs to which.
    """
    found: dict[Key, Row] = {}
    last = ""
    for row in rows:
        if not row.name.startswith(_SAME):
            last = row.name
        key = Key(row.name.replace(_SAME, last, 1) if row.name.startswith(_SAME) else row.name, row.unit, row.reference)
        if key in found:
            raise ValueError(f"two rows are called {key.name!r}")
        found[key] = row
    return found


def compare(pairs: Iterable[tuple[Sequence[Row], Sequence[Row]]]) -> list[Comparison]:
    """What runs say that were made in pairs, here and there: a comparison of each figure, in the order of the rows."""
    runs = [(by_key(here), by_key(there)) for here, there in pairs]
    keys = dict.fromkeys(key for sides in runs for side in sides for key in side)
    comparisons = []
    for key in keys:
        here, there = ([run[side][key] for run in runs if key in run[side]] for side in (0, 1))
        both = [(ours[key], theirs[key]) for ours, theirs in runs if key in ours and key in theirs]
        comparisons.append(
            Comparison(
                key,
                median(row.value for row in here) if here else None,
                median(row.value for row in there) if there else None,
                tuple(_ratio(one.value, other.value) for one, other in both),
                tuple(
                    _ratio(one.ratio, other.ratio)
                    for one, other in both
                    if one.ratio is not None and other.ratio is not None
                ),
            )
        )
    return comparisons


def _ratio(here: float, there: float) -> float:
    if there:
        return here / there
    return math.inf if here else 1.0


def rows_of(checkout: Path, name: str, *, tiny: bool = False) -> list[Row]:
    """The rows of one benchmark of a checkout, run in a process of its own that has only that checkout's code.

    Raises:
        RuntimeError: it did not come to its end; with the last line of its errors, and all of them in a note.
    """
    command = [sys.executable, "-P", str(Path(__file__).with_name("alone.py")), name, *(["--tiny"] if tiny else [])]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        error = RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        error.add_note(done.stderr)
        raise error
    return [
        Row(row["name"], row["value"], row["unit"], reference=row["reference"], ratio=row["ratio"])
        for row in json.loads(done.stdout.splitlines()[-1])
    ]


def in_turns(here: Path, there: Path, name: str, pairs: int, *, tiny: bool = False) -> list[Comparison]:
    """Run a benchmark of two checkouts so many times each, one after the other, and compare.

    Raises:
        RuntimeError: a run did not come to its end.
    """
    return compare([(rows_of(here, name, tiny=tiny), rows_of(there, name, tiny=tiny)) for _ in range(pairs)])
