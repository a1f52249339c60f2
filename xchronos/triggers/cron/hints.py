"""What the author of an expression that does not parse probably wants, and how it is written here."""

import re
from collections.abc import Callable

from xchronos.errors import quoted
from xchronos.triggers.cron.dialects import without_zone

_ONCE = "TriggerStartDelay=0 fires once, when the unit is accepted"
_DESCRIPTORS = {
    "@reboot": f"nothing here knows the boot of a machine: {_ONCE}, and a unit without a trigger that has "
    "Restart=always runs always",
    "@startup": f"nothing here knows the start of a daemon: {_ONCE}",
    "@at": "an instant is written TriggerAt=2030-01-31T09:00:00Z",
    "@triggered": "a unit without a trigger is started by hand only: leave the key out",
    "@manually": "a unit without a trigger is started by hand only: leave the key out",
    "@minutely": "write '* * * * *'",
    "@every_minute": "write '* * * * *'",
    "@every_second": "write '* * * * * *'",
}
"""Descriptors of other programs, each with what is written here."""

_UNITS = {"s": "s", "sec": "s", "second": "s", "m": "m", "min": "m", "minute": "m", "h": "h", "hr": "h", "hour": "h"}
_DAYS = {"d": 24, "day": 24, "w": 168, "week": 168}
"""Units that Go does not have, in hours."""

_LENGTH = re.compile(r"([0-9]{1,9})([a-z]+)")
_ZONE = re.compile(r"[A-Za-z]+(?:/[A-Za-z0-9_+-]+)+|UTC|GMT")
_FIELD = re.compile(r"[0-9*?,/#~()-]+|(?:[0-9]|[A-Z]{3}|[HLW*?,/#~()-])+")
_USER = re.compile(r"[a-z_][a-z0-9_-]*")


def hint(text: str, reads: Callable[[str], bool]) -> str:
    """What to write instead of an expression that does not parse; empty if nobody can tell.

    Args:
        text: The expression, as it was written.
        reads: Whether another expression parses. It is asked about small changes of `text`.
    """
    parts = without_zone(text)
    if not parts:
        return ""
    if parts[0].startswith("@"):
        return _descriptor(parts, reads)
    *fields, last = parts
    if _ZONE.fullmatch(last) and reads(" ".join(fields)):
        return f"the zone belongs into TimeZone={last}, or in front: {quoted(f'TZ={last} ' + ' '.join(fields))}"
    joined = " ".join(parts)
    if len(parts) == 5 and reads(f"0 {joined}"):
        return f"with seconds in front it is understood: {quoted(f'0 {joined}')}"
    plain = re.sub(r"(\w)#L\b", r"\1L", joined)
    if plain != joined and reads(plain):
        return f"the last one of a weekday is written {quoted(plain)}"
    if len(parts) > 5 and reads(" ".join(parts[:5])):
        return _command(parts[5:], " ".join(parts[:5]))
    return ""


def _descriptor(parts: list[str], reads: Callable[[str], bool]) -> str:
    word, *rest = parts
    known = _DESCRIPTORS.get(word.lower())
    if known:
        return known
    length = "".join(rest) if word == "@every" else word[1:]
    every = _every(length.lower())
    if every and reads(f"@every {every}"):
        return f"write '@every {every}'"
    return _command(rest, word) if rest and reads(word) else ""


def _every(length: str) -> str:
    """A length such as `5minutes` or `1d2h` as Go writes it; empty if it is none."""
    found = ""
    for number, unit in _LENGTH.findall(length):
        short = unit.removesuffix("s") or unit
        if short in _DAYS:
            found += f"{int(number) * _DAYS[short]}h"
        elif short in _UNITS:
            found += number + _UNITS[short]
        else:
            return ""
    return found if _LENGTH.sub("", length) == "" else ""


def _command(words: list[str], expression: str) -> str:
    """The hint for a line of a crontab with its command, and perhaps its user; empty if the words look like fields."""
    if _FIELD.fullmatch(words[0]):
        return ""
    user = (
        f" and User={quoted(words[0])[1:-1]}"
        if len(words) > 1 and _USER.fullmatch(words[0]) and "/" in words[1]
        else ""
    )
    command = " ".join(words[1:] if user else words)
    return (
        f"a command does not belong here: write TriggerCron={quoted(expression)[1:-1]}, and in [Service] "
        f"ExecStart={quoted(command)[1:-1]}{user}"
    )
