"""What becomes of an execution that no machine has: a place, its end, or more waiting."""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from xchronos.clock import Instant, to_instant
from xchronos.model.lifecycle import execution_after
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution
from xchronos.model.unit import Unit
from xchronos.scheduler import placement
from xchronos.scheduler.fire import free_numbers, placed, replaced
from xchronos.scheduler.placement import PlacementDecision, last_machine_after, place_one, stands
from xchronos.scheduler.policies.overlap import overlap
from xchronos.scheduler.policies.retry import past_deadline
from xchronos.scheduler.reasons import Reason, because
from xchronos.scheduler.rejections import PASSING, Rejection, words_of
from xchronos.scheduler.view import View, fire_prefix, undecided


class PlaceNow(msgspec.Struct, frozen=True):
    """It goes to a machine: `execution` is its record then.

    `also` are a Global unit's copies on all other machines, and what stands for machines to come. `cancelled` are
    earlier starts of it that stood for them, and why they end.
    """

    execution: Execution
    last_machine: str
    also: tuple[Execution, ...] = ()
    cancelled: dict[str, Reason] = {}


class WaitForMachine(msgspec.Struct, frozen=True):
    """No machine takes it now. `execution` is the record then, None where it says so already.

    `shared`: it is plain (no attempts yet, one copy, not Global). So the same holds for every other plain execution of
    the unit, until something changes.
    """

    execution: Execution | None
    reason: Reason
    rejections: tuple[Rejection, ...] = ()
    shared: bool = False


class Queue(msgspec.Struct, frozen=True):
    """It waits for others of its unit to end; `cancelled` are those that are asked to, and why."""

    execution: Execution
    cancelled: dict[str, Reason]


class Finish(msgspec.Struct, frozen=True):
    """It ends without another attempt."""

    outcome: Outcome
    reason: Reason


class Stay(msgspec.Struct, frozen=True):
    """Its time has not come. `cancelled` are others that are asked to end for its sake, and why."""

    cancelled: dict[str, Reason]


Decision: TypeAlias = PlaceNow | WaitForMachine | Queue | Finish | Stay


def urgency(unit: Unit | None, execution_id: str) -> tuple[int, str]:
    """Sorts before what is less urgent: by Priority=, then by fire time."""
    return -unit.priority if unit is not None else 0, execution_id.partition("/")[2]


def asks_history(unit: Unit, execution: Execution, view: View, reached: Instant) -> bool:
    """Whether `consider` has to know which machines ended copies of the same fire time have had (`View.ended`)."""
    return placement.asks_history(unit) and not (execution.stop_requested or _holds_still(execution, view, reached))


def consider(
    unit: Unit,
    execution: Execution,
    view: View,
    now: Instant,
    *,
    txn_room: int,
    reached: Instant | None = None,
    hopeless: Reason | None = None,
) -> Decision:
    """Decide about an execution that no machine has.

    Args:
        unit: What it runs.
        execution: Its record.
        view: What is known of its unit and of the machines.
        now: The wall clock.
        txn_room: How many guards, and how many operations, a Txn may have.
        reached: What time it is for this execution: later than `now` where the wall clock was set back while it waited.
        hopeless: Why a plain execution of the same unit found no machine a moment ago (see `WaitForMachine.shared`).
    """
    reached = now if reached is None else reached
    if execution.stop_requested:
        return Finish(Outcome.CANCELLED, because("asked", why=execution.stop_requested))
    expired = past_deadline(execution, reached, execution.reason or "no machine could take it")
    if expired is not None:
        return Finish(expired.outcome, expired.reason)
    if _holds_still(execution, view, reached):
        # Whoever has queued it may have died before it asked the others to end.
        asks = execution.state == "queued" and unit.concurrency == "replace"
        return Stay(_older(view, execution.id) if asks else {})
    if execution.stands and (over := _stands_no_more(unit, execution, view)) is not None:
        return over
    if undecided(execution):
        held_up = _overlapping(unit, execution, view)
        if held_up is not None:
            return held_up
    return find_place(unit, execution, view, now, txn_room=txn_room, hopeless=hopeless)


def _stands_no_more(unit: Unit, execution: Execution, view: View) -> Finish | None:
    """What ends a start that stands for machines to come: a later one, or that the unit's starts do so no more."""
    later = [other for other in view.standing if view.open[other].execution.fire_time > execution.fire_time]
    if later:
        return Finish(Outcome.CANCELLED, because("started-again", by=min(later)))
    return None if stands(unit) else Finish(Outcome.CANCELLED, because("stands-for-nothing"))


def _holds_still(execution: Execution, view: View, reached: Instant) -> bool:
    """Whether it is not its turn in the queue, or its moment has not come."""
    if execution.state == "queued":
        return execution.id not in view.next_queued()
    return execution.state == "delayed" and execution.due_at is not None and to_instant(execution.due_at) > reached


def _older(view: View, execution_id: str) -> dict[str, Reason]:
    prefix = fire_prefix(execution_id)
    older = [other for other in (*view.active, *view.queued) if other < prefix]
    return replaced(older, execution_id, execution_id)


def _overlapping(unit: Unit, execution: Execution, view: View) -> Finish | Queue | None:
    """What Concurrency= says of an execution that no trigger has fired; None when it may start."""
    execution_id = execution.id
    prefix, active = fire_prefix(execution_id), sorted(view.active)
    queued = [other for other in sorted(view.queued) if not other.startswith(prefix)]
    decision = overlap(unit, active, len(queued), execution=execution_id)
    if decision.action == "start":
        return None
    if decision.action == "skip":
        return Finish(Outcome.SKIPPED, decision.reason)
    cancelled = replaced((*active, *queued), execution_id, execution_id) if decision.action == "replace" else {}
    state = execution_after(execution.state, "enqueue")
    return Queue(msgspec.structs.replace(execution, state=state, due_at=None, reason=decision.reason.text), cancelled)


def find_place(
    unit: Unit, execution: Execution, view: View, now: Instant, *, txn_room: int, hopeless: Reason | None = None
) -> PlaceNow | WaitForMachine | Finish:
    """Decide about an execution whose turn has come; the arguments are those of `consider`."""
    plain = not execution.attempts and unit.availability == 1 and not unit.is_global
    if plain and hopeless is not None:
        return _wait(execution, hopeless, (), shared=True)
    chosen = place_one(unit, execution, view)
    if chosen.machines:
        number = execution.attempts[-1].number + 1 if execution.attempts else 1
        moved = placed(execution, chosen.machines[0], execution.copy, number, unit, now)
        also = _other_copies(unit, execution, view, chosen.machines[1:], now, txn_room) if unit.is_global else []
        last_machine = last_machine_after(unit, chosen, view.last_machine)
        return PlaceNow(moved, last_machine, tuple(also), _started_again(execution, view))
    if execution.stands:
        return _wait(execution, because("stands"), chosen.rejections)
    if unit.is_global and (execution.attempts or not chosen.unplaced):
        return _without_home(unit, execution, view, chosen)
    return _wait(execution, because("no-machine", why=chosen.summary), chosen.rejections, shared=plain)


def _wait(
    execution: Execution, reason: Reason, rejections: tuple[Rejection, ...], *, shared: bool = False
) -> WaitForMachine:
    if execution.state == "waiting" and execution.reason == reason.text:
        return WaitForMachine(None, reason, rejections, shared)
    state = execution_after(execution.state, "wait")
    waiting = msgspec.structs.replace(execution, state=state, reason=reason.text, due_at=None, home="")
    return WaitForMachine(waiting, reason, rejections, shared)


def _started_again(execution: Execution, view: View) -> dict[str, Reason]:
    """What ends with a start: the earlier ones of its unit that stand."""
    older = [other for other in view.standing if view.open[other].execution.fire_time < execution.fire_time]
    return dict.fromkeys(older, because("started-again", by=execution.id))


def _other_copies(
    unit: Unit, execution: Execution, view: View, machines: Sequence[str], now: Instant, txn_room: int
) -> list[Execution]:
    """The copies of a Global unit on all other machines; for those that the Txn cannot hold, one that waits.

    A start that stands leaves such a one in any case. It has the highest number, so no number is used twice.
    """
    if execution.attempts:
        return []
    txn_room -= 2  # the execution itself leaves one place and comes to another
    stays = stands(unit)
    numbers = free_numbers(execution.id, view, execution.copy + 1, min(len(machines) + stays, txn_room))
    rest: list[Execution] = []
    if len(machines) + stays > txn_room or stays:
        state = execution_after(execution.state, "wait")
        rest = [msgspec.structs.replace(execution, copy=numbers.pop(), state=state, due_at=None)]
    if stays:
        reason = because("stands").text
        rest = [msgspec.structs.replace(one, stands=True, reason=reason, deadline=None) for one in rest]
    return rest + [
        placed(execution, machine, number, 1, unit, now) for machine, number in zip(machines, numbers, strict=False)
    ]


def _without_home(unit: Unit, execution: Execution, view: View, chosen: PlacementDecision) -> WaitForMachine | Finish:
    """A copy of a Global unit belongs to its machine: when that cannot take it, or all have theirs, it is over."""
    attempts = execution.attempts
    if not attempts:
        return Finish(Outcome.SKIPPED, because("every-machine"))
    outcome = attempts[-1].outcome or Outcome.LOST
    home = view.ranking.views.get(attempts[-1].machine)
    if home is None:
        return Finish(outcome, because("machine-gone", machine=attempts[-1].machine))
    reason = because("machine-refuses", machine=home.machine.id, why=words_of(chosen.rejections))
    lasting = {rejection.code for rejection in chosen.rejections} - PASSING
    if lasting == {"cordoned"} and not unit.keep_running and home.machine.drain_until is None:
        # A cordon is for a while. A unit that is kept running gets a new copy when it is lifted.
        lasting = set()
    return Finish(outcome, reason) if lasting else _wait(execution, reason, chosen.rejections)
