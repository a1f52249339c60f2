"""Lengths of time: systemd's spans (systemd.time(7)), ISO 8601 durations, and bare numbers.

All lengths are in microseconds. None means `infinity`.
"""

import re

from xchronos.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Micros
from xchronos.errors import InvalidValue, quoted
from xchronos.unitfile.words import BLANKS

WEEK: Micros = 7 * DAY
SYSTEMD_MONTH: Micros = 2_629_800 * SECOND
"""systemd's month: 30.4375 days."""
SYSTEMD_YEAR: Micros = 31_557_600 * SECOND
"""systemd's year: 365.25 days."""

ZERO_IS_INFINITY = frozenset(
    {"TimeoutStartSec", "TimeoutStopSec", "TimeoutSec", "JobTimeoutSec", "JobRunningTimeoutSec"}
)
"""The keys for which systemd reads 0 as "no limit". For every other key 0 is a length of zero, even `RuntimeMaxSec`."""

_INFINITY = 2**64 - 1
_LONG_MAX = 2**63 - 1

_UNITS = {
    "us": 1, "usec": 1, "\u00b5s": 1, "\u03bcs": 1,
    "ms": MILLISECOND, "msec": MILLISECOND,
    "s": SECOND, "sec": SECOND, "second": SECOND, "seconds": SECOND,
    "m": MINUTE, "min": MINUTE, "minute": MINUTE, "minutes": MINUTE,
    "h": HOUR, "hr": HOUR, "hour": HOUR, "hours": HOUR,
    "d": DAY, "day": DAY, "days": DAY,
    "w": WEEK, "week": WEEK, "weeks": WEEK,
    "M": SYSTEMD_MONTH, "month": SYSTEMD_MONTH, "months": SYSTEMD_MONTH,
    "y": SYSTEMD_YEAR, "year": SYSTEMD_YEAR, "years": SYSTEMD_YEAR,
}  # fmt: skip
_SUFFIX = "|".join(sorted(_UNITS, key=len, reverse=True))
# systemd reads numbers with the C library, which also skips \v and \f. Digits must follow those two (`test_spans`).
_PART = re.compile(
    rf"(?:[\v\f{BLANKS}]*\+?(?P<whole>[0-9]+)|[{BLANKS}]*(?=\.))(?P<dot>\.(?P<fraction>[0-9]*))?"
    rf"(?P<blanks>[{BLANKS}]*)(?P<unit>{_SUFFIX})?"
)
_ISO = re.compile(
    r"P(?=[0-9T])(?:(?P<w>[0-9]+(?:[.,][0-9]+)?)W)?(?:(?P<d>[0-9]+(?:[.,][0-9]+)?)D)?"
    r"(?:T(?=[0-9])(?:(?P<h>[0-9]+(?:[.,][0-9]+)?)H)?(?:(?P<m>[0-9]+(?:[.,][0-9]+)?)M)?"
    r"(?:(?P<s>[0-9]+(?:[.,][0-9]+)?)S)?)?"
)
_ISO_UNITS = {"w": WEEK, "d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND}
_ISO_CALENDAR = re.compile(r"P[0-9.,]+[YM]")
_FORMAT = (
    ("y", SYSTEMD_YEAR), ("month", SYSTEMD_MONTH), ("w", WEEK), ("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND),
    ("ms", MILLISECOND), ("us", 1),
)  # fmt: skip


def parse_timespan(text: str, default_unit: Micros = SECOND) -> Micros | None:
    """Read `5min 20s`, `1.5h`, `90`, `infinity` ...; a number without a unit is in `default_unit`s.

    Digits below a microsecond are cut off. Raises InvalidValue for any other text, and for a length that does not fit
    64 bits.
    """
    stripped = text.strip(BLANKS)
    if stripped.isascii() and stripped.isdigit():
        # The usual case, done quickly. So short a number exceeds no limit, whatever the unit.
        if len(stripped) < 6:
            return int(stripped) * default_unit
    elif stripped == "infinity":
        return None
    if not stripped:
        raise InvalidValue("empty time span: expected something like '5min 20s'")
    total = 0
    at = 0
    while at < len(stripped):
        match = _PART.match(stripped, at)
        if match is None:
            raise InvalidValue(_bad_span(text, stripped[at:]))
        multiplier = _UNITS[match["unit"]] if match["unit"] else default_unit
        at = match.end()
        if not (match["unit"] or match["blanks"] or at == len(stripped)):
            raise InvalidValue(_bad_span(text, stripped[match.start() :]))
        whole = _integer(match["whole"] or "0", text)
        total += whole * multiplier
        # These are systemd's own comparisons, with its division. `test_bad_spans` and `test_spans` pin the limit.
        if whole > _LONG_MAX or whole >= _INFINITY // multiplier or total >= _INFINITY:
            raise InvalidValue(f"time span {quoted(text)} is too long")
        if match["dot"]:
            total += _fraction(match["fraction"], multiplier)
            if not match["fraction"]:
                raise InvalidValue(f"time span {quoted(text)}: digits are missing behind the point")
            if total >= _INFINITY:
                raise InvalidValue(f"time span {quoted(text)} is too long")
    return total


def _integer(digits: str, text: str) -> int:
    # Python refuses to convert thousands of digits. A length of more than 19 digits does not fit 64 bits anyway.
    significant = digits.lstrip("0")
    if len(significant) > 19:
        raise InvalidValue(f"time span {quoted(text)} is too long")
    return int(significant or 0)


def _fraction(digits: str, multiplier: Micros) -> Micros:
    """The length of the digits after the point. As in systemd, each digit is cut at the microsecond by itself."""
    total = 0
    for digit in digits:
        multiplier //= 10
        if not multiplier:
            break
        total += int(digit) * multiplier
    return total


def _bad_span(text: str, rest: str) -> str:
    if rest.startswith("-"):
        return f"time span {quoted(text)} is negative"
    return (
        f"time span {quoted(text)} does not parse at {quoted(rest)}: expected numbers with a unit "
        "(us ms s min h d w M y), like '5min 20s', or infinity"
    )


def parse_timeout(key: str, text: str) -> Micros | None:
    """Read the value of systemd's setting `key`. 0 means "no limit" for ZERO_IS_INFINITY. Raises InvalidValue."""
    length = parse_timespan(text)
    return None if length == 0 and key in ZERO_IS_INFINITY else length


def parse_duration(text: str, bare_unit: Micros = MILLISECOND) -> Micros | None:
    """Read the length of an `[X-Chronos]` key: `10000` (in `bare_unit`s), `10s`, `5min 20s`, `PT10S`, `infinity`.

    Raises InvalidValue, also for an ISO 8601 duration with years or months, which have no fixed length. (TriggerISO8601
    accepts those, because it computes with dates.)
    """
    stripped = text.strip(BLANKS)
    if not stripped.startswith("P"):
        return parse_timespan(stripped, bare_unit)
    match = _ISO.fullmatch(stripped)
    if match is None:
        if _ISO_CALENDAR.match(stripped):
            raise InvalidValue(
                f"duration {quoted(text)}: years and months have no fixed length, give days (or TriggerISO8601)"
            )
        raise InvalidValue(f"duration {quoted(text)} does not parse: expected ISO 8601 like PT10S or P1DT12H")
    return sum(_iso_number(number, _ISO_UNITS[unit]) for unit, number in match.groupdict().items() if number)


def _iso_number(number: str, unit: Micros) -> Micros:
    whole, _, fraction = number.replace(",", ".").partition(".")
    # Digits after the twentieth are below a microsecond in every unit.
    fraction = fraction[:20]
    scale: int = 10 ** len(fraction)
    return _integer(whole, number) * unit + int(fraction or 0) * unit // scale


def format_timespan(length: Micros | None) -> str:
    """A length as people write it: `1min 30s`, `0`, `infinity`. `parse_timespan` reads back the same length.

    The test `test_format_is_read_back` pins that.
    """
    if length is None:
        return "infinity"
    if length < 0:
        return "-" + format_timespan(-length)
    parts: list[str] = []
    for suffix, unit in _FORMAT:
        number, length = divmod(length, unit)
        if number:
            parts.append(f"{number}{suffix}")
    return " ".join(parts) or "0"
