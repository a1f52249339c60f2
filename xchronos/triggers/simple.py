"""Simple triggers: every so long, so many times, counted from the anchor (TIME.md 3)."""

from dataclasses import dataclass
from typing import Self

from xchronos.clock import MILLISECOND, Instant, Micros
from xchronos.errors import InvalidTrigger
from xchronos.triggers.limits import LATEST


@dataclass(frozen=True, slots=True, eq=False)
class SimpleTrigger:
    """Fires at the anchor, then every `interval` microseconds: 1 + `repeat_count` times in all, -1 for ever.

    The grid is `origin + k * interval`, k >= 0; `origin` is the anchor unless `restart` set another. It never drifts.

    Raises:
        InvalidTrigger: the interval or the count makes no sense.
    """

    interval: Micros
    repeat_count: int = -1
    origin: Instant | None = None

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
        """1 + the repeat count; None when it repeats for ever."""
        return None if self.repeat_count < 0 else self.repeat_count + 1

    @property
    def restartable(self) -> bool:
        """True: the grid is nobody's but the unit's own."""
        return True

    def next_after(self, instant: Instant, anchor: Instant) -> Instant | None:
        """The first slot strictly after `instant`; None beyond the year 9999, or when there was but one slot."""
        origin = anchor if self.origin is None else self.origin
        if instant < origin:
            return origin
        if not self.interval:
            return None
        moment = instant + self.interval - (instant - origin) % self.interval
        return moment if moment <= LATEST else None

    def count_between(self, after: Instant, until: Instant, anchor: Instant) -> int:
        """How many slots lie in (after, until]."""
        until = min(until, LATEST)
        if until <= after:
            return 0
        origin = anchor if self.origin is None else self.origin
        return self._slots_until(until - origin) - self._slots_until(after - origin)

    def restart(self, at: Instant) -> Self:
        """The same interval and count with the first slot at `at`, whatever the anchor."""
        return type(self)(self.interval, self.repeat_count, at)

    def _slots_until(self, length: Micros) -> int:
        """How many slots the first `length` microseconds of the grid hold, both ends included."""
        if length < 0:
            return 0
        return length // self.interval + 1 if self.interval else 1
