"""xchronosctl against a real server: why a unit does not run, and when it will."""

import msgspec

from tests.api.api_helpers import HOURLY, ended
from xchronos.model.policies import Outcome
from xchronos.wire.messages import Calendar, Explanation


def test_explain(ctl, daemon):
    daemon.run(daemon.cluster.scheduler())
    daemon.run(daemon.cluster.submit("a.service"))
    assert ctl("explain", "a").stdout.startswith("a.service: its next fire time is 2030-01-01T13:00:00")
    assert len(msgspec.json.decode(ctl("explain", "a", "-o", "json").stdout, type=Explanation).lines) == 1
    daemon.run(daemon.cluster.execution(ended("a.service", 0, Outcome.FAILED)))
    last = "a.service/20300101T120000.000000Z/0 was its last execution: failed: start-0: exited with 3"
    assert ctl("explain", "a").stdout.splitlines()[1] == last


def test_calendar_of_a_unit(ctl, daemon):
    daemon.run(daemon.cluster.submit("a.service", HOURLY + b"RandomizedDelay=1min\n"))
    lines = ctl("calendar", "a", "-n", "2").stdout.splitlines()
    assert lines[0] == "a.service"
    assert lines[2].split(None, 1)[0].startswith("TriggerCron=0")
    assert [line.split()[0] for line in lines[-2:]] == ["2030-01-01T13:00:00Z", "2030-01-01T14:00:00Z"]
    assert "STARTS AT" in lines[-3]
    assert len(msgspec.json.decode(ctl("calendar", "a", "-o", "json").stdout, type=Calendar).fires) == 10
    assert ctl("calendar", "a", "--tz", "UTC").exit_code == 2


def test_what_does_not_fire_has_no_next_fire_time(ctl, daemon):
    daemon.run(daemon.cluster.submit("t@.service"))
    daemon.run(daemon.cluster.submit("a.service"))
    ctl("pause", "a")
    assert "no further fire time; fired 0 times" in ctl("status", "t@").stdout
    assert "nothing fires until it is resumed; fired 0 times" in ctl("status", "a").stdout
    shown = ctl("calendar", "t@").stdout
    assert shown.startswith("t@.service (a template does not run itself, only its instances do)\n")
    assert "2030-01-01T13" not in shown


def test_calendar_without_triggers(ctl, daemon):
    daemon.run(daemon.cluster.submit("a.service", b"[Service]\nExecStart=/bin/true\n"))
    assert "no trigger: it runs when it is started" in ctl("calendar", "a").stdout
