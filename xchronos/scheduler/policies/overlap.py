"""What happens to a fire time while an earlier execution of its unit is still active (`Concurrency=`)."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from xchronos.model.unit import Unit
from xchronos.scheduler.reasons import NONE, Reason, because

OverlapAction = Literal["start", "skip", "replace", "queue"]


class Overlap(msgspec.Struct, frozen=True):
    """The decision about a new execution, and why; the reason is empty for a plain start.

    `start`: place it. `skip`: record it as skipped. `queue`: keep it until the others have ended. `replace`: keep it
    likewise, and ask whatever else of the unit there is to end.
    """

    action: OverlapAction
    reason: Reason = NONE


_START = Overlap("start")


def overlap(unit: Unit, active: Sequence[str], queued: int = 0, *, execution: str = "") -> Overlap:
    """Decide about a new execution of `unit` while those with the ids `active` have not ended, and `queued` wait.

    `execution` is the new one's own id: it and the other copies of its fire time never overlap each other, so they are
    disregarded in `active`. `queued` counts executions of earlier fire times that wait in the unit's queue; the queue
    is served in order, so a new one comes after them even when nothing is active.
    """
    if unit.concurrency == "allow" or not (active or queued):
        return _START
    if execution:
        fire_time = execution.rpartition("/")[0] + "/"
        active = [other for other in active if not other.startswith(fire_time)]
        if not (active or queued):
            return _START
    action: OverlapAction = "skip" if unit.concurrency == "forbid" else unit.concurrency
    return Overlap(action, because("overlap", policy=unit.concurrency, why=_named(active, queued)))


def _named(active: Sequence[str], queued: int) -> str:
    parts = []
    if active:
        more = f" and {len(active) - 1} more" if len(active) > 1 else ""
        parts.append(f"{active[0]}{more} {'are' if more else 'is'} still active")
    if queued:
        parts.append(f"{queued} {'waits' if queued == 1 else 'wait'} in the queue")
    return ", ".join(parts)
