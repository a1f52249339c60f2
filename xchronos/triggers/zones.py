"""Time zones as sorted segments of constant offset, for arithmetic on whole seconds.

Rules come from the `tzdata` package, never from the host: every machine of a cluster must compute the same instants.

Units: an *instant* here is whole **seconds** since the epoch, UTC (an `Instant` of `xchronos.clock` divided by
`SECOND`). A *wall time* is whole seconds as the zone's clock shows them, counted as if the clock were UTC:
`divmod(wall, 86_400)` gives the days since 1970-01-01 and the second of that day. An *offset* is wall minus instant.
"""

import difflib
from bisect import bisect_right
from functools import cache
from importlib import resources

from xchronos.errors import InvalidTrigger, quoted
from xchronos.triggers.zone_rules import read_tzif

FOREVER = 1 << 62
"""Later than any instant anybody asks about; `-FOREVER` is earlier than any."""


class Zone:
    """A time zone, immutable. Segment `i` covers the instants `starts[i] <= t < starts[i + 1]` at `offsets[i]`.

    The rules are exact up to the year 2238; after that the last offset stays. `marks[i]` is the latest wall time that
    the clock had shown before segment `i` began: below `starts[i] + offsets[i]` there was a gap, above it an overlap.
    """

    __slots__ = ("fixed", "highest", "lowest", "marks", "name", "offsets", "starts")

    def __init__(self, name: str, first_offset: int, transitions: list[tuple[int, int]]) -> None:
        """`transitions` are (instant, offset from then on), ascending; equal offsets in a row are merged."""
        self.name = name
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
        """The only offset of a zone that has no transitions; None when it has some."""

    def __repr__(self) -> str:
        return f"Zone({self.name!r})"

    def segment(self, instant: int) -> int:
        """The index of the segment that contains the instant."""
        return bisect_right(self.starts, instant) - 1

    def offset_at(self, instant: int) -> int:
        """Seconds that the wall clock is ahead of UTC at the instant."""
        return self.offsets[bisect_right(self.starts, instant) - 1]

    def wall(self, instant: int) -> int:
        """What the wall clock shows at the instant."""
        return instant + self.offsets[bisect_right(self.starts, instant) - 1]

    def next_transition(self, instant: int) -> int | None:
        """The first instant strictly after the given one at which the offset changes; None when it never does."""
        following = self.starts[bisect_right(self.starts, instant)]
        return None if following == FOREVER else following

    def instants(self, wall: int) -> tuple[int, ...]:
        """Every instant at which the clock shows `wall`, ascending: one, none in a gap, two in an overlap."""
        starts, offsets = self.starts, self.offsets
        low = bisect_right(starts, wall - self.highest) - 1
        high = bisect_right(starts, wall - self.lowest)
        return tuple(wall - offsets[i] for i in range(low, high) if starts[i] <= wall - offsets[i] < starts[i + 1])

    def gap_end(self, wall: int) -> int | None:
        """The first instant after the gap that swallows `wall`; None when the clock does show `wall`."""
        if self.instants(wall):
            return None
        index = bisect_right(self.starts, wall - self.highest)
        while self.starts[index] + self.offsets[index] <= wall:
            index += 1
        return self.starts[index]

    def resolve(self, wall: int) -> int:
        """One instant for a wall time: the first pass of an overlap, the first instant after a gap."""
        found = self.instants(wall)
        if found:
            return found[0]
        end = self.gap_end(wall)
        assert end is not None
        return end


utc = Zone("UTC", 0, [])
"""The default zone."""


@cache
def zone_names() -> frozenset[str]:
    """Every zone name that the `tzdata` package knows."""
    text = resources.files("tzdata").joinpath("zones").read_text(encoding="ascii")
    return frozenset(text.split())


@cache
def _load(name: str) -> Zone:
    first_offset, transitions = read_tzif(resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes())
    return Zone(name, first_offset, transitions)


def zone(name: str) -> Zone:
    """The zone of an IANA name such as `Europe/Berlin`; the same object for the same name.

    Raises:
        InvalidTrigger: there is no such zone; the text suggests the nearest name.
    """
    if name == "UTC":
        return utc
    if name not in zone_names():
        raise InvalidTrigger(_unknown(name))
    return _load(name)


def _unknown(name: str) -> str:
    if not name:
        return "the time zone is empty: expected an IANA name such as 'Europe/Berlin' or 'UTC'"
    folded = {known.lower(): known for known in sorted(zone_names())}
    by_city = {known.rpartition("/")[2]: known for known in folded}
    wanted = name.strip().lower().replace(" ", "_")
    near = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.75)
    city = [by_city[found] for found in difflib.get_close_matches(wanted, by_city, n=1, cutoff=0.75)]
    found = next(iter([*near, *city]), None)
    hint = f"; did you mean {folded[found]!r}?" if found else ""
    return f"unknown time zone {quoted(name)}: expected an IANA name such as 'Europe/Berlin' or 'UTC'{hint}"
