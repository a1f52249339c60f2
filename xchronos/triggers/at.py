"""One-shot triggers: `TriggerAt`.

The instant is written as RFC 3339 with an offset, as unix seconds (10 digits) or as unix milliseconds (13 digits). An
instant in the past is allowed: it is a misfire like any other, and the unit's misfire policy decides.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from xchronos.clock import MILLISECOND, SECOND, Instant, to_datetime, to_instant
from xchronos.errors import InvalidTrigger, quoted
from xchronos.triggers.limits import out_of_range

_UNIX = re.compile(r"[0-9]+")
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"([Zz]|([+-])([0-9]{2}):([0-9]{2}))?"
)
_EXPECTED = (
    "expected RFC 3339 with an offset (2030-01-31T09:00:00Z, 2030-01-31T09:00:00+01:00), "
    "unix seconds (10 digits) or unix milliseconds (13 digits)"
)


@dataclass(frozen=True, slots=True, eq=False)
class AtTrigger:
    """Fires once, at the instant `at`."""

    at: Instant

    @property
    def kind(self) -> str:
        """Always `at`."""
        return "at"

    @property
    def count(self) -> int | None:
        """1: there is one fire in all."""
        return 1

    @property
    def restartable(self) -> bool:
        """True: the misfire policies may fire a missed one-shot now."""
        return True

    def next_after(self, instant: Instant, anchor: Instant = 0) -> Instant | None:  # noqa: ARG002 - the protocol's argument
        """The trigger's instant if `instant` is before it, else None. The anchor is ignored."""
        return self.at if instant < self.at else None

    def count_between(self, after: Instant, until: Instant, anchor: Instant = 0) -> int:  # noqa: ARG002
        """1 if the trigger's instant lies in (after, until], else 0. The anchor is ignored."""
        return int(after < self.at <= until)

    def restart(self, at: Instant) -> Self:
        """A one-shot at the instant `at`."""
        return type(self)(at)


def parse_at(text: str) -> AtTrigger:
    """The trigger for an RFC 3339 date-time with an offset, for unix seconds or for unix milliseconds.

    Digits below a microsecond are dropped. A number of 10 digits is seconds and one of 13 is milliseconds. Any other
    number is refused, because its unit would be a guess.

    Raises:
        InvalidTrigger: the text is none of these, or there is no such date.
    """
    if _UNIX.fullmatch(text):
        if len(text) == 10:
            return AtTrigger(int(text) * SECOND)
        if len(text) == 13:
            return AtTrigger(int(text) * MILLISECOND)
        raise InvalidTrigger(f"{quoted(text)} is a number of {len(text)} digits: {_EXPECTED}")
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise InvalidTrigger(f"{quoted(text)} is not a date-time: {_EXPECTED}")
    *fields, fraction, offset, sign, hours, minutes = found.groups()
    if offset is None:
        raise InvalidTrigger(
            f"{quoted(text)} has no offset, so it could mean a different instant on every machine: "
            "append Z for UTC, or an offset such as +01:00"
        )
    if fields[5] == "60":
        raise InvalidTrigger(f"{quoted(text)} is a leap second: unix time has none, expected seconds 00 to 59")
    ahead = timedelta()
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            raise InvalidTrigger(f"{quoted(text)} has the offset {offset!r}: expected -23:59 to +23:59")
        ahead = timedelta(hours=int(hours), minutes=int(minutes))
    year, month, day, hour, minute, second = map(int, fields)
    wrong = out_of_range(year, month, day, hour, minute, second)
    if wrong:
        raise InvalidTrigger(f"{quoted(text)} does not exist: {wrong}")
    wall = to_instant(datetime(year, month, day, hour, minute, second, tzinfo=UTC))
    moment = wall + int((fraction or "")[:6].ljust(6, "0"))
    moment += (1 if sign == "-" else -1) * (ahead // timedelta(microseconds=1))
    try:
        to_datetime(moment)
    except OverflowError:
        raise InvalidTrigger(f"{quoted(text)} is, in UTC, outside the years 1 to 9999") from None
    return AtTrigger(moment)
