"""Short ways to say what the tests of this room need."""

from datetime import UTC, datetime
from typing import Self, cast

from xchronos.clock import SECOND, Instant, to_datetime, to_instant
from xchronos.model.lifecycle import AttemptState
from xchronos.model.policies import Misfire, MisfirePolicy
from xchronos.model.records import Attempt, Capacity, Execution, Machine, Schedule
from xchronos.model.unit import Service, Step, TriggerSpec, Unit
from xchronos.scheduler.feasibility import MachineView
from xchronos.scheduler.timing.schedule import Turn, next_due, turn
from xchronos.triggers.simple import SimpleTrigger
from xchronos.unitfile.execline import ExecLine
from xchronos.unitfile.fleet.requirements import FleetRequirements

T0 = to_instant(datetime(2030, 1, 1, tzinfo=UTC))
LINE = ExecLine("", "/bin/true", ("/bin/true",))


class Grid:
    """An absolute grid from `start` on, like an ISO 8601 trigger with a start."""

    def __init__(self, start, interval, count=None, kind="iso8601", restartable=None):
        self.start, self.interval, self.count, self.kind = start, interval, count, kind
        self.restartable = (count is not None) if restartable is None else restartable

    def next_after(self, instant: Instant, anchor: Instant) -> Instant | None:
        if instant < self.start:
            return self.start
        return self.start + ((instant - self.start) // self.interval + 1) * self.interval

    def count_between(self, after: Instant, until: Instant, anchor: Instant) -> int:
        def slots(at: Instant) -> int:
            return max(0, (at - self.start) // self.interval + 1)

        return max(0, slots(until) - slots(after))

    def restart(self, at: Instant) -> Self:
        return type(self)(at, self.interval, self.count, self.kind, self.restartable)


class Never(Grid):
    """A grid without any instant, like 30 February."""

    def __init__(self):
        super().__init__(0, 1, kind="cron")

    def next_after(self, instant: Instant, anchor: Instant) -> Instant | None:
        return None


def s(seconds: float) -> Instant:
    """An instant, in seconds from T0."""
    return T0 + round(seconds * SECOND)


def unit(*triggers, policy=MisfirePolicy.SMART, threshold=60.0, limit=100, **fields) -> Unit:
    """A unit with these triggers; whatever else is given goes into the Unit."""
    specs = tuple(TriggerSpec("Trigger", repr(trigger), trigger) for trigger in triggers)
    fields = {"name": "a.service", "revision": "r", "fingerprint": "f", **fields}
    return Unit(triggers=specs, misfire=Misfire(policy, round(threshold * SECOND), limit), **fields)


def every(seconds: float, repeats: int = -1) -> SimpleTrigger:
    """A simple trigger."""
    return SimpleTrigger(round(seconds * SECOND), repeats)


def seconds(turned: Turn) -> list[float]:
    """The turn's fire times, in seconds from T0."""
    return [(fire.at - T0) / SECOND for fire in turned.fires]


def run(unit: Unit, schedule: Schedule, until: float, limit: int = 1000) -> tuple[list[float], Schedule]:
    """Turn at every due instant up to `until`: the fire times in seconds from T0, and the schedule."""
    fired: list[float] = []
    for _ in range(limit):
        due = next_due(schedule)
        if due is None or due > s(until):
            return fired, schedule
        turned = turn(unit, schedule, due)
        assert turned.schedule != schedule
        fired += seconds(turned)
        schedule = turned.schedule
    raise AssertionError("the schedule does not come to an end")


def step(name: str = "start-0", *, docker: bool = True) -> Step:
    """One step; its command line does not matter here."""
    phase = cast("AttemptState", name.rpartition("-")[0])
    return Step(name=name, phase=phase, line=LINE, text="/bin/true", docker=docker, main=True)


def job(name: str = "a.service", *, docker: bool = True, steps: tuple[Step, ...] | None = None, **fields) -> Unit:
    """A unit without triggers that runs one docker step."""
    service = Service(steps=(step(docker=docker),) if steps is None else steps)
    return Unit(**{"name": name, "revision": "r", "service": service, **fields})


def asks(**fields) -> FleetRequirements:
    return FleetRequirements(**fields)


def view(name: str, running=None, attempts=0, memory=0, cpus=0.0, **fields) -> MachineView:
    """A machine with docker and what is on it."""
    capacity = Capacity(fields.pop("slots", 0), fields.pop("total_memory", 0), fields.pop("total_cpus", 0.0))
    machine = Machine(name, **{"executors": ("docker",), "docker": "27.0", "capacity": capacity, **fields})
    return MachineView(machine, running, attempts, memory, cpus)


def execution(seconds_: float = 0, copy: int = 0, **fields) -> Execution:
    return Execution("a.service", to_datetime(s(seconds_)), copy, **fields)


def attempt(number: int, outcome, machine: str = "m1", took: float = 60, ended: float = 100, **fields) -> Attempt:
    """An attempt that took so long and ended then, in seconds."""
    return Attempt(
        number,
        machine,
        started_at=to_datetime(s(ended - took)),
        ended_at=to_datetime(s(ended)),
        outcome=outcome,
        **fields,
    )
