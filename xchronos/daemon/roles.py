"""The roles `scheduler` and `agent` of one daemon over one store, without settings, signals or HTTP.

This is what tests, benchmarks and the simulation start. `engine` carries out the role `scheduler`.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Gauge

from xchronos import __version__
from xchronos.agent.agent import Agent
from xchronos.agent.lease.lease_clock import LeaseClock
from xchronos.agent.lease.membership import Membership
from xchronos.agent.lease.partition import Watchman
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.aio import Offload, cancel_and_wait, first, inline
from xchronos.clock import SECOND, Clock, Micros, to_datetime
from xchronos.config.settings import HEARTBEAT_TTL
from xchronos.engine.engine import Engine
from xchronos.engine.leader.compaction import Compaction
from xchronos.engine.leader.machine_memory import MachineMemory
from xchronos.engine.state.context import SchedulerContext
from xchronos.errors import ExecutorUnavailable, StoreError
from xchronos.executors.contract import Executor
from xchronos.model.records import Capacity, Machine
from xchronos.registry.keys import Keys
from xchronos.registry.readers import is_old
from xchronos.registry.units import UnitReader
from xchronos.scheduler.feasibility import UNAVAILABLE
from xchronos.store.contract import Reporting, Store

log = structlog.get_logger(__name__)

PROBE_EVERY: Micros = 10 * SECOND
"""How long an executor's answer about its engine is believed before the engine is asked again, in microseconds."""

SETTLE_LIMIT: Micros = 5 * SECOND
"""How long a daemon that ends waits until the ends of its last attempts are settled, in microseconds."""

NOTED = 20
"""How many units that cannot be read /healthz names."""

UNLIMITED = Capacity()
"""The capacity of a machine that takes whatever units ask for."""


def show_zone_rules(registry: CollectorRegistry, release: str) -> None:
    """Add the metric that says which release of the time zone database counts here."""
    gauge = Gauge("xchronos_zone_rules", "The release of the time zone database", ["release"], registry=registry)
    gauge.labels(release).set(1)


@dataclass(frozen=True, slots=True)
class RolesContext:
    """What the roles of one daemon work with. Whoever makes the parts closes them, after `Roles.stop`."""

    store: Store
    """The job store."""

    keys: Keys
    """The names of the records in the store, in the daemon's namespace."""

    clock: Clock
    """The time, for every role."""

    host: HostContext
    """This machine as its steps see it. Its `machine` is the id under which the roles act."""

    executors: Mapping[str, Executor]
    """What steps are run with, by kind."""

    directory: Path
    """Where attempts keep their files. It outlives the daemon."""

    watchman: Watchman | None = None
    """What ends, in the agent's place, the steps that must not outlive its lease. None: nothing does."""

    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    """Where the roles count."""

    offload: Offload = inline
    """What compiles units that are dear."""

    reader: UnitReader = field(default_factory=UnitReader)
    """What stored units mean to the roles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolesOptions:
    """What the roles of one daemon are told. Nothing of it changes while they run."""

    instance: str
    """A word that tells this state directory from every other one, drawn once."""

    roles: frozenset[str] = frozenset(("scheduler", "agent"))
    """Some of `scheduler` and `agent`; others are not looked at. With neither, the store is only asked whether it is
    there."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    """What units may ask of this machine, as it is configured."""

    capacity: Capacity = UNLIMITED
    """How much units may ask for here."""

    address: str = ""
    """The URL under which other daemons reach this one's API; empty: they do not."""

    ttl: Micros = HEARTBEAT_TTL
    """How long a silent machine or scheduler counts as alive, in microseconds."""

    history: Micros = 0
    """How much of its past the leader lets the store keep, in microseconds; 0: the store sees to that itself."""

    engine_expected: bool = True
    """Whether a Docker engine that does not answer is a fault from the start on: its address is configured, or nothing
    else runs steps here. Otherwise it is one once an engine has answered."""

    remembers: bool = False
    """Whether the leader keeps a record of machines that are down."""

    alone: bool = False
    """Whether no other machine can use the store. Then nobody can take over what runs here, and a lease that is lost
    ends no step."""


class Roles:
    """A scheduler, an agent, both or neither, over one store."""

    def __init__(self, context: RolesContext, options: RolesOptions) -> None:
        store, keys, clock, host = context.store, context.keys, context.clock, context.host
        self.store = store
        self.keys = keys
        self.clock = clock
        self.metrics = context.metrics
        self._executors = context.executors
        self._reader = context.reader
        show_zone_rules(context.metrics, context.reader.reading.rules)
        self._engine_expected = options.engine_expected
        self._versions: dict[str, str] = {}
        self._probed: Micros | None = None
        self._machine = Machine(
            id=host.machine,
            instance=options.instance,
            metadata=dict(options.metadata),
            address=options.address,
            hostname=host.facts.hostname,
            version=__version__,
            started_at=to_datetime(clock.now()),
            capacity=options.capacity,
            reads=context.reader.reading,
        )
        self.engine: Engine | None = None
        if "scheduler" in options.roles:
            duties = [Compaction(store, keys, clock, options.history).duty] if options.history else []
            duties += [MachineMemory(store, keys, clock).duty] if options.remembers else []
            scheduler = SchedulerContext(store, keys, clock, options.ttl, host.machine, context.offload, context.reader)
            self.engine = Engine(scheduler, self.metrics, instance=options.instance, duties=duties)
        self.agent: Agent | None = None
        self._lease_clock: LeaseClock | None = None
        self._membership: Membership | None = None
        if "agent" in options.roles:
            lease_clock = self._lease_clock = LeaseClock(clock, options.ttl, alone=options.alone)
            self._membership = member = Membership(store, keys, clock, lease_clock, self._machine, self._describe)
            self.agent = Agent(
                store,
                keys,
                clock,
                host,
                context.executors,
                context.directory,
                lambda: member.machine,
                member.refresh,
                lease_clock,
                self.metrics,
                context.watchman,
                context.offload,
                context.reader,
            )
        self._watchman = context.watchman
        self._ask_every = options.ttl // 5
        self._away = ""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def machine(self) -> Machine:
        """This machine as other daemons see it: its configuration, and what people want of it."""
        return self._machine if self._membership is None else self._membership.machine

    def configure(self, metadata: Mapping[str, str], capacity: Capacity) -> None:
        """Exchange what units may ask of this machine. It is advertised with the next heartbeat."""
        self._machine = msgspec.structs.replace(self._machine, metadata=dict(metadata), capacity=capacity)

    def health(self) -> list[str]:
        """What is wrong with this daemon right now, a sentence for each fault; empty when all is well."""
        faults = []
        if self.engine is not None and not self.engine.ready.is_set():
            faults.append("the scheduler is not ready")
        elif self.engine is not None and not self.engine.heard:
            faults.append("the scheduler has no answer from the job store")
        if self._lease_clock is not None and self._lease_clock.stage != "good":
            faults.append("the agent has no answer from the job store")
        if self._away:
            faults.append(f"no answer from the job store: {self._away}")
        if isinstance(self.store, Reporting):
            faults += (f"the job store: {fault}" for fault in self.store.faults())
        if self._machine.docker.startswith(UNAVAILABLE) and self._engine_expected:
            faults.append(
                f"the Docker engine does not answer: {self._machine.docker.removeprefix(UNAVAILABLE).strip()}"
            )
        return faults

    def notes(self) -> list[str]:
        """What is no fault of this daemon, and a person should look at: a sentence for each."""
        unread = self.engine.cannot_read if self.engine is not None else {}
        told = [f"the stored unit {unit} cannot be read here: {why}" for unit, why in list(unread.items())[:NOTED]]
        if len(unread) > NOTED:
            told.append(f"{len(unread) - NOTED} more stored units cannot be read here")
        zones = self._reader.zones
        if is_old(zones.expires, self.clock.now()):
            told.append(f"the time zone rules {zones.version} are older than a year: upgrade tzdata, and restart")
        return told

    async def start(self) -> None:
        """Start the roles and return when they are ready. The machine joins before anything is scheduled onto it.

        Raises what ends a role before that.
        """
        if self._membership is not None and self.agent is not None:
            self._launch(self._membership.run(), "membership")
            await self._reached(self._membership.joined)
            self._launch(self.agent.run(), "agent")
            await self._reached(self.agent.ready)
        if self.engine is not None:
            self._launch(self.engine.run(), "engine")
            await self._reached(self.engine.ready)
        if self.engine is None and self.agent is None:
            self._launch(self._ask(), "asking")

    async def _ask(self) -> None:
        """Ask the store now and then. A daemon with neither role would not notice that it is away."""
        while True:
            try:
                await self.store.get(self.keys.election)
                self._away = ""
            except StoreError as error:
                self._away = str(error)
            await self.clock.sleep(self._ask_every)

    async def wait(self) -> None:
        """Wait until a role ends, and raise what has ended it. No role ends by itself."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self, grace: Micros) -> None:
        """Stop the roles in order.

        Nothing new is begun. The attempts have `grace` microseconds to end. Their ends are settled. Then the roles end,
        the heartbeat last, and the machine leaves.
        """
        agent = self._named("agent")
        # An agent that has failed leaves its attempts running. Then the machine must not leave: others would start
        # them.
        clean = agent is None or not agent.done()
        if self.engine is not None:
            self.engine.hold()
        if self._membership is not None:
            self._membership.close_down(to_datetime(self.clock.now() + grace))
        if self.agent is not None:
            # What could not be ended goes on: then, too, the machine must not leave.
            clean = await self.agent.drain(grace) and clean
        if self.engine is not None:
            await self.engine.settle(SETTLE_LIMIT)
        for name in ("asking", "engine", "agent", "membership"):
            task = self._named(name)
            if task is not None:
                await cancel_and_wait(task)
        if self._membership is not None and clean:
            await asyncio.shield(self._membership.leave())
            if self._watchman is not None:
                self._watchman.end()

    def _named(self, name: str) -> asyncio.Task[None] | None:
        return next((task for task in self._tasks if task.get_name() == name), None)

    def _launch(self, role: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(role, name=name))

    async def _reached(self, event: asyncio.Event) -> None:
        """Wait until a role is ready. Raises what ends any role before that."""
        await first(event.wait(), self.wait())

    async def _describe(self) -> Machine:
        now = self.clock.monotonic()
        if self._probed is None or now - self._probed >= PROBE_EVERY:
            self._probed = now
            docker = ""
            for kind, executor in self._executors.items():
                try:
                    self._versions[kind] = await executor.probe()
                    self._engine_expected = self._engine_expected or kind == "docker"
                except ExecutorUnavailable as error:
                    self._versions[kind] = f"{UNAVAILABLE} {error}"
                if kind == "docker":
                    docker = self._versions[kind]
            since = None
            if docker.startswith(UNAVAILABLE):
                since = self._machine.docker_since or to_datetime(self.clock.now())
            self._machine = msgspec.structs.replace(
                self._machine, executors=tuple(sorted(self._executors)), docker=docker, docker_since=since
            )
        return self._machine
