"""Why a machine is refused, and how many refusals read in one line."""

from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

Code = Literal[
    "cordoned",
    "reads",
    "machine-id",
    "metadata",
    "docker",
    "executor",
    "peer",
    "conflict",
    "replaced",
    "copy",
    "slots",
    "memory",
    "cpu",
]

PASSING: frozenset[Code] = frozenset(("docker", "peer", "conflict", "replaced", "slots", "memory", "cpu"))
"""Reasons that go away by themselves. The others last until somebody changes the machine, or wants something else."""

_PHRASES: dict[Code, tuple[str, str]] = {
    "cordoned": ("is cordoned", "are cordoned"),
    "reads": ("cannot read {}", "cannot read {}"),
    "machine-id": ("is not {}", "are not {}"),
    "metadata": ("lacks {}", "lack {}"),
    "peer": ("does not run {} (MachineOf)", "do not run {} (MachineOf)"),
    "conflict": ("is taken by a conflict with {}", "are taken by a conflict with {}"),
    "replaced": ("runs {}, which replaces it", "run {}, which replaces it"),
    "docker": ("has no usable Docker engine: {}", "have no usable Docker engine: {}"),
    "executor": ("does not allow the {}", "do not allow the {}"),
    "copy": ("already runs a copy", "already run a copy"),
    "slots": ("has no free slot", "have no free slot"),
    "memory": ("has less than {} of memory free", "have less than {} of memory free"),
    "cpu": ("has fewer than {} CPUs free", "have fewer than {} CPUs free"),
}
_ORDER = {code: position for position, code in enumerate(get_args(Code))}


class Rejection(msgspec.Struct, frozen=True):
    """One reason why a machine cannot take a unit.

    `detail` completes the phrase and is the same for every machine that is refused alike; `note` is what holds for
    this machine only.
    """

    machine: str
    code: Code
    detail: str = ""
    note: str = ""

    @property
    def message(self) -> str:
        """The reason in words, without the machine's name: `lacks region=us-east-1 (it has region=eu)`."""
        text = _PHRASES[self.code][0].format(self.detail)
        return f"{text} ({self.note})" if self.note else text


def summary(rejections: Iterable[Rejection]) -> str:
    """Counts per reason, the most frequent first: `2 machines lack region=us-east-1, 1 already runs a copy`.

    A machine that is refused for several reasons counts in each.
    """
    counts: dict[tuple[Code, str], int] = {}
    for rejection in rejections:
        key = (rejection.code, rejection.detail)
        counts[key] = counts.get(key, 0) + 1
    if not counts:
        return "no machine is alive"
    ranked = sorted(counts.items(), key=lambda item: (-item[1], _ORDER[item[0][0]], item[0][1]))
    parts = []
    for position, ((code, detail), count) in enumerate(ranked):
        noun = ("machine " if count == 1 else "machines ") if position == 0 else ""
        parts.append(f"{count} {noun}{_PHRASES[code][count > 1].format(detail)}")
    return ", ".join(parts)


def words_of(rejections: Iterable[Rejection]) -> str:
    """Several reasons of one machine, without its name: `lacks disk=ssd, has no free slot (2 of 2 are taken)`."""
    return ", ".join(rejection.message for rejection in rejections)


def by_machine(rejections: Iterable[Rejection]) -> dict[str, str]:
    """Every machine with all of its reasons, in the order they were found."""
    reasons: dict[str, list[Rejection]] = {}
    for rejection in rejections:
        reasons.setdefault(rejection.machine, []).append(rejection)
    return {machine: words_of(found) for machine, found in reasons.items()}
