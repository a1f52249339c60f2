"""Parsers of single values: booleans, integers, sizes, percentages, modes, resource limits.

Every parser takes the text of a value and returns the value. It raises InvalidValue, which says what was expected.
The rules are those of systemd 252. Integers are read as by strtol (`0x10`; `010` is eight), and with `0b` and `0o`.
"""

import re
from typing import NamedTuple

from xchronos.clock import SECOND
from xchronos.errors import InvalidValue
from xchronos.unitfile.timespan import parse_timespan

INFINITY = 2**64 - 1
"""The number by which systemd stores "no limit" in unsigned settings."""

_BOOLEANS = dict.fromkeys(("1", "yes", "y", "true", "t", "on"), True) | dict.fromkeys(
    ("0", "no", "n", "false", "f", "off"), False
)
# The number of decimal digits is bounded: Python refuses to convert thousands of them, and no 64-bit number has as many
# as 31. The test `test_a_number_of_thousands_of_digits_is_only_wrong` pins this.
_DIGITS = re.compile(r"[ \t\n\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|0[0-7]*|[1-9][0-9]{0,30})")
_SIZE_PART = re.compile(r"[ \t\n\r]*\+?([0-9]{1,30})(?:\.([0-9]{0,30}))?[ \t\n\r]*([EPTGMKB]?)")
_SIZE_POWER = {unit: 1024**power for power, unit in enumerate("BKMGTPE")} | {"": 1}
_PERCENT = re.compile(r"([0-9]{1,30})(?:\.([0-9]{1,2}))?%")
_MODE = re.compile(r"[ \t]*[0-7]+")

# What each LimitX= counts: a plain number, bytes, seconds, microseconds, or a nice value (stored as 20 - nice).
LIMITS = {
    "CPU": "seconds", "FSIZE": "size", "DATA": "size", "STACK": "size", "CORE": "size", "RSS": "size",
    "NOFILE": "number", "AS": "size", "NPROC": "number", "MEMLOCK": "size", "LOCKS": "number",
    "SIGPENDING": "number", "MSGQUEUE": "size", "NICE": "nice", "RTPRIO": "number", "RTTIME": "micros",
}  # fmt: skip


class Rlimit(NamedTuple):
    """A soft and a hard resource limit. None means no limit.

    LimitCPU is in seconds, LimitRTTIME in microseconds, sizes are in bytes, and all others are plain numbers.
    """

    soft: int | None
    hard: int | None


def parse_bool(text: str) -> bool:
    """A boolean: `1 yes y true t on` or `0 no n false f off`, in any case."""
    found = _BOOLEANS.get(text.lower())
    if found is None:
        raise InvalidValue(f"{text!r} is not a boolean: expected yes or no (or 1, true, on, 0, false, off)")
    return found


def parse_integer(text: str, low: int, high: int, what: str) -> int:
    """A whole number from `low` to `high`. The prefixes 0x, 0o, 0b and 0 choose the base. `what` names it in errors."""
    found = _DIGITS.fullmatch(text)
    number = None
    if found:
        sign, digits = found.groups()
        octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
        number = int(digits, 8 if octal else 0)
        if sign == "-":
            number = -number
    if number is None or not low <= number <= high:
        raise InvalidValue(f"{text!r} is not {what}: expected a whole number from {low} to {high}")
    return number


def parse_size(text: str, base: int = 1024) -> int:
    """A number of bytes: a number with an optional unit B K M G T P E, repeated with ever smaller units (`1G 512M`).

    The units are powers of `base`, which is 1000 for keys that count traffic. They are upper case. A fraction is cut to
    whole bytes.
    """
    position, total, last = 0, 0, len(_SIZE_POWER)
    while position < len(text) or not position:
        found = _SIZE_PART.match(text, position)
        # Each unit may be followed by smaller units only. A number without a unit ends the list.
        rank = "BKMGTPE".find(found[3]) if found and found[3] else -1
        if found is None or rank >= last:
            raise InvalidValue(
                f"{text!r} is not a size: expected a number of bytes, or one with K, M, G, T, P or E (upper case)"
            )
        factor = base ** max(rank, 0)
        total += int(found[1]) * factor
        if found[2]:
            total += int(found[2]) * factor // 10 ** len(found[2])
        position, last = found.end(), rank
    if total > INFINITY:
        raise InvalidValue(f"{text!r} is too large: expected fewer than 16E bytes")
    return total


def parse_percent(text: str, limit: int | None = 100) -> int:
    """A percentage with at most two decimals, in hundredths of a percent. `limit` is the largest percentage allowed."""
    found = _PERCENT.fullmatch(text)
    if found:
        value = int(found[1]) * 100 + int((found[2] or "0").ljust(2, "0"))
        if value <= (2**31 - 1 if limit is None else limit * 100):
            return value
    upper = "" if limit is None else f" up to {limit}%"
    raise InvalidValue(f"{text!r} is not a percentage: expected a number followed by %{upper}, such as 50%")


def parse_mode(text: str) -> int:
    """A file mode: octal digits, at most 7777."""
    if not _MODE.fullmatch(text) or (mode := int(text, 8)) > 0o7777:
        raise InvalidValue(f"{text!r} is not a mode: expected octal digits up to 7777, such as 0022")
    return mode


def parse_rlimit(name: str, text: str) -> Rlimit:
    """`LimitNAME=`: one value for both limits, or `soft:hard`. Each is a number or `infinity`.

    `name` decides which other forms are allowed. Sizes may have a unit (K M G ...). CPU and RTTIME may be time spans;
    CPU is rounded up to whole seconds. NICE may be a signed nice value, and may not be `infinity`.
    """
    soft_text, colon, hard_text = text.partition(":")
    soft = _limit(name, soft_text, text)
    hard = _limit(name, hard_text, text) if colon else soft
    if hard is not None and (soft is None or soft > hard):
        raise InvalidValue(f"{text!r} has a soft limit above the hard one: expected soft:hard with soft <= hard")
    return Rlimit(soft, hard)


def _limit(name: str, text: str, whole: str) -> int | None:
    kind = LIMITS[name]
    if text == "infinity" and kind != "nice":
        return None
    try:
        match kind:
            case "size":
                number = parse_size(text)
            case "seconds":
                micros = parse_timespan(text)
                number = INFINITY if micros is None else -(-micros // SECOND)
            case "micros":
                # Here, numbers without a unit are in microseconds, not in seconds.
                micros = parse_timespan(text, 1)
                number = INFINITY if micros is None else micros
            case "nice" if text[:1] in ("+", "-"):
                return 20 - parse_integer(text, -20, 19, "a nice value")
            case "nice":
                return parse_integer(text, 0, 40, "a nice limit")
            case _:
                number = parse_integer(text, 0, INFINITY - 1, "a limit")
    except InvalidValue as problem:
        raise InvalidValue(
            f"{whole!r} is not a resource limit ({problem}); expected value, soft:hard or infinity"
        ) from None
    if number >= INFINITY:
        raise InvalidValue(f"{whole!r} is too large for a resource limit: expected infinity for none")
    return number
