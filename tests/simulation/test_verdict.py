"""The verdict about fire times: a pause leaves one recorded gap of each trigger, and a grid that begins anew goes on."""

import msgspec
import pytest

from xchronos.clock import SECOND, to_datetime, to_instant
from xchronos.model.compile.unit import compile_unit
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys
from xchronos.scheduler.timing.schedule import Resumed, accept, reconcile, turn
from xchronos.store.contract import KeyValue
from xchronos.testing.clock import START
from xchronos.testing.simulation.monitor import Era, Monitor
from xchronos.testing.simulation.scenario import UnitPlan
from xchronos.testing.simulation.verdict import SeedVerdict

KEYS = Keys()


def at(seconds: float) -> int:
    return START + round(seconds * SECOND)


def course(shape, *, until=0.9, resumed=5.5, more=()):
    """A unit of a shape that fires until it is paused, and goes on when it is resumed: with its cursors and records."""
    plan = UnitPlan(f"{shape}0.service", shape, 1, 5, recoverable=False)
    unit = compile_unit(plan.name, plan.text())
    schedule = accept(unit, at(0.25), 1)
    era = Era(1, schedule, [[] for _ in schedule.triggers])
    records: list[Execution] = []

    def look(now: int) -> None:
        nonlocal schedule
        turned = turn(unit, schedule, now)
        for gap in turned.missed:
            told = gap.record()
            records.append(Execution(unit.name, told.first, -1 - gap.trigger, "ended", gap.kind, missed=told))
        for fire in turned.fires:
            records.extend(
                Execution(unit.name, fire.fire_time, copy, "ended", fire.trigger) for copy in range(unit.availability)
            )
        for before, after, restarts in zip(schedule.triggers, turned.schedule.triggers, era.restarts, strict=True):
            if after.restarted_at != before.restarted_at:
                restarts.append(to_instant(after.restarted_at))
        schedule = turned.schedule
        records[:] = [msgspec.structs.replace(one, claimed_at=one.claimed_at or to_datetime(now)) for one in records]

    def looks(since: float, until: float) -> None:
        for tick in range(int(since * 20), int(until * 20)):
            look(at(tick / 20))

    looks(0, until)
    for paused, goes_on in ((until, resumed), *more):
        schedule = reconcile(unit, schedule, at(paused), 2, paused=True)
        schedule = reconcile(unit, schedule, at(goes_on), 3, resumed=Resumed(at(goes_on)))
        looks(goes_on, goes_on + 0.5)
    looks(12 if resumed > 12 else resumed + 0.5, 40)
    era.schedule = schedule
    return unit, era, records


def judged(unit, era, records, history=None):
    """What the verdict says of the records, of which the history still has some."""
    said: list[str] = []
    monitor = Monitor(KEYS, said.append, {unit.name: unit}.get, lambda: at(60), {})
    monitor.living, monitor.lives = {unit.name}, {unit.name: 1}
    monitor.births = {one.id: 1 for one in records}
    monitor.gaps = {unit.name: [(1, one) for one in records if one.missed is not None]}
    kept = records if history is None else history
    ended = [msgspec.structs.replace(one, outcome=Outcome.SUCCEEDED, ended_at=one.claimed_at) for one in kept]
    rows = {KEYS.execution(one.id): KeyValue(KEYS.execution(one.id), encode(one), 1, 1) for one in ended}
    verdict = SeedVerdict(KEYS, rows, monitor, said.append, {unit.name: unit}.get)
    verdict.fire_times(unit, [era], {era.schedule.fingerprint: unit})
    return said


@pytest.mark.parametrize("shape", ["plain", "iso", "union", "copies", "bounded", "caught", "dropped", "cron", "mortal"])
@pytest.mark.parametrize("pauses", [{}, {"more": ((6.5, 9),)}, {"until": 0.1}, {"resumed": 30}], ids=str)
def test_a_pause_leaves_one_gap_of_each_trigger(shape, pauses):
    unit, era, records = course(shape, **pauses)
    assert any(one.missed is not None for one in records)
    assert judged(unit, era, records) == []


def test_a_grid_that_begins_anew_is_compared_fire_time_by_fire_time():
    unit, era, records = course("plain")
    fired = [one for one in records if one.missed is None]
    assert len(fired) == unit.triggers[0].trigger.count
    for lost in fired:
        assert "has 0 records" in " ".join(judged(unit, era, [one for one in records if one is not lost]))
    more = msgspec.structs.replace(fired[-1], fire_time=to_datetime(to_instant(fired[-1].fire_time) + SECOND))
    assert "is no fire time of its unit" in " ".join(judged(unit, era, [*records, more]))


def test_a_gap_is_told_of_once_and_in_full():
    unit, era, records = course("union")
    gaps = [one for one in records if one.missed is not None]
    assert [one.copy for one in gaps] == [-1, -2]
    again = msgspec.structs.replace(gaps[0], fire_time=gaps[0].missed.last)
    assert "2 records of gaps" in " ".join(judged(unit, era, [*records, again]))
    assert "has 0 records" in " ".join(judged(unit, era, [one for one in records if one is not gaps[1]]))
    short = msgspec.structs.replace(gaps[0], missed=msgspec.structs.replace(gaps[0].missed, count=1))
    said = judged(unit, era, [short if one is gaps[0] else one for one in records])
    assert "and tells of 1" in " ".join(said)


def test_what_has_fired_is_in_no_gap():
    unit, era, records = course("plain")
    (gap,) = [one for one in records if one.missed is not None]
    started = msgspec.structs.replace(gap, copy=0, missed=None)
    assert "has 1 records" in " ".join(judged(unit, era, [*records, started]))


def test_a_gap_that_the_history_has_no_longer_counts():
    unit, era, records = course("forgotten")
    kept = sorted(records, key=lambda one: one.id)[-unit.history_limit :]
    assert all(one.missed is None for one in kept)
    assert judged(unit, era, records, kept) == []
    assert "expected 1" in " ".join(judged(unit, era, records, kept[:-1] + records[:1]))
