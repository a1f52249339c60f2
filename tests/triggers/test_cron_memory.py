"""What cron schedules cost in memory, by themselves and together."""

import sys
import tracemalloc

from xchronos.clock import DAY, SECOND
from xchronos.triggers.cron.days import MonthDays
from xchronos.triggers.cron.expression import parse_cron
from xchronos.triggers.cron.fields import _parse_shared
from xchronos.triggers.cron.trigger import CronTrigger
from xchronos.triggers.zones import zone


def test_a_schedule_weighs_no_more_than_400_bytes():
    """All there is to thousands of different schedules, shared parts included, as the allocator sees it."""
    berlin = zone("Europe/Berlin")
    parse_cron("0 0 * * 1-5", zone=berlin)
    texts = [f"{number % 60} {number // 60} */2 * 1-5" for number in range(1440)]
    tracemalloc.start()
    try:
        triggers = [parse_cron(text, zone=berlin) for text in texts]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(triggers) + sys.getsizeof(texts[0]) <= 400


def test_what_is_submitted_does_not_fill_the_memory():
    before = _parse_shared.cache_info().currsize
    long = parse_cron(",".join(["7"] * 50_000) + " 3 * * *")
    assert long.next_after(0, 0) == (3 * 60 + 7) * 60 * SECOND
    assert _parse_shared.cache_info().currsize <= before + 4
    last = parse_cron("0 0 0 " + ",".join(["L"] * 50_000) + " * ?")
    assert last.next_after(0, 0) == 30 * DAY


def test_schedules_share_what_they_can():
    def days(text):
        trigger = parse_cron(text)
        assert isinstance(trigger, CronTrigger)
        return trigger._days

    assert days("0 3 1 * *") is days("9 4 1 * *")
    assert days("0 3 * * *") is None
    assert days("0 0 0 1-31 * MON") is None
    assert isinstance(days("0 0 0 L 2 0-6"), MonthDays)
