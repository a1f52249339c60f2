"""Starts that no trigger asked for: by a person, by another unit's end, or of a unit that is kept running."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from xchronos.clock import Instant, to_datetime
from xchronos.model.records import Execution
from xchronos.model.unit import Unit


def started(
    unit: Unit, stamp: Instant, now: Instant, trigger: Literal["manual", "chain", "kept"], reason: str
) -> list[Execution]:
    """The executions of a start of `unit` at `now`, one per copy, as their scheduler finds them.

    `stamp` is their fire time: it makes their identity, so it must be nobody else's. Of a Global unit it is one
    execution; it becomes as many as there are machines when it is placed.
    """
    moment = to_datetime(now)
    first = Execution(
        unit=unit.name,
        fire_time=to_datetime(stamp),
        state="delayed",
        trigger=trigger,
        revision=unit.revision,
        claimed_at=moment,
        due_at=moment,
        deadline=None if unit.start_deadline is None else to_datetime(now + unit.start_deadline),
        report=bool(unit.on_success) or unit.keep_running,
        payload=unit.payload,
        reason=reason,
    )
    copies = 1 if unit.is_global else unit.availability
    return [msgspec.structs.replace(first, copy=copy) for copy in range(copies)]


def lacking(unit: Unit, executions: Sequence[Execution], running: Iterable[Execution]) -> list[Execution]:
    """What of a start of a unit that is kept running is to begin beside what is `running`: the copies that do not run.

    Of a Global unit all of them do as soon as one does. What was asked to stop does not run.
    """
    copies = {execution.copy for execution in running if not execution.stop_requested}
    return [execution for execution in executions if execution.copy not in copies and not (unit.is_global and copies)]


def superfluous(unit: Unit, running: Iterable[Execution]) -> list[Execution]:
    """What of a unit that is kept running, and has changed, is more than its copies: those with the higher numbers.

    A Global unit has none: where a copy of it may be is up to each machine.
    """
    if unit.is_global:
        return []
    kept: set[int] = set()
    surplus: list[Execution] = []
    for execution in sorted(running, key=lambda one: (one.copy, one.fire_time)):
        if execution.copy >= unit.availability or execution.copy in kept:
            surplus.append(execution)
        kept.add(execution.copy)
    return surplus


def off_the_grids(now: Instant) -> Instant:
    """`now`, moved by a microsecond if it is a whole millisecond: the grids of triggers are there."""
    return now if now % 1_000 else now + 1
