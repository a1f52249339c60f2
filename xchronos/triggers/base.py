"""What a trigger is, a pure value that answers "when next?", and what those without an end share."""

from typing import Protocol, Self, runtime_checkable

from xchronos.clock import Instant


@runtime_checkable
class Trigger(Protocol):
    """A grid of instants. Immutable, hashable by identity, and free of any state: the cursor lives in the Schedule.

    *Anchor*: the instant from which relative grids count: the unit's acceptance plus its `TriggerStartDelay`.
    Triggers with an absolute grid (cron, a calendar, an explicit start) ignore it. How many fires remain of `count`
    is the Schedule's business too: `next_after` speaks of the grid alone, as if it were endless.
    """

    @property
    def kind(self) -> str:
        """`simple`, `cron`, `every`, `iso8601`, `at`, `calendar` or `class`: for people and for records."""
        ...

    @property
    def count(self) -> int | None:
        """How many fires there are in all; None when the trigger is endless."""
        ...

    @property
    def restartable(self) -> bool:
        """Whether the misfire policies of the simple trigger apply (TIME.md 5, first column): the grid can restart."""
        ...

    def next_after(self, instant: Instant, anchor: Instant) -> Instant | None:
        """The first instant of the grid strictly after `instant`; None when the grid has none (any more).

        Arithmetic, never a walk: an answer takes microseconds whatever the distance.
        """
        ...

    def count_between(self, after: Instant, until: Instant, anchor: Instant) -> int:
        """How many instants of the grid lie in the half-open span (after, until]."""
        ...

    def restart(self, at: Instant) -> Self:
        """The same trigger with its grid starting anew at `at` (its first instant is `at`).

        Only for `restartable` triggers; others return themselves.
        """
        ...


class Endless:
    """A grid that is not the unit's own but the calendar's, or a class's: it has no end, and nothing can restart it."""

    __slots__ = ()

    @property
    def count(self) -> int | None:
        """None: endless, although a calendar event may name years, and a class may answer None some day."""
        return None

    @property
    def restartable(self) -> bool:
        """False: the misfire rules are those of a cron expression."""
        return False

    def restart(self, at: Instant) -> Self:  # noqa: ARG002 - the protocol's argument
        """Itself."""
        return self
