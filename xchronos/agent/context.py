"""What all placements of one agent share."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xchronos.agent.late_results import LateResults
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.lease.partition import Partition
from xchronos.agent.steps.resolved_unit import HostContext, ResolvedUnit
from xchronos.clock import Clock
from xchronos.executors.contract import Executor
from xchronos.model.records import Machine
from xchronos.model.unit import Unit
from xchronos.registry.keys import Keys
from xchronos.registry.units import CACHED, UnitCache
from xchronos.scheduler.feasibility import MachineView, crowded, unfit
from xchronos.scheduler.rejections import words_of
from xchronos.store.batcher import Batcher
from xchronos.store.contract import Store


@dataclass(slots=True)
class AgentContext:
    """What every placement of an agent is worked on with.

    `machine` is the machine as it is advertised, which `refresh` has looked up anew; `here` is what it runs.
    `closing` says why nothing new is started any more. While some of what an earlier agent began is `resuming`, nobody
    knows yet how much room there is. `lease_clock`, `partition` and `late_results` are for when the store is out of
    reach.
    """

    store: Store
    keys: Keys
    clock: Clock
    host: HostContext
    executors: Mapping[str, Executor]
    directory: Path
    machine: Callable[[], Machine]
    refresh: Callable[[], Awaitable[None]]
    batcher: Batcher
    units: UnitCache
    here: MachineView
    lease_clock: LeaseClock
    partition: Partition
    late_results: LateResults
    closing: str = ""
    resuming: set[object] = field(default_factory=set)
    resumed: asyncio.Event = field(default_factory=asyncio.Event)
    _judged: dict[str, tuple[Machine, Unit, str]] = field(default_factory=dict)
    _resolved: dict[str, ResolvedUnit] = field(default_factory=dict)

    def resolved(self, unit: Unit) -> ResolvedUnit:
        """What the unit means on this machine; worked out once for as long as the unit is what it was."""
        known = self._resolved.get(unit.name)
        if known is None or known.unit is not unit:
            if len(self._resolved) >= CACHED:
                self._resolved.clear()
            known = self._resolved[unit.name] = ResolvedUnit(unit, self.host, self.executors)
        return known

    def refusals(self, unit: Unit) -> tuple[str, str]:
        """Why this machine cannot run the unit: as it is advertised now, and with what it runs. Both empty: it can.

        The scheduler has asked the same, of what it knew: another one may have placed something here meanwhile.
        """
        machine = self.machine()
        self.here.machine = machine
        crowd = crowded(unit, self.here)
        known = self._judged.get(unit.name)
        if known is None or known[0] is not machine or known[1] is not unit:
            # Judged once for as long as both are what they were.
            if len(self._judged) >= CACHED:
                self._judged.clear()
            known = self._judged[unit.name] = (machine, unit, words_of(unfit(unit, machine)))
        return known[2], words_of(crowd)
