"""Simple triggers: `TriggerRepeatInterval`, repeated `TriggerRepeatCount` times.

The grid is A + k * interval, for k from 0 to the count (-1: without end). A is the anchor: the instant at which the
schedule accepted the unit, plus its start delay. The grid never drifts, however long an execution takes. The interval
is at least 1 ms. An interval of 0 with a count other than 0 is an error, and so is a count below -1.
"""

from dataclasses import dataclass
from typing import Self

from xchronos.clock import MILLISECOND, Instant, Micros
from xchronos.errors import InvalidTrigger
from xchronos.triggers.base import too_often
from xchronos.triggers.limits import LATEST


@dataclass(frozen=True, slots=True, eq=False)
class SimpleTrigger:
    """Fires at the anchor, then every `interval` microseconds, 1 + `repeat_count` times in all.

    Raises:
        InvalidTrigger: the interval or the count is out of range, or the two do not fit.
    """

    interval: Micros
    """Microseconds; 0 for a single fire."""
    repeat_count: int = -1
    """The number of fires after the first one; -1 for no end."""
    origin: Instant | None = None
    """The first instant of the grid. None: the anchor. `restart` sets it."""

    def __post_init__(self) -> None:
        if self.repeat_count < -1:
            raise InvalidTrigger(
                f"the repeat count is {self.repeat_count}: expected -1 (for ever), 0 (fire once) or a positive number"
            )
        if self.interval == 0:
            if self.repeat_count:
                wish = "for ever" if self.repeat_count < 0 else f"{self.repeat_count} more times"
                raise InvalidTrigger(
                    f"the repeat interval is 0, yet the trigger shall repeat {wish}: expected at least 1 ms"
                )
        elif self.interval < MILLISECOND:
            raise InvalidTrigger(f"the repeat interval is {self.interval / MILLISECOND:g} ms: expected at least 1 ms")

    @property
    def kind(self) -> str:
        """Always `simple`."""
        return "simple"

    @property
    def count(self) -> int | None:
        """1 + the repeat count. None if the trigger repeats for ever."""
        return None if self.repeat_count < 0 else self.repeat_count + 1

    @property
    def restartable(self) -> bool:
        """True: the grid begins with the unit, so it may begin anew."""
        return True

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the author of the interval."""
        return too_often(self.interval)

    def next_after(self, instant: Instant, anchor: Instant) -> Instant | None:
        """The first slot strictly after `instant`. None after the year 9999, and after a single slot (interval 0)."""
        origin = anchor if self.origin is None else self.origin
        if instant < origin:
            return origin
        if not self.interval:
            return None
        moment = instant + self.interval - (instant - origin) % self.interval
        return moment if moment <= LATEST else None

    def count_between(self, after: Instant, until: Instant, anchor: Instant) -> int:
        """The number of slots in (after, until]."""
        until = min(until, LATEST)
        if until <= after:
            return 0
        origin = anchor if self.origin is None else self.origin
        return self._slots_until(until - origin) - self._slots_until(after - origin)

    def restart(self, at: Instant) -> Self:
        """The same interval and count with the first slot at `at`. The anchor no longer matters."""
        return type(self)(self.interval, self.repeat_count, at)

    def _slots_until(self, length: Micros) -> int:
        """The number of slots in the first `length` microseconds of the grid, both ends included."""
        if length < 0:
            return 0
        return length // self.interval + 1 if self.interval else 1
