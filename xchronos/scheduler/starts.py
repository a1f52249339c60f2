"""Starts that no trigger asked for: by a person, by another unit's end, or of a unit that is kept running.

This says what a start is made of. Whether it may begin beside what runs is decided when it is looked at (`pending`).
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

from xchronos.clock import Instant, to_datetime
from xchronos.model.records import Execution, Schedule
from xchronos.model.unit import Unit
from xchronos.scheduler.feasibility import MachineView
from xchronos.scheduler.fire import placed
from xchronos.scheduler.placement import last_machine_after, place
from xchronos.scheduler.reasons import Reason, because
from xchronos.scheduler.rejections import PASSING
from xchronos.scheduler.view import View

StartedBy: TypeAlias = Literal["manual", "chain", "kept"]


def started(unit: Unit, stamp: Instant, now: Instant, trigger: StartedBy, reason: Reason) -> list[Execution]:
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
        reason=reason.text,
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


class Spread(msgspec.Struct, frozen=True):
    """The copies that machines lack, placed on them: as many as one Txn holds beside the cursor.

    `short`: a machine lacks its copy for a reason that passes, like a slot that is taken.
    """

    executions: tuple[Execution, ...]
    last_machine: str
    short: bool


def spread(
    unit: Unit, view: View, machines: Sequence[MachineView], now: Instant, stamp: Instant, txn_room: int
) -> Spread | None:
    """Give each of `machines` the copy that it lacks of a unit that is kept running on every machine.

    None while a start of the unit was not placed anywhere yet: that takes every machine that fits then, and this is
    about what it leaves. `txn_room` is how many operations a Txn may have, `stamp` the copies' fire time (`started`).
    """
    open_of_it = [view.open[execution_id] for execution_id in view.of_unit()]
    if any(not held.machine and not held.execution.attempts for held in open_of_it):
        return None
    (first,) = started(unit, stamp, now, "kept", because("kept-everywhere"))
    chosen = place(unit, machines, taken=view.homes(), seed=first.id, last=view.last_machine)
    copies = enumerate(chosen.machines[: txn_room - 1])
    return Spread(
        tuple(placed(first, machine, copy, 1, unit, now) for copy, machine in copies),
        last_machine_after(unit, chosen, view.last_machine),
        any(rejection.code in PASSING for rejection in chosen.rejections),
    )


def is_spread(schedule: Schedule) -> bool:
    """Whether the unit is kept running on every machine just now."""
    return schedule.everywhere and not (schedule.paused or schedule.finished)


def off_the_grids(now: Instant) -> Instant:
    """`now`, moved by a microsecond if it is a whole millisecond: the grids of triggers are there."""
    return now if now % 1_000 else now + 1
