"""For how long this machine may take itself for alive: what its lease lets it know, on its own clock.

The store gives a machine up when its lease ends. From then on another machine may start what ran here. An attempt with
`OnPartition=stop` must be dead before that, by this machine's own decision. These are the margins, in parts of the TTL.
They are counted from *before* the request of the last renewal that the store confirmed. The store begins its own count
no earlier than that, so the lease cannot end before the TTL has passed on this count:

    0.2  the next renewal, and one after every further 0.2; each is given up after 0.2 (or a second) and asked anew
    0.6  two renewals have failed: what has `OnPartition=stop` is stopped as its unit says (ExecStop=, KillSignal= ...)
    0.8  what is left of it is killed, by the agent and by its guardian (`guardian`), and nothing of it is started
    1.0  the earliest moment at which the store can give the machine up

The last fifth is for the killing itself, and for clocks that do not run at the same rate: when killing takes 1 s of a
TTL of 10 s, this machine's clock may run 10 % slower than the store's. Real clocks differ by less than 0.1 %. The wall
clock plays no part. An outage of the whole store looks the same from here, and is treated the same.
"""

from collections.abc import Callable
from typing import Literal

from xchronos.clock import Clock, Micros

STOP_AT, KILL_AT = 0.6, 0.8
"""When what must not outlive the lease is stopped, and when it is killed, in parts of the TTL since the renewal."""

Stage = Literal["good", "stopping", "over"]
"""What may be done of an attempt with `OnPartition=stop`: everything; nothing but ending it; nothing at all."""


class LeaseClock:
    """What this machine knows of its own lease.

    Attributes:
        ttl: The lease's time to live, in microseconds.
        alone: No other machine can use the store. Nobody can take over what runs here then, and `stage` is always good.
    """

    def __init__(self, clock: Clock, ttl: Micros, *, alone: bool = False) -> None:
        self.ttl = ttl
        self.alone = alone
        self._clock = clock
        self._confirmed: Micros | None = None
        self._lapses = 0
        self._listeners: list[Callable[[], None]] = []

    def listen(self, changed: Callable[[], None]) -> None:
        """Have `changed` called immediately whenever the deadlines have moved, in the order in which they moved."""
        self._listeners.append(changed)

    # -- what the membership tells it ---------------------------------------------------------------------------------

    def renewed(self, asked: Micros) -> None:
        """The store has confirmed the lease, and the record bound to it. `asked`: when the request was made.

        That is a time of the monotonic clock, in microseconds, taken before the request.
        """
        if self._overdue():
            self._lapses += 1
        self._confirmed = asked
        self._tell()

    def lapse(self) -> None:
        """The store says that the lease is over. Others may have acted upon that already."""
        if self._confirmed is not None:
            self._confirmed = None
            self._lapses += 1
            self._tell()

    def _tell(self) -> None:
        for changed in self._listeners:
            changed()

    # -- what follows from it -----------------------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """What may be done now."""
        left = self.stops_in
        if left is None or left > 0:
            return "good"
        return "stopping" if (self.kills_in or 0) > 0 else "over"

    @property
    def stops_in(self) -> Micros | None:
        """How long until stopping begins, in microseconds; not positive once it has begun. None: it never begins."""
        return self._until(STOP_AT)

    @property
    def kills_in(self) -> Micros | None:
        """How long until killing begins, in microseconds; not positive once it has begun. None: it never begins."""
        return self._until(KILL_AT)

    @property
    def lapses(self) -> int:
        """How often this machine's time was up: the lease ended, or what must not outlive it was to be killed.

        Two reads that differ tell that it was up in between.
        """
        return self._lapses + self._overdue()

    def _overdue(self) -> bool:
        left = self._until(KILL_AT)
        return self._confirmed is not None and left is not None and left <= 0

    def _until(self, part: float) -> Micros | None:
        if self.alone:
            return None
        if self._confirmed is None:
            return 0
        return self._confirmed + round(self.ttl * part) - self._clock.monotonic()
