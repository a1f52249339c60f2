"""The protocol of triggers, and a base class for those without an end."""

from typing import Protocol, Self, cast, runtime_checkable

from xchronos.clock import SECOND, Instant, Micros
from xchronos.triggers.zones import Zone


@runtime_checkable
class Trigger(Protocol):
    """A grid of instants. It is immutable, hashable by identity, and has no state: the Schedule holds the cursor.

    The *anchor* is the instant from which relative grids count. It is the unit's acceptance plus its
    `TriggerStartDelay`. Triggers with an absolute grid (cron, a calendar, an explicit start) ignore it.

    `next_after` treats the grid as endless. The Schedule counts how many fires remain of `count`.
    """

    @property
    def kind(self) -> str:
        """`simple`, `cron`, `every`, `iso8601`, `at`, `calendar` or `class`. Records and people see this word."""
        ...

    @property
    def count(self) -> int | None:
        """The number of fires in all. None if the trigger is endless."""
        ...

    @property
    def restartable(self) -> bool:
        """Whether the grid may start anew at an instant that a misfire policy chooses.

        True for simple and one-shot triggers, and for ISO 8601 with a count: their policies count the repeats. False
        for cron, calendars, classes and endless ISO 8601: their policies fire once, or drop what was missed.
        """
        ...

    def next_after(self, instant: Instant, anchor: Instant) -> Instant | None:
        """The first instant of the grid strictly after `instant`. None if there is none.

        It is computed by arithmetic, never by a walk: the time that it takes does not grow with the distance.
        """
        ...

    def count_between(self, after: Instant, until: Instant, anchor: Instant) -> int:
        """The number of instants of the grid in the half-open span (after, until]."""
        ...

    def restart(self, at: Instant) -> Self:
        """The same trigger with a grid that begins at `at`. A trigger that is not `restartable` returns itself."""
        ...


def too_often(interval: Micros) -> tuple[str, ...]:
    """A warning for an interval below a second, else nothing. `interval` is in microseconds; 0 is no interval."""
    if not 0 < interval < SECOND:
        return ()
    return (f"fires every {interval / SECOND:g} s: each fire time starts a container or a process",)


class WallClock(Protocol):
    """What a trigger is besides if its expression is fixed: it fires for wall times of a zone, once for each."""

    @property
    def zone(self) -> Zone:
        """The zone."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether the expression is fixed, and not one that follows the clock along the UTC timeline."""
        ...

    def fires_at_wall(self, wall: Micros) -> bool:
        """Whether the expression names a wall time, in microseconds since 1970-01-01 as if the clock were UTC."""
        ...


def wall_clock_of(trigger: Trigger) -> WallClock | None:
    """The trigger, if it fires for wall times of a zone; None for any other."""
    return cast("WallClock", trigger) if getattr(trigger, "fixed", False) else None


class Endless:
    """A grid that has no end and cannot restart, because it does not begin with the unit.

    The calendar defines it, or a class that a user wrote, or elapsed time since the acceptance.
    """

    __slots__ = ()

    @property
    def count(self) -> int | None:
        """None, for endless. A calendar event may still name its years, and a class may answer None at some time."""
        return None

    @property
    def restartable(self) -> bool:
        """False: the misfire policies treat it as a cron expression."""
        return False

    def restart(self, at: Instant) -> Self:  # noqa: ARG002 - the protocol's argument
        """The trigger itself."""
        return self
