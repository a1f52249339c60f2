"""What all triggers do alike with text that is none."""

import pytest

from xchronos.errors import InvalidTrigger
from xchronos.triggers import parse_trigger, zone

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
