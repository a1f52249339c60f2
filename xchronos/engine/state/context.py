"""What the parts of a scheduler share, and what they ask of each other."""

from dataclasses import dataclass, field
from typing import Protocol

from xchronos.aio import Offload, inline
from xchronos.clock import Clock, Micros
from xchronos.engine.state.cluster_state import ClusterState
from xchronos.engine.state.copy_history import CopyHistory
from xchronos.engine.state.unreadable import UnreadableRecords
from xchronos.engine.state.work_queue import WorkQueue
from xchronos.registry.keys import Keys
from xchronos.registry.units import UnitCache, UnitReader
from xchronos.store.contract import Guard, Store


@dataclass(frozen=True, slots=True)
class SchedulerContext:
    """Who schedules, and with what. It is the same for the whole life of a scheduler.

    Attributes:
        store: The job store.
        keys: The namespace's keys.
        clock: The only clock there is.
        ttl: How long the leases of machines and schedulers last without a renewal.
        machine: This daemon's id.
        offload: What compiles units that are dear.
        reader: What stored units mean to it.
    """

    store: Store
    keys: Keys
    clock: Clock
    ttl: Micros
    machine: str
    offload: Offload = inline
    reader: UnitReader = field(default_factory=UnitReader)


@dataclass(frozen=True, slots=True)
class SessionMemory:
    """What a session knows, and what it has noted to decide. The next session begins with a new one.

    Attributes:
        cluster: Executions, machines and cursors.
        work: What is to be decided.
        units: Compiled units.
        copies: Which machines the copies of a fire time have had.
        unreadable: What cannot be read.
    """

    cluster: ClusterState
    work: WorkQueue
    units: UnitCache
    copies: CopyHistory
    unreadable: UnreadableRecords


class Fences(Protocol):
    """Says which units are this session's to decide about."""

    def fence(self, unit: str) -> Guard | None:
        """The guard of every write about a unit; None when another scheduler decides about it, or nobody yet."""
        ...


class DoubtListener(Protocol):
    """Is told when nobody knows whether a write has happened."""

    def doubt(self, fence: Guard) -> None:
        """A write with this fence has no answer."""
        ...


class HistoryListener(Protocol):
    """Is told of every record that is added to a unit's history."""

    def ended(self, execution_id: str) -> None:
        """An execution has ended."""
        ...
