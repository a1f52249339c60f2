"""What all triggers do alike: at the end of time, and with text that is none."""

import pytest

from xchronos.clock import DAY
from xchronos.errors import InvalidTrigger
from xchronos.triggers import SimpleTrigger, parse_trigger, zone
from xchronos.triggers.limits import LATEST

LONG = "x" * 5000


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("TriggerCron", f"{LONG} * * * *"),
        ("TriggerCron", f"TZ={LONG} * * * * *"),
        ("TriggerCron", f"@{LONG}"),
        ("TriggerCron", f"@every {LONG}"),
        ("TriggerCalendar", f"12:00 {LONG}"),
        ("TriggerCalendar", LONG),
        ("TriggerISO8601", f"{LONG}/2024-01-01/P1D"),
        ("TriggerISO8601", f"R/{LONG}/P1D"),
        ("TriggerISO8601", f"R/2024-01-01/P{LONG}"),
        ("TriggerISO8601", f"R//{LONG}"),
        ("TriggerISO8601", "R/2024-01-01T00:00:00." + "1" * 5000 + "+99:00/P1D"),
        ("TriggerISO8601", "R//PT0." + "0" * 5000 + "S"),
        ("TriggerISO8601", "R//P1." + "1" * 5000 + "Y"),
        ("TriggerAt", LONG),
    ],
)
def test_errors_are_short_however_long_the_text_is(key, text):
    with pytest.raises(InvalidTrigger) as caught:
        parse_trigger(key, text)
    assert len(str(caught.value)) < 400


def test_an_unknown_zone_is_quoted_in_part():
    with pytest.raises(InvalidTrigger, match=r"unknown time zone 'x{57}[.]{3}': expected"):
        zone(LONG)


@pytest.mark.parametrize(
    ("trigger", "fires"),
    [
        (parse_trigger("TriggerCron", "0 */6 * * *"), 4),
        (parse_trigger("TriggerCron", "0 */6 * * *", zone=zone("America/New_York")), 4),
        (parse_trigger("TriggerCron", "@every 6h"), 4),
        (parse_trigger("TriggerISO8601", "R//PT6H"), 4),
        (parse_trigger("TriggerCalendar", "*-*-* 0/6:00"), 0),
        (SimpleTrigger(DAY // 4), 4),
    ],
)
def test_nothing_fires_after_the_year_9999(trigger, fires):
    begin = LATEST - DAY
    at, found = begin, 0
    while (at := trigger.next_after(at, begin)) is not None:
        assert begin < at <= LATEST
        found += 1
    assert found == fires == trigger.count_between(begin, LATEST + 10 * DAY, begin)
    assert trigger.next_after(LATEST + DAY, begin) is None
    assert trigger.count_between(LATEST, LATEST + 10 * DAY, begin) == 0
