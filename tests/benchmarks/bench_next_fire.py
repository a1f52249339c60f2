"""Next-fires per second of a parsed cron schedule, against croniter and cronsim; and what a schedule weighs.

Ratios are taken within one run, round by round, so that a shared
machine's moods meet all three alike. Every library iterates a schedule that it has already parsed, in its own fastest
way: ours by `next_after`, cronsim by `next()`, croniter by `get_next()` of floats (no datetime is built).
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

from tests.benchmarks.rows import Row
from xchronos.clock import to_instant
from xchronos.triggers.cron.days import MonthDays, NoDays, YearDays
from xchronos.triggers.cron.expression import parse_cron
from xchronos.triggers.cron.trigger import CronTrigger
from xchronos.triggers.zones import zone

EXPRESSIONS = (
    ("*/15 * * * * *", "UTC"),
    ("*/5 * * * *", "UTC"),
    ("0 3 * * *", "UTC"),
    ("30 9 * * 1-5", "America/New_York"),
    ("0 0 1 * *", "UTC"),
    ("0 0 29 2 *", "UTC"),
)
START = datetime(2024, 1, 1, tzinfo=UTC)
ROUNDS = 5
TINY = {"share": 50}


def deep_bytes(trigger: CronTrigger) -> int:
    """What one schedule weighs with all that hangs off it: its text, its masks, its set of days, its warnings.

    Left out is what thousands of schedules share: the zone, and the interpreter's small integers.
    """
    seen: set[int] = set()

    def weigh(thing: Any) -> int:
        if thing is None or isinstance(thing, bool) or id(thing) in seen:
            return 0
        if isinstance(thing, int) and -5 <= thing <= 256:
            return 0
        seen.add(id(thing))
        size = sys.getsizeof(thing)
        if isinstance(thing, tuple):
            return size + sum(map(weigh, thing)) if thing else 0
        if isinstance(thing, CronTrigger | MonthDays | YearDays | NoDays):
            slots = [slot for kind in type(thing).__mro__ for slot in getattr(kind, "__slots__", ())]
            return size + sum(weigh(getattr(thing, slot)) for slot in slots if slot != "zone")
        return size

    return weigh(trigger)


def _rate(step: Callable[[], object], fires: int) -> float:
    begin = time.perf_counter()
    for _ in range(fires):
        step()
    return fires / (time.perf_counter() - begin)


def _our_rate(trigger: CronTrigger, fires: int) -> float:
    next_after = trigger.next_after
    instant: int | None = to_instant(START)
    begin = time.perf_counter()
    for _ in range(fires):
        assert instant is not None
        instant = next_after(instant, 0)
    return fires / (time.perf_counter() - begin)


class Rates(NamedTuple):
    """Next-fires per second of one expression, in one round."""

    ours: float
    croniter: float
    cronsim: float


def steps(expression: str) -> tuple[int, int]:
    """How many fire times the others walk through in a round, and how many we do.

    Nobody may run out of years: a schedule ends with the year 9999, by 95,000 months or 1,900 leap days from START.
    """
    return (150, 1_500) if expression == "0 0 29 2 *" else (2_000, 80_000)


def _measure(expression: str, zone_name: str, share: int) -> tuple[list[Rates], int]:
    """The rounds of an expression, one step in `share` of them; and the bytes of its schedule."""
    trigger = parse_cron(expression, zone=zone(zone_name))
    assert isinstance(trigger, CronTrigger)
    start = START.astimezone(UTC if zone_name == "UTC" else ZoneInfo(zone_name))
    fires, our_fires = steps(expression)
    rounds = list[Rates]()
    for _ in range(ROUNDS):
        ours = _our_rate(trigger, our_fires // share)
        sim = CronSim(expression, start)
        iterator = croniter(expression, start, ret_type=float, second_at_beginning=True)
        rounds.append(Rates(ours, _rate(iterator.get_next, fires // share), _rate(sim.__next__, fires // share)))
    return rounds, deep_bytes(trigger)


def run(share: int = 1) -> list[Row]:
    """Two rows for each expression, the medians over the expressions, and what the heaviest schedule weighs."""
    rows, heaviest = list[Row](), 0
    ratios: dict[str, list[float]] = {"croniter": [], "cronsim": []}
    rates: list[float] = []
    for expression, zone_name in EXPRESSIONS:
        rounds, size = _measure(expression, zone_name, share)
        rate = median(each.ours for each in rounds)
        rates.append(rate)
        heaviest = max(heaviest, size)
        for library, found in ratios.items():
            ratio = median(each.ours / getattr(each, library) for each in rounds)
            found.append(ratio)
            rows.append(Row(f"next fire: {expression} {zone_name}", rate, "/s", reference=library, ratio=ratio))
    name = f"next fire: median of the {len(EXPRESSIONS)}"
    goals = {"croniter": ">= 10", "cronsim": ">= 3"}
    return [
        *rows,
        *(
            Row(name, median(rates), "/s", reference=library, ratio=median(found), ratio_goal=goals[library])
            for library, found in ratios.items()
        ),
        Row(f"a cron schedule, the heaviest of the {len(EXPRESSIONS)}", heaviest, "bytes", "<= 400"),
    ]
