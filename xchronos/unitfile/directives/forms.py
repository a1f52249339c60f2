"""The forms in which systemd shows values, and small grammars that many keys share."""

import posixpath
import re

from xchronos.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from xchronos.errors import InvalidValue
from xchronos.unitfile.names import PART_LIMIT, PATH_LIMIT, is_too_long
from xchronos.unitfile.timespan import SYSTEMD_MONTH, SYSTEMD_YEAR, WEEK

_UNITS = (
    ("y", SYSTEMD_YEAR), ("month", SYSTEMD_MONTH), ("w", WEEK), ("d", DAY), ("h", HOUR),
    ("min", MINUTE), ("s", SECOND), ("ms", MILLISECOND), ("us", 1),
)  # fmt: skip
_MACHINE_PATH = re.compile("%[A-Za-z]")


def names_in(text: str) -> tuple[str, ...]:
    """The names in a text, split at blanks."""
    return tuple(text.split())


def systemd_timespan(micros: int | None, accuracy: int = SECOND) -> str:
    """A length of time as systemd prints it (`1min 30s`), cut to `accuracy`, in microseconds. None is `infinity`.

    `timespan.format_timespan` is the form for people: it is exact and never has a fraction.
    """
    if micros is None:
        return "infinity"
    parts: list[str] = []
    rest = micros
    for suffix, size in _UNITS:
        if rest == 0 or (rest < accuracy and parts):
            break
        if rest < size:
            continue
        whole, remainder = divmod(rest, size)
        digits = len(str(size)) - len(str(accuracy))
        if rest < MINUTE and remainder and digits > 0:
            parts.append(f"{whole}.{remainder // accuracy:0{digits}d}{suffix}")
            break
        parts.append(f"{whole}{suffix}")
        rest = remainder
    return " ".join(parts) or "0"


def format_bytes(count: int) -> str:
    """A number of bytes as systemd prints bandwidths: in the largest unit that fits, cut to one decimal."""
    for power, unit in ((6, "E"), (5, "P"), (4, "T"), (3, "G"), (2, "M"), (1, "K")):
        factor = 1024**power
        if count >= factor:
            return f"{count // factor}.{count * 10 // factor % 10}{unit}"
    return f"{count}B"


def plain_path(text: str) -> str:
    """The absolute path without double slashes and single dots. Raises InvalidValue for relative paths and `..`."""
    # A path may begin with a specifier of the machine, such as %h, which is filled in later.
    if not text.startswith("/") and not _MACHINE_PATH.match(text):
        raise InvalidValue(f"{text!r} is not an absolute path: expected it to start with /")
    return _normalised(text)


def relative_path(text: str) -> str:
    """A relative path, as it is used below a system directory. Raises InvalidValue for other paths and for `..`."""
    if text.startswith("/"):
        raise InvalidValue(f"{text!r} is an absolute path: expected one relative to the directory it names")
    path = _normalised(text)
    if not text or path == ".":
        raise InvalidValue(f"{text!r} names no directory: expected a relative path")
    return path


def _normalised(text: str) -> str:
    if is_too_long(text):
        raise InvalidValue(
            f"{text[:32]!r}... is too long for a path: expected at most {PATH_LIMIT} bytes, {PART_LIMIT} in each part"
        )
    if ".." in text.split("/"):
        raise InvalidValue(f"{text!r} is not normalised: expected a path without '..'")
    path = posixpath.normpath(text)
    return path[1:] if path.startswith("//") else path


def merge_ranges(numbers: set[int]) -> str:
    """The numbers as ranges, as systemd shows CPU sets: `0-3 5`."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return " ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
