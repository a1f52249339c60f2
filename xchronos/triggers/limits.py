"""Bounds that all triggers share."""

from datetime import UTC, datetime

from xchronos.clock import Instant, to_instant

EARLIEST: Instant = to_instant(datetime.min.replace(tzinfo=UTC))
"""The first instant that has a date for people."""

LATEST: Instant = to_instant(datetime.max.replace(tzinfo=UTC))
"""The last instant that has a date for people: triggers answer nothing beyond the year 9999."""
