"""What a seed stands for: who takes part, which units there are, and how bad it gets."""

from random import Random

import msgspec

from xchronos.clock import MILLISECOND, MINUTE, SECOND, Micros, to_datetime
from xchronos.testing.clock import START
from xchronos.testing.simulation.network import Mood

ENOUGH = "MisfireThreshold=1h"
"""Late fire times are made up for, so that every one of the grid is executed."""

EVERY = ("TriggerRepeatInterval={i}s", "TriggerRepeatCount={n}")

SHAPES: dict[str, tuple[str, ...]] = {
    "plain": (*EVERY, ENOUGH),
    "quick": ("TriggerRepeatInterval=300", "TriggerRepeatCount={n}", ENOUGH),
    "cron": ("TriggerCron=* * * * * *", "NotAfter={end}", ENOUGH),
    "calendar": ("TriggerCalendar=*:*:0/2", "NotAfter={end}", ENOUGH),
    "iso": ("TriggerISO8601=R{n}//PT{i}S", ENOUGH),
    "once": ("TriggerStartDelay={i}s", ENOUGH),
    "union": (*EVERY, "TriggerCron=*/3 * * * * *", "NotAfter={end}", ENOUGH),
    "copies": (*EVERY, "Availability=2", ENOUGH),
    "everywhere": (*EVERY, ENOUGH),
    "zoned": (*EVERY, ENOUGH),
    "retries": (*EVERY, "MaxAttempts=3", "TimeBetweenAttempts=500", ENOUGH),
    "backoff": (*EVERY, "MaxAttempts=4", "TimeBetweenAttempts=200", "RetryBackoff=exponential", ENOUGH),
    "queue": (*EVERY, "Concurrency=queue", ENOUGH),
    "forbid": (*EVERY, "Concurrency=forbid", ENOUGH),
    "replace": (*EVERY, "Concurrency=replace", ENOUGH),
    "spread": (*EVERY, "RandomizedDelay=1500", ENOUGH),
    "deadline": (*EVERY, "StartDeadline=3s", ENOUGH),
    "ignore": (*EVERY, "MisfireThreshold=1s", "MisfirePolicy=IGNORE_MISFIRE_POLICY"),
    "smart": (*EVERY, "MisfireThreshold=1s"),
    "caught": ("TriggerCron=* * * * * *", "NotAfter={end}", "MisfireThreshold=1s", "MisfirePolicy=FIRE_NOW"),
    "dropped": (
        "TriggerCron=* * * * * *",
        "NotAfter={end}",
        "MisfireThreshold=1s",
        "MisfirePolicy=RESCHEDULE_NEXT_WITH_EXISTING_COUNT",
    ),
    "hand": (),
}
"""The [X-Chronos] of each shape of unit; {i}, {n} and {end} are an interval, a count and an instant."""

FLEET = {"everywhere": "[X-Fleet]\nGlobal=true\n", "zoned": "[X-Fleet]\nMachineMetadata=zone=east\n"}
"""What shapes say of machines."""


class MemberPlan(msgspec.Struct):
    """One daemon and its machine."""

    name: str
    roles: frozenset[str]
    slots: int
    skew: Micros
    zone: str


class UnitPlan(msgspec.Struct):
    """One unit: its name is its shape and a number."""

    name: str
    shape: str
    interval: int
    fires: int
    recoverable: bool
    note: str = ""

    def text(self, *, note: str = "", interval: int = 0) -> bytes:
        """The unit file; another `note` is another revision, another `interval` other triggers."""
        end = to_datetime(START + (self.interval * self.fires + 4) * SECOND).isoformat().replace("+00:00", "Z")
        lines = "\n".join(SHAPES[self.shape]).format(i=interval or self.interval, n=self.fires, end=end)
        kind = "docker" if self.recoverable else "python"
        container = "[Container]\nImage=simulated\n" if self.recoverable else ""
        fleet = FLEET.get(self.shape, "")
        return (
            f"[Unit]\nDescription={note}\n[Service]\nType=oneshot\nExecStart=/bin/true\nTimeoutStopSec=500ms\n{container}{fleet}"
            f"[X-Chronos]\nExecutor={kind}\n{lines}\n"
        ).encode()


class Scenario(msgspec.Struct):
    """Everything that is decided before a run begins."""

    seed: int
    members: list[MemberPlan]
    units: list[UnitPlan]
    ttl: Micros
    mood: Mood
    seconds: int
    longest_step: Micros
    failing: float
    weights: dict[str, int]
    leave_nothing: bool
    back: Micros = 0
    """How far clocks are set back at a time, in a run in which nothing else goes wrong; in the end they are right."""

    @property
    def ahead(self) -> Micros:
        """How far the clock of the foremost member is ahead."""
        return max(0, *(member.skew for member in self.members))


FAULTS = ("kill", "power", "pause", "cut", "away", "compact", "expire", "jump", "leave")
USERS = ("start", "end", "change", "retrigger", "destroy", "hold", "cordon", "move", "submit")


def draw(seed: int) -> Scenario:
    """The scenario of a seed. Some are calm, most have some kinds of fault, few have all."""
    random = Random(f"scenario {seed}")
    number = random.choice((2, 3, 3, 4))
    skewed = random.random() < 0.4
    members = [_member(random, index, skewed=skewed) for index in range(number)]
    # Whoever there is, somebody schedules and two machines run.
    for member in members[:2]:
        member.roles = frozenset(("scheduler", "agent"))
    members[0].zone = "east"
    shapes = random.sample(sorted(SHAPES), random.randrange(3, 7))
    seconds = random.randrange(6, 13)
    units = [
        UnitPlan(
            f"{shape}{index}.service",
            shape,
            random.randrange(1, 4),
            random.randrange(2, 6),
            random.random() < 0.35,
        )
        for index, shape in enumerate(shapes)
    ]
    trouble = random.choice((0.0, 0.0, 0.01, 0.03, 0.1))
    mood = Mood(
        latency=random.choice((1, 5, 20, 60)) * MILLISECOND,
        refuse=trouble * random.random(),
        lose=trouble * random.random() / 2,
        lose_answer=trouble * random.random(),
        delay=random.choice((0.0, 0.02, 0.1)),
        longest_delay=random.choice((200, 1000, 3000)) * MILLISECOND,
        split=random.choice((0.0, 0.5)),
        drop_event=trouble * random.random() / 4,
        repeat_event=trouble * random.random(),
        swap_event=trouble * random.random() / 4,
    )
    weights = {fault: random.choice((0, 0, 1, 3)) for fault in FAULTS}
    weights |= {action: random.choice((0, 1, 2)) for action in USERS}
    weights["nothing"] = random.choice((2, 6, 15))
    scenario = Scenario(
        seed=seed,
        members=members,
        units=units,
        ttl=random.choice((2, 3, 5)) * SECOND,
        mood=mood,
        seconds=seconds,
        longest_step=random.choice((50, 500, 3000, 8000)) * MILLISECOND,
        failing=random.choice((0.0, 0.2, 0.6)),
        weights=weights,
        leave_nothing=random.random() < 0.3,
    )
    if random.random() < 0.25:
        _divide(scenario, random)
    elif Random(f"clocks {seed}").random() < 0.1:
        _set_back(scenario)
    return scenario


def _set_back(scenario: Scenario) -> None:
    """Pauses and delays, while everybody's clock is set back again and again."""
    scenario.units = [
        UnitPlan(f"{shape}{index}.service", shape, 1, 3, recoverable=False)
        for index, shape in enumerate(("retries", "backoff", "spread"))
    ]
    scenario.mood = Mood()
    scenario.failing = 0.6
    scenario.longest_step = 500 * MILLISECOND
    scenario.weights = dict.fromkeys(scenario.weights, 0) | {"jump": 1, "nothing": 2}
    scenario.back = 2 * MINUTE


def _divide(scenario: Scenario, random: Random) -> None:
    """Long runs that must not overlap, on machines that nobody can reach for longer than their leases last."""
    scenario.units = [
        UnitPlan(f"{shape}{index}.service", shape, 1, random.randrange(4, 9), random.random() < 0.6)
        for index, shape in enumerate(("forbid", "queue", "replace", "forbid"))
    ]
    for member in scenario.members:
        member.roles = frozenset(("scheduler", "agent"))
        member.slots = 0
    scenario.ttl = 2 * SECOND
    scenario.mood = Mood()
    scenario.longest_step = 8 * SECOND
    scenario.failing = 0.0
    scenario.seconds = 10
    weights = {
        "cut": 3,
        "pause": random.choice((0, 3)),
        "kill": random.choice((0, 2)),
        "nothing": random.choice((2, 8)),
    }
    scenario.weights = dict.fromkeys(scenario.weights, 0) | weights


def _member(random: Random, index: int, *, skewed: bool) -> MemberPlan:
    roles = random.choice((("scheduler", "agent"), ("scheduler", "agent"), ("scheduler",), ("agent",)))
    skew = random.randrange(-3_000, 3_000) * MILLISECOND if skewed else 0
    return MemberPlan(
        f"m{index + 1}", frozenset(roles), random.choice((0, 0, 1, 2, 3)), skew, random.choice(("east", "west"))
    )
