"""A unit's schedule: from acceptance through every scheduling turn to its end.

The cursor (`model.records.Schedule`) is the whole memory: any scheduler that reads it computes the same answer.
"""

from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec

from xchronos.clock import Instant, Micros, to_datetime, to_instant
from xchronos.model.policies import MisfirePolicy
from xchronos.model.records import Schedule, TriggerState
from xchronos.model.unit import Unit
from xchronos.scheduler.policies.misfire import MissedGap, drop, recover
from xchronos.scheduler.reasons import Reason, because
from xchronos.scheduler.timing.cursor import TriggerCursor, cursors, last_permitted, offset_at
from xchronos.scheduler.timing.rule_changes import are_others, following, renewed
from xchronos.triggers.base import Trigger
from xchronos.triggers.limits import EARLIEST, LATEST


class Fire(msgspec.Struct, frozen=True):
    """One fire time that happens now: the nominal instant, as `at` and as the records' `fire_time`.

    `trigger` is the kind of the trigger it is owed to; a fire time that several share names each, `cron+simple`.
    `misfire` says that it was found too late, or stands for others that were.
    """

    at: Instant
    fire_time: datetime
    trigger: str
    misfire: bool = False


class Resumed(msgspec.Struct, frozen=True):
    """That a unit was resumed: what was due until `at` fell into its pause. `skip_missed`: none of that is to start."""

    at: Instant
    skip_missed: bool = False


class Turn(msgspec.Struct, frozen=True):
    """What one scheduling turn decided: fires in order of time, the gaps, and the cursor to store with them."""

    fires: tuple[Fire, ...]
    missed: tuple[MissedGap, ...]
    schedule: Schedule


def accept(
    unit: Unit, now: Instant, unit_revision: int, *, paused: bool = False, before: Schedule | None = None
) -> Schedule:
    """A fresh cursor for a unit that is accepted at `now`.

    `before` is the cursor that the unit had with other triggers. What has been claimed by it has happened and never
    happens again, not even on a clock that was set back, and not for a TriggerAt that both texts have.

    The anchor of relative grids is `now` plus TriggerStartDelay, or NotBefore where that is later (Quartz's start
    time: a counted or one-shot trigger keeps all its fires). Nothing fires before it. The first fire time is

    * for a simple trigger and an ISO 8601 one without a start: the anchor itself;
    * for cron, calendars and classes: the first instant strictly after `now`;
    * for an ISO 8601 trigger with a start: the first slot at or after the anchor. Slots before it are no misfires,
      because nobody was there to miss them; of a counted trigger they are charged;
    * for TriggerAt: its instant, even in the past, where it is a misfire like any other.

    A template, and a unit without triggers, has nothing that could follow; only the first says so in `finished`.
    """
    claimed = _claimed(before)
    now = max(now, *(at + 1 for at in claimed)) if claimed else now
    anchor = min(now + unit.start_delay, LATEST)
    if unit.not_before is not None:
        anchor = max(anchor, unit.not_before)
    states = tuple(_first(unit, index, now, anchor, claimed) for index in range(len(unit.triggers)))
    schedule = Schedule(
        unit.name,
        unit_revision,
        unit.fingerprint,
        to_datetime(now),
        to_datetime(anchor),
        states,
        paused=paused,
        rules=unit.rules,
    )
    return _with_end(unit, _with_expiry(unit, schedule))


def _claimed(schedule: Schedule | None) -> frozenset[Instant]:
    """The last fire time of each trigger of a cursor."""
    states = () if schedule is None else schedule.triggers
    return frozenset(to_instant(state.last) for state in states if state.last is not None)


def _first(unit: Unit, index: int, now: Instant, anchor: Instant, claimed: frozenset[Instant]) -> TriggerState:
    spec = unit.triggers[index]
    trigger = spec.trigger
    remaining = trigger.count
    floor = anchor - 1
    if trigger.kind == "at":
        floor = EARLIEST if unit.not_before is None else unit.not_before - 1
    elif trigger.kind not in ("simple", "iso8601"):
        floor = max(now, floor)
    if remaining is not None:
        remaining = max(0, remaining - trigger.count_between(EARLIEST, floor, anchor))
    cursor = TriggerCursor(spec, TriggerState(remaining=remaining), anchor, last_permitted(unit, trigger.kind, now))
    cursor.next = cursor.after(floor)
    if trigger.kind == "at" and cursor.next in claimed:
        cursor.charge(1)
        cursor.next = None
    return cursor.state()


def reconcile(
    unit: Unit,
    schedule: Schedule | None,
    now: Instant,
    unit_revision: int,
    *,
    paused: bool = False,
    resumed: Resumed | None = None,
) -> Schedule:
    """The cursor for a unit that is new or changed: the old one while its triggers are the same, else a fresh one.

    A kept cursor is fitted to bounds that may have changed with the unit (NotBefore, NotAfter, TTL, MaxRuns): what the
    new bounds exclude is dropped; what they add begins strictly after `now`, and not before acceptance or anchor: the
    clock that says `now` may be behind that of the scheduler that accepted the unit.

    `resumed` is the unit's last resumption. A scheduler may see it without having seen the pause.
    """
    if schedule is not None and was_given_up(schedule):
        return _taken_up_again(unit, schedule, unit_revision, paused=paused)
    if schedule is None or schedule.fingerprint != unit.fingerprint:
        return accept(unit, now, unit_revision, paused=paused, before=schedule)
    if are_others(unit, schedule):
        schedule = _with_end(unit, renewed(unit, schedule))
    if schedule.unit_revision == unit_revision and schedule.paused == paused:
        return schedule
    working, accepted_at = cursors(unit, schedule), to_instant(schedule.accepted_at)
    for cursor in working:
        if cursor.next is None:
            floor = max(now, accepted_at, now if cursor.last is None else cursor.last)
            cursor.next = following(cursor, floor if cursor.kind == "at" else max(floor, cursor.anchor - 1))
        if unit.not_before is not None and cursor.next is not None and cursor.next < unit.not_before:
            if cursor.kind == "simple" and cursor.last is None:
                cursor.begin_at(unit.not_before)
            else:
                cursor.next = following(cursor, unit.not_before - 1)
    kept = msgspec.structs.replace(
        schedule,
        unit_revision=unit_revision,
        paused=paused,
        triggers=tuple(cursor.state() for cursor in working),
        finished="",
        **_gap(schedule, now, resumed, paused=paused),
        rules=unit.rules,
    )
    return _with_end(unit, _with_expiry(unit, kept))


def _gap(schedule: Schedule, now: Instant, resumed: Resumed | None, *, paused: bool) -> dict[str, Any]:
    """Up to when fire times fell into a pause, and whether they are skipped: the fields of the schedule.

    A resumption that was dealt with before says nothing new: whatever is due is later.
    """
    if not paused and resumed is None and schedule.paused:
        resumed = Resumed(now)  # by an older version, which notes no instant
    if paused or resumed is None:
        return {"resumed_at": None, "skip_missed": False}
    # The clock of whoever resumed it may be ahead of this one: what is still to come did not fall into the pause.
    return {"resumed_at": to_datetime(min(resumed.at, now)), "skip_missed": resumed.skip_missed}


def was_given_up(schedule: Schedule) -> bool:
    """Whether a scheduler that could not read the unit has ended the schedule, as the first versions did.

    Such a cursor says nothing of the triggers, and its anchor is when that happened.
    """
    return bool(schedule.finished) and not schedule.fingerprint and not schedule.triggers


def _taken_up_again(unit: Unit, schedule: Schedule, unit_revision: int, *, paused: bool) -> Schedule:
    """The cursor of a unit that was given up: as if it were accepted at that moment. What was due since is late.

    A single instant that lay before that moment has had its turn, or has passed while nobody knows by what: it does
    not come again.
    """
    moment = to_instant(schedule.anchor)
    taken = accept(unit, moment, unit_revision, paused=paused)
    states = tuple(
        msgspec.structs.replace(state, next=None, remaining=0, last=state.next)
        if spec.trigger.kind == "at" and state.next is not None and to_instant(state.next) <= moment
        else state
        for spec, state in zip(unit.triggers, taken.triggers, strict=True)
    )
    return _with_end(unit, msgspec.structs.replace(taken, triggers=states))


def turn(unit: Unit, schedule: Schedule, now: Instant) -> Turn:
    """Everything that is due at `now`: what fires, what was missed, and the cursor afterwards.

    A trigger whose first due slot is more than MisfireThreshold late has misfired, and with it all of its slots that
    are due; its policy decides. Otherwise every due slot fires for its own instant. The triggers of a unit are judged
    one by one; equal fire times fire once.

    A paused schedule fires nothing and its cursor stays. What fell into the pause is a misfire when it is resumed,
    however short the pause was. When the clock jumps back nothing is due: cursors only grow.
    """
    if schedule.paused or schedule.finished:
        return Turn((), (), schedule)
    states = schedule.triggers
    if len(states) == 1:
        # One trigger with exactly one slot due is nearly every turn there is; this path is all it costs.
        state = states[0]
        if state.next is None or (at := to_instant(state.next)) > now:
            return Turn((), (), schedule)
        if now - at <= unit.misfire.threshold and schedule.resumed_at is None:
            trigger = unit.triggers[0].trigger
            anchor = to_instant(state.restarted_at or schedule.anchor)
            if state.restarted_at is not None:
                trigger = trigger.restart(anchor)
            following = trigger.next_after(at, anchor)
            if following is None or following > now:
                return _single(unit, schedule, trigger, following, at)
    return _turn(unit, schedule, now)


def _single(unit: Unit, schedule: Schedule, trigger: Trigger, following: Instant | None, at: Instant) -> Turn:
    """The turn of a schedule whose only trigger has exactly the slot `at` due; `following` is the one after it."""
    state, kind = schedule.triggers[0], trigger.kind
    assert state.next is not None
    remaining = state.remaining
    if remaining is not None:
        remaining -= 1
    last = LATEST
    if unit.not_after is not None or unit.ttl is not None:
        last = last_permitted(unit, kind, to_instant(schedule.accepted_at))
    following_time = None if following is None or remaining == 0 or following > last else to_datetime(following)
    # Positional, because this is the hottest line of the room.
    moved = Schedule(
        schedule.unit,
        schedule.unit_revision,
        schedule.fingerprint,
        schedule.accepted_at,
        schedule.anchor,
        (
            TriggerState(
                following_time, state.next, state.fired + 1, remaining, state.restarted_at, offset_at(trigger, at)
            ),
        ),
        schedule.fired + 1,
        expires_at=schedule.expires_at,
        rules=unit.rules,
    )
    if following_time is None or unit.max_runs is not None:
        moved = _with_end(unit, moved)
    return Turn((Fire(at, state.next, kind),), (), moved)


def _turn(unit: Unit, schedule: Schedule, now: Instant) -> Turn:
    threshold, policy = unit.misfire.threshold, unit.misfire.policy
    pause_end = EARLIEST if schedule.resumed_at is None else to_instant(schedule.resumed_at)
    working = cursors(unit, schedule)
    due: dict[Instant, tuple[list[str], bool]] = {}
    gaps: list[MissedGap] = []
    misfired: list[tuple[int, TriggerCursor]] = []
    paused: set[int] = set()
    for index, cursor in enumerate(working):
        if cursor.next is None or cursor.next > now:
            continue
        if cursor.next <= pause_end:
            paused.add(index)
        if index in paused and schedule.skip_missed:
            gaps.append(drop(index, cursor, policy, now))
            continue
        if index in paused or now - cursor.next > threshold:
            misfired.append((index, cursor))
            continue
        while cursor.is_due(now):
            _add(due, cursor.fire(), cursor.kind, misfire=False)
    if policy is MisfirePolicy.IGNORE:
        gaps += _fire_each(due, misfired, unit.misfire.limit, now)
    else:
        for index, cursor in misfired:
            recovery = recover(index, cursor, policy, now)
            gaps.append(recovery.gap)
            if recovery.fires_now:
                _add(due, now, cursor.kind, misfire=True)
    fires = [
        Fire(at, to_datetime(at), "+".join(sorted(kinds)), misfire) for at, (kinds, misfire) in sorted(due.items())
    ]
    if unit.max_runs is not None:
        del fires[max(0, unit.max_runs - schedule.fired) :]
    moved = msgspec.structs.replace(
        schedule,
        triggers=tuple(cursor.state() for cursor in working),
        fired=schedule.fired + len(fires),
        resumed_at=None,
        skip_missed=False,
        rules=unit.rules,
    )
    told = (
        msgspec.structs.replace(gap, paused=True, skipped=schedule.skip_missed) if gap.trigger in paused else gap
        for gap in gaps
    )
    return Turn(tuple(fires), tuple(told), _with_end(unit, moved))


def _add(due: dict[Instant, tuple[list[str], bool]], at: Instant, kind: str, *, misfire: bool) -> None:
    kinds, already = due.get(at, ([], False))
    due[at] = (kinds if kind in kinds else [*kinds, kind], misfire or already)


def _fire_each(
    due: dict[Instant, tuple[list[str], bool]], misfired: list[tuple[int, TriggerCursor]], limit: int, now: Instant
) -> list[MissedGap]:
    """IGNORE: the earliest `limit` missed fire times of the unit's triggers together; the rest is missed."""
    late = [cursor for _, cursor in misfired]
    for _ in range(limit):
        at = min((cursor.next for cursor in late if cursor.next is not None and cursor.next <= now), default=None)
        if at is None:
            return []
        for cursor in late:
            if cursor.next == at:
                _add(due, cursor.fire(), cursor.kind, misfire=True)
    return [drop(index, cursor, MisfirePolicy.IGNORE, now) for index, cursor in misfired if cursor.is_due(now)]


def _with_expiry(unit: Unit, schedule: Schedule) -> Schedule:
    expiry = expires_at(unit, schedule)
    moment = None if expiry is None or expiry > LATEST else to_datetime(expiry)
    return msgspec.structs.replace(schedule, expires_at=moment) if moment != schedule.expires_at else schedule


def _with_end(unit: Unit, schedule: Schedule) -> Schedule:
    """The schedule with `finished` saying why nothing follows, if so."""
    if unit.template:
        reason = because("template")
    elif unit.max_runs is not None and schedule.fired >= unit.max_runs and schedule.triggers:
        reason = because("max-runs", count=unit.max_runs)
    elif schedule.triggers and all(state.next is None for state in schedule.triggers):
        reason = _exhausted(unit, schedule)
    else:
        return schedule
    return msgspec.structs.replace(schedule, finished=reason.text)


def _exhausted(unit: Unit, schedule: Schedule) -> Reason:
    expiry = schedule.expires_at
    if all(state.remaining == 0 for state in schedule.triggers):
        return because("last-fire-passed")
    if expiry is not None and (unit.not_after is None or to_instant(expiry) <= unit.not_after):
        return because("exhausted-ttl", at=expiry.isoformat())
    if unit.not_after is not None:
        return because("exhausted-not-after", at=to_datetime(unit.not_after).isoformat())
    return because("exhausted")


def not_run(unit: Unit, schedule: Schedule, skipped: int) -> Schedule:
    """Take back `skipped` fires from what MaxRuns counts: they were fired, but Concurrency=forbid skipped them."""
    fired = max(0, schedule.fired - skipped)
    finished = schedule.finished
    if unit.max_runs is not None and schedule.fired >= unit.max_runs:
        finished = ""  # MaxRuns has ended it, and may not have been reached after all
    return _with_end(unit, msgspec.structs.replace(schedule, fired=fired, finished=finished))


def next_due(schedule: Schedule) -> Instant | None:
    """When the schedule needs its next turn; None when it is paused or finished, or has no triggers."""
    if schedule.paused or schedule.finished:
        return None
    upcoming = [state.next for state in schedule.triggers if state.next is not None]
    return to_instant(min(upcoming)) if upcoming else None


def expires_at(unit: Unit, schedule: Schedule) -> Instant | None:
    """When the unit's TTL ends, counted from acceptance: it is deleted then. None without a TTL."""
    return None if unit.ttl is None else to_instant(schedule.accepted_at) + unit.ttl


def randomized_delay(unit: Unit, fire_time: Instant) -> Micros:
    """How long after its fire time an execution starts: below RandomizedDelay, the same on every machine."""
    if unit.randomized_delay <= 0:
        return 0
    digest = blake2b(f"{unit.name}\0{fire_time}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % unit.randomized_delay
