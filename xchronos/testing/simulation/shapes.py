"""The unit files of scenarios. Each shape asks for something special; some mean something only in groups."""

import msgspec

LENIENT = "MisfireThreshold=1h"
"""The [X-Chronos] line of units whose late fire times are all executed, so that every one of the grid is."""

REPEATS = ("TriggerRepeatInterval={i}s", "TriggerRepeatCount={n}")
"""The [X-Chronos] lines of a trigger that fires every {i} seconds, {n} times."""

ONCE = "Type=oneshot\nExecStart=/bin/true\nTimeoutStopSec=500ms\n"
"""The [Service] section of a unit that says nothing special there."""

ALWAYS = "Type=simple\nExecStart=/bin/true\nRestart=always\nTimeoutStopSec=500ms\n"
"""The [Service] section of a unit that is kept running."""

STEPS = (
    "Type=oneshot\nExecStartPre=/bin/true\nExecStart=/bin/true\nExecStart=/bin/true\n"
    "ExecStop=/bin/true\nExecStopPost=/bin/true\nTimeoutStopSec=500ms\n"
)
"""The [Service] section of a unit with every kind of step."""


class Shape(msgspec.Struct, frozen=True):
    """What a unit of the shape says: the lines of [X-Chronos], and the text of [Service], [X-Fleet] and [Unit].

    In `chronos`, {i} is an interval in seconds, {n} a count and {end} an instant. In `fleet` and `unit`, {g} is the
    number that the names of a group have in common.
    """

    chronos: tuple[str, ...] = ()
    service: str = ONCE
    fleet: str = ""
    unit: str = ""
    flaky: bool = False
    """Whether its steps fail as often as the scenario says."""

    @property
    def kept(self) -> bool:
        """Whether it is kept running."""
        return self.service == ALWAYS


SHAPES: dict[str, Shape] = {
    "plain": Shape((*REPEATS, LENIENT)),
    "quick": Shape(("TriggerRepeatInterval=300", "TriggerRepeatCount={n}", LENIENT)),
    "cron": Shape(("TriggerCron=* * * * * *", "NotAfter={end}", LENIENT)),
    "calendar": Shape(("TriggerCalendar=*:*:0/2", "NotAfter={end}", LENIENT)),
    "iso": Shape(("TriggerISO8601=R{n}//PT{i}S", LENIENT)),
    "once": Shape(("TriggerStartDelay={i}s", LENIENT)),
    "union": Shape((*REPEATS, "TriggerCron=*/3 * * * * *", "NotAfter={end}", LENIENT)),
    "copies": Shape((*REPEATS, "Availability=2", LENIENT)),
    "many": Shape((*REPEATS, "Availability=9", "StartDeadline=3s", LENIENT)),
    "everywhere": Shape((*REPEATS, LENIENT), fleet="Global=true\n"),
    "zoned": Shape((*REPEATS, LENIENT), fleet="MachineMetadata=zone=east\n"),
    "robin": Shape((*REPEATS, "LoadBalancing=round-robin", "Priority=5", LENIENT)),
    "random": Shape((*REPEATS, "LoadBalancing=random", "Availability=2", LENIENT)),
    "retries": Shape((*REPEATS, "MaxAttempts=3", "TimeBetweenAttempts=500", LENIENT), flaky=True),
    "backoff": Shape(
        (*REPEATS, "MaxAttempts=4", "TimeBetweenAttempts=200", "RetryBackoff=exponential", LENIENT), flaky=True
    ),
    "limited": Shape(
        (*REPEATS, "MaxAttempts=2", LENIENT), service=f"{ONCE}TimeoutStartSec=700ms\n", flaky=True
    ),
    "steps": Shape((*REPEATS, "MaxAttempts=2", "TimeBetweenAttempts=300", LENIENT), service=STEPS, flaky=True),
    "queue": Shape((*REPEATS, "Concurrency=queue", LENIENT)),
    "forbid": Shape((*REPEATS, "Concurrency=forbid", LENIENT)),
    "replace": Shape((*REPEATS, "Concurrency=replace", LENIENT)),
    "spread": Shape((*REPEATS, "RandomizedDelay=1500", LENIENT)),
    "deadline": Shape((*REPEATS, "StartDeadline=3s", LENIENT)),
    "ignore": Shape((*REPEATS, "MisfireThreshold=1s", "MisfirePolicy=IGNORE_MISFIRE_POLICY")),
    "smart": Shape((*REPEATS, "MisfireThreshold=1s")),
    "caught": Shape(("TriggerCron=* * * * * *", "NotAfter={end}", "MisfireThreshold=1s", "MisfirePolicy=FIRE_NOW")),
    "dropped": Shape(
        (
            "TriggerCron=* * * * * *",
            "NotAfter={end}",
            "MisfireThreshold=1s",
            "MisfirePolicy=RESCHEDULE_NEXT_WITH_EXISTING_COUNT",
        )
    ),
    "forgotten": Shape(("TriggerRepeatInterval=200", "TriggerRepeatCount=40", "HistoryLimit=3", LENIENT)),
    "bounded": Shape((*REPEATS, "MaxRuns=2", LENIENT)),
    "mortal": Shape((*REPEATS, "TTL=6s", LENIENT)),
    "walls": Shape(("TriggerCron=*/2 0-59 0-23 * * *", "TimeZone=Made/Up", "NotAfter={end}", LENIENT)),
    "hand": Shape(),
    "kept": Shape(service=ALWAYS),
    "keptpair": Shape(("Availability=2",), service=ALWAYS),
    "kepteverywhere": Shape(service=ALWAYS, fleet="Global=true\n"),
    "keptzoned": Shape(service=ALWAYS, fleet="Global=true\nMachineMetadata=zone=east\n"),
    # Those that mean something in groups only.
    "lead": Shape(service=ALWAYS),
    "keptbeside": Shape(service=ALWAYS, fleet="MachineOf=lead{g}.service\n"),
    "firesbeside": Shape((*REPEATS, LENIENT), fleet="MachineOf=lead{g}.service\n"),
    "rival": Shape((*REPEATS, LENIENT), fleet="Conflicts=*rival{g}.service\n"),
    "otherrival": Shape((*REPEATS, "Availability=2", "StartDeadline=3s", LENIENT), fleet="Conflicts=rival*.service\n"),
    "keptrival": Shape(service=ALWAYS, fleet="Conflicts=*rival{g}.service\n"),
    "former": Shape(service=ALWAYS),
    "newer": Shape((*REPEATS, LENIENT), fleet="Replaces=former{g}.service\n"),
    "first": Shape(
        (*REPEATS, LENIENT), unit="OnSuccess=then{g}.service\nOnFailure=otherwise{g}.service\n", flaky=True
    ),
    "then": Shape(("Availability=2",)),
    "otherwise": Shape(("Concurrency=forbid",)),
}  # fmt: skip

SHAPE_GROUPS: dict[str, tuple[str, ...]] = {
    "peers": ("lead", "keptbeside", "firesbeside"),
    "rivals": ("rival", "otherrival", "keptrival"),
    "successors": ("former", "newer"),
    "chain": ("first", "then", "otherwise"),
}
"""Shapes that are drawn together."""

RESTARTED = frozenset(("smart", "caught", "dropped"))
"""The shapes whose misfire policy may begin their grid anew."""

WALLS = "walls"
"""The shape that fires for wall times of a zone whose rules are not the same everywhere. It comes in such runs only."""

ALONE = sorted(SHAPES.keys() - {WALLS} - {shape for group in SHAPE_GROUPS.values() for shape in group})
"""The shapes that mean something by themselves."""


def text(shape: Shape, group: str, *, kind: str, container: str, note: str, **values: object) -> bytes:
    """The unit file of a shape; `values` are put into its [X-Chronos]."""
    chronos = "\n".join(shape.chronos).format(**values)
    fleet = f"[X-Fleet]\n{shape.fleet.format(g=group)}" if shape.fleet else ""
    return (
        f"[Unit]\nDescription={note}\n{shape.unit.format(g=group)}[Service]\n{shape.service}{container}{fleet}"
        f"[X-Chronos]\nExecutor={kind}\n{chronos}\n"
    ).encode()
