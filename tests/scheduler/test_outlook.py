"""What is told of a schedule as its unit is accepted: that it is over, or begins with the past."""

from datetime import UTC, datetime

import pytest

from xchronos.clock import to_instant
from xchronos.model.compile.unit import compile_unit
from xchronos.scheduler.timing.outlook import outlook
from xchronos.scheduler.timing.schedule import accept

NOW = to_instant(datetime(2026, 6, 1, tzinfo=UTC))


def told(lines: str, name: str = "a.service"):
    unit = compile_unit(name, f"[Service]\nExecStart=/bin/x\n[X-Chronos]\n{lines}\n")
    return unit, outlook(unit, NOW)


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        (
            "TriggerISO8601=R1/2017-01-01T00:00:00Z/PT1H",
            "last fire time has passed; TriggerAt= would still run it, late",
        ),
        ("TriggerISO8601=R5/2017-01-01T00:00:00Z/P1D", "last fire time has passed"),
        ("TriggerISO8601=R2/PT1H/2017-01-01T00:00:00Z", "last fire time has passed"),
        ("TriggerISO8601=R0//PT1H", "its count is 0"),
        ("TriggerCron=0 0 0 1 1 ? 2020", "last fire time has passed"),
        ("TriggerCalendar=2020-01-01", "last fire time has passed"),
        ("TriggerCron=@daily\nNotAfter=2026-05-31T23:59:59Z", "NotAfter=2026-05-31T23:59:59Z has passed"),
        ("TriggerRepeatInterval=1h\nNotAfter=2020-01-01T00:00:00Z", "NotAfter=2020-01-01T00:00:00Z has passed"),
        ("TriggerCron=@yearly\nTTL=1h", "outside NotBefore=, NotAfter= and TTL="),
        ("TriggerCron=@yearly\nNotAfter=2026-06-02T00:00:00Z", "outside NotBefore=, NotAfter= and TTL="),
    ],
)
def test_a_schedule_that_is_over_is_warned_of(lines, part):
    unit, (problem,) = told(lines)
    assert part in problem.message
    assert (problem.severity, problem.section, problem.key) == ("warning", "X-Chronos", unit.triggers[0].key)
    assert accept(unit, NOW, 1).finished, "it is over"


def test_an_instant_that_has_passed_is_owed_and_a_grid_goes_on():
    """One rule: what a grid had before the acceptance is nobody's miss; TriggerAt= is owed its one execution."""
    unit, (problem,) = told("TriggerAt=2020-01-01T00:00:00Z\nMisfirePolicy=FIRE_NOW")
    assert "2020-01-01T00:00:00Z has passed: the misfire policy FIRE_NOW decides" in problem.message
    assert accept(unit, NOW, 1).triggers[0].next == datetime(2020, 1, 1, tzinfo=UTC)
    unit, problems = told("TriggerISO8601=R/2017-01-01T00:00:00Z/P1D")
    assert problems == ()
    assert accept(unit, NOW, 1).triggers[0].next == datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "TriggerCron=@daily",
        "TriggerAt=2030-01-01T00:00:00Z",
        "TriggerISO8601=R1/2030-01-01T00:00:00Z/PT1H",
        "TriggerISO8601=R1//PT1H",
        "TriggerStartDelay=0",
        "TriggerCron=@daily\nNotAfter=2030-01-01T00:00:00Z",
        "TriggerCron=0 0 30 2 *",  # of which the trigger itself warns
        "TriggerClass=tests.scheduler.test_outlook:Nobody",  # not asked
    ],
)
def test_what_still_fires_is_not_warned_of(lines):
    assert told(lines)[1] == ()


def test_only_the_trigger_that_is_over_is_named():
    _, problems = told("TriggerCron=@daily\nTriggerCalendar=2020-01-01\nTriggerAt=2020-01-01T00:00:00Z")
    assert [problem.key for problem in problems] == ["TriggerAt", "TriggerCalendar"]


def test_a_template_has_no_schedule_of_its_own():
    assert told("TriggerCalendar=2020-01-01", "a@.service")[1] == ()


class Nobody:
    """A trigger that must not be asked."""

    def next_after(self, instant, anchor):
        raise AssertionError
