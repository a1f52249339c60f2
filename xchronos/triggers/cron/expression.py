"""Parsing cron expressions, and the dialect in words.

**Five fields** are those of crontab(5), as Debian's cron reads it: minute, hour, day of month, month, day of week.
0 and 7 are Sunday. If one of the two day fields begins with `*`, both must match; otherwise one of them suffices.

**Six fields** are those of Go's robfig/cron and of Khronos: the seconds come first, and weekdays are 0-6. If both day
fields are restricted, one of them suffices. Here `*/n` counts as a restriction. A **seventh field** is the year.

- Each field is a list of `*`, values, ranges `a-b`, and steps `*/n`, `a-b/n` and `a/n`. `a/n` runs from a to the
  field's end. Months and weekdays have names. `?` alone means `*` in a day field.
- Six and seven fields also have Quartz's day items `L`, `L-n`, `LW`, `L-nW`, `nW`, `5L` and `6#3`. Weekdays keep their
  numbers, which are not Quartz's: 0 is Sunday.
- `H`, `H(a-b)`, `H/n`, `~` and `a~b` are hashed from the unit's name. They are the same on every machine.
- `@yearly`, `@monthly`, `@daily` and the like stand for six fields; `@every <duration>` is an interval.
- `TZ=Zone` or `CRON_TZ=Zone` may stand first, instead of the unit's `TimeZone=`.

A date that does not exist, such as 30 February, parses with a warning and never fires. The tests in
`tests/triggers/test_cron.py` pin the dialect; `test_the_day_rules` pins the two rules for days.
"""

from difflib import get_close_matches

from xchronos.errors import InvalidTrigger, quoted
from xchronos.triggers.cron.days import ALL_DAYS, ALL_WEEKDAYS, days_of
from xchronos.triggers.cron.dialects import FORMS, ZONE_PREFIXES
from xchronos.triggers.cron.every import EveryTrigger, parse_every
from xchronos.triggers.cron.fields import CRON_SECOND, CronField, parse_field
from xchronos.triggers.cron.hints import hint
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
"""The six fields that each descriptor stands for. `@every <duration>` is the only other descriptor."""

_FORMS_TEXT = (
    "expected 5 fields (minute hour day-of-month month day-of-week), 6 (seconds in front) or 7 (a year behind)"
)


def parse_cron(text: str, *, zone: Zone | None = None, unit_name: str = "") -> CronTrigger | EveryTrigger:
    """The trigger for a cron expression.

    `zone` is the unit's zone, UTC by default. An expression that begins with `TZ=` or `CRON_TZ=` has its own.
    `unit_name` seeds the hashed values `H` and `~`.

    Raises:
        InvalidTrigger: the expression does not parse. The message names the field, its text and the allowed range.
    """
    try:
        return _parse(text, zone or utc, unit_name)
    except InvalidTrigger as error:
        advice = hint(text, _reads)
        told = f"{advice}; as it stands, {error}" if advice else f"{error}"
        raise InvalidTrigger(f"cron expression {quoted(text)}: {told}") from None


def _reads(text: str) -> bool:
    """Whether an expression parses."""
    try:
        _parse(text, utc, "")
    except InvalidTrigger:
        return False
    return True


def _parse(text: str, zone: Zone, unit_name: str) -> CronTrigger | EveryTrigger:
    parts = text.split()
    if parts and parts[0].startswith(ZONE_PREFIXES):
        zone = zone_named(parts.pop(0).partition("=")[2])
    if parts and parts[0].startswith("@"):
        if parts[0] == "@every":
            return parse_every(" ".join(parts[1:]))
        parts = _descriptor(" ".join(parts)).split()
    if len(parts) not in FORMS:
        raise InvalidTrigger(f"{_FORMS_TEXT}, found {len(parts)}")
    fields = [parse_field(spec, part, unit_name) for spec, part in zip(FORMS[len(parts)], parts, strict=True)]
    if len(parts) == 5:
        return _trigger(text, zone, parts, [parse_field(CRON_SECOND, "0", ""), *fields], debian=True)
    return _trigger(text, zone, parts[1:], fields, debian=False)


def _trigger(text: str, zone: Zone, parts: list[str], fields: list[CronField], *, debian: bool) -> CronTrigger:
    """The trigger for parsed fields. `parts` are the texts from the minute on, and `fields` begin with the seconds."""
    seconds, minutes, hours, dom, months, dow = fields[:6]
    years = fields[6].mask if len(fields) == 7 and not fields[6].star else None
    both_days = False
    if debian:
        # Debian's cron looks at the first character only: if a day field begins with `*`, both day fields must match.
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
