"""What a unit needs of whoever reads it, and what a daemon says that it reads."""

import json

import pytest

from tests.model.compile_helpers import chronos, service
from tests.triggers.other_rules import release, tzif
from xchronos import __version__
from xchronos.model.features import (
    LEVEL,
    NO_RULES,
    own_reading,
    rules_hold,
    rules_text,
    unread,
)
from xchronos.model.records import Reading, SchedulerRecord
from xchronos.model.unit import Unit
from xchronos.registry.codec import encode
from xchronos.triggers.zone_baseline import BASELINE_ZONES
from xchronos.triggers.zones import database, rules_of, zone

SILENT = Reading()
"""What an old daemon says: nothing."""


def needing(level=1, because=(), zones=()):
    return Unit("a.service", "r", zones=zones, level=level, level_because=because)


@pytest.mark.parametrize(
    ("lines", "level", "because"),
    [
        (("ExecStart=/bin/true",), 1, ()),
        (("ExecStart=/bin/sh -c 'a | b'", "Restart=on-failure", "RestartSec=3"), 1, ()),
        (("ExecStart=|echo $HOME",), 2, ("ExecStart=|echo $HOME",)),
        (("ExecStart=-|echo", "ExecStop=+|echo"), 2, ("ExecStart=-|echo", "ExecStop=+|echo")),
        (
            ("ExecStart=/bin/true", "RestartSteps=3", "RestartMaxDelaySec=1h"),
            2,
            ("RestartSteps=", "RestartMaxDelaySec="),
        ),
        (("Environment=V=1", "[Container]\nImage=i:${V}"), 2, ("Image=i:${V}",)),
        (("Environment=V=h", "[Container]\nImage=i\nHostName=$V"), 2, ("HostName=$V",)),
        (("[Container]\nImage=i\nExec=echo $$V",), 2, ("Exec=echo $$V",)),
        (("[Container]\nImage=i\nExec=sh -c 'x=a$V; echo a$V'",), 1, ()),
        (("[Container]\nImage=i\nHealthCmd=CMD-SHELL x || y",), 2, ("HealthCmd=CMD-SHELL x || y",)),
        (("[Container]\nImage=i\nHealthCmd=x",), 1, ()),
        (('[Container]\nImage="i"',), 2, ('Image="i"',)),
        (('[Container]\nImage=i\nEnvironment="A=b c"\nLabel="x=y"\nExec="a b"',), 1, ()),
        (("[Container]\nImage=i\nExec=x\nEntrypoint=",), 2, ("Entrypoint=",)),
        (("[Container]\nImage=i\nMemory=.5g",), 2, ("Memory=.5g",)),
        (("[Container]\nImage=i\nMemory=1.5g",), 1, ()),
        (("[Container]\nImage=i\nPublishPort=::1:80:80",), 2, ("PublishPort=::1:80:80",)),
        (("[Container]\nImage=i\nPublishPort=127.0.0.1:80:80\nPublishPort=[::1]:80:80",), 1, ()),
        (("ExecStart=docker run -m .5g --cpus .5 img",), 2, ("ExecStart=docker run -m .5g --cpus .5 img",)),
        (
            ("ExecStart=docker run -d --restart on-failure: img",),
            2,
            ("ExecStart=docker run -d --restart on-failure: img",),
        ),
        (("ExecStart=docker inspect -f '{{.Id}}' x",), 2, ("ExecStart=docker inspect -f '{{.Id}}' x",)),
        (("ExecStart=docker rm -f inspect",), 1, ()),
        (("ExecStart=docker run --cpus .5 -m 1.5g -p 127.0.0.1:80:80 -v /a:/b:ro --restart on-failure:3 img",), 1, ()),
    ],
)
def test_the_level_follows_from_what_the_file_says(lines, level, because):
    unit = service(*lines)
    assert (unit.level, unit.level_because) == (level, because)
    assert unread(SILENT, unit) == because
    assert unread(own_reading(), unit) == ()


@pytest.mark.parametrize(
    ("lines", "zones", "asked"),
    [
        (("TriggerCron=0 9 * * *",), (), ()),
        (("TriggerCron=0 9 * * *", "TimeZone=UTC"), (), ()),
        (("TriggerCron=0 9 * * *", "TimeZone=Europe/Berlin"), ("Europe/Berlin",), ("Europe/Berlin",)),
        (
            ("TriggerCron=TZ=Asia/Tokyo 0 9 * * *", "TimeZone=Europe/Berlin"),
            ("Asia/Tokyo", "Europe/Berlin"),
            ("Asia/Tokyo",),
        ),
        (("TriggerCalendar=Mon 09:00 America/New_York",), ("America/New_York",), ("America/New_York",)),
        (("TriggerISO8601=R/2030-01-01T09:00:00/P1D", "TimeZone=Asia/Tokyo"), ("Asia/Tokyo",), ("Asia/Tokyo",)),
        (("TriggerISO8601=R/2030-01-01T09:00:00+02:00/P1D",), (), ()),
        (("TriggerRepeatInterval=10s", "TimeZone=Asia/Tokyo"), ("Asia/Tokyo",), ()),
    ],
)
def test_the_zones_of_a_unit_are_those_that_it_names_and_its_rules_those_that_its_triggers_ask(lines, zones, asked):
    unit = chronos(*lines)
    assert unit.zones == zones
    assert unit.rules == (" ".join(f"{name}={zone(name).rules}" for name in asked) or NO_RULES)
    assert rules_hold(unit.rules)


def test_a_zone_that_is_newer_than_the_list_is_read_by_who_says_so():
    assert unread(SILENT, needing(zones=("Europe/Berlin",))) == ()
    assert unread(SILENT, needing(zones=("America/Coyhaique",))) == ("the time zone America/Coyhaique",)
    assert unread(Reading(more_zones=("America/Coyhaique",)), needing(zones=("America/Coyhaique",))) == ()
    assert unread(Reading(fewer_zones=("Europe/Berlin",)), needing(zones=("Europe/Berlin",))) == (
        "the time zone Europe/Berlin",
    )


def test_what_is_missing_is_told_together():
    assert unread(SILENT, needing(2, ("RestartSteps=",), ("America/Coyhaique",))) == (
        "RestartSteps=",
        "the time zone America/Coyhaique",
    )


def test_this_program_says_what_it_reads_in_few_words():
    reading = own_reading()
    assert (reading.level, reading.version, reading.rules) == (LEVEL, __version__, database().version)
    assert set(reading.more_zones) == database().names - BASELINE_ZONES
    assert len(encode(SchedulerRecord("m1", "i", reading))) < 300


def test_a_record_that_says_nothing_is_written_as_before():
    assert json.loads(encode(SchedulerRecord("m1", "i"))) == {"id": "m1", "instance": "i"}


def test_rules_hold_while_every_zone_has_the_same_ones(tmp_path):
    other_rules = release(
        tmp_path / "tzdata", "2031a", {name: tzif(3600, []) for name in ("Europe/Berlin", "Asia/Tokyo")}
    )
    text = rules_text({name: zone(name).rules for name in ("Europe/Berlin", "Asia/Tokyo")})
    assert rules_hold(text)
    assert rules_hold(NO_RULES)
    assert not rules_hold("")
    assert not rules_hold(text.replace("Asia/Tokyo", "Mars/Olympus"))
    with rules_of(other_rules):
        assert not rules_hold(text)
        assert rules_hold(NO_RULES)
    assert rules_hold(text)
