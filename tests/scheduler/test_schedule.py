"""Acceptance, reconciliation, turns, previews."""

from datetime import UTC, datetime

import msgspec
import pytest

from tests.scheduler.schedule_builders import T0, Grid, Never, every, run, s, seconds, unit
from xchronos.clock import HOUR, SECOND, to_datetime
from xchronos.model.policies import MisfirePolicy as P
from xchronos.scheduler.timing.preview import preview
from xchronos.scheduler.timing.schedule import (
    Fire,
    Resumed,
    Turn,
    accept,
    expires_at,
    next_due,
    not_run,
    randomized_delay,
    reconcile,
    turn,
)
from xchronos.triggers.at import AtTrigger
from xchronos.triggers.cron.expression import parse_cron
from xchronos.triggers.limits import LATEST


def first(it, now=0.0):
    due = next_due(accept(it, s(now), 1))
    return None if due is None else (due - T0) / SECOND


def changed(it, **fields):
    return msgspec.structs.replace(it, **fields)


class TestAcceptance:
    def test_the_first_fire_time_of_each_kind(self):
        assert first(unit(every(10))) == 0
        assert first(unit(every(10), start_delay=3 * SECOND)) == 3
        assert first(unit(parse_cron("0 * * * * *"))) == 60
        assert first(unit(parse_cron("@every 10s"))) == 10
        assert first(unit(AtTrigger(s(5)))) == 5
        assert first(unit(AtTrigger(s(-5)))) == -5
        assert first(unit(Never())) is None

    def test_start_delay_holds_cron_back_and_may_hit_a_slot(self):
        assert first(unit(parse_cron("0 * * * * *"), start_delay=60 * SECOND)) == 60
        assert first(unit(parse_cron("0 * * * * *"), start_delay=60 * SECOND + 1)) == 120
        assert first(unit(parse_cron("@every 10s"), start_delay=60 * SECOND)) == 70

    def test_not_before_is_where_the_grid_begins(self):
        assert first(unit(every(10, 0), not_before=s(25))) == 25
        assert first(unit(every(10), not_before=s(-25))) == 0
        assert first(unit(every(10), not_before=s(2), start_delay=3 * SECOND)) == 3
        assert first(unit(parse_cron("0 * * * * *"), not_before=s(120))) == 120
        assert first(unit(AtTrigger(s(5)), not_before=s(6))) is None
        assert first(unit(AtTrigger(s(6)), not_before=s(6))) == 6

    def test_slots_before_acceptance_are_charged_and_no_misfires(self):
        it = unit(Grid(s(-25), 10 * SECOND, 5))
        schedule = accept(it, s(0), 1)
        assert schedule.triggers[0].remaining == 2
        assert run(it, schedule, 100)[0] == [5, 15]
        assert run(unit(Grid(s(-20), 10 * SECOND, 5)), accept(unit(Grid(s(-20), 10 * SECOND, 5)), s(0), 1), 100)[0] == [
            0,
            10,
            20,
        ]
        over = accept(unit(Grid(s(-100), 10 * SECOND, 5)), s(0), 1)
        assert over.triggers[0].remaining == 0
        assert over.finished == "the last fire time of its triggers has passed"

    def test_a_union_takes_the_earliest(self):
        assert first(unit(parse_cron("0 * * * * *"), every(10, 0), start_delay=90 * SECOND)) == 90

    def test_what_the_schedule_keeps(self):
        it = unit(every(10, 4), start_delay=3 * SECOND)
        schedule = accept(it, s(0), 7, paused=True)
        assert schedule.unit == "a.service"
        assert schedule.unit_revision == 7
        assert schedule.accepted_at == datetime(2030, 1, 1, tzinfo=UTC)
        assert schedule.anchor == datetime(2030, 1, 1, 0, 0, 3, tzinfo=UTC)
        assert schedule.triggers[0].remaining == 5
        assert schedule.paused
        assert next_due(schedule) is None

    def test_nothing_to_follow(self):
        without = accept(unit(), s(0), 1)
        assert without.finished == ""
        assert next_due(without) is None
        assert accept(unit(every(1), template=True), s(0), 1).finished.startswith("a template")
        assert accept(unit(Never()), s(0), 1).finished == "its triggers have no further fire time"
        ended = accept(unit(every(1), not_after=s(0)), s(0), 1)
        assert ended.finished.startswith("no fire time is left up to NotAfter=")
        assert accept(unit(every(1), max_runs=0), s(0), 1).finished == "MaxRuns=0 is reached"

    def test_beyond_the_last_year_nothing_fires(self):
        it = unit(Grid(LATEST - SECOND, 10 * SECOND))
        turned = turn(it, accept(it, LATEST - HOUR, 1), LATEST - SECOND)
        assert len(turned.fires) == 1
        assert turned.schedule.finished
        assert accept(unit(every(1), start_delay=LATEST), s(0), 1).anchor == to_datetime(LATEST)

    def test_the_ttl_is_exclusive_and_counts_from_acceptance(self):
        it = unit(every(10), ttl=20 * SECOND)
        fired, schedule = run(it, accept(it, s(0), 1), 100)
        assert fired == [0, 10]
        assert schedule.finished == "no fire time is left before its TTL ends at 2030-01-01T00:00:20+00:00"
        assert expires_at(it, schedule) == s(20)
        assert schedule.expires_at == to_datetime(s(20))
        longer = reconcile(changed(it, ttl=40 * SECOND), schedule, s(21), 2)
        assert (longer.expires_at, next_due(longer)) == (to_datetime(s(40)), s(30))
        assert accept(unit(ttl=LATEST), s(0), 1).expires_at is None
        assert expires_at(unit(), accept(unit(), s(0), 1)) is None

    def test_the_nearer_of_ttl_and_not_after_is_named(self):
        near = unit(every(10), ttl=20 * SECOND, not_after=s(15))
        assert "NotAfter" in run(near, accept(near, s(0), 1), 100)[1].finished
        far = unit(every(10), ttl=20 * SECOND, not_after=s(150))
        assert "TTL" in run(far, accept(far, s(0), 1), 100)[1].finished


class TestTurn:
    def test_nothing_due_leaves_the_schedule_as_it_is(self):
        for it in (unit(every(10)), unit(every(10), every(7))):
            schedule = accept(it, s(5), 1)
            turned = turn(it, schedule, s(4))
            assert turned == Turn((), (), schedule)

    def test_one_slot_fires_for_its_own_instant(self):
        it = unit(every(10))
        turned = turn(it, accept(it, s(0), 1), s(0.5))
        assert turned.fires == (Fire(s(0), datetime(2030, 1, 1, tzinfo=UTC), "simple"),)
        state = turned.schedule.triggers[0]
        assert (state.next, state.last, state.fired) == (to_datetime(s(10)), to_datetime(s(0)), 1)

    def test_a_jump_back_of_the_clock_never_fires_again(self):
        it = unit(every(10), parse_cron("0 * * * * *"))
        schedule = turn(it, accept(it, s(0), 1), s(0)).schedule
        for back in (9.9, 0, -86_400):
            assert turn(it, schedule, s(back)) == Turn((), (), schedule)

    def test_no_drift_however_late_the_turns_are(self):
        it = unit(every(10, 5))
        schedule, fired = accept(it, s(0), 1), []
        for _ in range(6):
            turned = turn(it, schedule, next_due(schedule) + 3 * SECOND)
            fired += seconds(turned)
            schedule = turned.schedule
        assert fired == [0, 10, 20, 30, 40, 50]
        assert next_due(schedule) is None
        assert turn(it, schedule, s(1000)) == Turn((), (), schedule)

    def test_equal_fire_times_fire_once_and_both_cursors_move(self):
        it = unit(every(30), parse_cron("0 * * * * *"), every(60))
        fired, schedule = run(it, accept(it, s(0), 1), 120)
        assert fired == [0, 30, 60, 90, 120]
        assert schedule.fired == 5
        assert [state.fired for state in schedule.triggers] == [5, 2, 3]
        assert turn(it, accept(it, s(0), 1), s(60)).fires[-1].trigger == "cron+simple"

    def test_an_exhausted_trigger_leaves_the_others(self):
        it = unit(every(10, 0), every(7, 2))
        fired, schedule = run(it, accept(it, s(0), 1), 100)
        assert fired == [0, 7, 14]
        assert schedule.finished

    def test_paused_the_cursor_stays_and_after_that_the_policy_decides(self):
        it = unit(every(10), threshold=60)
        schedule = turn(it, accept(it, s(0), 1), s(0)).schedule
        paused = reconcile(it, schedule, s(5), 1, paused=True)
        assert turn(it, paused, s(500)) == Turn((), (), paused)
        resumed = reconcile(it, paused, s(500), 1, paused=False)
        back = turn(it, resumed, s(500))
        assert seconds(back) == []
        assert back.missed[0].count == 50
        # However short it was.
        soon = turn(it, reconcile(it, paused, s(35), 1, paused=False), s(35))
        assert seconds(soon) == []
        assert [(gap.count, gap.paused) for gap in soon.missed] == [(3, True)]
        assert soon.schedule == msgspec.structs.replace(soon.schedule, resumed_at=None, skip_missed=False)

    def test_a_pause_that_no_scheduler_has_seen_is_one_as_well(self):
        it = unit(every(10))
        schedule = turn(it, accept(it, s(0), 1), s(0)).schedule
        again = reconcile(it, schedule, s(27), 2, resumed=Resumed(s(15)))
        back = turn(it, again, s(27))
        assert (seconds(back), [(gap.count, gap.paused) for gap in back.missed]) == ([], [(2, True)])
        # What is due after the resumption is late like anything else.
        late = turn(it, reconcile(it, schedule, s(17), 2, resumed=Resumed(s(5))), s(17))
        assert (seconds(late), late.missed) == ([10], ())
        # A later change of the unit brings the same resumption along: it says nothing new.
        same = reconcile(it, back.schedule, s(30), 3, resumed=Resumed(s(15)))
        assert seconds(turn(it, same, s(30))) == [30]

    def test_a_clock_ahead_of_ours_resumes_nothing_that_is_still_to_come(self):
        it = unit(every(10))
        schedule = turn(it, accept(it, s(0), 1), s(0)).schedule
        paused = reconcile(it, schedule, s(5), 2, paused=True)
        again = reconcile(it, paused, s(7), 3, resumed=Resumed(s(12)))
        assert seconds(turn(it, again, s(10))) == [10]

    def test_paused_again_before_anything_was_decided(self):
        it = unit(every(10))
        paused = reconcile(it, accept(it, s(0), 1), s(5), 2, paused=True)
        again = reconcile(it, paused, s(7), 3, resumed=Resumed(s(7), skip_missed=True))
        assert again.skip_missed
        paused = reconcile(it, again, s(8), 4, paused=True)
        assert (paused.resumed_at, paused.skip_missed) == (None, False)

    def test_only_what_fell_into_the_pause_is_skipped(self):
        it = unit(Grid(s(0), 10 * SECOND), Grid(s(40), 10 * SECOND), policy=P.FIRE_NOW)
        paused = reconcile(it, accept(it, s(0), 1), s(1), 2, paused=True)
        again = reconcile(it, paused, s(35), 3, resumed=Resumed(s(35), skip_missed=True))
        back = turn(it, again, s(200))
        assert [(gap.trigger, gap.paused, gap.record().policy) for gap in back.missed] == [
            (0, True, "skip-missed"),
            (1, False, "FIRE_NOW"),
        ]
        assert seconds(back) == [200]

    def test_max_runs_counts_fire_times(self):
        it = unit(every(10), max_runs=3)
        fired, schedule = run(it, accept(it, s(0), 1), 100)
        assert fired == [0, 10, 20]
        assert schedule.finished == "MaxRuns=3 is reached"
        burst = turn(it, accept(it, s(0), 1), s(55))
        assert seconds(burst) == [0, 10, 20]
        assert burst.schedule.finished == "MaxRuns=3 is reached"

    def test_what_was_skipped_is_given_back(self):
        it = unit(every(10), max_runs=2)
        _, schedule = run(it, accept(it, s(0), 1), 100)
        again = not_run(it, schedule, 1)
        assert (again.fired, again.finished) == (1, "")
        assert run(it, again, 100)[0] == [20]
        assert not_run(it, schedule, 0).finished == "MaxRuns=2 is reached"
        over = unit(every(10, 0), max_runs=1)
        ended = turn(over, accept(over, s(0), 1), s(0)).schedule
        assert not_run(over, ended, 1).finished == "the last fire time of its triggers has passed"
        free = unit(every(10, 0))
        ended = turn(free, accept(free, s(0), 1), s(0)).schedule
        assert not_run(free, ended, 5).finished == ended.finished

    def test_a_restarted_grid_survives_the_record(self):
        it = unit(every(10, 4), policy=P.NOW_WITH_EXISTING, threshold=1)
        schedule = turn(it, accept(it, s(0), 1), s(13)).schedule
        read = msgspec.json.decode(msgspec.json.encode(schedule), type=type(schedule))
        assert read == schedule
        assert run(it, read, 100)[0] == [23, 33, 43, 53]

    def test_records_of_another_unit_are_refused(self):
        with pytest.raises(ValueError, match="zip"):
            turn(unit(every(1), every(2)), accept(unit(every(1), every(2), every(3)), s(0), 1), s(0))


class TestReconcile:
    def test_unknown_or_changed_triggers_start_anew(self):
        it = unit(every(10))
        fresh = reconcile(it, None, s(5), 1)
        assert next_due(fresh) == s(5)
        other = unit(every(20), fingerprint="g")
        assert next_due(reconcile(other, fresh, s(7), 2)) == s(7)
        assert reconcile(other, fresh, s(7), 2, paused=True).paused

    def test_what_new_bounds_add_is_not_before_the_acceptance(self):
        """The next scheduler's clock is behind that of the one that accepted the unit."""
        it = unit(parse_cron("*/3 * * * * *"), not_after=s(10))
        schedule = accept(it, s(9.5), 1)
        assert next_due(schedule) is None
        assert next_due(reconcile(it, schedule, s(5), 2, paused=True)) is None
        assert next_due(reconcile(it, schedule, s(5), 2)) is None
        longer = reconcile(changed(it, not_after=s(60)), schedule, s(5), 2)
        assert next_due(longer) == s(12)

    def test_what_new_bounds_add_is_not_before_the_anchor(self):
        it = unit(parse_cron("* * * * * *"), start_delay=20 * SECOND, not_after=s(10))
        schedule = accept(it, s(0), 1)
        assert next_due(schedule) is None
        assert next_due(reconcile(changed(it, not_after=s(60)), schedule, s(5), 2)) == s(20)

    def test_what_other_triggers_have_claimed_never_fires_again(self):
        it = unit(parse_cron("* * * * * *"))
        schedule = turn(it, accept(it, s(0), 1), s(5)).schedule
        other = unit(parse_cron("* * * * * *"), every(3), fingerprint="g")
        # The clock has been set back, or the next scheduler's is behind.
        fresh = reconcile(other, schedule, s(2), 2)
        assert next_due(fresh) == s(5) + 1
        fires = turn(other, fresh, s(7)).fires
        assert min(fire.at for fire in fires) > s(5)
        assert {fire.at for fire in fires} >= {s(6), s(7)}

    def test_a_time_that_both_texts_name_fires_once(self):
        it = unit(AtTrigger(s(5)))
        schedule = turn(it, accept(it, s(0), 1), s(5)).schedule
        both = unit(AtTrigger(s(5)), AtTrigger(s(4)), fingerprint="g")
        fresh = reconcile(both, schedule, s(6), 2)
        assert [state.next for state in fresh.triggers] == [None, to_datetime(s(4))]
        assert [fire.at for fire in turn(both, fresh, s(6)).fires] == [s(4)]
        assert reconcile(unit(AtTrigger(s(5)), fingerprint="h"), schedule, s(6), 2).finished

    def test_unchanged_triggers_keep_the_cursor(self):
        it = unit(every(10))
        _, schedule = run(it, accept(it, s(0), 1), 25)
        assert reconcile(it, schedule, s(26), 1) is schedule
        kept = reconcile(changed(it, revision="r2"), schedule, s(26), 2)
        assert kept == msgspec.structs.replace(schedule, unit_revision=2)

    def test_a_kept_cursor_fits_changed_bounds(self):
        it = unit(every(10))
        _, schedule = run(it, accept(it, s(0), 1), 25)
        cut = changed(it, not_after=s(30))
        ended = reconcile(cut, schedule, s(26), 2)
        assert ended.finished.startswith("no fire time is left up to NotAfter")
        # Extended again after a while: what lay outside of the bounds is not missed.
        again = reconcile(it, ended, s(95), 3)
        assert (again.finished, next_due(again)) == ("", s(100))
        # The clock is behind what has fired already: still strictly after that.
        assert next_due(reconcile(it, ended, s(3), 3)) == s(30)
        later = reconcile(changed(it, not_before=s(55)), schedule, s(26), 2)
        assert next_due(later) == s(60)
        assert next_due(reconcile(changed(it, not_before=s(5)), schedule, s(26), 2)) == s(30)

    def test_a_trigger_that_never_fired_fits_too(self):
        it = unit(every(10), not_after=s(0))
        ended = accept(it, s(0), 1)
        assert next_due(reconcile(changed(it, not_after=None), ended, s(14), 2)) == s(20)

    def test_a_grid_that_has_not_begun_begins_at_a_later_not_before(self):
        it = unit(every(0, 0), start_delay=20 * SECOND)
        moved = changed(it, not_before=s(50))
        assert run(moved, reconcile(moved, accept(it, s(0), 1), s(5), 2), 100)[0] == [50]
        assert first(moved) == 50
        cut = changed(moved, not_after=s(40))
        assert reconcile(cut, accept(it, s(0), 1), s(5), 2).finished

    def test_a_used_up_count_stays_used_up(self):
        it = unit(every(10, 1))
        _, schedule = run(it, accept(it, s(0), 1), 100)
        assert reconcile(changed(it, not_after=s(500)), schedule, s(100), 2).finished == schedule.finished

    def test_max_runs_can_be_raised_and_lowered(self):
        it = unit(every(10), max_runs=2)
        _, schedule = run(it, accept(it, s(0), 1), 15)
        assert schedule.finished
        assert next_due(reconcile(changed(it, max_runs=3), schedule, s(15), 2)) == s(20)
        _, running = run(changed(it, max_runs=None), accept(it, s(0), 1), 25)
        assert reconcile(it, running, s(26), 2).finished == "MaxRuns=2 is reached"


class TestPreview:
    def test_as_if_accepted_then(self):
        it = unit(every(10), parse_cron("0 * * * * *"), start_delay=55 * SECOND)
        found = [((at - T0) / SECOND, kind) for at, kind in preview(it, s(0), 4)]
        assert found == [(55, "simple"), (60, "cron"), (65, "simple"), (75, "simple")]
        assert [at for at, _ in preview(unit(every(10)), s(0), 2)] == [s(0), s(10)]

    def test_kinds_of_one_instant_are_joined(self):
        assert preview(unit(every(60), every(30), parse_cron("0 * * * * *")), s(0), 3)[2] == (s(60), "cron+simple")

    def test_under_counts_and_bounds(self):
        assert len(preview(unit(every(10, 2)), s(0), 10)) == 3
        assert len(preview(unit(every(10), max_runs=2), s(0), 10)) == 2
        assert len(preview(unit(every(10), not_after=s(20)), s(0), 10)) == 2
        assert preview(unit(), s(0), 10) == []
        assert preview(unit(every(1), template=True), s(0), 10) == []
        assert preview(unit(AtTrigger(s(-9))), s(0), 10) == []

    def test_from_a_cursor(self):
        it = unit(every(10, 9))
        _, schedule = run(it, accept(it, s(0), 1), 25)
        assert [at for at, _ in preview(it, s(26), 2, schedule)] == [s(30), s(40)]
        assert [at for at, _ in preview(it, s(65), 10, schedule)] == [s(70), s(80), s(90)]

    def test_it_is_what_then_happens(self):
        it = unit(every(7, 11), parse_cron("*/9 * * * * *"), Grid(s(3), 5 * SECOND, 8), max_runs=20)
        assert [(at - T0) / SECOND for at, _ in preview(it, s(0), 99)] == run(it, accept(it, s(0), 1), 10_000)[0]


class TestRandomizedDelay:
    def test_stable_and_below_the_bound(self):
        it = unit(every(10), randomized_delay=30 * SECOND)
        delays = [randomized_delay(it, s(n)) for n in range(500)]
        assert all(0 <= delay < 30 * SECOND for delay in delays)
        assert len(set(delays)) > 490
        assert 13 * SECOND < sum(delays) / 500 < 17 * SECOND
        # The same on every machine and in every version: a change of this number would move fires in mixed clusters.
        assert randomized_delay(it, s(0)) == 26_387_059
        assert randomized_delay(changed(it, name="b.service"), s(0)) != delays[0]

    def test_none_without_the_setting(self):
        assert randomized_delay(unit(every(10)), s(0)) == 0
