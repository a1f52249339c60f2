"""The promises that must hold all the time, checked at the store and at the sink at the instant when something happens.

- I1: there is at most one start per (unit, fire time, attempt, copy), and none before the store holds its claim.
- I2: an execution is in exactly one place. What has ended is never written again. Nothing open vanishes. A fire time is
  recorded in the same revision that moves the cursor past it.
- I3: nothing starts before its fire time. This holds strictly by the clock of the scheduler that claimed it
  (`claimed_at`). In true time a start may be early by as much as the schedulers' clocks are ahead.
- I5: a scheduler writes only for units of shards that it owns when the write happens.
- What fell into a pause of a unit is not started for its own instant, but by IGNORE_MISFIRE_POLICY.
- A pause between attempts, or a RandomizedDelay=, is over in time, however often clocks are set back meanwhile.
- Copies of one fire time are on distinct machines.
- With OnPartition=stop an attempt starts only after the one before it has ended, and two fire times never run at the
  same time unless Concurrency is allow.
- A history is cut down to HistoryLimit, and no further. OnSuccess= and OnFailure= start a unit only after such an end.
- And what `rules` checks.

I4 (the history equals the sink) and the rest of I2 are checked at the end: see `verdict`.
"""

from collections.abc import Callable, Mapping

import msgspec

from xchronos.clock import SECOND, Instant, Micros, to_datetime, to_instant
from xchronos.errors import StoreError
from xchronos.model.policies import MisfirePolicy, Outcome
from xchronos.model.records import Execution, Schedule, TriggerState, UnitRecord
from xchronos.model.unit import Unit
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys, shard_of, unit_of
from xchronos.store.contract import Event, KeyValue
from xchronos.store.transactions import Change
from xchronos.testing.simulation.rules import Rules
from xchronos.testing.simulation.sink import SimulatedStart

BY_HAND = frozenset(("manual", "chain", "kept"))
"""The triggers of executions that are on no trigger's grid."""

PAUSE_SLACK: Micros = SECOND
"""How much longer than planned a pause may last in good weather: the longest sleep of a scheduler."""


class Era(msgspec.Struct):
    """The part of a unit's life with the same triggers. `life` is the unit's life (the create revision of its record).

    `schedule` is the last state of the unit's cursor. `restarts` has by trigger, in the unit's order, the instants at
    which a misfire policy let its grid begin anew.
    """

    life: int
    schedule: Schedule
    restarts: list[list[Instant]]


class Monitor:
    """Checks what happens, and remembers what the verdict needs. `violate` is called with everything that must not be.

    `now` gives the true time, `units` the meaning of a unit. `eras`, `lives` and `living` follow the store: by unit its
    eras and its present life, and the units that are there.
    """

    def __init__(
        self,
        keys: Keys,
        violate: Callable[[str], None],
        units: Callable[[str], Unit | None],
        now: Callable[[], Instant],
        slots: Mapping[str, int],
    ) -> None:
        self.members: frozenset[str] = frozenset()
        """The authors of writes that are daemons."""
        self.ahead: Micros = 0
        """How far the wall clock of any member has ever been ahead of the true time; the world raises it."""
        self.overlap_excused = False
        """Whether something has happened after which OnPartition=stop cannot be kept; never False again then."""
        self.good_weather = False
        """Whether nothing goes wrong in this run but the clocks."""
        self.eras: dict[str, list[Era]] = {}
        self.gaps: dict[str, list[tuple[int, Execution]]] = {}
        """By unit: the records of its gaps, also those that HistoryLimit= has removed, each with its unit's life."""
        self.lives: dict[str, int] = {}
        self.living: set[str] = set()
        self.births: dict[str, int] = {}
        """By execution: the life of its unit (the create revision of the unit's record) in which it was claimed."""
        self._keys = keys
        self._violate = violate
        self._units = units
        self._now = now
        self._pauses: dict[str, tuple[Instant, Micros]] = {}
        self._paused_since: dict[str, Instant] = {}
        self._paused_spans: dict[str, list[tuple[Instant, Instant]]] = {}
        self._places: dict[str, dict[str, Execution]] = {}
        self._ended: set[str] = set()
        self._claims: set[tuple[str, int, str]] = set()
        self._started: set[tuple[int, str, int, str]] = set()
        self._on: dict[str, dict[str, str]] = {}
        self._shards: dict[int, str] = {}
        self._running: dict[str, list[SimulatedStart]] = {}
        self._history: dict[str, set[str]] = {}
        self.rules = Rules(violate, units, slots)

    # -- the store ----------------------------------------------------------------------------------------------------

    def committed(self, author: str, changes: list[Change], revision: int) -> None:
        """A revision has been written. `author` is who wrote it; "" for the store itself."""
        keys = self._keys
        touched: dict[str, bool] = {}
        moved: set[str] = set()
        fresh: list[Execution] = []
        for event, previous in changes:
            key = event.key
            if key.startswith((keys.pending, keys.placements, keys.executions)):
                execution_id = self._execution_id(key)
                places = self._places.setdefault(execution_id, {})
                touched.setdefault(execution_id, bool(places))
                if event.kind == "delete":
                    gone = places.pop(key, None)
                    if gone is not None:
                        self._gone(key, gone)
                    continue
                execution = self._decode(event.key, event.value)
                if execution is None:
                    continue
                if not touched[execution_id] and self.births.get(execution_id) != self._life(execution.unit):
                    # A unit that was destroyed and submitted again is another unit. A scheduler whose clock is behind
                    # may give it the same fire times.
                    self.births[execution_id] = self._life(execution.unit)
                    self._ended.discard(execution_id)
                    fresh.append(execution)
                elif key.startswith(keys.executions) and previous is not None:
                    before = self._decode(key, previous.value)
                    if before is None or _told(before) != _told(execution):
                        self._violate(f"I2: the record of {execution_id} was written a second time by {author}")
                    # Only a late result was added to the record.
                    del touched[execution_id]
                places[key] = execution
                self.rules.waits(execution)
                if key.startswith(keys.executions):
                    self._history.setdefault(execution.unit, set()).add(execution_id)
                elif execution.state == "reported" and execution.current is not None:
                    self.rules.left(execution.current.machine, execution)
                self._paused(execution_id, execution)
                self._owner_writes(author, key, execution, previous)
            elif key.startswith(keys.schedules):
                unit = key[len(keys.schedules) :]
                moved.add(unit)
                self._own(author, unit, f"the cursor of {unit}")
                if event.kind == "put":
                    self._cursor(unit, event.value)
            elif key.startswith(keys.jobs):
                unit = key[len(keys.jobs) :]
                if event.kind == "delete":
                    self.living.discard(unit)
                    # Its next life has not been paused.
                    self._paused_since.pop(unit, None)
                    self._paused_spans.pop(unit, None)
                else:
                    self.living.add(unit)
                    self.lives[unit] = event.create_revision
                    self._unit(unit, event)
            elif key.startswith(keys.shards):
                number = int(key[len(keys.shards) :])
                self._shards[number] = event.value.decode() if event.kind == "put" else ""
        for execution in fresh:
            self._claimed(execution, moved)
            if execution.trigger == "chain":
                self._chained(execution, touched)
        for execution_id in touched:
            self._placed_once(execution_id, revision)

    def _execution_id(self, key: str) -> str:
        if key.startswith(self._keys.executions):
            return key[len(self._keys.executions) :]
        return self._keys.locate(key)[1]

    def _decode(self, key: str, value: bytes) -> Execution | None:
        try:
            return decode(KeyValue(key, value, 0, 0), Execution)
        except StoreError as error:
            self._violate(f"unreadable record: {error}")
            return None

    def _unit(self, unit: str, event: KeyValue | Event) -> None:
        """A unit's record was written: note when its schedule is paused."""
        record = decode(event, UnitRecord)
        if record.desired == "paused":
            self._paused_since.setdefault(unit, self._now())
        elif (since := self._paused_since.pop(unit, None)) is not None:
            self._paused_spans.setdefault(unit, []).append((since, self._now()))

    def _life(self, unit: str) -> int:
        return self.lives.get(unit, 0)

    def _claimed(self, execution: Execution, moved: set[str]) -> None:
        """A new execution: check how it was claimed."""
        if execution.trigger in BY_HAND:
            return
        if execution.missed is not None:
            self.gaps.setdefault(execution.unit, []).append((self.births[execution.id], execution))
        prefix = execution.id[: execution.id.rindex("/") + 1]
        if execution.unit not in moved and not self._on.get(prefix):
            # A fire time of a Global unit that had to wait gets its other copies when the first one is placed: then
            # its neighbours are there already, and the cursor does not move.
            self._violate(f"I2: {execution.id} was claimed without moving the cursor of {execution.unit}")
        if execution.claimed_at is None or execution.claimed_at < execution.fire_time:
            self._violate(f"I3: {execution.id} was claimed before its fire time, at {execution.claimed_at}")
        self._claimed_of_a_pause(execution)

    def _claimed_of_a_pause(self, execution: Execution) -> None:
        """Check that an execution is none of a fire time that fell into a pause of its unit.

        What a misfire policy fires now has the instant of the claim. A scheduler whose clock is ahead is done with fire
        times that are still to come when the pause begins; one whose clock is behind begins a grid anew in the pause.
        """
        unit, at = self._units(execution.unit), to_instant(execution.fire_time)
        if execution.missed or execution.claimed_at == execution.fire_time:
            return
        if unit is None or unit.misfire.policy is MisfirePolicy.IGNORE:
            return
        spans = self._paused_spans.get(execution.unit, ())
        spread = self.rules.spread
        if any(since + spread < at <= until - spread for since, until in spans):
            self._violate(f"{execution.id} was started, and fell into a pause of its unit")

    def _gone(self, key: str, execution: Execution) -> None:
        """A record was removed from its place."""
        if not key.startswith(self._keys.executions):
            self.rules.left(self._keys.locate(key)[0], execution)
            return
        unit, name = self._units(execution.unit), execution.unit
        self._history[name].discard(execution.id)
        left = sum(self.births.get(other) == self._life(name) for other in self._history[name])
        now = name in self.living and self.births.get(execution.id) == self._life(name)
        if unit is not None and now and left < unit.history_limit:
            self._violate(f"{execution.id} was removed from the history, of which {left} are left")

    def _chained(self, execution: Execution, touched: Mapping[str, bool]) -> None:
        """A unit was started by the end of another unit's execution. Check that this end is in the same revision."""
        by = execution.reason.rpartition(" of ")[2]
        ended = [one for one in self._places.get(by, {}).values() if one.state == "ended"]
        unit = self._units(unit_of(by))
        if by not in touched or not ended or unit is None:
            self._violate(f"{execution.id} was started by the end of {by}, which has not ended then")
            return
        wanted = unit.on_success if ended[0].outcome is Outcome.SUCCEEDED else unit.on_failure
        if execution.unit not in wanted:
            self._violate(f"{execution.id} was started by the end of {by}, which was {ended[0].outcome}")

    def _owner_writes(self, author: str, key: str, execution: Execution, previous: KeyValue | None) -> None:
        """Check who writes what only the shard's owner may write: an execution that waits, or is placed anew."""
        scheduled = key.startswith(self._keys.pending) or (execution.state == "placed" and previous is None)
        if scheduled and execution.trigger not in BY_HAND:
            before = self._decode(key, previous.value) if previous is not None else None
            if before is None or _told(before) != _told(execution):  # an agent may add a late result
                self._own(author, execution.unit, execution.id)
        if execution.state == "running" and execution.current is not None:
            self._claims.add((execution.id, execution.current.number, execution.current.machine))

    def _paused(self, execution_id: str, execution: Execution) -> None:
        """Note how long an execution is to pause; after the pause, check that it was not longer."""
        since = execution.waits_since or execution.claimed_at
        pauses = execution.state == "delayed" and execution.due_at is not None and since is not None
        if pauses and execution_id in self._pauses:
            return
        began, length = self._pauses.pop(execution_id, (0, 0))
        if began and self.good_weather and (lasted := self._now() - began) > length + PAUSE_SLACK:
            self._violate(f"{execution_id} was to pause for {length / SECOND} s, and did for {lasted / SECOND} s")
        if pauses and execution.due_at is not None and since is not None:
            self._pauses[execution_id] = self._now(), to_instant(execution.due_at) - to_instant(since)

    def _own(self, author: str, unit: str, what: str) -> None:
        owner = self._shards.get(shard_of(unit), "")
        if author in self.members and owner != author:
            self._violate(f"I5: {author} wrote {what}, whose shard is {owner or 'nobody'}'s")

    def _cursor(self, unit: str, value: bytes) -> None:
        schedule = decode(KeyValue(self._keys.schedule(unit), value, 0, 0), Schedule)
        eras = self.eras.setdefault(unit, [])
        last = eras[-1].schedule if eras else None
        if (
            last is None
            or eras[-1].life != self._life(unit)
            or (last.fingerprint, last.anchor) != (schedule.fingerprint, schedule.anchor)
        ):
            eras.append(Era(self._life(unit), schedule, [[] for _ in schedule.triggers]))
            return
        for before, after, restarts in zip(last.triggers, schedule.triggers, eras[-1].restarts, strict=True):
            if before.last is not None and (after.last is None or after.last < before.last):
                self._violate(f"I2: the cursor of {unit} went back from {before.last} to {after.last}")
            elif _wall(after) < _wall(before) or (after.last != before.last and _wall(after) == _wall(before)):
                self._violate(f"I2: {unit} fires again for the wall time of {before.last}, at {after.last}")
            if after.restarted_at != before.restarted_at and after.restarted_at is not None:
                restarts.append(to_instant(after.restarted_at))
        eras[-1].schedule = schedule

    def _placed_once(self, execution_id: str, revision: int) -> None:
        places, unit = self._places[execution_id], unit_of(execution_id)
        prefix = execution_id[: execution_id.rindex("/") + 1]
        if len(places) > 1:
            self._violate(f"I2: {execution_id} is in {len(places)} places at revision {revision}: {sorted(places)}")
        if not places:
            del self._places[execution_id]
            self._on.get(prefix, {}).pop(execution_id, None)
            if execution_id not in self._ended and unit in self.living:
                self._violate(f"I2: {execution_id} has vanished without a record at revision {revision}")
            return
        key, execution = next(iter(places.items()))
        machine = execution.current.machine if execution.current is not None else ""
        if key.startswith(self._keys.executions):
            if execution_id in self._ended:
                self._violate(f"I2: {execution_id} has ended a second time, at revision {revision}")
            self._ended.add(execution_id)
            machine = ""
        elif execution_id in self._ended:
            self._violate(f"I2: {execution_id} has come back after its end, at revision {revision}")
        neighbours = self._on.setdefault(prefix, {})
        beside = [other for other, where in neighbours.items() if where == machine and other != execution_id]
        # An execution that a former life of the unit has left there is no copy of this one.
        if machine and any(self.births[other] == self.births[execution_id] for other in beside):
            self._violate(f"two copies of {prefix} are on {machine} at revision {revision}")
        neighbours[execution_id] = machine

    # -- the sink -----------------------------------------------------------------------------------------------------

    def started(self, start: SimulatedStart) -> None:
        """A step starts: check I1 and I3, the rules, and that nothing runs beside it that must not."""
        start.life = self.births.get(start.execution, 0)
        identity = (start.life, start.execution, start.attempt, start.step)
        if identity in self._started:
            self._violate(f"I1: attempt {start.attempt} of {start.execution} is started again, on {start.machine}")
        self._started.add(identity)
        if (start.execution, start.attempt, start.machine) not in self._claims:
            self._violate(f"I1: attempt {start.attempt} of {start.execution} starts on {start.machine} without a claim")
        fire_time = start.execution.split("/")[1]
        if _stamp(start.at + self.ahead) < fire_time:
            self._violate(f"I3: {start.execution} starts before its fire time, at {_stamp(start.at)}")
        place = self._keys.placement(start.machine, start.execution)
        self.rules.started(start, self._places.get(start.execution, {}).get(place))
        unit = self._units(start.unit)
        if unit is not None and unit.on_partition == "stop" and not self.overlap_excused:
            self._alone(unit, start)
        self._running.setdefault(start.unit, []).append(start)

    def _alone(self, unit: Unit, start: SimulatedStart) -> None:
        """Check that no earlier attempt runs any more, and no other fire time that this one must not overlap."""
        fire = start.execution.rpartition("/")[0]
        for other in self._running.get(unit.name, ()):
            # A call in a stopped process does not run. When the process goes on, the call ends immediately.
            still = other.process is not None and other.process.stopped
            another = unit.concurrency != "allow" and other.execution.rpartition("/")[0] != fire
            if (another or other.execution == start.execution) and not still:
                both = [f"attempt {one.attempt} of {one.execution} on {one.machine}" for one in (start, other)]
                self._violate(f"OnPartition=stop, Concurrency={unit.concurrency}: {both[0]} starts beside {both[1]}")

    def ended(self, start: SimulatedStart) -> None:
        """A step ends."""
        self._running[start.unit].remove(start)


def _told(execution: Execution) -> Execution:
    """A record without what a late result may add: an attempt that was given up with its machine may end later."""
    attempts = [
        msgspec.structs.replace(attempt, late=None, started_at=None, steps=(), reason="")
        if attempt.outcome is Outcome.LOST
        else attempt
        for attempt in execution.attempts
    ]
    return msgspec.structs.replace(execution, attempts=tuple(attempts))


def _stamp(instant: int) -> str:
    """An instant in the form that it has in keys."""
    return f"{to_datetime(instant):%Y%m%dT%H%M%S.%f}Z"


def _wall(state: TriggerState) -> Instant:
    """The wall time of a trigger's last fire time; where no zone counts, the instant."""
    return 0 if state.last is None else to_instant(state.last) + state.offset * SECOND
