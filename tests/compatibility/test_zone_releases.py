"""Two real releases of the time zone database: what a daemon had stored by the older one, it goes on with by the newer."""

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.conftest import unavailable
from xchronos.clock import HOUR, to_instant
from xchronos.model.compile.unit import compile_unit
from xchronos.scheduler.timing.schedule import accept, reconcile, turn
from xchronos.triggers.zones import ZoneDatabase, database, rules_of

RELEASE = "2025.2"
"""The package; the release in it is 2025b. The installed one is newer."""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> ZoneDatabase:
    where = tmp_path_factory.mktemp("tzdata")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(where), f"tzdata=={RELEASE}"]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode:
        unavailable(f"cannot install tzdata {RELEASE}: {installed.stderr.strip()}")
    return ZoneDatabase(Path(where) / "tzdata")


@pytest.mark.slow
@pytest.mark.parametrize("old_record", [False, True], ids=["noted", "not noted"])
@pytest.mark.parametrize("name", ["Africa/Casablanca", "America/Vancouver", "Europe/Berlin"])
def test_every_day_has_its_fire_time_once(older: ZoneDatabase, name: str, old_record: bool) -> None:
    """For each week of a year the newer rules come: nobody fires twice for a day, misses one, or is an hour off."""
    assert older.version == "2025b"
    text = (
        f"[Service]\nExecStart=/bin/true\n[X-Chronos]\nTriggerCron=30 0 * * *\nTimeZone={name}\nMisfireThreshold=3h\n"
    )
    with rules_of(older):
        before = compile_unit("a.service", text)
    after = compile_unit("a.service", text)
    zone = database().zone(name)
    begin = datetime.fromisoformat("2026-07-01T12:00:00+00:00")
    for week in range(0, 52, 3):
        schedule = accept(before, to_instant(begin), 1)
        change = begin + timedelta(weeks=week + 1)
        now, days = to_instant(begin), []
        unit = before
        while now < to_instant(change + timedelta(days=3)):
            if unit is before and now >= to_instant(change):
                unit = after
                if old_record:
                    states = tuple(msgspec.structs.replace(state, offset=0) for state in schedule.triggers)
                    schedule = msgspec.structs.replace(schedule, rules="", triggers=states)
                schedule = reconcile(after, schedule, now, 1)
                first = len(days)
            decided = turn(unit, schedule, now)
            assert not decided.missed
            schedule = decided.schedule
            days += [fire.at for fire in decided.fires]
            now += HOUR
        by_new = [datetime.fromtimestamp(zone.wall(at // 1_000_000), tz=begin.tzinfo) for at in days[first:]]
        assert [f"{wall:%H:%M}" for wall in by_new] == ["00:30"] * len(by_new), (name, week)
        gaps = {later - earlier for earlier, later in zip(days[first - 1 :], days[first:], strict=False)}
        assert gaps <= {23 * HOUR, 24 * HOUR, 25 * HOUR}, (name, week, gaps)
