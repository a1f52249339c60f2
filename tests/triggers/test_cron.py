"""What cron expressions mean, and what is wrong with those that mean nothing."""

from datetime import UTC, datetime

import pytest

from xchronos.clock import DAY, SECOND, to_datetime, to_instant
from xchronos.errors import InvalidTrigger
from xchronos.triggers.base import Trigger
from xchronos.triggers.cron.expression import parse_cron
from xchronos.triggers.cron.trigger import CronTrigger
from xchronos.triggers.zones import utc, zone


def fires(text, number, begin="2024-01-01", **options):
    """The first fire times after `begin`, as text without the zone."""
    trigger = parse_cron(text, **options)
    at = to_instant(datetime.fromisoformat(begin).replace(tzinfo=UTC))
    found = []
    for _ in range(number):
        at = trigger.next_after(at, 0)
        if at is None:
            return [*found, None]
        found.append(to_datetime(at).strftime("%Y-%m-%d %H:%M:%S").removesuffix(" 00:00:00"))
    return found


def days(text, number, begin="2023-12-31", **options):
    return [found and found[5:] for found in fires(text, number, begin, **options)]


def same(first, second, **options):
    """Whether two expressions mean the same for some years."""
    return fires(first, 60, **options) == fires(second, 60, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5 4 3 2 *", ["2024-02-03 04:05:00", "2025-02-03 04:05:00"]),
        ("6 5 4 3 2 *", ["2024-02-03 04:05:06", "2025-02-03 04:05:06"]),
        ("6 5 4 3 2 ? 2025", ["2025-02-03 04:05:06", None]),
        ("0 0 0 1 1 ? 2026-2030/2", ["2026-01-01", "2028-01-01", "2030-01-01", None]),
        ("0 0 0 1 1 ? 2097/2", ["2097-01-01", "2099-01-01", None]),
        ("0 0 0 29 2 ? 2020-2033", ["2024-02-29", "2028-02-29", "2032-02-29", None]),
        ("0 0 0 29 2 ? 2023", [None]),
        ("0 0 0 ? * * 1999", [None]),
        ("@yearly", ["2025-01-01", "2026-01-01"]),
        ("@annually", ["2025-01-01", "2026-01-01"]),
        ("@monthly", ["2024-02-01", "2024-03-01"]),
        ("@weekly", ["2024-01-07", "2024-01-14"]),
        ("@daily", ["2024-01-02", "2024-01-03"]),
        ("@midnight", ["2024-01-02", "2024-01-03"]),
        ("@hourly", ["2024-01-01 01:00:00", "2024-01-01 02:00:00"]),
        ("  @daily ", ["2024-01-02"]),
        ("\t0  0\t* * * ", ["2024-01-02"]),
        ("0 0 29 2 *", ["2024-02-29", "2028-02-29"]),
        ("08 09 * * *", ["2024-01-01 09:08:00"]),
        ("5-5 * * * *", ["2024-01-01 00:05:00", "2024-01-01 01:05:00"]),
        ("50/5 0 * * *", ["2024-01-01 00:50:00", "2024-01-01 00:55:00", "2024-01-02 00:50:00"]),
        ("*/100 0 * * *", ["2024-01-02", "2024-01-03"]),
        ("0 0 1 JAN-mar,Dec *", ["2024-02-01", "2024-03-01", "2024-12-01", "2025-01-01"]),
    ],
)
def test_meaning(text, expected):
    assert fires(text, len(expected)) == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("0 0 * * 7", "0 0 * * SUN"),
        ("0 0 * * 0-7", "0 0 * * *"),
        ("0 0 * * 5-7", "0 0 * * fri,sat,sun"),
        ("0 0 * * */7", "0 0 * * 0"),
        ("0 0 * * 1/2", "0 0 * * 1,3,5"),
        ("0 0 * * 7/2", "0 0 * * 0"),
        ("0 0 * * SAT/2", "0 0 * * 6"),
        ("0 0 ? * ?", "0 0 * * *"),
        ("0 0 0 ? * MON", "0 0 * * 1"),
        ("0 0 0 1 * ?", "0 0 1 * *"),
        ("* * * * * *", "*/1 0-59 0-23 1-31 1-12 0-6"),
        ("TZ=Europe/Berlin 0 3 * * *", "CRON_TZ=Europe/Berlin 0 3 * * *"),
        ("TZ=Europe/Berlin @daily", "CRON_TZ=Europe/Berlin 0 0 * * *"),
        ("@hourly", "0 * * * *"),
        ("@weekly", "0 0 * * 0"),
    ],
)
def test_equal_expressions(first, second):
    assert same(first, second)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Five fields, Debian's rule: both days restricted, either matches, unless one begins with `*`.
        ("0 0 1 * MON", ["01-01", "01-08", "01-15", "01-22", "01-29", "02-01"]),
        ("0 0 */2 * MON", ["01-01", "01-15", "01-29", "02-05", "02-19"]),
        ("0 0 13 * */2", ["01-13", "02-13", "04-13", "06-13"]),
        ("0 0 1-31 * MON", ["01-01", "01-02", "01-03"]),
        ("0 0 *,5 * MON", ["01-01", "01-08"]),
        # Six fields, robfig's: `*/n` counts as restricted, `*/1` and a list with `*` do not.
        ("0 0 0 1 * MON", ["01-01", "01-08", "01-15", "01-22", "01-29", "02-01"]),
        ("0 0 0 */10 * MON", ["01-01", "01-08", "01-11", "01-15", "01-21", "01-22", "01-29", "01-31"]),
        ("0 0 0 */1 * MON", ["01-01", "01-08", "01-15"]),
        ("0 0 0 */01 * MON", ["01-01", "01-08", "01-15"]),
        ("0 0 0 5,* * MON", ["01-01", "01-08", "01-15"]),
        ("0 0 0 13 2 0-6", ["02-01", "02-02"]),
        ("0 0 0 1-31 2 MON", ["02-01", "02-02"]),
        ("0 0 0 1-31 * MON", ["01-01", "01-02"]),
    ],
)
def test_the_day_rules(text, expected):
    assert days(text, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 0 L * ?", ["01-31", "02-29", "03-31", "04-30"]),
        ("0 0 0 l-3 * ?", ["01-28", "02-26", "03-28", "04-27"]),
        ("0 0 0 L-30 * ?", ["01-01", "03-01", "05-01"]),
        ("0 0 0 LW * ?", ["01-31", "02-29", "03-29", "04-30", "05-31", "06-28"]),
        ("0 0 0 L-3W * ?", ["01-29", "02-26", "03-28", "04-26"]),
        ("0 0 0 L-29W * ?", ["01-02", "03-01", "04-01", "05-02", "06-03"]),
        ("0 0 0 15W * ?", ["01-15", "02-15", "03-15", "04-15", "05-15", "06-14", "07-15", "08-15", "09-16"]),
        ("0 0 0 1W * ?", ["01-01", "02-01", "03-01", "04-01", "05-01", "06-03", "07-01", "08-01", "09-02"]),
        ("0 0 0 31W * ?", ["01-31", "03-29", "05-31", "07-31", "08-30"]),
        ("0 0 0 30W 6 ?", ["06-28"]),
        ("0 0 0 ? * 5L", ["01-26", "02-23", "03-29"]),
        ("0 0 0 * * fril", ["01-26", "02-23", "03-29"]),
        ("0 0 0 ? * 6#3", ["01-20", "02-17", "03-16"]),
        ("0 0 0 ? * SUN#1", ["01-07", "02-04", "03-03"]),
        ("0 0 0 ? * MON#5", ["01-29", "04-29", "07-29"]),
        ("0 0 0 1,L * ?", ["01-01", "01-31", "02-01", "02-29"]),
        ("0 0 0 L * MON#1", ["01-01", "01-31", "02-05", "02-29"]),
        ("0 0 0 ? 2 4#5", ["02-29"]),
        ("0 0 0 L 2 ? 2024-2025", ["02-29", "02-28", None]),
    ],
)
def test_quartz_day_items(text, expected):
    assert days(text, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("60 * * * *", ["minute '60'", "out of range", "expected 0-59"]),
        ("60 * * * * *", ["second '60'", "expected 0-59"]),
        ("* 24 * * *", ["hour '24'", "expected 0-23"]),
        ("* * 0 * *", ["day-of-month '0'", "expected 1-31"]),
        ("* * 32 * *", ["day-of-month '32'", "expected 1-31"]),
        ("* * * 13 *", ["month '13'", "expected 1-12 or JAN-DEC"]),
        ("* * * 0 *", ["month '0'"]),
        ("* * * * 8", ["day-of-week '8'", "0-7 (0 and 7 are Sunday) or SUN-SAT"]),
        ("* * * * * 7", ["day-of-week '7'", "0-6 or SUN-SAT (0 is Sunday, unlike Quartz's 1)"]),
        (
            "0 0 1 1 * 2030",
            ["day-of-week '2030'", "out of range: a year is the seventh field, with the seconds in front"],
        ),
        ("0 0 0 1 1 ? 1969", ["year '1969'", "expected 1970-2099"]),
        ("0 0 0 1 1 ? H", ["year 'H'", "a year cannot be a hashed value"]),
        ("30-20 * * * *", ["minute '30-20'", "backwards", "30 is after 20"]),
        ("0 0 * * FRI-SUN", ["day-of-week 'FRI-SUN'", "backwards (5 is after 0): write it in two parts, '5-6,0'"]),
        ("0 0 * NOV-FEB *", ["month 'NOV-FEB'", "backwards (11 is after 2): write it in two parts, '11-12,1-2'"]),
        ("0 22-4/2 * * *", ["hour '22-4/2'", "'22-23,0-4'"]),
        ("0 0 0 1 1 ? 2030-2029", ["year '2030-2029'", "backwards (2030 is after 2029); expected 1970-2099"]),
        ("*/0 * * * *", ["minute '*/0'", "the step is 0"]),
        ("1/2/3 * * * *", ["minute '1/2/3'", "too many slashes"]),
        ("*/ * * * *", ["minute '*/'", "no step behind its slash"]),
        ("1-2-3 * * * *", ["minute '1-2-3'", "too many hyphens"]),
        ("-5 * * * *", ["minute '-5'", "negative"]),
        ("5- * * * *", ["minute '5-'", "neither a value nor a range"]),
        ("*-5 * * * *", ["minute '*-5'", "neither"]),
        ("*/+5 * * * *", ["minute '*/+5'", "neither"]),
        ("1,,2 * * * *", ["minute '1,,2'", "empty item"]),
        (", * * * *", ["minute ','", "empty item"]),
        ("1, * * * *", ["minute '1,'", "empty item"]),
        ("\u0661 * * * *", ["minute '\u0661'", "only ASCII"]),
        ("0 0 * * \u017fun", ["day-of-week '\u017fun'", "only ASCII"]),
        ("0 0 * JANUARY *", ["month 'JANUARY'", "'JANUARY' is no month"]),
        ("0 0 * * JAN", ["day-of-week 'JAN'", "is no day-of-week"]),
        ("? * * * *", ["minute '?'", "only in the two day fields"]),
        ("0 0 ?,1 * *", ["day-of-month '?,1'", "may only stand alone"]),
        ("0 0 ?/2 * *", ["day-of-month '?/2'", "may only stand alone"]),
        ("0 0 L * *", ["day-of-month 'L'", "six or seven fields"]),
        ("0 0 15W * *", ["day-of-month '15W'", "six or seven fields"]),
        ("0 0 * * 5L", ["day-of-week '5L'", "six or seven fields"]),
        ("0 0 * * 5#2", ["day-of-week '5#2'", "six or seven fields"]),
        ("0 L * * * *", ["minute 'L'", "belong to the day fields"]),
        ("0 0 0 ? * 5##2", ["day-of-week '5##2'", "not of the form d#n"]),
        ("0 0 0 ? * 5#6", ["day-of-week '5#6'", "no weekday number 6"]),
        ("0 0 0 ? * 5#0", ["day-of-week '5#0'", "no weekday number 0"]),
        ("0 0 0 ? * 7#1", ["day-of-week '7#1'", "out of range"]),
        ("0 0 0 ? * L", ["day-of-week 'L'", "is no day-of-week; Quartz's bare L is Saturday, written 6 or SAT here"]),
        ("0 0 0 ? * LW", ["day-of-week 'LW'", "'LW' is no day-of-week; expected 0-6"]),
        ("0 0 0 5L * ?", ["day-of-month '5L'", "'5L' is no day-of-month; expected 1-31, L, L-n, LW, L-nW or nW"]),
        ("0 0 0 L-31W * ?", ["day-of-month 'L-31W'", "at most 30"]),
        ("0 0 0 32W * ?", ["day-of-month '32W'", "out of range"]),
        ("0 0 0 L-31 * ?", ["day-of-month 'L-31'", "at most 30"]),
        ("H(5-1) * * * *", ["minute 'H(5-1)'", "backwards (5 is after 1); expected 0-59"]),
        ("H(0-60) * * * *", ["minute 'H(0-60)'", "out of range"]),
        ("H(5) * * * *", ["minute 'H(5)'", "neither"]),
        ("H/0 * * * *", ["minute 'H/0'", "the step is 0"]),
        ("50~40 * * * *", ["minute '50~40'", "backwards"]),
        ("9" * 5000 + " * * * *", ["minute '9999", "...'", "out of range"]),
        ("", ["expected 5 fields", "found 0"]),
        ("* * * *", ["expected 5 fields (minute hour", "found 4"]),
        ("* * * * * * * *", ["found 8"]),
        ("@never", ["unknown descriptor '@never'", "@every <duration>"]),
        ("@dayly", ["did you mean '@daily'"]),
        ("@reboot", ["unknown descriptor '@reboot'"]),
        ("@daily 5", ["unknown descriptor '@daily 5'"]),
        ("@every", ["@every ''", "expected a duration"]),
        ("@every 0s", ["at least 1ms"]),
        ("TZ=", ["the time zone is empty"]),
        ("CRON_TZ= 0 3 * * *", ["the time zone is empty"]),
        ("TZ=Europe/Berlin", ["found 0"]),
        ("TZ=Berlin 0 3 * * *", ["unknown time zone 'Berlin'", "did you mean 'Europe/Berlin'"]),
    ],
)
def test_errors_name_the_field_its_text_and_the_range(text, complaints):
    with pytest.raises(InvalidTrigger) as caught:
        parse_cron(text)
    message = str(caught.value)
    assert message.startswith("cron expression ")
    for complaint in complaints:
        assert complaint in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("0 0 * * *", []),
        ("0 0 1 * MON", []),
        ("0 0 */2 * *", []),
        ("0 0 */1 * MON", []),
        ("0 0 */2 * MON", ["day-of-month '*/2' and day-of-week 'MON'"]),
        ("0 0 1 * */2", ["day-of-month '1' and day-of-week '*/2'"]),
        ("TZ=Europe/Berlin 0 0 */2 * MON", ["day-of-month '*/2' and day-of-week 'MON'"]),
        ("0 0 0 */2 * MON", ["either suffices here"]),
        ("0 0 30 2 *", ["no such date"]),
        ("0 0 31 4,6,9,11 *", ["no such date"]),
        ("0 0 31 2 */2", ["day must match both", "no such date"]),
        ("0 0 0 31W 4 ?", ["no such date"]),
        ("0 0 0 29 2 ? 2100", None),
        ("0 0 0 29 2 ? 2098", ["no such date"]),
    ],
)
def test_warnings(text, warnings):
    if warnings is None:
        with pytest.raises(InvalidTrigger, match="expected 1970-2099"):
            parse_cron(text)
        return
    found = parse_cron(text).warnings
    assert len(found) == len(warnings)
    for warning, expected in zip(found, warnings, strict=True):
        assert expected in warning


@pytest.mark.parametrize("text", ["0 0 30 2 *", "59 23 30 2 *", "0 0 0 31 4 ?", "0 0 0 30,31 2 * 2000-2050"])
def test_an_impossible_date_never_fires(text):
    trigger = parse_cron(text, zone=zone("Europe/Berlin"))
    assert trigger.next_after(0, 0) is None
    assert trigger.count_between(0, 10**17, 0) == 0


def test_the_search_has_no_horizon():
    assert fires("0 0 29 2 *", 2, "2096-03-01") == ["2104-02-29", "2108-02-29"]
    # 29 February on a Sunday, around 2100: forty years without one.
    assert fires("0 0 29 2 */7", 2, "2088-01-01") == ["2088-02-29", "2128-02-29"]
    assert fires("0 0 29 2 */7", 1, "2088-03-01", zone=zone("Pacific/Apia")) == ["2128-02-28 11:00:00"]
    # Far beyond the first cycle of the calendar, and before the epoch.
    assert fires("0 0 29 2 *", 1, "9992-03-01") == ["9996-02-29"]
    assert fires("0 12 31 12 *", 2, "1899-06-01") == ["1899-12-31 12:00:00", "1900-12-31 12:00:00"]
    assert fires("0 0 0 1 1 ? 1970-1971", 3, "1900-01-01") == ["1970-01-01", "1971-01-01", None]


def test_instants_within_a_second():
    trigger = parse_cron("* * * * * *")
    assert trigger.next_after(-1, 0) == 0
    assert trigger.next_after(0, 0) == SECOND
    assert trigger.next_after(1, 0) == SECOND
    assert trigger.next_after(SECOND - 1, 0) == SECOND


def test_it_is_a_trigger():
    berlin = zone("Europe/Berlin")
    trigger = parse_cron("0 3 * * *", zone=berlin)
    assert isinstance(trigger, Trigger)
    assert isinstance(trigger, CronTrigger)
    assert (trigger.kind, trigger.count, trigger.restartable) == ("cron", None, False)
    assert trigger.restart(5) is trigger
    assert trigger.zone is berlin
    assert repr(trigger) == "CronTrigger('0 3 * * *', 'Europe/Berlin')"
    assert trigger.next_after(0, 0) == trigger.next_after(0, 10**15)


def test_zones_by_argument_and_by_prefix():
    plain = parse_cron("0 3 * * *")
    assert isinstance(plain, CronTrigger)
    assert plain.zone is utc
    prefixed = parse_cron("TZ=Asia/Tokyo 0 3 * * *", zone=zone("Europe/Berlin"))
    assert isinstance(prefixed, CronTrigger)
    assert prefixed.zone is zone("Asia/Tokyo")
    assert fires("CRON_TZ=Asia/Tokyo 0 3 * * *", 1) == ["2024-01-01 18:00:00"]
    assert parse_cron("TZ=Asia/Tokyo @every 1h").kind == "every"


class TestHashed:
    def test_the_values_never_change(self):
        """Pinned: another value would move the schedules of everybody who upgrades."""
        assert fires("H H * * *", 1, unit_name="backup.service") == fires("~ ~ * * *", 1, unit_name="backup.service")
        assert fires("H H H H *", 1, unit_name="backup.service") == ["2024-09-27 06:55:00"]

    def test_units_differ(self):
        starts = {fires("H H * * *", 1, unit_name=f"unit-{number}.service")[0] for number in range(50)}
        assert len(starts) > 40

    @pytest.mark.parametrize("name", [f"unit-{number}.service" for number in range(40)])
    def test_ranges_and_steps(self, name):
        def minutes(field):
            found = fires(f"{field} 5 * * *", 90, unit_name=name)
            return sorted({int(text[14:16]) for text in found})

        (alone,) = minutes("H")
        (ranged,) = minutes("H(10-29)")
        assert 10 <= ranged <= 29
        assert minutes("10~29") == [ranged]
        assert minutes("~") == [alone]
        assert minutes("~59") == [alone]
        assert minutes("0~") == [alone]
        quarters = minutes("H/15")
        assert len(quarters) == 4
        assert quarters == list(range(quarters[0], 60, 15))
        assert minutes("~/15") == quarters
        assert minutes("h/15") == quarters
        within = minutes("H(0-29)/10")
        assert within == list(range(within[0], 30, 10))
        assert within[0] < 10
        (wide,) = minutes("H(0-4)/100")
        assert 0 <= wide <= 4
        assert set(minutes("H,30")) == {alone, 30}

    @pytest.mark.parametrize("name", [f"unit-{number}.service" for number in range(40)])
    def test_days_stay_where_every_month_has_them(self, name):
        assert len({text[:7] for text in fires("0 0 H * *", 12, "2023-12-31 23:59:59", unit_name=name)}) == 12
        assert len(fires("0 0 * * H", 2, unit_name=name)) == 2
        assert len(fires("0 0 0 ? * H", 2, unit_name=name)) == 2
        (late,) = {text[8:10] for text in fires("0 0 29~ 1 *", 5, unit_name=name)}
        assert late in {"29", "30", "31"}

    def test_names_with_an_h_are_no_hashes(self):
        assert same("0 0 * * THU", "0 0 * * 4")


class TestCounting:
    def test_a_year_of_seconds(self):
        trigger = parse_cron("* * * * * *", zone=zone("America/New_York"))
        assert trigger.count_between(0, 365 * DAY, 0) == 365 * 86_400

    def test_a_span_is_half_open(self):
        trigger = parse_cron("0 3 * * *")
        three = 3 * 3600 * SECOND
        assert trigger.count_between(three - 1, three, 0) == 1
        assert trigger.count_between(three, three + 1, 0) == 0
        assert trigger.count_between(three, three + DAY, 0) == 1
        assert trigger.count_between(three, three, 0) == 0
        assert trigger.count_between(three + DAY, three, 0) == 0

    def test_years(self):
        trigger = parse_cron("0 0 0 ? 2 * 2024,2026")
        assert trigger.count_between(0, 10**17, 0) == 29 + 28
        cut = to_instant(datetime(2024, 2, 10, tzinfo=UTC))
        assert trigger.count_between(cut, 10**17, 0) == 19 + 28
        assert trigger.count_between(-(10**17), cut, 0) == 10

    def test_beyond_a_cycle_of_the_calendar(self):
        trigger = parse_cron("0 0 29 2 *")
        assert trigger.count_between(-1, 800 * 365 * DAY + 194 * DAY - 1, 0) == 194
