"""Where fleet would place a unit: whether a machine may run it, and which able machine has the fewest units.

The reasons are in fleet's words. The scheduler of xchronos decides by more facts than fleet did. It shares
`metadata_unmet`, `matches_id`, `has_conflict` and `has_replace` with this module.
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
    """A machine as fleet's scheduler sees it. `units` are those placed on it, in the order of the checks."""

    id: str
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    units: dict[str, FleetRequirements] = msgspec.field(default_factory=dict)


def matches_id(machine_id: str, wanted: str) -> bool:
    """Whether `wanted` is the machine's id or its short form, which is the first 8 characters."""
    return wanted in (machine_id, machine_id[:8])


def metadata_unmet(requirements: FleetRequirements, metadata: Mapping[str, str]) -> list[str]:
    """The pairs that a machine's metadata do not meet, as written. Alternatives are joined by `|`.

    A machine without the key meets only `!=`. For `!= >= <= > <`, the two sides are compared as numbers if both are
    numbers, else as text.
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
    """The first conflict between the unit `name` and a running unit, or None.

    If `name` declares the conflict, the result is the running unit's name. If the running unit declares it, the result
    is `name` itself, because fleet reports it so.
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
    """The first running unit that `name` replaces or that replaces `name`, or None.

    Two units that replace each other do not count.
    """
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
    """Whether the machine may run the unit beside its other units, and fleet's words for why not.

    "reschedule" means that the machine may run it, and a unit that is replaced has to leave.
    """
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
    """The machines, each with those global units of `units` added that its metadata and their conflicts allow."""
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
    """Fleet's choice: of the machines that may run the unit, the one with the fewest units. On a tie the smallest id.

    Returns the machine's id and an empty reason, or None and the reason.
    """
    ranked = sorted(machines, key=lambda machine: (len(machine.units), machine.id))
    if not ranked:
        return None, "zero agents available"
    for machine in ranked:
        if able_to_run(machine, name, requirements)[0] != "unschedule":
            return machine.id, ""
    return None, "no agents able to run job"
