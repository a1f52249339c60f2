"""Where fleet would put a unit: may this machine run it, and which machine is loaded least.

Pure functions over what is known, worded as fleet words its refusals. The scheduler of xchronos has more to weigh;
what it shares with fleet is `metadata_unmet`, `matches_id`, `has_conflict` and `has_replace`.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal, TypeAlias

import msgspec

from xchronos.unitfile.fleet.requirements import FleetRequirements, MetadataTerm, go_quote
from xchronos.unitfile.glob import glob_matches

Action: TypeAlias = Literal["schedule", "unschedule", "reschedule"]

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")


class FleetMachine(msgspec.Struct, frozen=True):
    """A machine as fleet's scheduler sees it: `units` are those placed there, in the order they are looked at."""

    id: str
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    units: dict[str, FleetRequirements] = msgspec.field(default_factory=dict)


def matches_id(machine_id: str, wanted: str) -> bool:
    """Whether `wanted` is the machine's id or its short form, the first 8 characters."""
    return wanted in (machine_id, machine_id[:8])


def metadata_unmet(requirements: FleetRequirements, metadata: Mapping[str, str]) -> list[str]:
    """The pairs that a machine's metadata do not meet, as written; alternatives joined by `|`.

    A machine without the key meets only `!=`. Both sides of `!= >= <= > <` are compared as numbers when they are.
    """
    unmet = [
        "|".join(f"{key}={value}" for value in values)
        for key, values in requirements.metadata.items()
        if metadata.get(key) not in values
    ]
    if requirements.terms:
        unmet.extend(str(term) for term in requirements.terms if not _holds(term, metadata.get(term.key)))
    return unmet


def _holds(term: MetadataTerm, actual: str | None) -> bool:
    if actual is None:
        return term.operator == "!="
    left: Decimal | str = actual
    right: Decimal | str = term.value
    if _NUMBER.fullmatch(actual) and _NUMBER.fullmatch(term.value):
        left, right = Decimal(actual), Decimal(term.value)
    order = (left > right) - (left < right)  # type: ignore[operator]  # both are of the same type
    match term.operator:
        case "!=":
            return order != 0
        case ">=":
            return order >= 0
        case "<=":
            return order <= 0
        case ">":
            return order > 0
        case _:
            return order < 0


def has_conflict(name: str, conflicts: Iterable[str], running: Mapping[str, FleetRequirements]) -> str | None:
    """The unit named by the first conflict with a running unit, or None.

    A conflict that the *running* unit declares is named after `name` itself, as fleet reports it.
    """
    wanted = tuple(conflicts)
    for other, asked in running.items():
        if other == name:
            continue
        if any(glob_matches(pattern, name) for pattern in asked.conflicts):
            return name
        if any(glob_matches(pattern, other) for pattern in wanted):
            return other
    return None


def has_replace(name: str, replaces: Iterable[str], running: Mapping[str, FleetRequirements]) -> str | None:
    """The first running unit that `name` replaces or that replaces `name`; two that replace each other do neither."""
    wanted = tuple(replaces)
    for other, asked in running.items():
        if other == name:
            continue
        ours = any(glob_matches(pattern, other) for pattern in wanted)
        theirs = any(glob_matches(pattern, name) for pattern in asked.replaces)
        if ours != theirs:
            return other
    return None


def able_to_run(machine: FleetMachine, name: str, requirements: FleetRequirements) -> tuple[Action, str]:
    """Whether the machine may run the unit beside what it runs, and fleet's words for why not."""
    target = requirements.machine_id
    if target is not None and not matches_id(machine.id, target):
        return "unschedule", f"agent ID {go_quote(machine.id)} does not match required {go_quote(target)}"
    if metadata_unmet(requirements, machine.metadata):
        return "unschedule", "local Machine metadata insufficient"
    for peer in requirements.peers:
        if peer not in machine.units:
            return "unschedule", f"required peer Unit({peer}) is not scheduled locally"
    conflict = has_conflict(name, requirements.conflicts, machine.units)
    if conflict is not None:
        return "unschedule", f"found conflict with locally-scheduled Unit([{conflict}])"
    replaced = has_replace(name, requirements.replaces, machine.units)
    if replaced is not None:
        return "reschedule", f"found replace with locally-scheduled Unit({replaced})"
    return "schedule", ""


def with_global_units(machines: Iterable[FleetMachine], units: Mapping[str, FleetRequirements]) -> list[FleetMachine]:
    """The machines with the global units among `units` added wherever their metadata and conflicts allow it."""
    filled: list[FleetMachine] = []
    for machine in machines:
        present = dict(machine.units)
        for name, asked in units.items():
            fits = asked.is_global and not metadata_unmet(asked, machine.metadata)
            if fits and has_conflict(name, asked.conflicts, present) is None:
                present[name] = asked
        filled.append(msgspec.structs.replace(machine, units=present))
    return filled


def schedule(machines: Iterable[FleetMachine], name: str, requirements: FleetRequirements) -> tuple[str | None, str]:
    """Fleet's least-loaded choice: the able machine with the fewest units, the smallest id on a tie.

    Returns its id and no reason, or None and why.
    """
    ranked = sorted(machines, key=lambda machine: (len(machine.units), machine.id))
    if not ranked:
        return None, "zero agents available"
    for machine in ranked:
        if able_to_run(machine, name, requirements)[0] != "unschedule":
            return machine.id, ""
    return None, "no agents able to run job"
