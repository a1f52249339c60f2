"""Reading a compiled time zone (TZif, RFC 8536) into transitions, its POSIX footer rule included.

A compiled zone has a table of transitions and a footer, which is the rule for all time after the table. The footer is
unrolled here up to `LAST_UNROLLED_YEAR`, so that the rest of the program only bisects a list.
"""

import re
import struct
from datetime import date

LAST_UNROLLED_YEAR = 2237
"""The last year for which a footer rule is unrolled. It is two centuries after the end of the usual tables."""

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_HEADER = struct.Struct(">4sc15x6l")
_NAME = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]+>)"
_TIME = r"([+-]?)(\d{1,3})(?::(\d\d))?(?::(\d\d))?"
_TIME_RE = re.compile(_TIME)
_FOOTER_RE = re.compile(
    rf"{_NAME}(?P<std>[+-]?[\d:]+)(?:{_NAME}(?P<dst>[+-]?[\d:]+)?,(?P<begin>[^,]+),(?P<end>[^,]+))?"
)

Rule = tuple[str, int]
"""When a POSIX rule switches: a date (`M3.2.0`, `J60`, `59`), and the second of that local day."""


def read_tzif(data: bytes) -> tuple[int, list[tuple[int, int]]]:
    """The offset before the first transition, and the transitions (instant, offset from then on), ascending.

    Instants and offsets are in seconds.
    """
    position = _block_size(data, 0, 4)
    *_, times, types, _ = _HEADER.unpack_from(data, position)
    body = position + _HEADER.size
    instants = struct.unpack_from(f">{times}q", data, body)
    indexes = data[body + 8 * times : body + 9 * times]
    records = body + 9 * times
    offsets = [struct.unpack_from(">lBB", data, records + 6 * number)[0] for number in range(types)]
    # A compiler may begin the table with a placeholder that lies long before the first clock. It does no harm.
    transitions = [(instant, offsets[index]) for instant, index in zip(instants, indexes, strict=True)]
    footer = data[position + _block_size(data, position, 8) :].strip(b"\n").decode("ascii")
    last = instants[-1] if instants else None
    return offsets[0], transitions + _unroll(footer, last)


def _block_size(data: bytes, position: int, width: int) -> int:
    """The length in bytes of the block at `position`, header included, if a time has `width` bytes."""
    magic, _, utc_flags, standard_flags, leaps, times, types, characters = _HEADER.unpack_from(data, position)
    assert magic == b"TZif", "the tzdata package holds something that is no compiled zone"
    body = times * (width + 1) + types * 6 + characters + leaps * (width + 4) + standard_flags + utc_flags
    return _HEADER.size + int(body)


def _unroll(footer: str, last: int | None) -> list[tuple[int, int]]:
    """The transitions that a POSIX rule adds after the instant `last`, up to `LAST_UNROLLED_YEAR`."""
    found = _FOOTER_RE.fullmatch(footer)
    assert found, f"the tzdata package holds a rule of an unknown form: {footer!r}"
    if found["begin"] is None:
        return []
    standard = -_seconds(found["std"])
    summer = -_seconds(found["dst"]) if found["dst"] else standard + 3600
    begin, end = _rule(found["begin"]), _rule(found["end"])
    first_year = 1970 if last is None else 1970 + last // 31_556_952
    unrolled = []
    for year in range(first_year, LAST_UNROLLED_YEAR + 1):
        unrolled.append((_day(begin[0], year) * 86_400 + begin[1] - standard, summer))
        unrolled.append((_day(end[0], year) * 86_400 + end[1] - summer, standard))
    unrolled.sort()
    return [entry for entry in unrolled if last is None or entry[0] > last]


def _seconds(text: str) -> int:
    found = _TIME_RE.fullmatch(text)
    assert found, f"the tzdata package holds a time of an unknown form: {text!r}"
    sign, hours, minutes, seconds = found.groups()
    value = int(hours) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return -value if sign == "-" else value


def _rule(text: str) -> Rule:
    day, _, moment = text.partition("/")
    return day, _seconds(moment) if moment else 7200


def _day(rule: str, year: int) -> int:
    """Days since 1970-01-01 of a POSIX date in a year: `Mm.w.d`, `Jn` (1-365, never 29 Feb) or `n` (0-365)."""
    new_year = date(year, 1, 1).toordinal() - _EPOCH_ORDINAL
    if rule.startswith("M"):
        month, week, weekday = map(int, rule[1:].split("."))
        first = date(year, month, 1)
        day = 1 + (weekday - first.isoweekday()) % 7 + 7 * (week - 1)
        length = (date(year + month // 12, month % 12 + 1, 1) - first).days
        if day > length:  # week 5 means the last such day of the month
            day -= 7
        return first.toordinal() - _EPOCH_ORDINAL + day - 1
    if rule.startswith("J"):
        number = int(rule[1:]) - 1
        leap = date(year, 12, 31).timetuple().tm_yday == 366
        return new_year + number + (leap and number >= 59)
    return new_year + int(rule)
