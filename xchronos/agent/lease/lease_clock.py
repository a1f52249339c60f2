"""For how long this machine may take itself for alive: what its lease lets it know, on its own clock.

The store gives a machine up when its lease ends, and then somebody else may start what ran here. What has
`OnPartition=stop` must be dead before that, by this machine's own decision. These are the margins, in parts of the TTL
and counted from *before* the request of the last renewal that the store confirmed. The store begins its own count no
earlier than that, so the lease cannot end before the TTL has passed on this count:

    0.2  the next renewal, and one after every further 0.2; each is given up after 0.2 (or a second) and asked anew
    0.6  two renewals have failed: what has `OnPartition=stop` is stopped as its unit says (ExecStop=, KillSignal= ...)
    0.8  what is left of it is killed, by the agent and by its guardian (see `guardian`), and nothing of it is started
    1.0  the earliest moment at which the store can give the machine up

The last fifth pays for the killing itself, and for clocks that do not run at the same rate: when killing takes 1 s of a
TTL of 10 s, this machine's clock may run 10 % slow against the store's, where real ones differ by less than 0.1 %. The
wall clock plays no part in it. An outage of the whole store looks the same from here, and is treated the same.
"""

from collections.abc import Callable
from typing import Literal

from xchronos.clock import Clock, Micros

STOP_AT, KILL_AT = 0.6, 0.8
"""When to stop and to kill what must not outlive this machine's lease, in parts of the TTL."""

Stage = Literal["good", "stopping", "over"]
"""What may be done of what has `OnPartition=stop`: everything; nothing but ending it; nothing at all."""


class LeaseClock:
    """What this machine knows of its own lease. `ttl` is the lease's.

    `alone`: no other machine can use the store, so nobody can take over what runs here, and contact is always good.
    """

    def __init__(self, clock: Clock, ttl: Micros, *, alone: bool = False) -> None:
        self.ttl = ttl
        self.alone = alone
        self._clock = clock
        self._confirmed: Micros | None = None
        self._lapses = 0
        self._listeners: list[Callable[[], None]] = []

    def listen(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever the deadlines have moved, at once and in the order of the news."""
        self._listeners.append(changed)

    # -- what the membership tells it ---------------------------------------------------------------------------------

    def renewed(self, asked: Micros) -> None:
        """The store has confirmed the lease, and the record bound to it, in answer to what was `asked` at that time."""
        if self._overdue():
            self._lapses += 1
        self._confirmed = asked
        self._tell()

    def lapse(self) -> None:
        """The store says that the lease is over: somebody else may have acted upon it already."""
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
        """How long until stopping begins; not positive when it has. None: never, in a store of this machine alone."""
        return self._until(STOP_AT)

    @property
    def kills_in(self) -> Micros | None:
        """How long until killing begins; not positive when it has. None: never."""
        return self._until(KILL_AT)

    @property
    def lapses(self) -> int:
        """How often this machine's time was up: the lease has ended, or what must not outlive it was to be killed.

        Who keeps the number can tell later whether that was so meanwhile.
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
