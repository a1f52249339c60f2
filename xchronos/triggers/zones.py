"""Time zones as sorted segments of constant offset, for arithmetic on whole seconds.

The rules of zones come from the package `tzdata`, never from the host, because every machine of a cluster must compute
the same instants. The test `test_the_host_has_no_say` pins that.

Units in this module:

- An *instant* of a zone is whole **seconds** since the epoch: an `Instant` of `xchronos.clock` divided by `SECOND`.
- A *wall time* is what the zone's clock shows, in seconds since 1970-01-01 as if that clock were UTC. So
  `divmod(wall, 86_400)` gives the days since 1970-01-01 and the second of the day.
- An *offset* is the wall time minus the instant, in seconds.
"""

import difflib
import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from hashlib import blake2b
from importlib import resources
from importlib.resources.abc import Traversable

from xchronos.clock import SECOND, Instant
from xchronos.errors import InvalidTrigger, quoted
from xchronos.triggers.zone_rules import read_tzif

FOREVER = 1 << 62
"""An instant later than all others. `-FOREVER` is earlier than all others."""


class Zone:
    """A time zone, immutable. Segment `i` has the offset `offsets[i]` at the instants `starts[i] <= t < starts[i + 1]`.

    The rules are exact up to the year 2238. After that the last offset stays. `marks[i]` is the latest wall time that
    the clock had reached before segment `i` began. If it is less than `starts[i] + offsets[i]`, there is a gap before
    the segment; if it is greater, there is an overlap.
    """

    __slots__ = ("fixed", "highest", "lowest", "marks", "name", "offsets", "rules", "starts")

    def __init__(self, name: str, first_offset: int, transitions: list[tuple[int, int]], rules: str = "") -> None:
        """`transitions` are (instant, offset from then on), ascending. Equal offsets in a row are merged."""
        self.name = name
        self.rules = rules
        """A digest of the rules, if they come from a `ZoneDatabase`. Empty: nothing can change them."""
        self.starts = [-FOREVER]
        self.offsets = [first_offset]
        self.marks = [-FOREVER]
        for start, offset in transitions:
            if offset != self.offsets[-1]:
                self.marks.append(max(self.marks[-1], start + self.offsets[-1]))
                self.starts.append(start)
                self.offsets.append(offset)
        self.starts.append(FOREVER)
        self.highest = max(self.offsets)
        self.lowest = min(self.offsets)
        self.fixed: int | None = first_offset if len(self.offsets) == 1 else None
        """The offset of a zone without transitions. None if the zone has transitions."""

    def __repr__(self) -> str:
        return f"Zone({self.name!r})"

    def segment(self, instant: int) -> int:
        """The index of the segment that contains the instant."""
        return bisect_right(self.starts, instant) - 1

    def offset_at(self, instant: int) -> int:
        """The seconds by which the wall clock is ahead of UTC at the instant."""
        return self.offsets[bisect_right(self.starts, instant) - 1]

    def wall(self, instant: int) -> int:
        """The wall time at the instant."""
        return instant + self.offsets[bisect_right(self.starts, instant) - 1]

    def next_transition(self, instant: int) -> int | None:
        """The first instant strictly after the given one at which the offset changes. None if it never changes."""
        following = self.starts[bisect_right(self.starts, instant)]
        return None if following == FOREVER else following

    def instants(self, wall: int) -> tuple[int, ...]:
        """Every instant at which the clock shows `wall`, ascending. There is none in a gap and two in an overlap."""
        starts, offsets = self.starts, self.offsets
        low = bisect_right(starts, wall - self.highest) - 1
        high = bisect_right(starts, wall - self.lowest)
        return tuple(wall - offsets[i] for i in range(low, high) if starts[i] <= wall - offsets[i] < starts[i + 1])

    def gap_end(self, wall: int) -> int | None:
        """The first instant after the gap in which `wall` lies. None if the clock shows `wall`."""
        if self.instants(wall):
            return None
        index = bisect_right(self.starts, wall - self.highest)
        while self.starts[index] + self.offsets[index] <= wall:
            index += 1
        return self.starts[index]

    def resolve(self, wall: int) -> int:
        """One instant for a wall time: in an overlap the first pass, in a gap the first instant after the gap."""
        found = self.instants(wall)
        if found:
            return found[0]
        end = self.gap_end(wall)
        assert end is not None
        return end


utc = Zone("UTC", 0, [])
"""The default zone."""


class ZoneDatabase:
    """One release of the time zone database: what a package `tzdata` holds, whose directory is `root`."""

    def __init__(self, root: Traversable) -> None:
        self._root = root
        self._zones: dict[str, Zone] = {}

    @cached_property
    def version(self) -> str:
        """The release, as IANA names it: `2026f`."""
        first = self._root.joinpath("zoneinfo", "tzdata.zi").read_text(encoding="ascii").partition("\n")[0]
        return first.rpartition(" ")[2]

    @cached_property
    def expires(self) -> Instant:
        """The end of the release's list of leap seconds, which lies half a year to a year after the release."""
        text = self._root.joinpath("zoneinfo", "leapseconds").read_text(encoding="ascii")
        told = next(line for line in text.splitlines() if line.startswith("#expires "))
        return int(told.split()[1]) * SECOND

    @cached_property
    def names(self) -> frozenset[str]:
        """The name of every zone."""
        return frozenset(self._root.joinpath("zones").read_text(encoding="ascii").split())

    def zone(self, name: str) -> Zone:
        """The zone of a name. The same name gives the same object. Raises InvalidTrigger if there is no such zone."""
        if name == "UTC":
            return utc
        found = self._zones.get(name)
        if found is None:
            if name not in self.names:
                raise InvalidTrigger(_unknown(name, self.names))
            found = self._zones[name] = self._load(name)
        return found

    def _load(self, name: str) -> Zone:
        first, transitions = read_tzif(self._root.joinpath("zoneinfo", *name.split("/")).read_bytes())
        flat = (first, *(number for transition in transitions for number in transition))
        rules = blake2b(struct.pack(f">{len(flat)}q", *flat), digest_size=6).hexdigest()
        return Zone(name, first, transitions, rules)


_installed = ZoneDatabase(resources.files("tzdata"))
_database: ContextVar[ZoneDatabase] = ContextVar("database", default=_installed)


def database() -> ZoneDatabase:
    """The release whose rules count here: that of the installed package `tzdata`, unless `rules_of` says otherwise."""
    return _database.get()


@contextmanager
def rules_of(other: ZoneDatabase) -> Iterator[None]:
    """Within it the rules of another release count. So one process can act as two that have different ones."""
    token = _database.set(other)
    try:
        yield
    finally:
        _database.reset(token)


def zone_names() -> frozenset[str]:
    """The name of every zone that there is here."""
    return database().names


def zone(name: str) -> Zone:
    """The zone of an IANA name such as `Europe/Berlin`. The same name gives the same object.

    Raises:
        InvalidTrigger: there is no such zone. The message suggests the nearest name.
    """
    return database().zone(name)


def _unknown(name: str, names: frozenset[str]) -> str:
    if not name:
        return "the time zone is empty: expected an IANA name such as 'Europe/Berlin' or 'UTC'"
    folded = {known.lower(): known for known in sorted(names)}
    by_city = {known.rpartition("/")[2]: known for known in folded}
    wanted = name.strip().lower().replace(" ", "_")
    near = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.75)
    city = [by_city[found] for found in difflib.get_close_matches(wanted, by_city, n=1, cutoff=0.75)]
    found = next(iter([*near, *city]), None)
    hint = f"; did you mean {folded[found]!r}?" if found else ""
    return f"unknown time zone {quoted(name)}: expected an IANA name such as 'Europe/Berlin' or 'UTC'{hint}"
