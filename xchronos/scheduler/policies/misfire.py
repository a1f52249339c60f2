"""`MisfirePolicy=`: what becomes of fire times that were found too late.

A fire time is a misfire when a turn finds it more than `MisfireThreshold` late. Up to the threshold each late fire time
fires for its own instant, whatever the policy. What fell into a pause of the unit is a misfire however short the pause
was. Once the first slot that is due is a misfire, all that are due belong to the same gap. The words are Quartz's. A
*restartable* grid is that of a simple trigger, or of an ISO 8601 one with a count.

| policy | restartable grid | cron, calendar, endless ISO 8601 |
|---|---|---|
| IGNORE | each missed slot fires, up to MisfireLimit; the rest is recorded as missed | the same |
| FIRE_NOW | one-shot: now; otherwise as NOW_WITH_REMAINING | one fire now, then the schedule |
| NEXT_WITH_EXISTING | the next slot after now; what was missed is not charged | the next slot after now |
| NEXT_WITH_REMAINING | the next slot after now; what was missed is charged | the next slot after now |
| NOW_WITH_EXISTING | now; the grid restarts there with the count that has not fired | one fire now |
| NOW_WITH_REMAINING | now; the grid restarts there; what was missed is charged | one fire now |
| SMART | one-shot: FIRE_NOW; endless: NEXT_WITH_REMAINING; finite: NOW_WITH_EXISTING | one fire now |

An example: every 2 s, ten fires in all, no scheduler from second 3 to 13 (0 and 2 have fired, 4 to 12 are missed).
IGNORE fires 4, 6, 8, 10, 12 at 13, then 14, 16, 18. NOW_WITH_EXISTING: 13, 15 .. 27. NEXT_WITH_EXISTING: 14, 16 .. 28.
NEXT_WITH_REMAINING: 14, 16, 18. NOW_WITH_REMAINING and FIRE_NOW: 13, 15, 17, 19.
tests/scheduler/test_misfire_table.py holds the table, test_misfire_conformance.py beside it what Quartz does.
"""

import msgspec

from xchronos.clock import Instant, to_datetime
from xchronos.model.policies import MisfirePolicy
from xchronos.model.records import Missed
from xchronos.scheduler.timing.cursor import TriggerCursor

SKIP_MISSED = "skip-missed"
"""The policy in the record of a gap that somebody wanted to be skipped who resumed the unit."""


class MissedGap(msgspec.Struct, frozen=True):
    """One gap of one trigger: `count` fire times from `first` to `last` (both included) did not happen on their own.

    `trigger` is its index in the unit, `kind` its kind. `policy` is the unit's, or what SMART_POLICY and FIRE_NOW
    amount to for this trigger. `paused`: it began in a pause; `skipped`: whoever ended that wanted nothing to start.
    """

    trigger: int
    kind: str
    first: Instant
    last: Instant
    count: int
    policy: MisfirePolicy
    paused: bool = False
    skipped: bool = False

    def record(self) -> Missed:
        """The same, as it is stored in the history."""
        policy = SKIP_MISSED if self.skipped else self.policy.value
        return Missed(to_datetime(self.first), to_datetime(self.last), self.count, policy, self.paused)


class Recovery(msgspec.Struct, frozen=True):
    """What one misfired trigger does: fire for `now` (or not), and the gap that is recorded."""

    fires_now: bool
    gap: MissedGap


def effective(policy: MisfirePolicy, count: int | None, *, restartable: bool) -> MisfirePolicy:
    """What a policy means for a trigger that fires `count` times in all (None: endless).

    For a simple trigger (its grid is `restartable`) SMART_POLICY and FIRE_NOW stand for others. Everywhere else only
    three things can be done: fire each (IGNORE), one fire now (FIRE_NOW), drop them (NEXT_WITH_REMAINING).
    """
    match policy:
        case MisfirePolicy.IGNORE:
            return policy
        case MisfirePolicy.SMART if restartable:
            if count is None:
                return MisfirePolicy.NEXT_WITH_REMAINING
            return MisfirePolicy.FIRE_NOW if count == 1 else MisfirePolicy.NOW_WITH_EXISTING
        case MisfirePolicy.FIRE_NOW if restartable and count != 1:
            return MisfirePolicy.NOW_WITH_REMAINING
        case MisfirePolicy.NEXT_WITH_EXISTING | MisfirePolicy.NEXT_WITH_REMAINING:
            return policy if restartable else MisfirePolicy.NEXT_WITH_REMAINING
        case _:
            return policy if restartable else MisfirePolicy.FIRE_NOW


def recover(index: int, cursor: TriggerCursor, policy: MisfirePolicy, now: Instant) -> Recovery:
    """Move a misfired cursor past everything that is due, as the unit's policy says (any but IGNORE).

    The fire that stands for what was missed has the fire time `now`; it is left out when the trigger's end has passed.
    """
    meant = effective(policy, cursor.trigger.count, restartable=cursor.trigger.restartable)
    first, last, count = cursor.gap(now)
    # What fires for `now` is the slot of that very instant, if there is one: that is not missed.
    missed = cursor.gap(now - 1) if first < last == now else (first, last, count)
    fires_now = False
    match meant:
        case MisfirePolicy.NEXT_WITH_EXISTING:
            # Not charged: the total is honoured, past the original last slot if need be.
            _skip(cursor, last, now, charged=0)
        case MisfirePolicy.NEXT_WITH_REMAINING:
            _skip(cursor, last, now, charged=count)
        case MisfirePolicy.NOW_WITH_EXISTING:
            cursor.charge(1)
            fires_now = cursor.restart_at(now)
        case MisfirePolicy.NOW_WITH_REMAINING:
            # The fire at `now` stands for those missed, so they cost as much as they are.
            cursor.charge(count)
            fires_now = cursor.restart_at(now)
        case _:
            cursor.charge(count)
            fires_now = cursor.fire_now(now)
    if fires_now:
        first, last, count = missed
    else:
        cursor.last = last  # passed, whatever a clock that is set back says of it
    return Recovery(fires_now, MissedGap(index, cursor.kind, first, last, count, meant))


def drop(index: int, cursor: TriggerCursor, policy: MisfirePolicy, now: Instant) -> MissedGap:
    """Record what is due as missed, charged, without a fire: what IGNORE's limit, or --skip-missed, leaves over."""
    first, last, count = cursor.gap(now)
    _skip(cursor, last, now, charged=count)
    return MissedGap(index, cursor.kind, first, last, count, policy)


def _skip(cursor: TriggerCursor, last: Instant, now: Instant, *, charged: int) -> None:
    cursor.charge(charged)
    cursor.last = last
    cursor.next = cursor.after(now)
