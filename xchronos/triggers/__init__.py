"""When a unit fires: pure values that answer "when next?" (TIME.md).

Every trigger implements `Trigger`. Instants are microseconds since the epoch, UTC. `parse_trigger` reads the trigger
keys of a unit whose value is one expression; `SimpleTrigger` is made from three of them and has no text of its own.
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
"""The keys that `parse_trigger` reads."""


def parse_trigger(key: str, value: str, *, zone: Zone | None = None, unit_name: str = "") -> Trigger:
    """The trigger of one of `TRIGGER_KEYS`.

    `zone` is the unit's `TimeZone`, None when it has none: UTC, except that an ISO 8601 start with an offset then keeps
    the wall clock of that offset. `unit_name` seeds cron's hashed values.

    Raises:
        InvalidTrigger: the value does not parse, or the key is no trigger's.
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
