"""What other programs would read in the same expression: warnings for who brings a line along.

The expression parses, and means one thing here. Where a widely used reader means another, the author is told what it
means here. The facts were measured on the readers themselves; `test_where_others_differ` pins each.

- A sixth field is the weekday here, after seconds in front. For croniter, procrastinate and aiocron the *last* of six
  fields is the seconds, for Nomad and supercronic it is the year.
- Weekdays count from 0, Sunday. Quartz, go-quartz, Rust's cron and Cloudflare's count from 1, Sunday.
- Of two restricted day fields in six fields, either suffices. Spring, db-scheduler and Rust's cron want both.
- A step that is longer than what it steps over leaves one value. Most readers refuse it.
- Debian's cron and cronie refuse `a/n` and `?` in five fields.
"""

import re
from collections.abc import Iterator, Sequence

from xchronos.triggers.cron.fields import (
    CRON_DAY,
    CRON_HOUR,
    CRON_MINUTE,
    CRON_MONTH,
    CRON_SECOND,
    CRON_WEEKDAY,
    CRON_YEAR,
    QUARTZ_DAY,
    QUARTZ_WEEKDAY,
    Spec,
    parse_field,
)

FORMS = {
    5: (CRON_MINUTE, CRON_HOUR, CRON_DAY, CRON_MONTH, CRON_WEEKDAY),
    6: (CRON_SECOND, CRON_MINUTE, CRON_HOUR, QUARTZ_DAY, CRON_MONTH, QUARTZ_WEEKDAY),
    7: (CRON_SECOND, CRON_MINUTE, CRON_HOUR, QUARTZ_DAY, CRON_MONTH, QUARTZ_WEEKDAY, CRON_YEAR),
}
"""The fields of an expression, by their number."""

ZONE_PREFIXES = ("TZ=", "CRON_TZ=")
"""What an expression begins with that names its zone."""

_NAMES = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_STEPPED = re.compile(r"(?:(?P<star>\*)|(?P<first>(?!H)[0-9A-Z]+)(?:-(?P<last>[0-9A-Z]+))?)/(?P<step>[0-9]+)")
_WEEKDAY_NUMBERS = re.compile(r"(?<![#/0-9A-Z])[0-9]+")
_QUARTZ_LETTERS = re.compile(r"[?#W]|(?<![A-Z])L|(?<=[0-9])L|(?<=[A-Z]{3})L(?=,|\Z)")
_FROM_ONE = {
    "2-6": ("Tuesday to Saturday", "Monday to Friday"),
    "1,7": ("Monday and Sunday", "Sunday and Saturday"),
    "7,1": ("Sunday and Monday", "Saturday and Sunday"),
}
"""Weekdays that one hardly wants, and their meaning here and where 1 is Sunday."""
_INTERVALS = {"second": "s", "minute": "m", "hour": "h"}


def without_zone(text: str) -> list[str]:
    """The words of an expression, without the zone in front."""
    parts = text.split()
    return parts[1:] if parts and parts[0].startswith(ZONE_PREFIXES) else parts


def differences(text: str) -> tuple[str, ...]:
    """Warnings for an expression that parses: what it means here, where others mean something else.

    Descriptors (`@daily`) mean the same everywhere, and have none.
    """
    parts = without_zone(text)
    if parts[0].startswith("@"):
        return ()
    parts = [part.upper() for part in parts]
    found = list(_long_steps(parts))
    found.extend(_refused_by_debian(parts) if len(parts) == 5 else _with_seconds(parts))
    found.extend(_numbers(parts))
    return tuple(found)


def _long_steps(parts: Sequence[str]) -> Iterator[str]:
    for spec, part in zip(FORMS[len(parts)], parts, strict=True):
        for item in part.split(","):
            stepped = _STEPPED.fullmatch(item)
            if stepped is None:
                continue
            first = spec.low if stepped["star"] else _value(spec, stepped["first"])
            last = _value(spec, stepped["last"]) if stepped["last"] else max(first, spec.full_end)
            step = _number(stepped["step"])
            if first + step > last > first:
                unit = _INTERVALS.get(spec.name, "")
                interval = f"; for an interval write @every {step}{unit}" if unit and stepped["star"] else ""
                yield (
                    f"{spec.name} {item!r}: the step is longer than what it steps over, so this is "
                    f"{spec.name} {first} alone{interval}"
                )


def _value(spec: Spec, text: str) -> int:
    return spec.names[text] if text in spec.names else _number(text)


def _number(digits: str) -> int:
    """Digits as a number, which thousands of zeros may precede."""
    return int(digits.lstrip("0")[:9] or "0")


def _refused_by_debian(parts: Sequence[str]) -> Iterator[str]:
    for spec, part in zip(FORMS[5], parts, strict=True):
        if part == "?":
            yield f"{spec.name} '?': Debian's cron and cronie refuse it: write '*'"
        for item in part.split(","):
            stepped = _STEPPED.fullmatch(item)
            if stepped is not None and stepped["first"] and not stepped["last"]:
                plain = f"{stepped['first']}-{spec.full_end}/{stepped['step']}"
                yield f"{spec.name} {item!r}: Debian's cron and cronie refuse it: write {plain!r}"


def _with_seconds(parts: Sequence[str]) -> Iterator[str]:
    seconds, weekday = parts[0], parts[5]
    times = parse_field(CRON_SECOND, seconds, "").mask.bit_count()
    if len(parts) == 6 and times > 1:
        yield (
            f"second {seconds!r}: six fields begin with the seconds, so this fires {times} times a minute; others read "
            "a year last (Nomad, supercronic) or the seconds last (croniter, aiocron)"
        )
    step = re.fullmatch(r"\*/0*([2-9]|[1-9][0-9])", weekday)
    if len(parts) == 6 and parts[3] != "?" and (weekday == "0" or step):
        days = ", ".join(_NAMES[:: int(step[1]) if step else 7])
        also = f", and Spring counts {weekday!r} from Monday" if step else ""
        yield (
            f"day-of-week {weekday!r}: the last of six fields is the weekday, so this is {days}; croniter, "
            f"procrastinate and aiocron read it as the seconds{also}"
        )
    day, week = parse_field(QUARTZ_DAY, parts[3], ""), parse_field(QUARTZ_WEEKDAY, weekday, "")
    if not (day.star or week.star):
        yield (
            f"day-of-month {parts[3]!r} and day-of-week {weekday!r}: either suffices here; in Spring, db-scheduler and "
            "Rust's cron a day must match both"
        )


def _numbers(parts: Sequence[str]) -> Iterator[str]:
    """Weekdays as numbers that probably come from a reader that calls Sunday 1."""
    day, weekday = (parts[2], parts[4]) if len(parts) == 5 else (parts[3], parts[5])
    numbers = [_number(number) for number in _WEEKDAY_NUMBERS.findall(weekday)]
    quartz = len(parts) == 7 or any(_QUARTZ_LETTERS.search(part) for part in (day, weekday))
    if numbers and 0 not in numbers and len(parts) > 5 and quartz:
        here, there = (
            _WEEKDAY_NUMBERS.sub(lambda found: _NAMES[_number(found[0]) - base].upper(), weekday)  # noqa: B023
            for base in (0, 1)
        )
        yield f"day-of-week {weekday!r}: this is {here!r}, since 0 is Sunday; in Quartz 1 is, and it is {there!r}"
    elif weekday in _FROM_ONE:
        here, there = _FROM_ONE[weekday]
        yield (
            f"day-of-week {weekday!r}: this is {here}; where 1 is Sunday (Quartz, Rust's cron, Cloudflare) it is "
            f"{there}: write names"
        )
