"""Next-fires per second of a parsed cron schedule, against croniter and cronsim; and what a schedule weighs.

`python -m tests.benchmarks.bench_next_fire`. Ratios are taken within one run, round by round, so that a shared
machine's moods meet all three alike. Every library iterates a schedule that it has already parsed, in its own fastest
way: ours by `next_after`, cronsim by `next()`, croniter by `get_next()` of floats (no datetime is built).
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

from xchronos.clock import to_instant
from xchronos.triggers.cron import parse_cron
from xchronos.triggers.cron_days import MonthDays, NoDays, YearDays
from xchronos.triggers.cron_trigger import CronTrigger
from xchronos.triggers.zones import utc, zone

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
GOALS = {"x croniter": 10.0, "x cronsim": 3.0, "bytes": 400.0}


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


def _row(expression: str, zone_name: str) -> dict[str, Any]:
    trigger = parse_cron(expression, zone=zone(zone_name))
    assert isinstance(trigger, CronTrigger)
    start = START.astimezone(UTC if zone_name == "UTC" else ZoneInfo(zone_name))
    rare = expression == "0 0 29 2 *"  # the others must not run out of datetime's years
    fires = 150 if rare else 2_000
    rounds = []
    for _ in range(ROUNDS):
        ours = _our_rate(trigger, 50 * fires if not rare else 1_500)
        sim = CronSim(expression, start)
        iterator = croniter(expression, start, ret_type=float, second_at_beginning=True)
        theirs = _rate(iterator.get_next, fires)
        rounds.append((ours, theirs, _rate(sim.__next__, fires)))
    return {
        "expression": expression,
        "zone": zone_name,
        "next-fires/s": round(median(ours for ours, _, _ in rounds)),
        "croniter/s": round(median(theirs for _, theirs, _ in rounds)),
        "cronsim/s": round(median(sim for _, _, sim in rounds)),
        "x croniter": round(median(ours / theirs for ours, theirs, _ in rounds), 1),
        "x cronsim": round(median(ours / sim for ours, _, sim in rounds), 1),
        "bytes": deep_bytes(trigger),
    }


def run() -> list[dict[str, Any]]:
    """One row for each expression, and a last one, `median`."""
    rows = [_row(expression, zone_name) for expression, zone_name in EXPRESSIONS]
    figures = ("next-fires/s", "croniter/s", "cronsim/s", "x croniter", "x cronsim", "bytes")
    summary = {figure: round(median(row[figure] for row in rows), 1) for figure in figures}
    return [*rows, {"expression": "median", "zone": utc.name, **summary}]


def main() -> None:
    """Print the table, and whether the goals are met."""
    rows = run()
    print(f"{'expression':<16} {'zone':<17} {'ours/s':>10} {'croniter/s':>11} {'cronsim/s':>10}  x cr.  x cs.  bytes")
    for row in rows:
        print(
            f"{row['expression']:<16} {row['zone']:<17} {row['next-fires/s']:>10,.0f} {row['croniter/s']:>11,.0f} "
            f"{row['cronsim/s']:>10,.0f} {row['x croniter']:>6} {row['x cronsim']:>6} {row['bytes']:>6}"
        )
    summary = rows[-1]
    print(
        f"median: {summary['x croniter']} x croniter (goal {GOALS['x croniter']:.0f}), "
        f"{summary['x cronsim']} x cronsim (goal {GOALS['x cronsim']:.0f}), "
        f"at most {max(row['bytes'] for row in rows)} bytes a schedule (goal {GOALS['bytes']:.0f})"
    )


if __name__ == "__main__":
    main()
