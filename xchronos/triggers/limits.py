"""Bounds that all triggers share."""

from datetime import UTC, datetime

from xchronos.clock import Instant, to_instant

LATEST: Instant = to_instant(datetime.max.replace(tzinfo=UTC))
"""The last instant that has a date for people: triggers answer nothing beyond the year 9999."""
