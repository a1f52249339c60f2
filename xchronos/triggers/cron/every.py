"""`@every <duration>`: elapsed time, counted from the unit's acceptance. The duration is written as in Go.

The first fire is one interval after the acceptance. An interval is elapsed time: changes of the clock do not matter.
"""

import re

from xchronos.clock import MILLISECOND, Instant, Micros
from xchronos.errors import InvalidTrigger, quoted
from xchronos.triggers.base import Endless, too_often
from xchronos.triggers.limits import LATEST

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = r"([0-9]*)(?:\.([0-9]*))?(ns|us|\u00b5s|\u03bcs|ms|s|m|h)"
_PART_RE = re.compile(_PART)
_DURATION_RE = re.compile(rf"[+-]?(?:0|(?:(?=\.?[0-9]){_PART})+)")
_LONGEST = 1 << 63
"""In nanoseconds. A Go duration is a signed 64-bit number of nanoseconds, so it is below 292 years or so."""


class EveryTrigger(Endless):
    """Fires every `interval` microseconds, for the first time one interval after the anchor. It never drifts."""

    __slots__ = ("interval",)

    def __init__(self, interval: Micros) -> None:
        """`interval` is at least a millisecond; `parse_every` checks that."""
        self.interval = interval

    @property
    def kind(self) -> str:
        """Always `every`."""
        return "every"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the author of the expression, although it parses."""
        return too_often(self.interval)

    def __repr__(self) -> str:
        return f"EveryTrigger({self.interval})"

    def next_after(self, instant: Instant, anchor: Instant) -> Instant | None:
        """The first instant anchor + k * interval (k >= 1) strictly after `instant`. None after the year 9999."""
        moment = anchor + max((instant - anchor) // self.interval + 1, 1) * self.interval
        return moment if moment <= LATEST else None

    def count_between(self, after: Instant, until: Instant, anchor: Instant) -> int:
        """The number of instants of the grid in (after, until]."""
        passed = max((after - anchor) // self.interval, 0)
        return max((min(until, LATEST) - anchor) // self.interval - passed, 0)


def parse_every(text: str) -> EveryTrigger:
    """The trigger for the argument of `@every`, a Go duration such as `1h30m10s`, `1.5h` or `500ms`.

    Raises:
        InvalidTrigger: the text is no duration, or the duration is below a millisecond or too long for Go.
    """
    example = "expected a duration such as '1h30m10s' or '500ms'"
    if not _DURATION_RE.fullmatch(text):
        raise InvalidTrigger(f"@every {quoted(text)}: this is no duration; {example} (units h, m, s, ms, us, ns)")
    nanoseconds = 0
    for whole, fraction, unit in _PART_RE.findall(text):
        scale = _NANOSECONDS[unit]
        # 20 digits before the point and 18 after it are enough: further digits change neither a result that is cut to
        # nanoseconds nor one that is too large.
        nanoseconds += int(whole.lstrip("0")[:20] or "0") * scale
        nanoseconds += int(fraction[:18] or "0") * scale // 10 ** len(fraction[:18])
    if text.startswith("-") or nanoseconds < MILLISECOND * 1_000:
        raise InvalidTrigger(f"@every {quoted(text)}: the interval must be at least 1ms; {example}")
    if nanoseconds >= _LONGEST:
        raise InvalidTrigger(f"@every {quoted(text)}: the interval is longer than 292 years; {example}")
    return EveryTrigger(nanoseconds // 1_000)
