"""`@every <duration>`: elapsed time from the acceptance on, with durations as Go writes them."""

import re

from xchronos.clock import MILLISECOND, Instant, Micros
from xchronos.errors import InvalidTrigger, quoted
from xchronos.triggers.base import Endless
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
"""A Go duration is a signed 64-bit number of nanoseconds: about 292 years."""


class EveryTrigger(Endless):
    """One fire every `interval` microseconds, the first one interval after the anchor. Elapsed time, no drift."""

    __slots__ = ("interval",)

    def __init__(self, interval: Micros) -> None:
        """`interval` is at least a millisecond; `parse_every` sees to that."""
        self.interval = interval

    @property
    def kind(self) -> str:
        """Always `every`."""
        return "every"

    @property
    def warnings(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __repr__(self) -> str:
        return f"EveryTrigger({self.interval})"

    def next_after(self, instant: Instant, anchor: Instant) -> Instant | None:
        """The first instant of the grid anchor + k * interval, k >= 1, strictly after `instant`; None beyond 9999."""
        moment = anchor + max((instant - anchor) // self.interval + 1, 1) * self.interval
        return moment if moment <= LATEST else None

    def count_between(self, after: Instant, until: Instant, anchor: Instant) -> int:
        """How many instants of the grid lie in (after, until]."""
        passed = max((after - anchor) // self.interval, 0)
        return max((min(until, LATEST) - anchor) // self.interval - passed, 0)


def parse_every(text: str) -> EveryTrigger:
    """The trigger of `@every`'s argument: a Go duration such as `1h30m10s`, `1.5h` or `500ms`.

    Raises:
        InvalidTrigger: the text is no duration, or a duration below a millisecond.
    """
    example = "expected a duration such as '1h30m10s' or '500ms'"
    if not _DURATION_RE.fullmatch(text):
        raise InvalidTrigger(f"@every {quoted(text)}: this is no duration; {example} (units h, m, s, ms, us, ns)")
    nanoseconds = 0
    for whole, fraction, unit in _PART_RE.findall(text):
        scale = _NANOSECONDS[unit]
        # Digits beyond the 18th cannot move a result that is cut to a nanosecond, nor save one that is too large.
        nanoseconds += int(whole.lstrip("0")[:20] or "0") * scale
        nanoseconds += int(fraction[:18] or "0") * scale // 10 ** len(fraction[:18])
    if text.startswith("-") or nanoseconds < MILLISECOND * 1_000:
        raise InvalidTrigger(f"@every {quoted(text)}: the interval must be at least 1ms; {example}")
    if nanoseconds >= _LONGEST:
        raise InvalidTrigger(f"@every {quoted(text)}: the interval is longer than 292 years; {example}")
    return EveryTrigger(nanoseconds // 1_000)
