"""Parsing cron expressions (TIME.md 1).

Five fields are crontab(5) as Debian's cron reads it: minute, hour, day of month, month, day of week (7 is Sunday too).
A day field that begins with `*` does not widen the other: both must match. Six fields are robfig's (Khronos'): seconds
in front, weekdays 0-6; of two restricted day fields, where `*/n` counts as restricted, either suffices. A seventh field
is the year. Six and seven fields also take Quartz's `L`, `L-n`, `LW`, `L-nW`, `nW`, `5L` and `6#3`, but never Quartz's
numbers: 0 is Sunday. `H`, `H(a-b)`, `H/n`, `~`, `a~b` are hashed from the unit's name; `a/n` runs from a to the
field's end.
"""

from difflib import get_close_matches

from xchronos.errors import InvalidTrigger, quoted
from xchronos.triggers.cron.days import ALL_DAYS, ALL_WEEKDAYS, days_of
from xchronos.triggers.cron.every import EveryTrigger, parse_every
from xchronos.triggers.cron.fields import (
    DAY,
    HOUR,
    MINUTE,
    MONTH,
    QUARTZ_DAY,
    QUARTZ_WEEKDAY,
    SECOND,
    WEEKDAY,
    YEAR,
    CronField,
    parse_field,
)
from xchronos.triggers.cron.trigger import CronTrigger
from xchronos.triggers.zones import Zone, utc
from xchronos.triggers.zones import zone as zone_named

DESCRIPTORS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
"""What each descriptor stands for; `@every <duration>` is the only other one."""

_FORMS = {
    5: (MINUTE, HOUR, DAY, MONTH, WEEKDAY),
    6: (SECOND, MINUTE, HOUR, QUARTZ_DAY, MONTH, QUARTZ_WEEKDAY),
    7: (SECOND, MINUTE, HOUR, QUARTZ_DAY, MONTH, QUARTZ_WEEKDAY, YEAR),
}
_FORMS_TEXT = (
    "expected 5 fields (minute hour day-of-month month day-of-week), 6 (seconds in front) or 7 (a year behind)"
)


def parse_cron(text: str, *, zone: Zone | None = None, unit_name: str = "") -> CronTrigger | EveryTrigger:
    """The trigger of a cron expression, in `zone` (UTC by default) unless it begins with `TZ=` or `CRON_TZ=`.

    `unit_name` seeds the hashed values `H` and `~`.

    Raises:
        InvalidTrigger: the expression does not parse; the message names the field, its text and the allowed range.
    """
    try:
        return _parse(text, zone or utc, unit_name)
    except InvalidTrigger as error:
        raise InvalidTrigger(f"cron expression {quoted(text)}: {error}") from None


def _parse(text: str, zone: Zone, unit_name: str) -> CronTrigger | EveryTrigger:
    parts = text.split()
    if parts and parts[0].startswith(("TZ=", "CRON_TZ=")):
        zone = zone_named(parts.pop(0).partition("=")[2])
    if parts and parts[0].startswith("@"):
        if parts[0] == "@every":
            return parse_every(" ".join(parts[1:]))
        parts = _descriptor(" ".join(parts)).split()
    if len(parts) not in _FORMS:
        raise InvalidTrigger(f"{_FORMS_TEXT}, found {len(parts)}")
    fields = [parse_field(spec, part, unit_name) for spec, part in zip(_FORMS[len(parts)], parts, strict=True)]
    if len(parts) == 5:
        return _trigger(text, zone, parts, [parse_field(SECOND, "0", ""), *fields], debian=True)
    return _trigger(text, zone, parts[1:], fields, debian=False)


def _trigger(text: str, zone: Zone, parts: list[str], fields: list[CronField], *, debian: bool) -> CronTrigger:
    """`parts` are the texts from the minute field on, `fields` begin with the seconds."""
    seconds, minutes, hours, dom, months, dow = fields[:6]
    years = fields[6].mask if len(fields) == 7 and not fields[6].star else None
    both_days = False
    if debian:
        # Debian's cron looks at the first character only: a day field that begins with `*` is AND-ed to the other.
        either = not (parts[2].startswith(("*", "?")) or parts[4].startswith(("*", "?")))
        both_days = not either and dom.mask != ALL_DAYS and dow.mask != ALL_WEEKDAYS
    else:
        either = not (dom.star or dow.star)
    days = days_of(dom.mask, months.mask, dow.mask, years, dom.items, dow.items, either)
    return CronTrigger(
        text,
        zone,
        (seconds.mask, minutes.mask, hours.mask),
        days,
        wildcard=parts[0].startswith("*") or parts[1].startswith("*"),
        both_days=both_days,
    )


def _descriptor(text: str) -> str:
    """The six fields of a descriptor."""
    fields = DESCRIPTORS.get(text)
    if fields is None:
        near = get_close_matches(text.lower(), [*DESCRIPTORS, "@every"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(DESCRIPTORS)
        raise InvalidTrigger(f"unknown descriptor {quoted(text)}: expected {known} or @every <duration>{hint}")
    return fields
