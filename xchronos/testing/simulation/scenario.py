"""What a seed stands for: which daemons and machines take part, which units there are, and what goes wrong."""

from random import Random
from typing import Literal

import msgspec

from xchronos.clock import DAY, MILLISECOND, MINUTE, SECOND, Micros, to_datetime
from xchronos.engine.lost_machines import REJOINING
from xchronos.model.features import LEVEL
from xchronos.model.records import Reading
from xchronos.registry.units import UnitReader
from xchronos.testing.clock import START
from xchronos.testing.simulation.network import Mood
from xchronos.testing.simulation.shapes import ALONE, RESTARTED, SHAPE_GROUPS, SHAPES, WALLS, text
from xchronos.triggers.zones import Zone, ZoneDatabase


class _MadeUpRules(ZoneDatabase):
    """A release of zone rules with one zone, whose clock is some seconds ahead of UTC."""

    def __init__(self, version: str, offset: int) -> None:
        made = Zone(ZONE, offset, [], f"{version} {offset}")
        # A fixed zone has no transitions; a first one, long ago, has all arithmetic look at them.
        moving = Zone(ZONE, 0, [(0, offset)], made.rules) if offset else Zone(ZONE, 7, [(0, offset)], made.rules)
        self._zones = {ZONE: moving}
        self.__dict__.update(version=version, names=frozenset((ZONE,)), expires=START + DAY)


ZONE, SHIFT = "Made/Up", 4
"""The zone of runs in which rules change, and by how many seconds they do."""

RULES = (_MadeUpRules("2030a", 0), _MadeUpRules("2030b", SHIFT))
"""The releases of zone rules of such runs, the newer one last."""

NEW_KEY = "RestartSteps=1\n"
"""What a daemon of an older version cannot read. It means nothing without another key."""

OLD_READER = UnitReader(reading=Reading(version="older"))
READERS = tuple(UnitReader(rules, Reading(LEVEL, "newer", rules.version, more_zones=(ZONE,))) for rules in RULES)


class MemberPlan(msgspec.Struct):
    """One daemon and its machine. `slots` 0: no limit. `skew` is how far its wall clock is ahead of the true time."""

    name: str
    roles: frozenset[str]
    slots: int
    skew: Micros
    zone: str
    late: bool = False
    """Whether the daemon starts only after the others are at work."""


class UnitPlan(msgspec.Struct):
    """One unit; its name is its shape and a number. `interval` is in seconds, `fires` a count."""

    name: str
    shape: str
    interval: int
    fires: int
    recoverable: bool
    note: str = ""
    new: bool = False
    """Whether its text has a key that an older daemon cannot read."""

    @property
    def kept(self) -> bool:
        """Whether it is kept running."""
        return SHAPES[self.shape].kept

    def text(self, *, note: str = "", interval: int = 0) -> bytes:
        """The unit file. Another `note` makes another revision of it; another `interval` makes other triggers."""
        end = to_datetime(START + (self.interval * self.fires + 4) * SECOND).isoformat().replace("+00:00", "Z")
        return text(
            SHAPES[self.shape],
            self.name.removeprefix(self.shape).removesuffix(".service"),
            kind="docker" if self.recoverable else "python",
            container=(NEW_KEY if self.new else "") + ("[Container]\nImage=simulated\n" if self.recoverable else ""),
            note=note,
            i=interval or self.interval,
            n=self.fires,
            end=end,
        )


class Scenario(msgspec.Struct):
    """Everything that is decided before a run begins.

    `seconds` is how long the trouble lasts, `longest_step` how long a step may run, and `failing` the chance that a
    step of a flaky unit fails. `weights` says how often each kind of event of `Course` happens. With `leave_nothing`,
    all units are destroyed at the end, and the store must be empty then.
    """

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
    """How far clocks are set back at a time, in a run in which nothing else goes wrong; 0: they are not.

    At the end all clocks are right.
    """

    leap: Micros = 0
    """How far a clock may leap from its place, either way, in a run of leaping clocks; 0: no such run.

    At the end all clocks are right.
    """
    max_operations: int = 0
    """How many operations the store takes in a Txn; 0: as many as other stores do."""
    skew: Literal["", "readers", "rules"] = ""
    """Whether daemons differ: in what of units they read, or in the rules of a zone. Each life of one is drawn anew.

    At the end all are the newest.
    """
    remembers: Micros = 0
    """For how long the leader lets the store keep its past; 0: for ever."""

    @property
    def patience(self) -> Micros:
        """How long a machine must be away, at least, before a scheduler that was cut off itself gives it up."""
        return max(self.ttl, REJOINING)

    @property
    def ahead(self) -> Micros:
        """How far the clock that is most ahead is ahead of the true time; 0 when none is."""
        return max(0, *(member.skew for member in self.members))


FAULTS = ("kill", "power", "pause", "cut", "away", "compact", "expire", "jump", "leave", "engine")
USERS = ("start", "end", "change", "retrigger", "destroy", "hold", "cordon", "move", "submit")


def draw(seed: int) -> Scenario:
    """The scenario of a seed. Some scenarios are calm, most have some kinds of fault, few have all kinds."""
    random = Random(f"scenario {seed}")
    number = random.choice((2, 3, 3, 4))
    skewed = random.random() < 0.4
    members = [_member(random, index, skewed=skewed) for index in range(number)]
    # In every scenario two members schedule and run steps.
    for member in members[:2]:
        member.roles = frozenset(("scheduler", "agent"))
    members[0].zone = "east"
    seconds = random.randrange(6, 13)
    units: list[UnitPlan] = []
    for number, drawn in enumerate(random.sample([*ALONE, *SHAPE_GROUPS], random.randrange(3, 7))):
        for shape in SHAPE_GROUPS.get(drawn, (drawn,)):
            interval, fires = random.randrange(1, 4), random.randrange(2, 6)
            units.append(UnitPlan(f"{shape}{number}.service", shape, interval, fires, random.random() < 0.35))
    if any(unit.kept for unit in units):
        # A unit that is kept running takes a slot for ever. Others would rightly wait for that slot, and the cluster
        # would never come to rest.
        for member in members:
            member.slots = 0
    for member in members[2:]:
        member.late = random.random() < 0.3
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
        max_operations=random.choice((0, 0, 0, 8)),
        remembers=random.choice((0, 0, 2, 5)) * SECOND,
    )
    if random.random() < 0.25:
        _divide(scenario, random)
    elif (chance := Random(f"clocks {seed}").random()) < 0.1:
        _set_back(scenario)
    elif chance < 0.2:
        _leap(scenario)
    elif (chance := Random(f"skew {seed}").random()) < 0.2:
        _upgrade(scenario, Random(f"upgrade {seed}"), rules=chance < 0.08)
    return scenario


def _upgrade(scenario: Scenario, random: Random, *, rules: bool) -> None:
    """Replace daemons one after the other by newer ones, and now and then by older ones."""
    scenario.weights["upgrade"] = 6
    scenario.skew = "rules" if rules else "readers"
    if not rules:
        for unit in scenario.units:
            unit.new = random.random() < 0.6
        return
    # Who changes the text of a unit begins its schedule anew: nobody could say which wall times have fired then.
    scenario.weights |= dict.fromkeys(("retrigger", "destroy", "hold", "jump"), 0)
    for member in scenario.members:
        member.skew = 0
    for index in range(2):
        walls = UnitPlan(f"{WALLS}{index}.service", WALLS, 2, random.randrange(4, 8), recoverable=False)
        scenario.units.insert(0, walls)


def _leap(scenario: Scenario) -> None:
    """Make clocks leap ahead and back by up to 50 minutes, while daemons die and are stopped.

    Nothing is submitted meanwhile: a unit begins by the clock of the scheduler that accepts it, so nobody could say
    which fire times are due.
    """
    weights = dict.fromkeys(("jump", "kill", "pause", "start", "end"), 1)
    scenario.weights = dict.fromkeys(scenario.weights, 0) | weights | {"nothing": 3}
    scenario.leap = 50 * MINUTE
    # For the same reason no unit may begin anew by the clock of the scheduler that finds it late.
    scenario.units = [unit for unit in scenario.units if unit.shape not in RESTARTED] or [
        UnitPlan("plain0.service", "plain", 1, 3, recoverable=True)
    ]


def _set_back(scenario: Scenario) -> None:
    """Make pauses and delays, while all clocks are set back again and again."""
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
    """Make long runs that must not overlap, on machines that are cut off for longer than their leases last.

    Not all machines are cut off together, and not too often: a scheduler gives a machine up only after it has heard the
    store for long enough itself.
    """
    scenario.units = [
        UnitPlan(f"{shape}{index}.service", shape, 3, random.randrange(4, 9), random.random() < 0.6)
        for index, shape in enumerate(("forbid", "queue", "replace", "forbid"))
    ]
    for member in scenario.members:
        member.roles = frozenset(("scheduler", "agent"))
        member.slots = 0
    scenario.ttl = 2 * SECOND
    scenario.mood = Mood()
    scenario.longest_step = 4 * scenario.patience
    scenario.failing = 0.0
    scenario.seconds = 20
    weights = {
        "cut": 3,
        "pause": random.choice((0, 3)),
        "kill": random.choice((0, 2)),
        "nothing": random.choice((8, 30)),
    }
    scenario.weights = dict.fromkeys(scenario.weights, 0) | weights


def _member(random: Random, index: int, *, skewed: bool) -> MemberPlan:
    roles = random.choice((("scheduler", "agent"), ("scheduler", "agent"), ("scheduler",), ("agent",)))
    skew = random.randrange(-3_000, 3_000) * MILLISECOND if skewed else 0
    return MemberPlan(
        f"m{index + 1}", frozenset(roles), random.choice((0, 0, 1, 2, 3)), skew, random.choice(("east", "west"))
    )
