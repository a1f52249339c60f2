"""One field of a cron expression: its text becomes a bit mask.

Errors name the field, its text and the allowed range. These are errors: a range that runs backwards, a step of 0, a
value out of range, an empty item, too many slashes, digits that are not ASCII, an unknown name. `5-5` is one value. The
test `test_errors_name_the_field_its_text_and_the_range` pins them.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from xchronos.errors import InvalidTrigger, quoted
from xchronos.triggers.cron.days import Special

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"), 1
    )
}
_WEEKDAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}


@dataclass(frozen=True, eq=False, slots=True)
class Spec:
    """The values that a field may hold."""

    name: str
    """The field's name in errors."""
    low: int
    """The lowest value, which is bit 0 of the mask."""
    high: int
    """The highest value."""
    full_end: int
    """The value at which `*` and `a/n` end. It is less than `high` for weekdays, where 7 is Sunday again."""
    range_text: str
    """The allowed values, for errors."""
    names: dict[str, int]
    """Names of values, in upper case."""
    quartz: str = ""
    """`dom` or `dow` if the field has Quartz's items for days of the month or for weekdays, else empty."""
    hash_end: int = 0
    """The highest hashed value. 0 if the field has no hashed values."""


CRON_SECOND = Spec("second", 0, 59, 59, "0-59", {}, hash_end=59)
CRON_MINUTE = Spec("minute", 0, 59, 59, "0-59", {}, hash_end=59)
CRON_HOUR = Spec("hour", 0, 23, 23, "0-23", {}, hash_end=23)
# A hashed day is within 1-28, as in Jenkins, because not every month has the other days. The test
# `test_days_stay_where_every_month_has_them` pins this.
CRON_DAY = Spec("day-of-month", 1, 31, 31, "1-31", {}, hash_end=28)
QUARTZ_DAY = replace(CRON_DAY, quartz="dom", range_text="1-31, L, L-n, LW, L-nW or nW")
CRON_MONTH = Spec("month", 1, 12, 12, "1-12 or JAN-DEC", _MONTHS, hash_end=12)
CRON_WEEKDAY = Spec("day-of-week", 0, 7, 6, "0-7 (0 and 7 are Sunday) or SUN-SAT", _WEEKDAYS, hash_end=6)
QUARTZ_WEEKDAY = Spec(
    "day-of-week", 0, 6, 6, "0-6 or SUN-SAT (0 is Sunday, unlike Quartz's 1), dL or d#n", _WEEKDAYS, "dow", 6
)
CRON_YEAR = Spec("year", 1970, 2099, 2099, "1970-2099", {})


class CronField(NamedTuple):
    """A parsed field."""

    mask: int
    """Bit 0 is the field's lowest value: 0, Sunday, the first day, January or 1970."""
    star: bool
    """Whether one of the items is `*`, `?` or `*/1`, so that the field does not restrict."""
    items: tuple[Special, ...] = ()
    """Quartz's day items."""


_ITEM_RE = re.compile(
    r"(?:(?P<star>\*|\?)"
    r"|H(?:\((?P<from>[0-9A-Z]+)-(?P<to>[0-9A-Z]+)\))?"
    r"|(?P<low>[0-9A-Z]+)?~(?P<high>[0-9A-Z]+)?"
    r"|(?P<first>[0-9A-Z]+)(?:-(?P<last>[0-9A-Z]+))?)"
    r"(?:/(?P<step>[0-9]+))?"
)
_DOM_ITEM_RE = re.compile(r"L(?:-(?P<before>[0-9]+))?(?P<working>W)?|(?P<near>[0-9]+)W")
_DOW_ITEM_RE = re.compile(r"(?P<day>[0-9]+|[A-Z]{3})(?:L|#(?P<nth>[0-9]+))")
_DAY_LETTERS_RE = re.compile(r"[0-9]*(?:L|LW|W)|[A-Z]{3}L")
_QUARTZ_HINT = "L, W and # belong to the day fields of expressions with six or seven fields (seconds in front)"
_BARE_L_HINT = "Quartz's bare L is Saturday, written 6 or SAT here, and 6L the month's last one"
_SHARED_LENGTH = 64
"""The longest text, in characters, whose mask is kept for other schedules. Otherwise users could fill the memory.

`test_what_is_submitted_does_not_fill_the_memory` pins this.
"""
_HASHED_RE = re.compile(r"~|(?<![A-Z])H(?![A-Z])", re.IGNORECASE)


def parse_field(spec: Spec, text: str, unit_name: str) -> CronField:
    """Parse one field. Hashed values (`H`, `~`) are hashes of the unit's and the field's name, alike on every machine.

    Raises:
        InvalidTrigger: the text does not parse. The message names the field, the text and the allowed values.
    """
    if _HASHED_RE.search(text):
        digest = blake2b(f"{unit_name}\0{spec.name}".encode(), digest_size=8).digest()
        return _parse(spec, text, int.from_bytes(digest, "big"))
    if len(text) > _SHARED_LENGTH:
        return _parse(spec, text, 0)
    return _parse_shared(spec, text)


@lru_cache(maxsize=1 << 12)
def _parse_shared(spec: Spec, text: str) -> CronField:
    """As `_parse`, with a cache: thousands of schedules share a few masks."""
    return _parse(spec, text, 0)


def _parse(spec: Spec, text: str, seed: int) -> CronField:
    if not text.isascii():
        raise _error(spec, text, "only ASCII digits and letters have a meaning here")
    mask, star = 0, False
    items: list[Special] = []
    for item in text.upper().split(","):
        if not item:
            raise _error(spec, text, "there is an empty item")
        special = _special(spec, text, item)
        if special:
            items.append(special)
            continue
        found = _ITEM_RE.fullmatch(item)
        if not found:
            raise _error(spec, text, _complaint(spec, item))
        star = star or (found["star"] is not None and _number(found["step"] or "1") == 1)
        if found["star"] == "?" and (text != "?" or spec.name not in (CRON_DAY.name, CRON_WEEKDAY.name)):
            raise _error(spec, text, "'?' may only stand alone, and only in the two day fields")
        for value in _values(spec, text, found, seed):
            mask |= 1 << (value - spec.low)
    if spec is CRON_WEEKDAY:
        mask = mask & 0x7F | mask >> 7
    return CronField(mask, star, tuple(dict.fromkeys(items)))


def _values(spec: Spec, text: str, found: re.Match[str], seed: int) -> range:
    """The values of one item that is not Quartz's."""
    step = _step(spec, text, found["step"])
    if found["star"]:
        return range(spec.low, spec.full_end + 1, step or 1)
    if found["first"]:
        first = _value(spec, text, found["first"])
        open_end = max(first, spec.full_end) if step else first
        last = _value(spec, text, found["last"]) if found["last"] else open_end
        return range(first, _ordered(spec, text, first, last, _split(spec, first, last)) + 1, step or 1)
    if not spec.hash_end:
        raise _error(spec, text, "a year cannot be a hashed value")
    low, high = found["from"] or found["low"], found["to"] or found["high"]
    first = _value(spec, text, low) if low else spec.low
    open_end = spec.hash_end if first <= spec.hash_end else spec.high
    last = _value(spec, text, high) if high else open_end
    width = _ordered(spec, text, first, last) + 1 - first
    if not step:
        return range(first + seed % width, first + seed % width + 1)
    return range(first + seed % min(step, width), last + 1, step)


def _special(spec: Spec, text: str, item: str) -> Special | None:
    """The item if it is Quartz's, else None.

    Days of the month have `L`, `L-n`, `LW`, `L-nW` and `nW`. Weekdays have `dL` and `d#n`.
    """
    if spec.quartz == "dom" and (found := _DOM_ITEM_RE.fullmatch(item)):
        if found["near"]:
            return Special("W", _value(spec, text, found["near"]))
        before = _number(found["before"] or "0")
        if before > 30:
            raise _error(spec, text, f"{before} days before the month's last: at most 30 are")
        return Special("LW" if found["working"] else "L", before)
    if spec.quartz == "dow" and (found := _DOW_ITEM_RE.fullmatch(item)):
        day = _value(spec, text, found["day"])
        if found["nth"] is None:
            return Special("dL", day)
        nth = _number(found["nth"])
        if not 1 <= nth <= 5:
            raise _error(spec, text, f"a month has no weekday number {nth}: 1 to 5 follow '#'")
        return Special("d#", day, nth)
    return None


def _step(spec: Spec, text: str, step: str | None) -> int:
    """The step as a number. 0 if there is none."""
    if step is None:
        return 0
    value = _number(step)
    if not value:
        raise _error(spec, text, "the step is 0: it must be at least 1")
    return value


def _value(spec: Spec, text: str, value: str) -> int:
    """The value of one number or name. Raises InvalidTrigger if the field does not allow it."""
    number = spec.names.get(value)
    if number is None:
        if not value.isdigit():
            raise _error(spec, text, f"{quoted(value)} is no {spec.name}{_letters_hint(spec, value)}")
        number = _number(value)
    if not spec.low <= number <= spec.high:
        hint = (
            ": a year is the seventh field, with the seconds in front" if spec is QUARTZ_WEEKDAY and number > 99 else ""
        )
        raise _error(spec, text, f"{quoted(value)} is out of range{hint}")
    return number


def _letters_hint(spec: Spec, value: str) -> str:
    """A hint where Quartz's letters are allowed, if the value consists of them."""
    if spec.quartz == "dow" and value == "L":
        return f"; {_BARE_L_HINT}"
    return f"; {_QUARTZ_HINT}" if not spec.quartz and _DAY_LETTERS_RE.fullmatch(value) else ""


def _number(digits: str) -> int:
    """Digits as a number. A huge number is cut to nine digits, which are out of every range as well."""
    return int(digits.lstrip("0")[:9] or "0")


def _split(spec: Spec, first: int, last: int) -> str:
    """A hint how to write a range that runs over the field's end, such as the hours 22-2. Years have no such range."""
    parts = (first, spec.full_end), (spec.low, last)
    split = ",".join(f"{low}-{high}" if low < high else f"{low}" for low, high in parts)
    return f": write it in two parts, {split!r}" if spec is not CRON_YEAR else ""


def _ordered(spec: Spec, text: str, first: int, last: int, hint: str = "") -> int:
    if first > last:
        raise _error(spec, text, f"the range runs backwards ({first} is after {last}){hint}")
    return last


def _complaint(spec: Spec, item: str) -> str:
    """Why an item does not parse."""
    if "#" in item:
        return f"{quoted(item)} is not of the form d#n" if spec.quartz == "dow" else _QUARTZ_HINT
    if item.count("/") > 1:
        return f"{quoted(item)} has too many slashes"
    if item.endswith("/"):
        return f"{quoted(item)} has no step behind its slash"
    if item.count("-") > 1:
        return f"{quoted(item)} has too many hyphens"
    if item.startswith("-"):
        return f"{quoted(item)} is negative, or lacks the beginning of a range"
    return f"{quoted(item)} is neither a value nor a range"


def _error(spec: Spec, text: str, complaint: str) -> InvalidTrigger:
    return InvalidTrigger(f"{spec.name} {quoted(text)}: {complaint}; expected {spec.range_text}")
