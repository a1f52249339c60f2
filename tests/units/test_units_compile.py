"""Every example compiles without a word of warning, says what it is for, and fires when its comments say so."""

from datetime import datetime
from hashlib import sha256

import pytest

from tests.units.example_units import ORIGINAL, ROOT, UNITS, compiled, read_all
from xchronos.clock import to_datetime, to_instant
from xchronos.model.compile.unit import compile_unit
from xchronos.scheduler.timing.schedule import accept, next_due, turn
from xchronos.unitfile import UnitName

TRIGGERS = {
    "container-limits.service": ["TriggerCron=@every 30s"],
    "cron-timezone.service": [
        "TriggerCron=30 2 * * Mon-Fri", "TriggerCron=H * * * *", "TriggerCalendar=Sat *-*-* 09:00:00",
    ],
    "docker-run.service": ["TriggerCron=@every 1m"],
    "hello.service": ["TriggerCron=@every 10s"],
    "iso8601.service": ["TriggerISO8601=R3//PT20S", "TriggerISO8601=R/2026-01-31T18:00:00Z/P1M"],
    "misfire.service": ["TriggerRepeatInterval=1min"],
    "one-shot.service": [],
    "pipeline.service": ["TriggerCron=*/2 * * * *"],
    "report@.service": ["TriggerCron=H H(1-5) * * *"],
    "report@eu.service": ["TriggerCron=H H(1-5) * * *"],
    "retries.service": ["TriggerStartDelay=10000"],
    ORIGINAL: ["TriggerRepeatInterval=2000", "TriggerCron=* * 1 * * *"],
}  # fmt: skip

ACCEPTED = "2026-03-26T10:00:00Z"

FIRES = {
    "hello.service": ["26 10:00:10", "26 10:00:20", "26 10:00:30"],
    # These come from `H`: minute 58 of every hour, drawn from the name.
    "cron-timezone.service": ["26 10:58:00", "26 11:58:00"],
    "iso8601.service": ["26 10:00:00", "26 10:00:20", "26 10:00:40", "31 18:00:00"],
    "one-shot.service": [],
    "retries.service": ["26 10:00:10", None],
    "misfire.service": [f"26 10:{minute:02}:00" for minute in range(20)] + [None],
    "container-limits.service": ["26 10:00:30", "26 10:01:00"],
    "docker-run.service": ["26 10:01:00", "26 10:02:00"],
    "pipeline.service": ["26 10:02:00", "26 10:04:00"],
    "report@.service": [],
    # Ten seconds of TriggerStartDelay, then every other second.
    ORIGINAL: ["26 10:00:10", "26 10:00:12", "26 10:00:14"],
}
"""Day and time in March 2026 of the first fire times (all of them, where None follows) of a unit accepted at ACCEPTED."""


def fire_times(unit, count):
    schedule = accept(unit, to_instant(datetime.fromisoformat(ACCEPTED)), 1)
    for _ in range(count):
        due = next_due(schedule)
        if due is None:
            yield None
            return
        decided = turn(unit, schedule, due)
        schedule = decided.schedule
        assert [fire.at for fire in decided.fires] == [due]
        yield f"{to_datetime(due):%d %H:%M:%S}"


def test_the_tests_know_every_example():
    assert sorted(read_all()) == sorted(TRIGGERS)
    assert 8 <= len(TRIGGERS) - 1 <= 13


@pytest.mark.parametrize("name", sorted(TRIGGERS))
def test_an_example_compiles_and_has_its_triggers(name):
    unit = compiled(name)
    assert [f"{trigger.key}={trigger.text}" for trigger in unit.triggers] == TRIGGERS[name]
    assert unit.description
    assert unit.executor == "docker"
    if name != ORIGINAL:
        assert not unit.warnings
        text = read_all()[name].decode()
        assert text.startswith("#")
        assert text.count("\n#") >= 1


@pytest.mark.parametrize("name", sorted(FIRES))
def test_an_example_fires_when_it_says(name):
    assert list(fire_times(compiled(name), max(len(FIRES[name]), 1))) == (FIRES[name] or [None])


def test_wall_clock_times_follow_the_zone():
    working_days, hourly, saturdays = (spec.trigger for spec in compiled("cron-timezone.service").triggers)
    after = to_instant(datetime.fromisoformat(ACCEPTED))
    # A Thursday; Berlin changes its clocks on Sunday the 29th, so on Monday 02:30 is an hour earlier in UTC.
    friday = working_days.next_after(after, after)
    monday = working_days.next_after(friday, after)
    assert [f"{to_datetime(at):%a %H:%M}" for at in (friday, monday)] == ["Fri 01:30", "Mon 00:30"]
    first = saturdays.next_after(after, after)
    assert [f"{to_datetime(at):%d %H:%M}" for at in (first, saturdays.next_after(first, after))] == [
        "28 08:00",
        "04 07:00",
    ]
    assert hourly.next_after(after, after) - after < 3_600_000_000


def test_many_instances_of_the_template_do_not_start_together():
    text = read_all()["report@.service"]
    minutes = set()
    for number in range(40):
        unit = compile_unit(f"report@{number}.service", text)
        minutes.add(next(fire_times(unit, 1)))
        assert "01:00:00" <= next(fire_times(unit, 1))[3:] <= "05:59:00"
    assert len(minutes) > 30


def test_only_the_template_is_one():
    assert [name for name in TRIGGERS if compiled(name).template] == ["report@.service"]
    step = compiled("report@eu.service").service.steps[0]
    assert step.line.resolve(UnitName.parse("report@eu.service"), None, {}).argv[1] == "Report for region eu"


def test_what_the_comments_promise_of_retries_misfire_and_limits():
    retry = compiled("retries.service").retry
    assert (retry.max_attempts, retry.delay, retry.backoff, retry.max_delay) == (5, 10**6, "exponential", 10**7)
    misfire = compiled("misfire.service")
    assert misfire.misfire.policy.value == "RESCHEDULE_NOW_WITH_EXISTING_REPEAT_COUNT"
    assert misfire.concurrency == "forbid"
    limits = compiled("container-limits.service")
    assert limits.memory == 64 * 2**20
    assert limits.container is not None
    host = limits.container.body["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 * 2**20, 5 * 10**8, 32)
    assert host["ReadonlyRootfs"] is True


def test_the_original_is_kept_byte_for_byte():
    text = (UNITS / ORIGINAL).read_bytes()
    assert sha256(text).hexdigest() == "e62156756c3dce98c385b144fb16a8e61540c0dcb1151e66b8705ed99a81cba1"
    unit = compiled(ORIGINAL)
    assert {problem.severity for problem in unit.warnings} == {"warning"}
    assert unit.availability == 2
    assert unit.start_delay == 10_000_000
    assert (unit.retry.max_attempts, unit.retry.delay) == (3, 10_000_000)


def test_the_image_is_the_one_that_is_made_here():
    maker = (ROOT / "packaging/images/make-busybox").read_text(encoding="utf-8")
    assert "name=xchronos/busybox\n" in maker
    for name, text in read_all().items():
        if name != ORIGINAL:
            assert "xchronos/busybox" in text.decode(), name


def test_the_instance_is_a_link_to_its_template():
    assert (UNITS / "report@eu.service").readlink().name == "report@.service"
