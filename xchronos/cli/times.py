"""Times as text: for people, and for programs."""

from datetime import UTC, datetime, timedelta, tzinfo

_UNITS = ((86_400 * 365.25, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def machine_time(moment: datetime | None) -> str:
    """A time for programs: RFC 3339 in UTC; `-` for none."""
    if moment is None:
        return "-"
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def human_time(moment: datetime | None, now: datetime, zone: tzinfo | None = None) -> str:
    """A time for people, and how far away it is: `Tue 2030-01-01 13:00:00 CET, in 5min`; `-` for none.

    `zone` None: the local time zone.
    """
    if moment is None:
        return "-"
    local = moment.astimezone(zone)
    fraction = f".{local.microsecond:06d}".rstrip("0") if local.microsecond else ""
    return f"{local:%a %Y-%m-%d %H:%M:%S}{fraction} {local:%Z}, {distance(moment, now)}"


def short_time(moment: datetime | None, now: datetime, zone: tzinfo | None = None) -> str:
    """A time for a column: `13:00:05, in 5min`, with the date when it is not today; `-` for none."""
    if moment is None:
        return "-"
    local = moment.astimezone(zone)
    day = "" if local.date() == now.astimezone(zone).date() else f"{local:%Y-%m-%d} "
    return f"{day}{local:%H:%M:%S}, {distance(moment, now)}"


def distance(moment: datetime, now: datetime) -> str:
    """How far away a time is: `in 5min`, `2h 3min ago`, or `now` when it is less than a second."""
    away = moment - now
    if abs(away) < timedelta(seconds=1):
        return "now"
    return f"in {length(away)}" if away > timedelta() else f"{length(-away)} ago"


def length(span: timedelta) -> str:
    """A length of time in its two largest units: `2h 3min`, `1.5s`, `20ms`."""
    seconds = max(span.total_seconds(), 0.0)
    if 0 < seconds < 1:
        return f"{seconds * 1_000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.3g}s" if seconds < 10 else f"{int(seconds)}s"
    position = next(index for index, (size, _) in enumerate(_UNITS) if seconds >= size)
    size, name = _UNITS[position]
    smaller, smaller_name = _UNITS[position + 1]
    rest = int(seconds % size // smaller)
    return f"{int(seconds // size)}{name}" + (f" {rest}{smaller_name}" if rest else "")
