"""Zone rules that change while cursors are stored: nothing fires early, twice, or never, and nobody else is concerned."""

from datetime import UTC, datetime

import msgspec
import pytest

from tests.model.compile_helpers import RUN
from tests.triggers.other_rules import release, tzif
from xchronos.clock import HOUR, to_instant
from xchronos.model.compile.unit import compile_unit
from xchronos.model.features import NO_RULES
from xchronos.scheduler.timing.rule_changes import are_others
from xchronos.scheduler.timing.schedule import accept, reconcile, turn
from xchronos.triggers.zones import rules_of

CHANGE = round(datetime(2026, 2, 15, 2, tzinfo=UTC).timestamp())
"""When the clocks of both zones are set, by the newer rules."""
OLD = {
    # Casablanca kept summer time for good, until it was given up; Vancouver went to it for good.
    "Made/Casablanca": tzif(3600, []),
    "Made/Vancouver": tzif(-8 * 3600, []),
    "Made/Quiet": tzif(7200, []),
}
NEW = {
    **OLD,
    "Made/Casablanca": tzif(3600, [(CHANGE, 0)]),
    "Made/Vancouver": tzif(-8 * 3600, [(CHANGE, -7 * 3600)]),
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    directory = tmp_path_factory.mktemp("releases")
    return release(directory / "old", "2025b", OLD), release(directory / "new", "2026f", NEW)


def compiled(rules, *lines):
    with rules_of(rules):
        return compile_unit("a.service", RUN + "[X-Chronos]\n" + "\n".join(lines) + "\n")


def at(day, hour, minute=0, month=2):
    return to_instant(datetime(2026, month, day, hour, minute, tzinfo=UTC))


def fired(unit, schedule, until, *, step=HOUR):
    """The fire times up to an instant, looked at every so often; the cursor after them."""
    found, now = [], to_instant(schedule.accepted_at)
    while now <= until:
        decided = turn(unit, schedule, now)
        assert not decided.missed
        schedule = decided.schedule
        found += [fire.fire_time for fire in decided.fires]
        now += step
    return found, schedule


def told(times):
    return [f"{time:%m-%d %H:%M}" for time in times]


ACCEPTED, CHANGED, END = at(12, 12), at(15, 12), at(18, 12)


def crossed(releases, *lines, change=CHANGED, until=END, old_record=False, accepted=ACCEPTED):
    """The fire times of a unit whose scheduler has the newer rules from an instant on."""
    before, after = (compiled(rules, *lines, "MisfireThreshold=10h") for rules in releases)
    assert before.fingerprint == after.fingerprint
    first, schedule = fired(before, accept(before, accepted, 1), change)
    if old_record:
        states = tuple(msgspec.structs.replace(state, offset=0) for state in schedule.triggers)
        schedule = msgspec.structs.replace(schedule, rules="", triggers=states)
    renewed = reconcile(after, schedule, change, 1)
    assert (renewed.rules or NO_RULES, renewed.fired, renewed.accepted_at) == (
        after.rules,
        schedule.fired,
        schedule.accepted_at,
    )
    assert [state.last for state in renewed.triggers] == [state.last for state in schedule.triggers]
    second, _ = fired(after, msgspec.structs.replace(renewed, accepted_at=schedule.accepted_at), until)
    return told(first), told(second)


@pytest.mark.parametrize("old_record", [False, True], ids=["noted", "not noted"])
@pytest.mark.parametrize(
    ("lines", "first", "second"),
    [
        pytest.param(
            ("TriggerCron=0 0 * * *", "TimeZone=Made/Casablanca"),
            ["02-12 23:00", "02-13 23:00", "02-14 23:00"],
            ["02-16 00:00", "02-17 00:00", "02-18 00:00"],
            id="an hour later, and not early",
        ),
        pytest.param(
            ("TriggerCalendar=*-*-* 00:00", "TimeZone=Made/Casablanca"),
            ["02-12 23:00", "02-13 23:00", "02-14 23:00"],
            ["02-16 00:00", "02-17 00:00", "02-18 00:00"],
            id="a calendar event too",
        ),
        pytest.param(
            ("TriggerISO8601=R/2026-01-01T00:00:00/P1D", "TimeZone=Made/Casablanca"),
            ["02-12 23:00", "02-13 23:00", "02-14 23:00"],
            ["02-16 00:00", "02-17 00:00", "02-18 00:00"],
            id="and a recurrence of days",
        ),
        pytest.param(
            ("TriggerISO8601=R//P1D", "TimeZone=Made/Vancouver"),
            ["02-12 12:00", "02-13 12:00", "02-14 12:00", "02-15 12:00"],
            ["02-16 11:00", "02-17 11:00", "02-18 11:00"],
            id="one that counts from its acceptance keeps its wall time",
        ),
        pytest.param(
            ("TriggerCron=0 9 * * *", "TimeZone=Made/Vancouver"),
            ["02-12 17:00", "02-13 17:00", "02-14 17:00"],
            ["02-15 16:00", "02-16 16:00", "02-17 16:00"],
            id="an hour earlier",
        ),
        pytest.param(
            ("TriggerCron=0 9 1 3 *", "TimeZone=Made/Vancouver"), [], ["03-01 16:00"], id="not an hour off for good"
        ),
        pytest.param(
            ("TriggerCron=0 */6 * * *", "TimeZone=Made/Casablanca"),
            [f"02-12 {hour}:00" for hour in (17, 23)]
            + [f"02-{day} {hour:02}:00" for day in (13, 14) for hour in (5, 11, 17, 23)]
            + ["02-15 05:00", "02-15 11:00"],
            ["02-15 12:00", "02-15 18:00", "02-16 00:00"],
            id="one that follows the clock shows the hour again",
        ),
        pytest.param(
            ("TriggerRepeatInterval=24h", "TimeZone=Made/Casablanca"),
            ["02-12 12:00", "02-13 12:00", "02-14 12:00", "02-15 12:00"],
            ["02-16 12:00", "02-17 12:00", "02-18 12:00"],
            id="an interval is not concerned",
        ),
        pytest.param(
            ("TriggerCron=0 0 * * *", "TimeZone=Made/Quiet"),
            ["02-12 22:00", "02-13 22:00", "02-14 22:00"],
            ["02-15 22:00", "02-16 22:00", "02-17 22:00"],
            id="nor is another zone",
        ),
    ],
)
def test_what_fires_before_and_after_a_change(releases, lines, first, second, old_record):
    until = at(2, 0, month=3) if "0 9 1 3 *" in lines[0] else at(16, 1) if "*/6" in lines[0] else at(18, 12)
    assert crossed(releases, *lines, until=until, old_record=old_record) == (first, second)


def test_a_wall_time_that_has_fired_does_not_fire_again_when_the_clock_shows_it_once_more(releases):
    """The scheduler has the old rules for an hour too long: by the new ones, midnight is still to come."""
    for rule in ("TriggerCron=0 0 * * *", "TriggerCalendar=*-*-* 00:00"):
        first, second = crossed(releases, rule, "TimeZone=Made/Casablanca", change=at(15, 23, 30), until=at(17, 12))
        assert first[-1] == "02-15 23:00"
        assert second == ["02-17 00:00"]


def test_all_wall_times_that_are_still_to_come_fire(releases):
    first, second = crossed(
        releases, "TriggerCron=0 8-20 * * *", "TimeZone=Made/Casablanca", change=at(15, 10, 30), until=at(16, 9)
    )
    assert first[-3:] == ["02-15 08:00", "02-15 09:00", "02-15 10:00"]
    # 11:00 has fired at 10:00Z, by the old rules; by the new ones it is at 11:00Z.
    assert second[:2] == ["02-15 12:00", "02-15 13:00"]
    assert second[8:] == ["02-15 20:00", "02-16 08:00", "02-16 09:00"]


def test_a_change_that_makes_a_fire_time_past_makes_it_late(releases):
    before, after = (compiled(rules, "TriggerCron=0 9 * * *", "TimeZone=Made/Vancouver") for rules in releases)
    _, schedule = fired(before, accept(before, at(13, 20), 1), at(14, 20))
    decided = turn(after, reconcile(after, schedule, at(15, 16, 30), 1), at(15, 16, 30))
    (gap,) = decided.missed
    assert (gap.record().count, told([gap.record().first])) == (1, ["02-15 16:00"])


def test_and_back_again(releases):
    """Shards may go to and fro between schedulers with different rules."""
    before, after = (compiled(rules, "TriggerCron=0 0 * * *", "TimeZone=Made/Casablanca") for rules in releases)
    _, schedule = fired(before, accept(before, at(13, 12), 1), at(15, 12))
    there = reconcile(after, schedule, at(15, 12), 1)
    assert reconcile(before, there, at(15, 13), 1) == schedule
    fires, there = fired(after, there, at(16, 1))
    assert told(fires) == ["02-16 00:00"]
    assert told([reconcile(before, there, at(16, 2), 1).triggers[0].next]) == ["02-16 23:00"]


def test_what_a_unit_has_of_its_own_bounds_it_still(releases):
    for bound, expected in (
        ("NotAfter=2026-02-15T23:30:00Z", []),
        ("NotBefore=2026-02-16T12:00:00Z", ["02-17 00:00", "02-18 00:00"]),
    ):
        lines = ("TriggerCron=0 0 * * *", "TimeZone=Made/Casablanca", bound)
        assert crossed(releases, *lines)[1] == expected


def test_each_trigger_by_the_rules_of_its_own_zone(releases):
    lines = ("TriggerCron=TZ=Made/Casablanca 0 0 * * *", "TriggerCron=TZ=Made/Quiet 30 0 * * *")
    assert crossed(releases, *lines, until=at(16, 1))[1] == ["02-15 22:30", "02-16 00:00"]


def test_who_is_concerned(releases):
    old, new = releases
    for lines, concerned in (
        (("TriggerCron=0 0 * * *", "TimeZone=Made/Casablanca"), True),
        (("TriggerCron=0 0 * * *", "TimeZone=Made/Quiet"), False),
        (("TriggerCron=0 0 * * *",), False),
        (("TriggerRepeatInterval=10s", "TimeZone=Made/Casablanca"), False),
    ):
        before, after = compiled(old, *lines), compiled(new, *lines)
        schedule = accept(before, at(13, 12), 1)
        assert are_others(after, schedule) is concerned
        unknown = msgspec.structs.replace(schedule, rules="")
        assert are_others(after, unknown) is (after.rules != NO_RULES)
        if not concerned:
            assert reconcile(after, schedule, at(15, 12), 1) is schedule


def test_a_unit_that_has_not_fired_counts_from_its_acceptance(releases):
    first, second = crossed(
        releases, "TriggerCron=0 0 * * *", "TimeZone=Made/Casablanca", accepted=at(15, 11), old_record=True
    )
    assert (first, second[0]) == ([], "02-16 00:00")


def test_a_schedule_of_which_nothing_follows_by_the_new_rules_is_over(releases):
    lines = ("TriggerCron=0 0 * * *", "TimeZone=Made/Casablanca", "NotAfter=2026-02-15T23:30:00Z")
    before, after = (compiled(rules, *lines) for rules in releases)
    _, schedule = fired(before, accept(before, at(12, 12), 1), at(15, 12))
    assert not schedule.finished
    assert reconcile(after, schedule, at(15, 12), 1).finished


def test_a_schedule_that_is_over_stays_so(releases):
    before, after = (
        compiled(rules, "TriggerAt=2026-02-13T00:00:00Z", "TimeZone=Made/Casablanca") for rules in releases
    )
    _, schedule = fired(before, accept(before, at(12, 12), 1), at(14, 12))
    assert schedule.finished
    assert reconcile(after, schedule, at(15, 12), 1).finished


@pytest.mark.parametrize("old_record", [False, True], ids=["noted", "not noted"])
def test_a_wall_time_that_has_fired_stays_so_when_the_unit_is_changed(releases, old_record):
    """Nothing was left up to NotAfter=: what a changed unit adds is no wall time that has fired by the former rules."""
    lines = ("TriggerCron=0 12 * * *", "TimeZone=Made/Casablanca", "MisfireThreshold=10h")
    older, newer = (compiled(rules, *lines, "NotAfter=2026-02-15T12:00:00Z") for rules in releases)
    before, schedule = fired(older, accept(older, ACCEPTED, 1), at(15, 11, 15))
    assert told(before) == ["02-13 11:00", "02-14 11:00", "02-15 11:00"]
    assert (schedule.triggers[0].next, schedule.triggers[0].offset) == (None, 3600)
    if old_record:
        # By the rules of now, all that is known of then, 12:00 has not been yet.
        states = tuple(msgspec.structs.replace(state, offset=0) for state in schedule.triggers)
        schedule = msgspec.structs.replace(schedule, rules="", triggers=states)
    changed = reconcile(newer, schedule, at(15, 11, 30), 2)
    twice = [to_instant(state.next) for state in changed.triggers if state.next is not None]
    assert twice == ([at(15, 12)] if old_record else [])
    again = reconcile(newer, reconcile(newer, schedule, at(15, 11, 30), 1), at(15, 11, 40), 2)
    assert again.triggers == changed.triggers
    longer = compiled(releases[1], *lines, "NotAfter=2026-02-17T12:00:00Z")
    after, _ = fired(longer, reconcile(longer, changed, at(15, 11, 45), 3), END)
    assert told(after) == ["02-15 12:00"] * old_record + ["02-16 12:00", "02-17 12:00"]


def test_an_offset_that_nobody_noted_hides_no_fire_time(releases):
    lines = ("TriggerCron=0 8,12,16 * * *", "TimeZone=Made/Vancouver", "MisfireThreshold=10h")
    older = compiled(releases[0], *lines, "NotAfter=2026-02-13T16:00:00Z")
    before, schedule = fired(older, accept(older, ACCEPTED, 1), at(13, 16, 30))
    assert told(before) == ["02-12 16:00", "02-12 20:00", "02-13 00:00", "02-13 16:00"]
    states = tuple(msgspec.structs.replace(state, offset=0) for state in schedule.triggers)
    schedule = msgspec.structs.replace(schedule, rules="", triggers=states)
    longer = compiled(releases[1], *lines, "NotAfter=2026-02-14T00:00:00Z")
    after, _ = fired(longer, reconcile(longer, schedule, at(13, 16, 45), 2), END)
    assert told(after) == ["02-13 20:00", "02-14 00:00"]
