"""The first and the last instant that triggers and schedules compute with, and what is wrong with a date."""

from calendar import monthrange
from datetime import UTC, datetime

from xchronos.clock import Instant, to_instant

EARLIEST: Instant = to_instant(datetime.min.replace(tzinfo=UTC))
"""0001-01-01T00:00:00Z, the first instant that has a date. It is before every fire time."""

LATEST: Instant = to_instant(datetime.max.replace(tzinfo=UTC))
"""The last microsecond of the year 9999, the last instant that a record can carry. Nothing fires after it.

The tests named `test_nothing_fires_after_the_year_9999` and `test_nothing_beyond_the_year_9999` pin that.
"""


def out_of_range(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> str:
    """The first part of a date-time that no date-time has, and its range; empty if there is such a date-time.

    Python words this otherwise in each of its versions.
    """
    known = 1 <= year <= 9999 and 1 <= month <= 12
    for name, value, low, high in (
        ("year", year, 1, 9999),
        ("month", month, 1, 12),
        ("day", day, 1, monthrange(year, month)[1] if known else 31),
        ("hour", hour, 0, 23),
        ("minute", minute, 0, 59),
        ("second", second, 0, 59),
    ):
        if not low <= value <= high:
            return f"{name} must be in {low}..{high}"
    return ""
