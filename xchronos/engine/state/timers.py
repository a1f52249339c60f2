"""When waits are over that were meant as lengths: a pause between attempts, a StartDeadline=, a TTL=.

Their ends are stored as instants, for whoever decides after a restart or a failover. But a wall clock that is set back
must not make anybody wait for as long again as it was set back. So a wait is over by whichever clock says so first: the
wall clock, or the monotonic one, on which it ends as long after it was learnt of as it was to last then. What is learnt
of from the store was decided at some instant of the wall clock; one that is still to come means that a clock was set
back meanwhile, or that the decider's is ahead of ours: then the wait lasts as long from now as it was meant to in all.
"""

import heapq

from xchronos.clock import Clock, Instant, Micros


class Timers:
    """Names by when they are due. Entries of the past stay until their time: cheaper than finding them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall: list[tuple[Instant, str]] = []
        self._steady: list[tuple[Micros, str]] = []

    def lead(self, since: Instant) -> Micros:
        """By how much a wall clock that is never set back leads the monotonic one, for a wait decided at `since`."""
        return max(self._clock.now(), since) - self._clock.monotonic()

    def reached(self, lead: Micros, now: Instant) -> Instant:
        """What time it is at `now` for a wait that was learnt of with this `lead`."""
        return max(now, self._clock.monotonic() + lead)

    def add(self, name: str, moment: Instant, lead: Micros, after: Instant | None = None) -> None:
        """Have a name be due at a moment, unless that is not behind `after`."""
        if after is None or moment > self.reached(lead, after):
            heapq.heappush(self._wall, (moment, name))
            heapq.heappush(self._steady, (moment - lead, name))

    def ripe(self, now: Instant) -> set[str]:
        """What is due by either clock; by the other one it will be so again."""
        found: set[str] = set()
        for heap, reading in ((self._wall, now), (self._steady, self._clock.monotonic())):
            while heap and heap[0][0] <= reading:
                found.add(heapq.heappop(heap)[1])
        return found

    def next_moment(self) -> Instant | None:
        """When something is due next, as the wall clock goes now."""
        moments = [heap[0][0] + ahead for heap, ahead in ((self._wall, 0), (self._steady, self.lead(0))) if heap]
        return min(moments, default=None)
