"""What to do about what the directories hold, given what was done before and what is stored. All of it is pure.

`plan` answers which units must be read again, and which are gone for good. `judge` answers what becomes of a unit that
was read.
"""

import os.path
from collections.abc import Collection, Mapping
from typing import Literal

import msgspec

from xchronos.clock import Instant, Micros
from xchronos.intake.files import Content, Found, Stamp, source_of

CAREFUL = 5
"""How many settle times a unit must be gone, or empty, or without one of its files, before that is believed.

Editors and generators remove or empty a file before they write it anew
(`test_a_unit_that_is_emptied_for_a_moment_is_not_masked` in tests/intake/test_intake_bad_files.py).
"""


REMOVED_TOGETHER = 500
"""The units that are taken away by one plan. Then there is another look: a file may have come back, another changed."""


class Taken(msgspec.Struct, frozen=True):
    """What was last dealt with under a unit's name."""

    directory: str
    """The directory that has its main file."""

    stamps: tuple[Stamp, ...] = ()
    """The stamps of its files then; empty: the files must be read again."""

    revision: str = ""
    """The revision that is in force; empty: none is, or none of ours."""

    destroyed: bool = False
    """Whether somebody else (a person, its TTL) has since destroyed the unit. It stays away until its file changes."""


class Waiting(msgspec.Struct, frozen=True):
    """A change that has not settled."""

    stamps: tuple[Stamp, ...]
    """The stamps that the unit's files now have; empty: the unit is gone."""

    since: Micros
    """Since when they have been so, in microseconds of the monotonic clock."""


class Plan(msgspec.Struct, frozen=True):
    """What to do after one look."""

    read: list[Found]
    """The units to read."""

    gone: list[str]
    """The names of the units to take away, of many the first few: the others wait for the next look."""

    waiting: dict[str, Waiting]
    """The changes that have not settled, by the unit's name; the next `plan` is given them."""

    wait: Micros | None
    """How long it is until the first of them has settled, in microseconds; None: there is none."""


class Known(msgspec.Struct, frozen=True):
    """What the store holds under a name."""

    revision: str
    """A hash of what the unit's files say."""

    source: str
    """Where it came from: `api`, or `directory:` and a path."""

    by: str = ""
    """Who has submitted it: `intake@` and a machine, or a person."""

    drop_ins: tuple[str, ...] = ()
    """The paths of its drop-ins."""

    written: int = 0
    """The store's revision of the record."""


class IntakeVerdict(msgspec.Struct, frozen=True):
    """What becomes of a unit that was read."""

    action: Literal["submit", "keep", "conflict"]
    """Store it; leave what is stored; leave what is stored and report the file."""

    reason: str = ""
    """Why it is a conflict, for a person; empty: it is none."""


def plan(
    found: Mapping[str, Found],
    taken: Mapping[str, Taken],
    waiting: Mapping[str, Waiting],
    *,
    lost: Collection[str],
    wall: Instant,
    monotonic: Micros,
    settle: Micros,
) -> Plan:
    """Compare what is found with what was taken in.

    Args:
        found: The units that the directories describe, by name.
        taken: What was dealt with before, by name.
        waiting: The `Plan.waiting` of the look before.
        lost: The directories of which nothing is known for now. Nothing that was in them counts as gone.
        wall: The wall clock, for the age of files. If it is wrong, a file at most waits for `settle` from this look on.
        monotonic: The monotonic clock, in microseconds.
        settle: How long a file must not change before it is read, in microseconds.
    """
    read: list[Found] = []
    gone: list[str] = []
    still: dict[str, Waiting] = {}
    waits: list[Micros] = []

    def settled(name: str, stamps: tuple[Stamp, ...], need: Micros, age: Micros) -> bool:
        before = waiting.get(name)
        since = before.since if before is not None and before.stamps == stamps else monotonic
        left = need - max(age, monotonic - since)
        if left <= 0:
            return True
        still[name] = Waiting(stamps, since)
        waits.append(left)
        return False

    for name, unit in found.items():
        before = taken.get(name)
        if before is not None and before.stamps == unit.stamps:
            continue
        missing = _missing(before, unit)
        if _any_below(missing, lost) or (before is not None and before.directory in lost):
            continue
        need, age = settle, 0
        if missing or any(stamp.kind == "bad" for stamp in unit.stamps):
            need = settle * CAREFUL
        else:
            if any(stamp.kind == "file" and not stamp.size for stamp in unit.stamps):
                need = settle * CAREFUL
            age = wall - max(stamp.mtime_ns for stamp in unit.stamps) // 1_000
        if settled(name, unit.stamps, need, age):
            read.append(unit)
    for name, before in taken.items():
        if name not in found and before.directory not in lost and settled(name, (), settle * CAREFUL, 0):
            if len(gone) < REMOVED_TOGETHER:
                gone.append(name)
            else:
                still[name] = waiting.get(name) or Waiting((), monotonic - settle * CAREFUL)
                waits.append(0)
    return Plan(read, gone, still, min(waits, default=None))


def _missing(before: Taken | None, unit: Found) -> set[str]:
    """The paths of the files that the unit had, and does not have any more."""
    if before is None:
        return set()
    return {stamp.path for stamp in before.stamps} - {stamp.path for stamp in unit.stamps}


def _any_below(paths: Collection[str], directories: Collection[str]) -> bool:
    return any(path.startswith(f"{directory}{os.path.sep}") for path in paths for directory in directories)


def judge(
    content: Content, known: Known | None, *, directories: Collection[str], lost: Collection[str], by: str
) -> IntakeVerdict:
    """Whether a unit that was read is stored.

    A name belongs to the one who had it first. A unit that was submitted by other means, or comes from a directory that
    is not ours, is never overwritten. When somebody destroys it, the file counts. A unit that this intake (`by`) has
    submitted from a directory that it no longer watches is overwritten.
    """
    if known is None:
        return IntakeVerdict("submit")
    source = source_of(content.found.directory)
    if known.revision == content.revision and known.source == source:
        return IntakeVerdict("keep")
    ours = {source_of(directory): directory for directory in directories}
    is_own = known.source.startswith("directory:") and known.by == by
    if known.source not in ours and not is_own:
        if known.revision == content.revision:
            return IntakeVerdict("keep")
        origin = f"comes from {known.source}" if known.source else "was submitted by other means"
        by_whom = f" (by {known.by})" if known.by else ""
        reason = (
            f"a unit of this name {origin}{by_whom} and stays in force: "
            f"remove this file, or destroy {content.found.name} to have the file taken in"
        )
        return IntakeVerdict("conflict", reason)
    if ours.get(known.source) in lost or _any_below(known.drop_ins, lost):
        return IntakeVerdict("keep")
    return IntakeVerdict("submit")


def recall(
    stored: Mapping[str, Known], remembered: Mapping[str, Taken], *, directories: Collection[str], by: str
) -> dict[str, Taken]:
    """What was dealt with before this process, by name: from the store, and from the notes of the last process.

    A unit whose file has vanished in between is ours to destroy only if this intake has submitted it, or has noted its
    file. Else a directory of the same path on another machine may hold it.
    """
    ours = {source_of(directory): directory for directory in directories}
    taken = {
        name: before
        for name, before in remembered.items()
        if before.directory in directories and (before.destroyed or name in stored)
    }
    for name, known in stored.items():
        directory = ours.get(known.source)
        if directory is None:
            continue
        before = taken.get(name)
        if before is None:
            if known.by == by:
                taken[name] = Taken(directory, (), known.revision)
        elif before.destroyed or before.revision != known.revision:
            # Somebody else has changed the unit, so its file is read and compared again.
            taken[name] = Taken(directory, (), known.revision)
    return taken


def doubtful(
    listings: Mapping[str, tuple[tuple[int, int], bool]],
    trusted: Mapping[str, tuple[int, int]],
    taken: Mapping[str, Taken],
) -> set[str]:
    """The directories that are empty as a missing mount is, and not as a person empties them.

    Units came from such a directory, and it was never seen with a unit in it. A directory that was seen with units, and
    is the same and empty now, was emptied file by file.

    Args:
        listings: Of each directory that can be read, its identity and whether a unit is in it.
        trusted: The identity that each directory had when a unit was last seen in it.
        taken: What was dealt with before, by name.
    """
    origins = {before.directory for before in taken.values() if not before.destroyed}
    return {
        directory
        for directory, (identity, has_units) in listings.items()
        if not has_units and directory in origins and trusted.get(directory) != identity
    }
