"""Judges what a cluster did, from outside: the sink's lines and the API's history, against a grid computed here.

I1  At most one start per (unit, fire time, attempt, copy).
I2  Every due fire time ends in exactly one record.
I3  Nothing starts before its fire time.
I4  The API's history equals the sink.

Every function is pure and returns what is wrong; nothing wrong is an empty list.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tests.cluster.sink import Event, Key
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution

GRAIN = 0.011
"""Seconds by which a shell's own clock may be wrong."""

REASONED = (Outcome.LOST, Outcome.MISSED, Outcome.SKIPPED, Outcome.CANCELLED, Outcome.TIMED_OUT, Outcome.FAILED)
"""Ends that have to say why."""


class Violation(NamedTuple):
    """What is wrong, and where."""

    invariant: str
    where: str
    what: str


def every(length: timedelta, first: datetime, last: datetime) -> list[datetime]:
    """The instants of a grid from `first` to `last`, both included."""
    return [first + number * length for number in range((last - first) // length + 1)]


def check(
    events: Sequence[Event],
    history: Sequence[Execution],
    due: Mapping[str, Collection[datetime]],
    *,
    copies: int = 1,
) -> list[Violation]:
    """All four invariants. `due` has every fire time of every unit; started by hand is what the history says is."""
    return [
        *single_starts(events),
        *single_records(history, due, copies),
        *nothing_early(events, history),
        *same_story(events, history),
    ]


def single_starts(events: Iterable[Event]) -> Iterator[Violation]:
    """I1."""
    starts: dict[Key, list[str]] = defaultdict(list)
    for event in events:
        if event.kind == "start":
            starts[event.key].append(event.machine)
    for key, machines in starts.items():
        if len(machines) > 1:
            yield Violation("I1", _name(key), f"started {len(machines)} times, on {', '.join(machines)}")


def single_records(
    history: Sequence[Execution], due: Mapping[str, Collection[datetime]], copies: int = 1
) -> Iterator[Violation]:
    """I2. A record of a gap (`missed`) stands for every fire time in it."""
    told: Counter[tuple[str, datetime, int]] = Counter()
    for execution in history:
        fires = due.get(execution.unit, ())
        if execution.state != "ended" or execution.outcome is None:
            yield Violation("I2", execution.id, f"has not ended: {execution.state}")
        elif execution.outcome in REASONED and not execution.reason and execution.missed is None:
            yield Violation("I2", execution.id, f"{execution.outcome.value} without a reason")
        if execution.missed is not None:
            gap = [fire for fire in fires if execution.missed.first <= fire <= execution.missed.last]
            if len(gap) != execution.missed.count:
                yield Violation("I2", execution.id, f"stands for {execution.missed.count} misses, there are {len(gap)}")
            told.update((execution.unit, fire, copy) for fire in gap for copy in range(copies))
            continue
        told[execution.unit, execution.fire_time, execution.copy] += 1
        if execution.fire_time not in fires and execution.trigger not in ("manual", "chain"):
            yield Violation("I2", execution.id, "has a record and was never due")
    for unit, fires in due.items():
        for fire in fires:
            for copy in range(copies):
                if (unit, fire, copy) not in told:
                    yield Violation("I2", f"{unit} {fire.isoformat()} copy {copy}", "was due and has no record")
    for (unit, fire, copy), times in told.items():
        if times > 1:
            yield Violation("I2", f"{unit} {fire.isoformat()} copy {copy}", f"has {times} records")


def nothing_early(events: Iterable[Event], history: Iterable[Execution]) -> Iterator[Violation]:
    """I3."""
    for event in events:
        early = event.key.fire.timestamp() - event.when
        if event.kind == "start" and early > GRAIN:
            yield Violation("I3", _name(event.key), f"started {early:.3f} s early on {event.machine}")
    for execution in history:
        if execution.missed is None and execution.claimed_at is not None and execution.claimed_at < execution.fire_time:
            yield Violation("I3", execution.id, f"claimed at {execution.claimed_at.isoformat()}")


def same_story(events: Iterable[Event], history: Iterable[Execution]) -> Iterator[Violation]:
    """I4: every start has its attempt in the history, on that machine, and what the history calls run did run.

    An attempt that found an earlier one still running on its machine stands for that one, and starts nothing itself.
    """
    seen: dict[Key, dict[str, Event]] = defaultdict(dict)
    for event in events:
        seen[event.key].setdefault(event.kind, event)
    recorded: set[Key] = set()
    for execution in history:
        over: set[str] = set()
        for attempt in attempts_of(execution):
            key = Key(execution.unit, execution.fire_time, execution.copy, attempt.number)
            recorded.add(key)
            if key not in seen and not attempt.steps and attempt.machine in over:
                continue
            if "end" in seen.get(key, {}):
                over.add(attempt.machine)
            for what in _contradictions(attempt, seen.get(key, {})):
                yield Violation("I4", _name(key), what)
    for key, lines in seen.items():
        if key not in recorded:
            words = ", ".join(sorted(lines))
            yield Violation("I4", _name(key), f"is in the sink ({words}) and not in the history")


def _contradictions(attempt: Attempt, lines: Mapping[str, Event]) -> Iterator[str]:
    start, end = lines.get("start"), lines.get("end")
    if attempt.outcome is Outcome.SUCCEEDED and (start is None or end is None):
        yield f"succeeded, and the sink has {'no start' if start is None else 'no end'}"
    if start is None:
        if end is not None:
            yield "ended in the sink without a start"
        return
    if start.machine != attempt.machine:
        yield f"ran on {start.machine}, and the history says on {attempt.machine}"
    if attempt.started_at is None:
        yield "ran, and the history says that it never started"
    if end is not None and attempt.outcome is Outcome.SUCCEEDED:
        assert attempt.ended_at is not None
        if attempt.ended_at.timestamp() < end.when - GRAIN:
            yield f"had its end recorded before it ended, at {attempt.ended_at.isoformat()}"


class Run(NamedTuple):
    """What the sink tells of one attempt on one machine: from its start to its end or, without one, its last beat."""

    key: Key
    machine: str
    began: float
    last: float
    ended: bool


def runs(events: Iterable[Event]) -> list[Run]:
    """Every run, in the order in which they began."""
    found: dict[tuple[Key, str], Run] = {}
    for event in events:
        known = found.get((event.key, event.machine))
        if known is None or event.kind == "start":
            run = Run(event.key, event.machine, event.when, event.when, ended=False)
        else:
            run = known._replace(last=event.when, ended=known.ended or event.kind == "end")
        found[event.key, event.machine] = run
    return sorted(found.values(), key=lambda run: run.began)


def overlaps(events: Iterable[Event]) -> Iterator[Violation]:
    """Runs of one unit that were there at the same time."""
    last: dict[str, Run] = {}
    for run in runs(events):
        before = last.get(run.key.unit)
        if before is not None and run.began < before.last - GRAIN:
            what = f"began on {run.machine} {before.last - run.began:.3f} s before {_name(before.key)} was over"
            yield Violation("overlap", _name(run.key), what)
        if before is None or run.last > before.last:
            last[run.key.unit] = run


class Disturbance(NamedTuple):
    """Something that was done to a scheduler: from `began` on (unix seconds), what it had decided others must."""

    began: float
    units: frozenset[str]


class Lateness(NamedTuple):
    """By how many seconds claims were late: the worst of undisturbed units, and the worst of those that moved."""

    surviving: float
    moved: float


def lateness(
    history: Iterable[Execution],
    disturbances: Sequence[Disturbance],
    window: float,
    excuse: Callable[[float, float], float] = lambda fire, claimed: 0.0,
) -> Lateness:
    """How late claims were. A unit is disturbed for `window` seconds from each of its disturbances on.

    A fire time right before a disturbance may have been on its way; one second of it belongs to the window. `excuse`
    says how many seconds between two instants are not the cluster's own fault.
    """
    worst = {False: 0.0, True: 0.0}
    moments: dict[str, list[float]] = defaultdict(list)
    for disturbance in disturbances:
        for unit in disturbance.units:
            moments[unit].append(disturbance.began)
    for execution in history:
        if execution.claimed_at is None or execution.missed is not None or execution.trigger == "manual":
            continue
        fire = execution.fire_time.timestamp()
        disturbed = any(began - 1 <= fire <= began + window for began in moments[execution.unit])
        claimed = execution.claimed_at.timestamp()
        late = claimed - fire
        late -= min(late, excuse(fire, claimed))
        worst[disturbed] = max(worst[disturbed], late)
    return Lateness(worst[False], worst[True])


def attempts_of(execution: Execution) -> tuple[Attempt, ...]:
    """All attempts, one that is under way last."""
    return execution.attempts if execution.current is None else (*execution.attempts, execution.current)


def told(violations: Sequence[Violation], most: int = 20) -> str:
    """For a failure's text."""
    lines = [" | ".join(violation) for violation in violations[:most]]
    more = len(violations) - most
    return "\n".join([f"{len(violations)} violations", *lines, *([f"... and {more} more"] if more > 0 else [])])


def _name(key: Key) -> str:
    fire = key.fire.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"{key.unit} {fire} copy {key.copy} attempt {key.attempt}"
