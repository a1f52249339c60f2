"""What all placements of one agent share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xchronos.agent.admission import Admission
from xchronos.agent.attempt.journal import AttemptFiles
from xchronos.agent.late_results import LateResults
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.lease.partition import Partition
from xchronos.agent.steps.resolved_unit import HostContext, ResolvedUnits
from xchronos.clock import Clock
from xchronos.executors.contract import Executor
from xchronos.registry.keys import Keys
from xchronos.registry.units import UnitCache
from xchronos.store.batcher import Batcher
from xchronos.store.contract import Store


@dataclass(frozen=True, slots=True)
class AgentContext:
    """What every placement of an agent is worked on with. Set once, when the agent is made.

    Attributes:
        store: Where placements are read.
        batcher: Where the agent's Txns are committed, several in one request.
        keys: Where the records live in the store.
        clock: The agent's clock.
        host: This machine, as steps see it.
        executors: What steps are run with, by kind.
        directory: Where attempts keep their files.
        units: The units as the store has them.
        resolved: The units as they are on this machine.
        admission: What this machine runs, and whether it may begin one attempt more.
        lease_clock: For how long this machine may take itself for alive.
        partition: The guard of what must not outlive the lease.
        late_results: Where ends are told of attempts whose placement is gone.
        files: What makes and removes the directories of attempts.
    """

    store: Store
    batcher: Batcher
    keys: Keys
    clock: Clock
    host: HostContext
    executors: Mapping[str, Executor]
    directory: Path
    units: UnitCache
    resolved: ResolvedUnits
    admission: Admission
    lease_clock: LeaseClock
    partition: Partition
    late_results: LateResults
    files: AttemptFiles
