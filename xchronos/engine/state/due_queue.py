"""The cursors of the units of this scheduler, by the moment at which each has something to do."""

import heapq
from collections.abc import Collection
from itertools import islice

from xchronos.clock import Clock, Instant, Micros, to_instant
from xchronos.engine.state.timers import Timers
from xchronos.model.records import Schedule
from xchronos.registry.codec import decode
from xchronos.registry.keys import shard_of
from xchronos.scheduler.timing.schedule import next_due
from xchronos.store.contract import KeyValue

OVERDUE: Instant = 0
"""When a schedule is due that still owes what was decided: before everything that the clock brings."""


class UnitCursor:
    """A unit's schedule: decoded only when it is due, so that a unit that waits costs little memory.

    `busy` once a write of ours is under way: whatever the answer is, another one takes its place or none does.
    `revision` is 0 while the first write is.
    """

    __slots__ = ("_known", "busy", "everywhere", "expires", "next", "revision", "unit_revision")

    def __init__(self, schedule: Schedule, revision: int, raw: bytes = b"") -> None:
        self._known: Schedule | bytes = raw or schedule
        self.next = OVERDUE if schedule.owed else next_due(schedule)
        self.expires = None if schedule.expires_at is None else to_instant(schedule.expires_at)
        self.everywhere = schedule.everywhere
        self.unit_revision = schedule.unit_revision
        self.revision = revision
        self.busy = False

    @property
    def schedule(self) -> Schedule:
        """The record."""
        if isinstance(self._known, bytes):
            self._known = decode(KeyValue("", self._known, 0, 0), Schedule)
        return self._known


class DueQueue:
    """Every cursor by its unit's name. `everywhere` are the units whose schedule says so.

    `put_off` are units that are not due, whatever the clock says, until they are resumed; the oldest come first.
    Entries of the past stay in the heaps until their time: cheaper than finding them.
    """

    def __init__(self, clock: Clock) -> None:
        self.known: dict[str, UnitCursor] = {}
        self.everywhere: set[str] = set()
        self._by_shard: dict[int, set[str]] = {}
        self._due: list[tuple[Instant, str]] = []
        self._expiries = Timers(clock)
        self._leads: dict[str, Micros] = {}
        self.put_off: dict[str, None] = {}

    def set(self, unit: str, schedule: Schedule, revision: int, raw: bytes = b"") -> None:
        """Take in a unit's cursor."""
        self.add(unit, UnitCursor(schedule, revision, raw))

    def add(self, unit: str, cursor: UnitCursor) -> None:
        """Take in a unit's cursor."""
        before = self.known.get(unit)
        self._know(unit, cursor)
        if cursor.next is not None:
            heapq.heappush(self._due, (cursor.next, unit))
        if cursor.expires is not None and (before is None or before.expires != cursor.expires):
            lead = self._leads[unit] = self._expiries.lead(to_instant(cursor.schedule.accepted_at))
            self._expiries.add(unit, cursor.expires, lead)

    def begin(self, unit: str, schedule: Schedule) -> UnitCursor:
        """The place of a cursor whose first write is under way; it is never due."""
        cursor = UnitCursor(schedule, 0)
        cursor.expires = None
        self._know(unit, cursor)
        return cursor

    def _know(self, unit: str, cursor: UnitCursor) -> None:
        if unit not in self.known:
            self._by_shard.setdefault(shard_of(unit), set()).add(unit)
        self.known[unit] = cursor
        if cursor.everywhere:
            self.everywhere.add(unit)
        else:
            self.everywhere.discard(unit)

    def drop(self, unit: str) -> None:
        """The unit is gone, or its cursor has to be read again."""
        if self.known.pop(unit, None) is not None:
            self._by_shard[shard_of(unit)].remove(unit)
            self.everywhere.discard(unit)
            self._leads.pop(unit, None)

    def drop_shard(self, number: int) -> Collection[str]:
        """Forget the cursors of a shard. Returns the units."""
        units = self._by_shard.pop(number, set())
        self.everywhere -= units
        for unit in units:
            del self.known[unit]
            self._leads.pop(unit, None)
        return units

    def due(self, now: Instant, limit: int) -> list[str]:
        """At most `limit` units that have something to do at `now`, earliest first, each once; not named again."""
        found: dict[str, None] = {}
        heap = self._due
        while heap and heap[0][0] <= now and len(found) < limit:
            at, unit = heapq.heappop(heap)
            cursor = self.known.get(unit)
            if cursor is not None and cursor.next == at and not cursor.busy:
                found[unit] = None
        return list(found)

    def resume(self, limit: int) -> None:
        """Let at most `limit` of the units that were put off be due again, those that have waited longest."""
        for unit in list(islice(self.put_off, limit)):
            del self.put_off[unit]
            cursor = self.known.get(unit)
            if cursor is not None and cursor.next is not None:
                heapq.heappush(self._due, (cursor.next, unit))

    def expired(self, now: Instant) -> list[str]:
        """The units whose TTL has ended. They are not named again."""
        found: list[str] = []
        for unit in sorted(self._expiries.ripe(now)):
            cursor, lead = self.known.get(unit), self._leads.get(unit)
            if cursor is None or cursor.expires is None or lead is None:
                continue
            if self._expiries.reached(lead, now) >= cursor.expires:
                del self._leads[unit]
                found.append(unit)
        return found

    def next_moment(self) -> Instant | None:
        """When there is something to do by the clock alone."""
        moments = (self._due[0][0] if self._due else None, self._expiries.next_moment())
        return min((moment for moment in moments if moment is not None), default=None)
