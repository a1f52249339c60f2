"""Instants, the clock as an argument, and waiting by it.

An *instant* is an `int`: the microseconds since 1970-01-01T00:00:00Z. Leap seconds do not exist, as in POSIX. Triggers
and the scheduler compute with instants. Records that people read hold aware `datetime`s in UTC. Both convert exactly.

Time is an argument everywhere below the daemon: a loop reads its clock once in a turn and passes the value down.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeAlias

Instant: TypeAlias = int
"""A moment: microseconds since the Unix epoch, in UTC."""

Micros: TypeAlias = int
"""A length of time in microseconds."""

MILLISECOND: Micros = 1_000
SECOND: Micros = 1_000_000
MINUTE: Micros = 60 * SECOND
HOUR: Micros = 60 * MINUTE
DAY: Micros = 24 * HOUR

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_instant(moment: datetime) -> Instant:
    """The instant of an aware datetime, exactly."""
    return (moment - EPOCH) // _MICROSECOND


def to_datetime(instant: Instant) -> datetime:
    """The aware UTC datetime of an instant. Raises OverflowError beyond the year 9999."""
    return EPOCH + timedelta(microseconds=instant)


class Clock(Protocol):
    """Where a daemon gets its time from."""

    def now(self) -> Instant:
        """The wall clock. It jumps forward or backward when somebody sets it."""
        ...

    def monotonic(self) -> Micros:
        """A clock that never jumps. Only differences of its values mean something."""
        ...

    async def sleep(self, length: Micros) -> None:
        """Return after `length` on the monotonic clock; immediately if that is not positive."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> Instant:
        """The machine's wall clock."""
        return time.time_ns() // 1_000

    def monotonic(self) -> Micros:
        """The machine's monotonic clock."""
        return time.monotonic_ns() // 1_000

    async def sleep(self, length: Micros) -> None:
        """Sleep on the event loop's clock, which is the monotonic one."""
        await asyncio.sleep(max(length, 0) / SECOND)
