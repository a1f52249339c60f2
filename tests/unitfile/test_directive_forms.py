"""How values are written again: as systemd shows them."""

import pytest

from xchronos.unitfile.directives.forms import format_bytes, merge_ranges, systemd_timespan


@pytest.mark.parametrize(
    ("micros", "accuracy", "text"),
    [
        (None, 1, "infinity"),
        (0, 1, "0"),
        (90_000_000, 1_000_000, "1min 30s"),
        (1_500, 1_000_000, "1ms"),
        (1_500, 1, "1.500ms"),
        (122_500, 1, "122.500ms"),
        (60_500_000, 1_000_000, "1min"),
        (60_500_000, 1, "1min 500ms"),
    ],
)
def test_time_spans_as_systemd_shows_them(micros, accuracy, text):
    assert systemd_timespan(micros, accuracy) == text


def test_bytes_as_systemd_shows_them():
    assert format_bytes(1000) == "1000B"
    assert format_bytes(1_000_000) == "976.5K"
    assert format_bytes(3 * 2**30) == "3.0G"


def test_ranges():
    assert merge_ranges({0, 1, 2, 5, 7, 8}) == "0-2 5 7-8"
    assert merge_ranges(set()) == ""
