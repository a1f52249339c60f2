"""The first and the last instant that triggers and schedules compute with."""

from datetime import UTC, datetime

from xchronos.clock import Instant, to_instant

EARLIEST: Instant = to_instant(datetime.min.replace(tzinfo=UTC))
"""0001-01-01T00:00:00Z, the first instant that has a date. It is before every fire time."""

LATEST: Instant = to_instant(datetime.max.replace(tzinfo=UTC))
"""The last microsecond of the year 9999, the last instant that a record can carry. Nothing fires after it.

The tests named `test_nothing_fires_after_the_year_9999` and `test_nothing_beyond_the_year_9999` pin that.
"""
