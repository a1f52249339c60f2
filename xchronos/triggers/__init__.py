"""When a unit fires: immutable values that compute the next fire time.

Every trigger implements the protocol `base.Trigger`. These rules hold for all of them:

- Instants are microseconds since 1970-01-01T00:00:00Z. All computation is on instants.
- A trigger returns the first instant *strictly after* the one given.
- A fire time lies on the trigger's grid. Delays, retries and long executions never move the grid.
- The next instant is computed by arithmetic, never by walking from fire time to fire time. An answer takes
  microseconds, even for 14 years of an interval of a minute or for a date that does not exist.
- The zone is UTC unless the unit names one, never the host's. The rules of zones come from the package `tzdata`.

`parse_trigger` reads the keys of a unit whose value is one expression. `SimpleTrigger` has no text: the compiler builds
it from `TriggerRepeatInterval` and `TriggerRepeatCount`.

- `base`, `limits`: the protocol, and the first and last instant that have a date.
- `simple`, `at`, `custom`: intervals, single instants, and classes that users write.
- `cron`, `calendar`, `iso8601`: a package for each dialect, with its text and its grid.
- `zones`, `zone_rules`: time zones as segments of constant offset, and the reader of compiled zones.
"""

from xchronos.errors import InvalidTrigger
from xchronos.triggers.at import AtTrigger, parse_at
from xchronos.triggers.base import Trigger
from xchronos.triggers.calendar.trigger import CalendarTrigger, parse_calendar
from xchronos.triggers.cron.every import EveryTrigger
from xchronos.triggers.cron.expression import parse_cron
from xchronos.triggers.cron.trigger import CronTrigger
from xchronos.triggers.custom import CustomTrigger, load_class
from xchronos.triggers.iso8601.trigger import Iso8601Trigger, parse_iso8601
from xchronos.triggers.simple import SimpleTrigger
from xchronos.triggers.zones import Zone, zone

__all__ = [
    "TRIGGER_KEYS",
    "AtTrigger",
    "CalendarTrigger",
    "CronTrigger",
    "CustomTrigger",
    "EveryTrigger",
    "Iso8601Trigger",
    "SimpleTrigger",
    "Trigger",
    "Zone",
    "load_class",
    "parse_at",
    "parse_calendar",
    "parse_cron",
    "parse_iso8601",
    "parse_trigger",
    "zone",
]

TRIGGER_KEYS = ("TriggerCron", "TriggerISO8601", "TriggerAt", "TriggerCalendar", "TriggerClass")
"""The keys of [X-Chronos] that `parse_trigger` reads."""


def parse_trigger(key: str, value: str, *, zone: Zone | None = None, unit_name: str = "") -> Trigger:
    """The trigger for one of `TRIGGER_KEYS`.

    `zone` is the unit's `TimeZone`. None means UTC, except for an ISO 8601 start with an offset: days and months then
    follow the wall clock of that offset. `unit_name` seeds the hashed values of cron.

    Raises:
        InvalidTrigger: the value does not parse, or the key is not one of `TRIGGER_KEYS`.
    """
    match key:
        case "TriggerCron":
            return parse_cron(value, zone=zone, unit_name=unit_name)
        case "TriggerISO8601":
            return parse_iso8601(value, zone)
        case "TriggerAt":
            return parse_at(value)
        case "TriggerCalendar":
            return parse_calendar(value, zone)
        case "TriggerClass":
            return load_class(value)
    raise InvalidTrigger(f"{key} is no trigger: expected one of {', '.join(TRIGGER_KEYS)}")
