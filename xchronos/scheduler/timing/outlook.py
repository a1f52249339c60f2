"""What a unit's author should know of its schedule when it is accepted: that it is over, or begins with the past.

**What was before the acceptance is nobody's miss.** A grid (an interval, cron, a calendar, a recurrence with a start,
`R1/` too) goes on with its first instant that is not before it. `TriggerAt=` is no grid: it asks for one execution,
from an instant on, and is owed it however late it is accepted. The misfire policy decides, as about any late fire time.
"""

import msgspec

from xchronos.clock import Instant, to_datetime, to_instant
from xchronos.errors import Problem, quoted
from xchronos.model.records import TriggerState
from xchronos.model.unit import TriggerSpec, Unit
from xchronos.scheduler.timing.schedule import accept
from xchronos.triggers.at import AtTrigger
from xchronos.triggers.limits import EARLIEST


def outlook(unit: Unit, now: Instant) -> tuple[Problem, ...]:
    """Warnings for a unit that is accepted at `now`: one for each trigger that never fires, or is late already.

    Templates have none: nothing follows from them, whatever their triggers say. Neither have classes: they are
    somebody's code, which may fail, and only the schedule itself asks them.
    """
    if unit.template:
        return ()
    asked = tuple(spec for spec in unit.triggers if spec.trigger.kind != "class")
    states = accept(msgspec.structs.replace(unit, triggers=asked), now, 1).triggers
    found = []
    for spec, state in zip(asked, states, strict=True):
        if state.next is None:
            message = _over(unit, spec, state, now)
        elif isinstance(spec.trigger, AtTrigger) and to_instant(state.next) < now:
            message = (
                f"{_moment(spec.trigger.at)} has passed: the misfire policy {unit.misfire.policy.value} decides, each "
                "time that the unit is accepted as a new one"
            )
        else:
            continue
        if message:
            found.append(Problem(message, section="X-Chronos", key=spec.key, severity="warning"))
    return tuple(found)


def _over(unit: Unit, spec: TriggerSpec, state: TriggerState, now: Instant) -> str:
    """Why a trigger has no fire time; empty where it has none at any time, of which the trigger itself warns."""
    what = f"{quoted(spec.text)} never fires"
    if spec.trigger.count == 0:
        return f"{what}: its count is 0"
    if unit.not_after is not None and unit.not_after <= now:
        return f"{what}: NotAfter={_moment(unit.not_after)} has passed"
    if state.remaining == 0:
        once = "; TriggerAt= would still run it, late" if spec.trigger.count == 1 else ""
        return f"{what}: its last fire time has passed{once}"
    if spec.trigger.next_after(now, now) is not None:
        return f"{what}: its fire times lie outside NotBefore=, NotAfter= and TTL="
    return f"{what}: its last fire time has passed" if spec.trigger.next_after(EARLIEST, EARLIEST) is not None else ""


def _moment(at: Instant) -> str:
    return to_datetime(at).isoformat(timespec="seconds").replace("+00:00", "Z")
