"""What to do about what the directories hold, given what was done before and what is stored. Pure.

Two questions, two functions. `plan`: which units have to be read again, and which are gone for good? `judge`: what
becomes of a unit that was read?
"""

import os.path
from collections.abc import Collection, Mapping
from typing import Literal

import msgspec

from xchronos.clock import Instant, Micros
from xchronos.intake.files import Content, Found, Stamp, source_of

CAREFUL = 5
"""How many settle times a unit must stay gone, or empty, or lose a file, before that is believed: editors and
generators make a file vanish, or empty it, before they write it anew."""


class Taken(msgspec.Struct, frozen=True):
    """What was last dealt with under a unit's name: where its file lies, its stamps, and the revision in force.

    `destroyed`: the unit was removed from the store by somebody else since (a person, its TTL), and stays away until
    its file changes.
    """

    directory: str
    stamps: tuple[Stamp, ...] = ()
    revision: str = ""
    destroyed: bool = False


class Waiting(msgspec.Struct, frozen=True):
    """A change that has not settled: what is seen (nothing: the unit is gone) since when on the monotonic clock."""

    stamps: tuple[Stamp, ...]
    since: Micros


class Plan(msgspec.Struct, frozen=True):
    """The units to read, the names that are gone, the changes to wait for, and for how long (None: none)."""

    read: list[Found]
    gone: list[str]
    waiting: dict[str, Waiting]
    wait: Micros | None


class Known(msgspec.Struct, frozen=True):
    """What the store holds under a name: whose it is, what it says, and the files of its drop-ins.

    `written` is the store's revision of the record.
    """

    revision: str
    source: str
    by: str = ""
    drop_ins: tuple[str, ...] = ()
    written: int = 0


class IntakeVerdict(msgspec.Struct, frozen=True):
    """What becomes of a unit that was read. `reason` explains a conflict."""

    action: Literal["submit", "keep", "conflict"]
    reason: str = ""


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
        found: The units that the directories describe.
        taken: What was dealt with before.
        waiting: `Plan.waiting` of the time before.
        lost: The directories of which nothing is known for now; nothing that lay there counts as gone.
        wall: Now, for the age of files. A clock that is wrong only makes it wait for `settle` of its own.
        monotonic: Now.
        settle: How long a file must not change before it is read.
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
            gone.append(name)
    return Plan(read, gone, still, min(waits, default=None))


def _missing(before: Taken | None, unit: Found) -> set[str]:
    """The files that the unit had and has not any more."""
    if before is None:
        return set()
    return {stamp.path for stamp in before.stamps} - {stamp.path for stamp in unit.stamps}


def _any_below(paths: Collection[str], directories: Collection[str]) -> bool:
    return any(path.startswith(f"{directory}{os.path.sep}") for path in paths for directory in directories)


def judge(
    content: Content, known: Known | None, *, directories: Collection[str], lost: Collection[str], by: str
) -> IntakeVerdict:
    """Whether a unit that was read is to be stored.

    A name belongs to who had it first: a unit that was submitted by other means, or comes from a directory that is
    not ours, is never overwritten. It may be destroyed, then the file counts. One from a directory that only this
    intake (`by`) used to watch is taken over.
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
    """What was dealt with before this process, from the store and from what the last process wrote down.

    A unit whose file vanished in between is only ours to destroy when this intake submitted it, or remembers its
    file: a directory of the same path on another machine may hold it.
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
            # Somebody else has been at it: the file is read and compared again.
            taken[name] = Taken(directory, (), known.revision)
    return taken


def doubtful(
    listings: Mapping[str, tuple[tuple[int, int], bool]],
    trusted: Mapping[str, tuple[int, int]],
    taken: Mapping[str, Taken],
) -> set[str]:
    """The directories that are empty in a way that looks like a missing mount, not like a person's doing.

    `listings` has the identity of each readable directory and whether a unit lies in it, `trusted` the identity that
    each had when a unit lay in it last. An empty directory that never was seen otherwise, while units came from it,
    takes nothing away; the same directory, emptied file by file, does.
    """
    origins = {before.directory for before in taken.values() if not before.destroyed}
    return {
        directory
        for directory, (identity, has_units) in listings.items()
        if not has_units and directory in origins and trusted.get(directory) != identity
    }
