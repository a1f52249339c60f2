"""What holds for every trigger, policy and pattern of turns."""

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.scheduler.schedule_builders import T0, Grid, every, s, unit
from xchronos.clock import HOUR, SECOND
from xchronos.model.policies import MisfirePolicy as P
from xchronos.model.records import Schedule
from xchronos.scheduler.timing.cursor import cursors
from xchronos.scheduler.timing.preview import preview
from xchronos.scheduler.timing.schedule import accept, next_due, turn
from xchronos.triggers import parse_calendar, parse_cron, parse_iso8601

simple = st.builds(every, st.integers(1, 40), st.integers(0, 12) | st.just(-1))
absolute = st.builds(
    lambda start, interval, count: Grid(s(start), interval * SECOND, count),
    st.integers(-100, 100),
    st.integers(1, 40),
    st.integers(0, 12) | st.none(),
)
cron = st.sampled_from(["*/7 * * * * *", "0 * * * * *", "30 */2 * * * *", "@every 13s"]).map(parse_cron)
iso = st.builds(
    lambda count, start, period: parse_iso8601(f"R{count}/{start}/PT{period}S"),
    st.sampled_from(["", "0", "1", "7"]),
    st.sampled_from(["", "2030-01-01T00:00:30Z", "2029-12-31T23:59:30Z"]),
    st.integers(1, 40),
)
calendar = st.just(parse_calendar("*-*-* *:*:07/20"))
any_trigger = simple | absolute | cron | iso | calendar
triggers = st.lists(any_trigger, min_size=1, max_size=3)
policies = st.sampled_from(list(P))
moments = st.lists(st.integers(0, 500), min_size=1, max_size=12)
thresholds = st.sampled_from([0, 1, 5, 60, 1000])


def turns(it, schedule: Schedule, at: list[int]):
    for moment in at:
        turned = turn(it, schedule, s(moment))
        yield s(moment), schedule, turned
        schedule = turned.schedule


@given(triggers, policies, thresholds, moments)
def test_never_early_never_twice_and_the_cursor_only_grows(grids, policy, threshold, at):
    it = unit(*grids, policy=policy, threshold=threshold)
    seen: set[int] = set()
    for now, before, turned in turns(it, accept(it, s(0), 1), at):
        times = [fire.at for fire in turned.fires]
        assert times == sorted(set(times))
        assert all(time <= now for time in times)
        assert seen.isdisjoint(times)
        seen.update(times)
        assert turned.schedule.fired == len(seen)
        for old, new in zip(before.triggers, turned.schedule.triggers, strict=True):
            if old.next is None:
                assert new.next is None
            assert new.next is None or new.next >= old.next
            assert old.last is None or new.last >= old.last
            assert new.fired >= old.fired
        due = next_due(turned.schedule)
        assert due is None or due > now or turned.schedule == before
        assert msgspec.json.decode(msgspec.json.encode(turned.schedule), type=Schedule) == turned.schedule
        # The same question has the same answer on another scheduler, and asking again finds nothing due.
        assert turn(it, before, now) == turned
        assert turn(it, turned.schedule, now).fires == ()


@example(every(1, 1), P.FIRE_NOW, 0, [1], 1)
@given(any_trigger, policies, thresholds, moments.map(sorted), st.integers(1, 100))
def test_fired_and_charged_make_the_count(grid, policy, threshold, at, limit):
    it = unit(grid, policy=policy, threshold=threshold, limit=limit)
    schedule = accept(it, s(0), 1)
    count = schedule.triggers[0].remaining
    charged = 0
    for now, before, turned in turns(it, schedule, at):
        for gap in turned.missed:
            assert gap.first <= gap.last
            assert (gap.count == 1) == (gap.first == gap.last)
            match gap.policy:
                case P.NEXT_WITH_REMAINING | P.IGNORE:
                    charged += gap.count
                case P.NOW_WITH_REMAINING | P.FIRE_NOW:
                    # The fire stands for one of all that are due; the slot of its very instant is no part of the gap.
                    charged += cursors(it, before)[0].gap(now)[2] - 1
        schedule = turned.schedule
        if count is not None:
            assert schedule.triggers[0].remaining == count - schedule.fired - charged
            assert schedule.triggers[0].fired == schedule.fired


@given(any_trigger, moments.map(sorted))
def test_without_a_misfire_it_does_not_matter_when_the_turns_are(grid, at):
    it = unit(grid, threshold=1000)
    schedule = accept(it, s(0), 1)
    once = turn(it, schedule, s(at[-1]))
    split = list(turns(it, schedule, at))
    assert [fire.at for _, _, turned in split for fire in turned.fires] == [fire.at for fire in once.fires]
    assert split[-1][2].schedule == once.schedule


@given(any_trigger, st.sampled_from([P.NEXT_WITH_REMAINING, P.IGNORE]), thresholds, moments.map(sorted))
def test_every_slot_is_fired_or_recorded_exactly_once(grid, policy, threshold, at):
    it = unit(grid, policy=policy, threshold=threshold, limit=3)
    schedule = accept(it, s(0), 1)
    planned = [time for time, _ in preview(it, s(0), 600) if time <= s(at[-1])]
    fired: list[int] = []
    gaps = []
    for _, _, turned in turns(it, schedule, at):
        fired += [fire.at for fire in turned.fires]
        gaps += turned.missed
    left = [time for time in planned if time not in set(fired)]
    assert len(left) + len(fired) == len(planned)
    assert sum(gap.count for gap in gaps) == len(left)
    for gap in gaps:
        inside = [time for time in left if gap.first <= time <= gap.last]
        assert (inside[0], inside[-1], len(inside)) == (gap.first, gap.last, gap.count)


@given(any_trigger, st.sampled_from([P.NOW_WITH_EXISTING, P.NEXT_WITH_EXISTING]), thresholds, moments)
def test_existing_count_honours_the_total(grid, policy, threshold, at):
    it = unit(grid, policy=policy, threshold=threshold)
    schedule = accept(it, s(0), 1)
    total = schedule.triggers[0].remaining
    if total is None:
        return
    for _, _, turned in turns(it, schedule, at):
        schedule = turned.schedule
    while (due := next_due(schedule)) is not None:
        schedule = turn(it, schedule, max(due, T0)).schedule
    assert schedule.fired == total


@settings(max_examples=30)
@given(triggers, st.integers(0, 5000))
def test_the_fast_path_and_the_general_one_agree(grids, delay):
    alone = unit(grids[0], not_after=s(400), ttl=HOUR, max_runs=9, start_delay=delay * 1000)
    # A second trigger that never fires sends the same turns the general way.
    beside = unit(grids[0], Grid(s(900), SECOND), not_after=s(400), ttl=HOUR, max_runs=9, start_delay=delay * 1000)
    one, two = accept(alone, s(0), 1), accept(beside, s(0), 1)
    while (due := next_due(one)) is not None:
        first, second = turn(alone, one, max(due, T0)), turn(beside, two, max(due, T0))
        assert first.fires == second.fires
        assert first.schedule.triggers[0] == second.schedule.triggers[0]
        assert first.schedule.fired == second.schedule.fired
        one, two = first.schedule, second.schedule
    assert next_due(two) is None
