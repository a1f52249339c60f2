"""TIME.md 5: the worked example to the number, and every policy in both columns of the table."""

from datetime import UTC, datetime

import pytest

from tests.scheduler.schedule_builders import Grid, every, run, s, seconds, unit
from xchronos.clock import HOUR, SECOND, to_instant
from xchronos.model.policies import MisfirePolicy as P
from xchronos.model.records import Missed
from xchronos.scheduler.policies.misfire import effective
from xchronos.scheduler.timing.preview import preview
from xchronos.scheduler.timing.schedule import Resumed, accept, next_due, reconcile, turn
from xchronos.triggers.at import AtTrigger
from xchronos.triggers.cron.expression import parse_cron
from xchronos.triggers.zones import zone

EXAMPLE = {
    P.IGNORE: ([4, 6, 8, 10, 12], [14, 16, 18]),
    P.NOW_WITH_EXISTING: ([13], [15, 17, 19, 21, 23, 25, 27]),
    P.SMART: ([13], [15, 17, 19, 21, 23, 25, 27]),
    P.NEXT_WITH_EXISTING: ([], [14, 16, 18, 20, 22, 24, 26, 28]),
    P.NEXT_WITH_REMAINING: ([], [14, 16, 18]),
    P.NOW_WITH_REMAINING: ([13], [15, 17, 19]),
    P.FIRE_NOW: ([13], [15, 17, 19]),
}


@pytest.mark.parametrize("grid", ["simple", "iso8601"])
@pytest.mark.parametrize("policy", P)
def test_the_worked_example(policy, grid):
    trigger = every(2, 9) if grid == "simple" else Grid(s(0), 2 * SECOND, 10)
    it = unit(trigger, policy=policy, threshold=1)
    before, schedule = run(it, accept(it, s(0), 1), 3)
    assert before == [0, 2]
    back = turn(it, schedule, s(13))
    now, later = EXAMPLE[policy]
    assert seconds(back) == now
    assert all(fire.misfire for fire in back.fires)
    after, end = run(it, back.schedule, 1000)
    assert after == later
    assert end.finished == "the last fire time of its triggers has passed"
    assert end.fired == end.triggers[0].fired == 2 + len(now) + len(later)
    if policy is P.IGNORE:
        assert back.missed == ()
    else:
        (gap,) = back.missed
        assert (gap.trigger, gap.kind, gap.first, gap.last, gap.count) == (0, grid, s(4), s(12), 5)


def test_the_gap_names_the_policy_that_was_carried_out():
    it = unit(every(2, 9), threshold=1)
    _, schedule = run(it, accept(it, s(0), 1), 3)
    (gap,) = turn(it, schedule, s(13)).missed
    record = gap.record()
    assert isinstance(record, Missed)
    assert (record.count, record.policy) == (5, "RESCHEDULE_NOW_WITH_EXISTING_REPEAT_COUNT")
    assert (record.first.second, record.last.second) == (4, 12)


@pytest.mark.parametrize("policy", P)
@pytest.mark.parametrize("trigger", [parse_cron("0 0 * * * *"), Grid(s(0), HOUR)], ids=["cron", "endless ISO 8601"])
def test_the_second_column(policy, trigger):
    it = unit(trigger, policy=policy)
    schedule = accept(it, s(0) - 1, 1)
    back = turn(it, schedule, s(3 * 3600 + 1800))
    if policy is P.IGNORE:
        assert seconds(back) == [0, 3600, 7200, 10800]
        assert back.missed == ()
    else:
        drops = policy in (P.NEXT_WITH_EXISTING, P.NEXT_WITH_REMAINING)
        assert seconds(back) == ([] if drops else [3 * 3600 + 1800])
        (gap,) = back.missed
        assert (gap.first, gap.last, gap.count) == (s(0), s(10800), 4)
        assert gap.policy is (P.NEXT_WITH_REMAINING if drops else P.FIRE_NOW)
    assert next_due(back.schedule) == s(4 * 3600)


@pytest.mark.parametrize("policy", P)
def test_a_one_shot_in_the_past_is_a_misfire_like_any_other(policy):
    it = unit(AtTrigger(s(-3600)), policy=policy)
    back = turn(it, accept(it, s(0), 1), s(0))
    expected = {P.IGNORE: [-3600], P.NEXT_WITH_EXISTING: [], P.NEXT_WITH_REMAINING: []}
    assert seconds(back) == expected.get(policy, [0])
    assert back.schedule.finished
    assert sum(gap.count for gap in back.missed) == (policy is not P.IGNORE)


@pytest.mark.parametrize(
    ("policy", "count", "meant"),
    [
        (P.SMART, 1, P.FIRE_NOW),
        (P.SMART, None, P.NEXT_WITH_REMAINING),
        (P.SMART, 3, P.NOW_WITH_EXISTING),
        (P.FIRE_NOW, 1, P.FIRE_NOW),
        (P.FIRE_NOW, 3, P.NOW_WITH_REMAINING),
        (P.FIRE_NOW, None, P.NOW_WITH_REMAINING),
        (P.NOW_WITH_EXISTING, 1, P.NOW_WITH_EXISTING),
        (P.NEXT_WITH_EXISTING, None, P.NEXT_WITH_EXISTING),
        (P.IGNORE, 3, P.IGNORE),
    ],
)
def test_what_a_policy_means_for_a_simple_trigger(policy, count, meant):
    assert effective(policy, count, restartable=True) is meant


def test_endless_simple_triggers():
    for policy, now, following in (
        (P.SMART, [], 50),
        (P.NEXT_WITH_EXISTING, [], 50),
        (P.NOW_WITH_EXISTING, [47], 57),
        (P.NOW_WITH_REMAINING, [47], 57),
        (P.FIRE_NOW, [47], 57),
    ):
        it = unit(every(10), policy=policy, threshold=1)
        back = turn(it, accept(it, s(0), 1), s(47))
        assert seconds(back) == now
        assert next_due(back.schedule) == s(following)
        assert back.missed[0].count == 5
        # The restarted grid goes on from where it was restarted, turn after turn.
        fired, _ = run(it, back.schedule, 100)
        assert fired == list(range(following, 101, 10))


def test_late_up_to_the_threshold_is_no_misfire_whatever_the_policy():
    for policy in P:
        it = unit(every(2, 9), policy=policy, threshold=5)
        schedule = accept(it, s(0), 1)
        on_time = turn(it, schedule, s(5))
        assert seconds(on_time) == [0, 2, 4]
        assert on_time.missed == ()
        assert not any(fire.misfire for fire in on_time.fires)
        assert next_due(on_time.schedule) == s(6)
    assert turn(it, schedule, s(5) + 1).fires != on_time.fires


def test_once_the_first_is_a_misfire_all_that_is_due_is():
    it = unit(every(2), policy=P.NEXT_WITH_REMAINING, threshold=5)
    back = turn(it, accept(it, s(0), 1), s(6.5))
    assert seconds(back) == []
    assert back.missed[0].count == 4


def test_back_exactly_on_a_slot_the_next_policies_skip_it():
    for policy in (P.NEXT_WITH_EXISTING, P.NEXT_WITH_REMAINING):
        it = unit(every(10, 9), policy=policy, threshold=1)
        back = turn(it, accept(it, s(0), 1), s(40))
        assert seconds(back) == []
        assert next_due(back.schedule) == s(50)
        assert back.missed[0].last == s(40)


@pytest.mark.parametrize("policy", [P.FIRE_NOW, P.NOW_WITH_EXISTING, P.NOW_WITH_REMAINING])
@pytest.mark.parametrize("trigger", [every(10, 9), parse_cron("*/10 * * * * *")], ids=["simple", "cron"])
def test_back_exactly_on_a_slot_the_now_policies_fire_it_and_have_not_missed_it(policy, trigger):
    it = unit(trigger, policy=policy, threshold=1)
    back = turn(it, accept(it, s(0), 1), s(40))
    assert seconds(back) == [40]
    (gap,) = back.missed
    assert gap.last == s(30)


def test_now_with_remaining_fires_at_least_this_one():
    it = unit(every(10, 3), policy=P.NOW_WITH_REMAINING, threshold=1)
    back = turn(it, accept(it, s(0), 1), s(5000))
    assert seconds(back) == [5000]
    assert back.schedule.finished
    (gap,) = back.missed
    assert (gap.first, gap.last, gap.count) == (s(0), s(30), 4)


def test_a_counted_trigger_cannot_miss_more_than_it_had_left():
    it = unit(every(10, 3), policy=P.NEXT_WITH_EXISTING, threshold=1)
    back = turn(it, accept(it, s(0), 1), s(5000))
    assert back.missed[0].count == 4
    assert back.missed[0].last == s(30)
    assert run(it, back.schedule, 10_000)[0] == [5010, 5020, 5030, 5040]


def test_the_limit_of_ignore_is_the_units_and_the_rest_is_missed():
    it = unit(every(10, 19), every(15), policy=P.IGNORE, threshold=1, limit=5)
    back = turn(it, accept(it, s(0), 1), s(95))
    assert seconds(back) == [0, 10, 15, 20, 30]
    assert [fire.trigger for fire in back.fires] == ["simple"] * 5
    first, second = back.missed
    assert (first.trigger, first.first, first.last, first.count) == (0, s(40), s(90), 6)
    assert (second.trigger, second.first, second.last, second.count) == (1, s(45), s(90), 4)
    assert first.policy is P.IGNORE
    assert back.schedule.triggers[0].remaining == 20 - 4 - 6
    assert next_due(back.schedule) == s(100)


def test_a_misfired_trigger_does_not_disturb_the_others():
    it = unit(every(7), every(3600), threshold=60, start_delay=0)
    _, schedule = run(it, accept(it, s(0), 1), 3500)
    back = turn(it, schedule, s(3620))
    # The first is 120 s late and endless: dropped. The second is 20 s late: it fires for its own instant.
    assert [(gap.trigger, gap.count) for gap in back.missed] == [(0, 17)]
    assert seconds(back) == [3600]
    assert next_due(back.schedule) == s(3626)


def test_a_misfire_and_an_on_time_slot_at_the_same_instant_fire_once():
    it = unit(parse_cron("0 0 * * * *"), every(1800, 9), policy=P.FIRE_NOW)
    schedule = accept(it, s(0) - 1800 * SECOND, 1)
    schedule = turn(it, schedule, s(-1800)).schedule
    back = turn(it, schedule, s(3600))
    assert [(fire.at, fire.trigger, fire.misfire) for fire in back.fires] == [(s(3600), "cron+simple", True)]
    assert [gap.kind for gap in back.missed] == ["cron", "simple"]
    assert back.schedule.fired == 2


@pytest.mark.parametrize("policy", [P.SMART, P.FIRE_NOW, P.NOW_WITH_EXISTING, P.NOW_WITH_REMAINING])
@pytest.mark.parametrize("trigger", [every(600, 9), every(600), parse_cron("0 */10 * * * *"), every(600, 0)])
def test_nothing_fires_after_the_end(policy, trigger):
    it = unit(trigger, policy=policy, not_after=s(1500))
    schedule = accept(it, s(0) - 1, 1)
    back = turn(it, schedule, s(2000))
    assert seconds(back) == []
    assert back.schedule.finished
    (gap,) = back.missed
    assert gap.count == (1 if trigger.count == 1 else 3)
    assert gap.last <= s(1500)
    # Nor does it for somebody whose clock is behind.
    paused = reconcile(it, back.schedule, s(700), 2, paused=True)
    again = turn(it, reconcile(it, paused, s(700), 3, paused=False), s(1400))
    assert (seconds(again), again.missed) == ([], ())


def test_the_end_is_exclusive_for_simple_triggers_and_inclusive_for_others():
    for trigger, expected in ((every(10), [0, 10]), (Grid(s(0), 10 * SECOND), [0, 10, 20])):
        it = unit(trigger, not_after=s(20))
        fired, schedule = run(it, accept(it, s(0), 1), 100)
        assert fired == expected
        assert schedule.finished == "no fire time is left up to NotAfter=2030-01-01T00:00:20+00:00"


def test_a_slot_before_the_end_still_fires_late_within_the_threshold():
    it = unit(every(10), not_after=s(25))
    turned = turn(it, accept(it, s(0), 1), s(30))
    assert seconds(turned) == [0, 10, 20]
    assert turned.schedule.finished


@pytest.mark.parametrize(
    ("trigger", "count", "last"),
    [
        (every(60), 14 * 365 * 1440 + 1, s(14 * 365 * 86_400) - 1),
        (every(0.001), 14 * 365 * 86_400_000 + 1, s(14 * 365 * 86_400) - 1),
        (parse_cron("* * * * *"), 14 * 365 * 1440 + 1, s(14 * 365 * 86_400)),
        (parse_cron("0 0 29 2 *"), 3, to_instant(datetime(2040, 2, 29, tzinfo=UTC))),
        (Grid(s(0), 60 * SECOND, 1000), 1000, s(999 * 60)),
    ],
)
def test_fourteen_years_are_arithmetic(trigger, count, last):
    it = unit(trigger, policy=P.NEXT_WITH_REMAINING)
    back = turn(it, accept(it, s(0) - 1, 1), s(14 * 365 * 86_400))
    (gap,) = back.missed
    assert (gap.count, gap.last) == (count, last)


def test_slots_far_apart_behind_dense_ones_are_found():
    # One hour of seconds a day: looking back from the evening meets a long silence first.
    it = unit(parse_cron("* * 3 * * *"), policy=P.NEXT_WITH_REMAINING)
    (gap,) = turn(it, accept(it, s(0), 1), s(20 * 3600)).missed
    assert (gap.first, gap.last, gap.count) == (s(3 * 3600), s(4 * 3600 - 1), 3600)


@pytest.mark.parametrize("day", [datetime(2030, 3, 30, tzinfo=UTC), datetime(2030, 10, 26, tzinfo=UTC)])
@pytest.mark.parametrize(
    "expression", ["0 30 2 * * *", "0 */10 * * * *", "0 15,45 1-3 * * *", "0 0 * * * *", "30 2 * * *", "*/7 2 * * *"]
)
def test_a_gap_over_a_change_of_the_clock_holds_what_would_have_fired(expression, day):
    it = unit(parse_cron(expression, zone=zone("Europe/Berlin")), policy=P.NEXT_WITH_REMAINING)
    accepted, back = to_instant(day), to_instant(day) + 60 * HOUR
    planned = [at for at, _ in preview(it, accepted, 1000) if at <= back]
    (gap,) = turn(it, accept(it, accepted, 1), back).missed
    assert (gap.first, gap.last, gap.count) == (planned[0], planned[-1], len(planned))


PAUSED = [
    # trigger, policy, skip_missed, what fires after a pause from 3 to 13, what was missed
    (every(2, 9), P.IGNORE, False, [4, 6, 8, 10, 12, 14, 16, 18], []),
    (every(2, 9), P.NOW_WITH_EXISTING, False, [13, 15, 17, 19, 21, 23, 25, 27], [5]),
    (every(2, 9), P.NEXT_WITH_EXISTING, False, [14, 16, 18, 20, 22, 24, 26, 28], [5]),
    (every(2, 9), P.NEXT_WITH_REMAINING, False, [14, 16, 18], [5]),
    (every(2, 9), P.NOW_WITH_REMAINING, False, [13, 15, 17, 19], [5]),
    (every(2, 9), P.FIRE_NOW, False, [13, 15, 17, 19], [5]),
    (every(2, 9), P.SMART, False, [13, 15, 17, 19, 21, 23, 25, 27], [5]),
    (parse_cron("*/2 * * * * *"), P.SMART, False, [13, 14, 16, 18, 20, 22, 24, 26, 28, 30], [5]),
    (parse_cron("*/2 * * * * *"), P.IGNORE, False, [4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30], []),
    *[(every(2, 9), policy, True, [14, 16, 18], [5]) for policy in P],
    *[(parse_cron("*/2 * * * * *"), policy, True, [14, 16, 18, 20, 22, 24, 26, 28, 30], [5]) for policy in P],
]


@pytest.mark.parametrize(("trigger", "policy", "skip", "fires", "missed"), PAUSED)
def test_a_pause_is_one_gap_however_short_it_was(trigger, policy, skip, fires, missed):
    # Nothing is as late as the threshold.
    it = unit(trigger, policy=policy, threshold=3600)
    before, schedule = run(it, accept(it, s(-0.1) if trigger.kind == "cron" else s(0), 1), 2.5)
    assert before == [0, 2]
    schedule = reconcile(it, schedule, s(3), 2, paused=True)
    schedule = reconcile(it, schedule, s(13), 3, resumed=Resumed(s(13), skip))
    back = turn(it, schedule, s(13))
    after, _ = run(it, back.schedule, 30)
    assert (seconds(back) + after, [gap.count for gap in back.missed]) == (fires, missed)
    assert all(gap.paused and gap.skipped is skip for gap in back.missed)
