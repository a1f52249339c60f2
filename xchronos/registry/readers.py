"""Who in the cluster can read what: what a new unit is accepted by, and what people are told of."""

from collections.abc import Iterable, Mapping

from xchronos.clock import DAY, Instant, Micros
from xchronos.errors import NotReadByAll, Problem
from xchronos.model.features import unread
from xchronos.model.records import Reading
from xchronos.model.unit import Unit
from xchronos.registry.keys import shard_of
from xchronos.registry.roster import Share

AFTER_THE_LIST: Micros = 90 * DAY
"""How long after the end of its list of leap seconds a release of zone rules is about a year old."""


def asks_readers(unit: Unit) -> bool:
    """Whether a unit needs more than every daemon reads, so that the living schedulers have to be asked."""
    return bool(unread(Reading(), unit))


def refuse_unread(unit: Unit, path: str, schedulers: Iterable[Share]) -> None:
    """Raise NotReadByAll if a living scheduler cannot read the unit: it would not know what to do with it."""
    found = [
        Problem(f"needs {', '.join(lacking)}, which {_who(share)} cannot read: upgrade that first", path)
        for share in schedulers
        if (lacking := unread(share.reads, unit))
    ]
    if found:
        raise NotReadByAll(found)


def _who(share: Share) -> str:
    reads, said = share.reads, "an older one"
    if reads.version:
        said = f"xchronos {reads.version}, level {reads.level}, zone rules {reads.rules}"
    return f"the scheduler on {share.machine} ({said})"


def told_unread(name: str, schedulers: Iterable[Share]) -> str:
    """Who says that it cannot read a stored unit, and why, in one sentence; empty: nobody does."""
    said = []
    for share in schedulers:
        why = share.cannot_read.get(name)
        if why is not None:
            waits = ", and has its shard, so nothing of it is decided" if shard_of(name) in share.shards else ""
            said.append(f"the scheduler on {share.machine} cannot read it{waits}: {why}")
    return "; ".join(said)


def is_left_alone(name: str, schedulers: Iterable[Share]) -> bool:
    """Whether nothing of a stored unit is decided, because the scheduler that has its shard cannot read it."""
    return any(name in share.cannot_read and shard_of(name) in share.shards for share in schedulers)


def differences(readings: Mapping[str, Reading]) -> list[str]:
    """What differs in what the daemons of a cluster read, by the name of each; a sentence each, for people."""
    told: list[str] = []
    for what, values in (
        ("time zone rules", {name: reading.rules or "not told" for name, reading in readings.items()}),
        ("feature level", {name: str(reading.level) for name, reading in readings.items()}),
    ):
        if len(set(values.values())) > 1:
            told.append(f"the {what} differ{'s' if what.endswith('level') else ''}: {_grouped(values)}")
    return told


def _grouped(values: Mapping[str, str]) -> str:
    groups: dict[str, list[str]] = {}
    for name, value in sorted(values.items()):
        groups.setdefault(value, []).append(name)
    return ", ".join(f"{value} on {' '.join(names)}" for value, names in sorted(groups.items()))


def is_old(expires: Instant, now: Instant) -> bool:
    """Whether a release of zone rules, whose list of leap seconds ends at `expires`, is older than a year."""
    return now > expires + AFTER_THE_LIST
