import re
import zoneinfo
from datetime import UTC, datetime, timedelta
from importlib import resources
from random import Random

import pytest

from tests.triggers.other_rules import release, tzif
from xchronos.clock import SECOND, to_instant
from xchronos.errors import InvalidTrigger, InvalidValue
from xchronos.triggers.zone_rules import _day, _seconds, _unroll, read_tzif
from xchronos.triggers.zones import FOREVER, Zone, database, rules_of, utc, zone, zone_names

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ODD = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/New_York",
    "America/Nuuk",
    "America/Sao_Paulo",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
    "US/Eastern",
]


def seconds(text, offset=UTC):
    moment = datetime.fromisoformat(text)
    return (moment.replace(tzinfo=moment.tzinfo or offset) - EPOCH) // timedelta(seconds=1)


def reference(name):
    """The standard library's reading of the very same file."""
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file, key=name)


@pytest.mark.parametrize("name", ODD)
def test_offsets_are_those_of_the_standard_library_until_2237(name):
    ours, theirs = zone(name), reference(name)
    random = Random(name)
    last = seconds("2237-12-31")
    instants = [start + around for start in ours.starts[1:-1] for around in (-1, 0, 1)]
    instants += [random.randrange(seconds("1850-01-01"), last) for _ in range(200)]
    for instant in instants:
        offset = (EPOCH + timedelta(seconds=instant)).astimezone(theirs).utcoffset()
        assert ours.offset_at(instant) == offset // timedelta(seconds=1), instant
        assert ours.wall(instant) == instant + ours.offset_at(instant)


@pytest.mark.parametrize("name", ODD)
def test_walls_resolve_to_the_instants_that_show_them(name):
    ours = zone(name)
    for start in ours.starts[1:-1]:
        for around in (-90_000, -3600, -1800, -1, 0, 1, 1800, 3600, 90_000):
            wall = ours.wall(start) + around
            near = range(wall - ours.highest, wall - ours.lowest + 1)
            candidates = sorted({wall - offset for offset in ours.offsets})
            expected = tuple(instant for instant in candidates if instant in near and ours.wall(instant) == wall)
            assert ours.instants(wall) == expected
            end = ours.gap_end(wall)
            if expected:
                assert end is None
                assert ours.resolve(wall) == expected[0]
            else:
                assert end in ours.starts
                assert ours.wall(end - 1) < wall < ours.wall(end)
                assert ours.resolve(wall) == end


@pytest.mark.parametrize(
    ("name", "wall", "instants", "gap_end"),
    [
        ("America/New_York", "2024-03-10T02:30", [], "2024-03-10T07:00Z"),
        ("America/New_York", "2024-11-03T01:30", ["2024-11-03T05:30Z", "2024-11-03T06:30Z"], None),
        ("America/Sao_Paulo", "2018-11-04T00:00", [], "2018-11-04T03:00Z"),
        ("Asia/Beirut", "2024-03-31T00:30", [], "2024-03-30T22:00Z"),
        ("Africa/Cairo", "2024-04-26T00:59:59", [], "2024-04-25T22:00Z"),
        ("Australia/Lord_Howe", "2024-10-06T02:15", [], "2024-10-05T15:30Z"),
        ("Australia/Lord_Howe", "2024-04-07T01:45", ["2024-04-06T14:45Z", "2024-04-06T15:15Z"], None),
        ("Pacific/Apia", "2011-12-30T12:00", [], "2011-12-30T10:00Z"),
        ("Pacific/Apia", "2011-12-31T00:00", ["2011-12-30T10:00Z"], None),
        ("America/New_York", "2199-03-10T02:30", [], "2199-03-10T07:00Z"),
        ("UTC", "2024-03-10T02:30", ["2024-03-10T02:30Z"], None),
    ],
)
def test_known_gaps_and_overlaps(name, wall, instants, gap_end):
    ours = zone(name)
    assert ours.instants(seconds(wall)) == tuple(map(seconds, instants))
    assert ours.gap_end(seconds(wall)) == (None if gap_end is None else seconds(gap_end))


def test_next_transition():
    berlin = zone("Europe/Berlin")
    spring = seconds("2024-03-31T01:00Z")
    assert berlin.next_transition(seconds("2024-01-01")) == spring
    assert berlin.next_transition(spring - 1) == spring
    assert berlin.next_transition(spring) == seconds("2024-10-27T01:00Z")
    assert berlin.next_transition(FOREVER - 1) is None
    assert utc.next_transition(0) is None
    assert berlin.starts[berlin.segment(spring)] == spring


def test_a_zone_without_transitions_says_so():
    assert utc.fixed == 0
    assert zone("Etc/GMT-14").fixed == 14 * 3600
    assert zone("Europe/Berlin").fixed is None


def test_transitions_that_change_nothing_are_merged():
    merged = Zone("test", 0, [(10, 0), (20, 60), (30, 60), (40, 0)])
    assert merged.starts == [-FOREVER, 20, 40, FOREVER]
    assert merged.marks == [-FOREVER, 20, 100]


def test_gaps_close_to_each_other():
    place = Zone("test", 0, [(100, 50), (200, 10_000)])
    assert [place.gap_end(wall) for wall in (99, 100, 149, 150, 249, 250, 10_199, 10_200)] == [
        None, 100, 100, None, None, 200, 200, None
    ]  # fmt: skip


def test_zones_are_shared_and_named():
    assert zone("UTC") is utc
    assert zone("Europe/Berlin") is zone("Europe/Berlin")
    assert repr(zone("Europe/Berlin")) == "Zone('Europe/Berlin')"
    assert {"UTC", "Europe/Berlin", "US/Eastern"} <= zone_names()


def test_every_zone_of_the_package_loads():
    for name in zone_names():
        assert sorted(zone(name).starts) == zone(name).starts


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("Eurpoe/Paris", "Europe/Paris"),
        ("utc", "UTC"),
    ],
)
def test_an_unknown_zone_is_refused_with_a_suggestion(name, suggestion):
    with pytest.raises(InvalidTrigger, match=f"unknown time zone '{name}'.*did you mean '{suggestion}'"):
        zone(name)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "/etc/localtime", "Local", "Mars/Olympus_Mons", "zones"])
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(InvalidValue, match="time zone"):
        zone(name)


def test_the_host_has_no_say(monkeypatch, tmp_path):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("PYTHONTZPATH", str(tmp_path))
    assert zone("Europe/Rome").offset_at(seconds("2024-07-01")) == 7200


@pytest.mark.parametrize(
    ("rule", "year", "expected"),
    [
        ("M3.2.0", 2024, "2024-03-10"),
        ("M10.5.0", 2024, "2024-10-27"),
        ("M12.5.2", 2024, "2024-12-31"),
        ("M2.5.4", 2024, "2024-02-29"),
        ("J60", 2024, "2024-03-01"),
        ("J59", 2024, "2024-02-28"),
        ("J60", 2023, "2023-03-01"),
        ("59", 2024, "2024-02-29"),
        ("0", 2024, "2024-01-01"),
    ],
)
def test_the_dates_of_posix_rules(rule, year, expected):
    assert _day(rule, year) * 86_400 == seconds(expected)


def test_the_times_of_posix_rules():
    assert _seconds("-2:30:15") == -(2 * 3600 + 30 * 60 + 15)
    assert _seconds("+167") == 167 * 3600


def test_a_footer_unrolls_behind_the_last_transition():
    last = seconds("2024-06-01")
    unrolled = _unroll("EST5EDT,M3.2.0,M11.1.0/1", last)
    assert unrolled[0] == (seconds("2024-11-03T05:00Z"), -5 * 3600)
    assert unrolled[1] == (seconds("2025-03-09T07:00Z"), -4 * 3600)
    assert unrolled[-1] == (seconds("2237-11-05T05:00Z"), -5 * 3600)
    assert _unroll("EST5EDT,M3.2.0,M11.1.0", None)[0] == (seconds("1970-03-08T07:00Z"), -4 * 3600)
    assert _unroll("<+0330>-3:30", last) == []
    assert _unroll("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", last)[0] == (seconds("2024-10-05T15:30Z"), 11 * 3600)


def test_a_table_without_transitions_is_read():
    data = resources.files("tzdata").joinpath("zoneinfo", "Etc", "GMT+5").read_bytes()
    assert read_tzif(data) == (-5 * 3600, [])


def test_a_release_is_what_its_files_say(tmp_path):
    made = release(tmp_path / "tzdata", "2031c", {"Made/Up": tzif(3600, [(1_000, 7200)])}, expires=1_900_000_000)
    assert (made.version, made.expires, made.names) == ("2031c", 1_900_000_000 * SECOND, frozenset(("Made/Up",)))
    found = made.zone("Made/Up")
    assert (found.offset_at(999), found.offset_at(1_000)) == (3600, 7200)
    assert made.zone("Made/Up") is found
    assert made.zone("UTC") is utc
    with pytest.raises(InvalidTrigger, match=r"unknown time zone 'Made/Uq'.*did you mean 'Made/Up'"):
        made.zone("Made/Uq")


def test_the_digest_of_rules_is_the_same_for_the_same_rules_and_no_others(tmp_path):
    tables = {"A": tzif(0, [(5, 60)]), "B": tzif(0, [(5, 60)]), "C": tzif(0, [(6, 60)]), "D": tzif(0, [(5, 61)])}
    made = release(tmp_path / "tzdata", "2031a", tables)
    digests = {name: made.zone(name).rules for name in tables}
    assert digests["A"] == digests["B"]
    assert len(set(digests.values())) == 3
    assert utc.rules == ""


def test_another_release_counts_within_and_not_after(tmp_path):
    other = release(tmp_path / "tzdata", "2031a", {"Europe/Berlin": tzif(0, [])})
    with rules_of(other):
        assert (database(), zone_names(), zone("Europe/Berlin").fixed) == (other, frozenset(("Europe/Berlin",)), 0)
    assert zone("Europe/Berlin").fixed is None


def test_the_installed_release_is_known_by_iana_s_name():
    assert re.fullmatch(r"20\d\d[a-z]", database().version)
    assert database().expires > to_instant(datetime(2024, 1, 1, tzinfo=UTC))
