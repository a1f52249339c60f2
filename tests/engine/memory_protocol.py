"""The protocol between a scheduler's memory and the store, in memory: a scheduler's own parts around a tiny store.

Nothing happens by itself. Whoever drives it (`test_memory_machine`) says when a write reaches the store, when its answer
comes, and how far the watch has come; and may write in the place of agents, people and another scheduler meanwhile.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from xchronos.clock import SECOND
from xchronos.engine.committer import Committer
from xchronos.engine.informer import Informer
from xchronos.engine.metrics import SchedulerMetrics
from xchronos.engine.state.cluster_state import ClusterState
from xchronos.engine.state.context import SchedulerContext, SessionMemory
from xchronos.engine.state.copy_history import CopyHistory
from xchronos.engine.state.unreadable import UnreadableRecords
from xchronos.engine.state.work_queue import WorkQueue
from xchronos.errors import StoreUnavailable
from xchronos.model.compile.unit import compile_unit
from xchronos.model.records import Attempt, Execution, ExecutionState, Machine, Schedule, UnitRecord
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys, shard_of, unit_of
from xchronos.registry.transitions import claim, destination, put
from xchronos.registry.units import Loaded
from xchronos.store.contract import Committed, Delete, DeleteRange, Event, Guard, KeyValue, Put, Txn, WatchBatch

UNIT = "a.service"
MACHINES = ("m1", "m2")
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = Keys()
SHARD = KEYS.shard(shard_of(UNIT))
MEANING = compile_unit(UNIT, b"[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=process\n")


class StillClock:
    """It is always the same moment."""

    def now(self) -> int:
        return 0

    def monotonic(self) -> int:
        return 0

    async def sleep(self, micros: int) -> None:
        raise AssertionError("nobody waits here")


class TinyStore:
    """Rows, revisions, guards and events, as `xchronos.store.contract` wants them; and every revision is kept."""

    def __init__(self) -> None:
        self.rows: dict[str, KeyValue] = {}
        self.past: list[dict[str, KeyValue]] = [{}]
        self.events: list[list[Event]] = [[]]

    @property
    def revision(self) -> int:
        return len(self.past) - 1

    def commit(self, txn: Txn) -> Committed:
        for guard in txn.guards:
            row = self.rows.get(guard.key)
            held = 0 if row is None else row.mod_revision if guard.target == "mod" else row.create_revision
            if held != guard.revision:
                return Committed(False, self.revision)
        revision, events = self.revision + 1, []
        for operation in txn.operations:
            assert not isinstance(operation, DeleteRange), "moves and claims name their keys"
            row = self.rows.pop(operation.key, None)
            if isinstance(operation, Put):
                created = revision if row is None else row.create_revision
                self.rows[operation.key] = KeyValue(operation.key, operation.value, created, revision)
                events.append(Event("put", operation.key, operation.value, revision, created))
            elif row is not None:
                events.append(Event("delete", operation.key, b"", revision))
        if events:
            self.past.append(dict(self.rows))
            self.events.append(events)
        return Committed(True, self.revision)

    def open_at(self, revision: int) -> dict[str, tuple[str, KeyValue]]:
        """Every execution that had not ended at a revision: its machine and its row."""
        found: dict[str, tuple[str, KeyValue]] = {}
        for key, row in self.past[revision].items():
            if key.startswith(KEYS.live):
                machine, execution_id = KEYS.locate(key)
                assert execution_id not in found, "an execution is in two places"
                found[execution_id] = machine, row
        return found


@dataclass(eq=False)
class Write:
    """A Txn of ours: on its way, then carried out (`result`), then answered."""

    txn: Txn
    answered: Callable[[Committed | StoreUnavailable], None]
    upon: Mapping[str, int]
    """The executions that it is about, each with the revision that it was decided upon; 0: it is new."""
    result: Committed | None = None


@dataclass
class Protocol:
    """One scheduler, its writes, its watch, and the store; it is also what the scheduler's parts ask of each other."""

    store: TinyStore = field(default_factory=TinyStore)
    under_way: list[Write] = field(default_factory=list)
    late: list[Write] = field(default_factory=list)
    """Writes that are known to have no answer, and may still arrive."""
    watched: int = 0
    max_operations: int = 128
    unreadable: dict[str, Any] = field(default_factory=dict)
    """Of a cache of units: there is none that it could not read."""

    def __post_init__(self) -> None:
        self.cluster, self.work = ClusterState(StillClock()), WorkQueue()
        itself: Any = self  # as much of a store, a cache of units, a batcher ... as is asked for
        memory = SessionMemory(self.cluster, self.work, itself, CopyHistory(itself, KEYS), UnreadableRecords(itself))
        context = SchedulerContext(itself, KEYS, StillClock(), SECOND, "s1")
        metrics = SchedulerMetrics(CollectorRegistry())
        self.committer = Committer(context, memory, itself, itself, itself, itself, metrics)
        self.informer = Informer(context, memory, itself, itself)
        for machine in MACHINES:
            self.cluster.set_machine(Machine(machine))
        self._doubted = False
        self._upon: Mapping[str, int] = {}
        self._copies = 0
        self.take_shard("s1")

    # -- what the scheduler's parts ask for ---------------------------------------------------------------------------

    def fence(self, unit: str) -> Guard | None:
        return None if self._doubted else self._fence

    def doubt(self, fence: Guard) -> None:
        self._doubted = self._doubted or fence is self._fence

    def ended(self, execution_id: str) -> None:
        assert unit_of(execution_id) == UNIT

    def missing(self, machine: str) -> None:
        raise AssertionError(f"{machine} is there")

    async def get_many(self, names: Iterable[str]) -> dict[str, Loaded]:
        return {name: Loaded(name, UnitRecord(), MEANING, 1, 1) for name in names}

    def send(self, txn: Txn, answered: Callable[[Committed | StoreUnavailable], None]) -> None:
        self.under_way.append(Write(txn, answered, self._upon))

    # -- deciding -----------------------------------------------------------------------------------------------------

    def new(self, state: ExecutionState, machine: str = "") -> Execution:
        """An execution that was never written."""
        self._copies += 1
        return moved(Execution(UNIT, MOMENT, copy=self._copies), state, machine)

    def claim(self, executions: list[Execution]) -> None:
        """Decide about a fire time, as if its cursor had just been read."""
        fence, row = self.fence(UNIT), self.store.rows.get(KEYS.schedule(UNIT))
        assert fence is not None
        known = 0 if row is None else row.mod_revision
        schedule = Schedule(UNIT, 1, "", MOMENT, MOMENT)
        self.cluster.cursors.set(UNIT, schedule, known)
        cursor = self.cluster.cursors.known[UNIT]
        self._upon = {execution.id: 0 for execution in executions if execution.state != "ended"}
        txn = claim(KEYS, fence, schedule, known, executions, 0)
        self.committer.move_cursor(UNIT, cursor, txn, schedule, executions, MEANING)

    def move(self, execution_id: str, target: Execution, also: list[Execution]) -> None:
        """Decide about an execution."""
        entry = self.cluster.open[execution_id]
        self._upon = {execution_id: entry.revision, **{execution.id: 0 for execution in also}}
        self.committer.move(execution_id, entry, target, MEANING, also)

    # -- the store ----------------------------------------------------------------------------------------------------

    def carry_out(self, write: Write) -> None:
        """A write reaches the store."""
        write.result = self.store.commit(write.txn)
        if write in self.late:
            self.late.remove(write)

    def answer(self, write: Write) -> None:
        """The store's answer to a write comes."""
        assert write.result is not None
        self.under_way.remove(write)
        write.answered(write.result)

    def lose(self, write: Write) -> None:
        """The connection breaks: a write has no answer, and arrives late or never unless it was there already."""
        self.under_way.remove(write)
        if write.result is None:
            self.late.append(write)
        write.answered(StoreUnavailable("the connection is gone"))

    def watch(self, revision: int, *, backwards: bool = False) -> None:
        """The watch brings everything up to a revision, in one batch; what one Txn did in either order."""
        batches = self.store.events[self.watched + 1 : revision + 1]
        news = [
            event
            for events in batches
            for event in (reversed(events) if backwards else events)
            if event.key.startswith(KEYS.live)
        ]
        if news:
            finish(self.informer._take_executions(WatchBatch(revision, news)))
        self.watched = revision

    @property
    def sure(self) -> bool:
        """Whether this scheduler may write, and the store lets it."""
        return not self._doubted and self.store.rows[SHARD].create_revision == self._fence.revision

    # -- others -------------------------------------------------------------------------------------------------------

    def begin(self, execution: Execution) -> None:
        """Somebody starts an execution, and the watch tells of it."""
        self.store.commit(Txn((), (put(KEYS, execution),)))
        self.watch(self.store.revision)

    def write(self, execution: Execution) -> None:
        """Somebody else moves an execution from where it is."""
        machine, row = self.store.open_at(self.store.revision)[execution.id]
        source, target = KEYS.location(machine, execution.id), put(KEYS, execution)
        operations = (target,) if target.key == source else (Delete(source), target)
        assert self.store.commit(Txn((Guard(source, row.mod_revision),), operations)).succeeded

    def take_shard(self, owner: str) -> None:
        """A scheduler begins a term of the shard; `s1` is this one, which then catches up with all that was before."""
        self.store.commit(Txn((), (Delete(SHARD),)))
        self.store.commit(Txn((), (Put(SHARD, owner.encode()),)))
        if owner == "s1":
            self._fence = Guard(SHARD, self.store.revision, "create")
            self.watch(self.store.revision)
            self._doubted = False


def moved(execution: Execution, state: ExecutionState, machine: str = "") -> Execution:
    """The same execution in another state."""
    current = Attempt(len(execution.attempts) + 1, machine) if machine else None
    return msgspec.structs.replace(execution, state=state, current=current)


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what never waits for anything but its turn."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        pass


def read(row: KeyValue) -> Execution:
    """The record in a row, which has to be where its state says."""
    execution = decode(row, Execution)
    assert destination(KEYS, execution) == row.key
    return execution
