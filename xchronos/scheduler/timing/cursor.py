"""The working copy of one trigger's place in its grid: what a scheduling turn moves forward.

It only moves forward. So a wall clock that is set back makes nothing fire twice: nothing is due (`schedule.turn`) until
the clock has come to where it was.
"""

from xchronos.clock import SECOND, Instant, to_datetime, to_instant
from xchronos.model.records import Schedule, TriggerState
from xchronos.model.unit import TriggerSpec, Unit
from xchronos.triggers.base import Trigger, wall_clock_of
from xchronos.triggers.limits import LATEST


def last_permitted(unit: Unit, kind: str, accepted_at: Instant) -> Instant:
    """The last instant at which a trigger of this kind may fire.

    NotAfter is exclusive for simple triggers and inclusive for the others, as Quartz's end times are; the TTL is
    exclusive: the unit is gone at that instant.
    """
    last = LATEST
    if unit.not_after is not None:
        last = min(last, unit.not_after - (kind == "simple"))
    if unit.ttl is not None:
        last = min(last, accepted_at + unit.ttl - 1)
    return last


class TriggerCursor:
    """One trigger of a unit and how far it is, on instants. Lives for one decision; `state` is what is kept.

    `next` is the next fire time (None: nothing follows), never beyond `bound`. A trigger whose grid a misfire policy
    has restarted counts from there.
    """

    __slots__ = (
        "_was",
        "anchor",
        "bound",
        "fired",
        "kind",
        "last",
        "next",
        "offset",
        "remaining",
        "restarted_at",
        "trigger",
    )

    def __init__(self, spec: TriggerSpec, state: TriggerState, anchor: Instant, bound: Instant) -> None:
        self.kind = spec.trigger.kind
        self.trigger = spec.trigger
        self.anchor = anchor
        self.bound = bound
        self.fired = state.fired
        self.remaining = state.remaining
        self.restarted_at: Instant | None = None
        if state.restarted_at is not None:
            self._count_from(to_instant(state.restarted_at))
        self.last = self._was = None if state.last is None else to_instant(state.last)
        self.offset = state.offset
        self.next = self.within(None if state.next is None else to_instant(state.next))

    def _count_from(self, at: Instant) -> None:
        self.restarted_at = self.anchor = at
        self.trigger = self.trigger.restart(at)

    def within(self, at: Instant | None) -> Instant | None:
        """`at`, or None when it lies beyond the end or the count is used up."""
        return None if at is None or at > self.bound or self.remaining == 0 else at

    def after(self, at: Instant) -> Instant | None:
        """The first fire time strictly after `at` that the end and the count allow."""
        return self.within(self.trigger.next_after(at, self.anchor))

    def is_due(self, now: Instant) -> bool:
        """Whether there is a fire time at or before `now`."""
        return self.next is not None and self.next <= now

    def charge(self, slots: int) -> None:
        """Take `slots` off what may still fire."""
        if self.remaining is not None:
            self.remaining = max(0, self.remaining - slots)

    def fire(self) -> Instant:
        """Fire the next slot for its own instant and go on to the one after it."""
        assert self.next is not None
        self.last = self.next
        self.fired += 1
        self.charge(1)
        self.next = self.after(self.last)
        return self.last

    def fire_now(self, now: Instant) -> bool:
        """Fire for `now` in place of what was missed, unless the end has passed; what follows is strictly after now."""
        if now > self.bound:
            self.next = None
            return False
        self.last = now
        self.fired += 1
        self.next = self.after(now)
        return True

    def begin_at(self, at: Instant) -> None:
        """Move the beginning of a grid that has not fired yet."""
        self._count_from(at)
        self.next = self.within(at)

    def restart_at(self, now: Instant) -> bool:
        """Restart the grid at `now` and fire its first slot, unless the end has passed."""
        if now <= self.bound:
            self._count_from(now)
        return self.fire_now(now)

    def gap(self, now: Instant) -> tuple[Instant, Instant, int]:
        """The slots that are due: the first, the last and how many. All by arithmetic, whatever their number.

        A counted trigger cannot have missed more slots than it had left.
        """
        first = self.next
        assert first is not None
        until = min(now, self.bound)
        count = self.trigger.count_between(first - 1, until, self.anchor)
        if self.remaining is not None and count > self.remaining:
            return first, self._slot(first, self.remaining, until), self.remaining
        return first, self._last_slot(first, until) if count > 1 else first, count

    def _slot(self, first: Instant, number: int, until: Instant) -> Instant:
        """Slot `number` of the grid, counted from `first` as 1: the earliest instant by which there were as many."""
        low, high = first - 1, until
        while high - low > 1:
            middle = (low + high) // 2
            if self.trigger.count_between(first - 1, middle, self.anchor) < number:
                low = middle
            else:
                high = middle
        return high

    def _last_slot(self, first: Instant, until: Instant) -> Instant:
        """The last slot at or before `until`.

        Looks back from `until` over twice the distance each time until it meets a slot, then closes in on the last.
        """
        step = 1_000
        low, high = until - step, until
        while low > first and self._next_until(low, until) is None:
            high = low
            step *= 2
            low = high - step
        last = max(first, low)
        while (following := self._next_until(last, until)) is not None:
            last = following
            middle = (last + high) // 2
            # A jump to the middle is worth it only where slots are dense; it lands between two slots, never past one.
            beyond = self._next_until(middle, until)
            if beyond is None:
                high = middle
            else:
                last = beyond
        return last

    def _next_until(self, at: Instant, until: Instant) -> Instant | None:
        found = self.trigger.next_after(at, self.anchor)
        return None if found is None or found > until else found

    def state(self) -> TriggerState:
        """What is persisted."""
        return TriggerState(
            None if self.next is None else to_datetime(self.next),
            None if self.last is None else to_datetime(self.last),
            self.fired,
            self.remaining,
            None if self.restarted_at is None else to_datetime(self.restarted_at),
            self.offset if self.last == self._was else offset_at(self.trigger, self.last),
        )


def offset_at(trigger: Trigger, last: Instant | None) -> int:
    """The offset to keep with a last fire time, in seconds: 0 for a trigger that does not fire for wall times."""
    wall = wall_clock_of(trigger)
    return 0 if wall is None or last is None else wall.zone.offset_at(last // SECOND)


def cursors(unit: Unit, schedule: Schedule) -> list[TriggerCursor]:
    """The working copies of a schedule's triggers, in the unit's order."""
    anchor, accepted_at = to_instant(schedule.anchor), to_instant(schedule.accepted_at)
    return [
        TriggerCursor(spec, state, anchor, last_permitted(unit, spec.trigger.kind, accepted_at))
        for spec, state in zip(unit.triggers, schedule.triggers, strict=True)
    ]
