"""The world of one run: the store, the machines, the daemons, and all that can be done to them."""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import MILLISECOND, MINUTE, SECOND, Micros
from xchronos.daemon.roles import Roles, RolesContext, RolesOptions
from xchronos.errors import Conflict, NotFound, StoreError
from xchronos.executors.contract import StepSpec
from xchronos.model.compile.unit import compile_unit
from xchronos.model.records import Capacity
from xchronos.model.unit import Unit
from xchronos.registry.keys import Keys, unit_of
from xchronos.registry.machine_desired import DesiredMachines
from xchronos.registry.registry import Registry
from xchronos.registry.roster import Share
from xchronos.registry.units import UnitReader
from xchronos.store.transactions import Change
from xchronos.testing.clock import START
from xchronos.testing.simulation.kept import unsettled
from xchronos.testing.simulation.loop import Process, SimulatedLoop, WorldClock
from xchronos.testing.simulation.machines import (
    CallExecutor,
    ContainerExecutor,
    GuardianHand,
    SimulatedEngine,
    SimulatedGuardian,
)
from xchronos.testing.simulation.monitor import Monitor
from xchronos.testing.simulation.network import Connection, Mood, WorldStore
from xchronos.testing.simulation.scenario import OLD_READER, READERS, RULES, MemberPlan, Scenario
from xchronos.testing.simulation.shapes import SHAPES
from xchronos.testing.simulation.sink import Body, SimulatedStart, Sink
from xchronos.triggers.zones import rules_of
from xchronos.unitfile import HostFacts


class SimulatedMachine:
    """A machine and the daemon on it. `process`, `connection` and `roles` are None while no daemon runs."""

    def __init__(self, plan: MemberPlan, world: "World") -> None:
        self.plan = plan
        self.name = plan.name
        self.clock = WorldClock(world.loop, START, plan.skew)
        self.engine = SimulatedEngine(world.sink, plan.name, world.loop, world.random(f"engine {plan.name}"))
        self.guardian = SimulatedGuardian(self.engine)
        self.random = world.random(f"network {plan.name}")
        self.process: Process | None = None
        self.connection: Connection | None = None
        self.roles: Roles | None = None
        self.leaving = False
        self.newest = False
        """Whether the daemons that start here are the newest, in a run in which daemons differ."""

    def reader(self, skew: str) -> UnitReader:
        """What stored units mean to a daemon that starts here now."""
        if skew == "rules":
            return READERS[self.newest]
        return OLD_READER if skew and not self.newest else UnitReader()


class _Submitting(Registry):
    """Takes in whatever is submitted, as if it had been before there were daemons that cannot read it."""

    async def schedulers(self) -> tuple[Share, ...]:
        return ()


class World:
    """Runs the members of a scenario.

    `violations` has the promises that were broken, `trace` what happened (None when it is not kept), and `counts` how
    often each kind of thing did. `units` has the present meaning of each unit that was ever submitted, and `texts` all
    its meanings by fingerprint.
    """

    def __init__(self, loop: SimulatedLoop, scenario: Scenario, directory: Path, *, keep_trace: bool = False) -> None:
        self.loop = loop
        self.scenario = scenario
        self.directory = directory
        self.clock = WorldClock(loop, START)
        self.keys = Keys()
        self.violations: list[str] = []
        self.trace: list[str] | None = [] if keep_trace else None
        self.counts: dict[str, int] = {}
        self.texts: dict[str, dict[str, Unit]] = {}
        self.units: dict[str, Unit] = {}
        self.plans = {plan.name: plan for plan in scenario.units}
        self._digest = blake2b(digest_size=16)
        slots = {plan.name: plan.slots for plan in scenario.members}
        self.monitor = Monitor(self.keys, self.violate, self.units.get, self.clock.now, slots)
        self.monitor.good_weather = scenario.back > 0
        self.monitor.ahead = scenario.ahead
        self._skews = [plan.skew for plan in scenario.members]
        self.monitor.rules.spread = max(0, *self._skews) - min(0, *self._skews)
        self.monitor.members = frozenset(plan.name for plan in scenario.members)
        self.store = WorldStore(self.clock, self._committed)
        self.store.max_operations = scenario.max_operations or self.store.max_operations
        self.sink = Sink(self.clock, self._body, self._started, self._ended)
        self.members = [SimulatedMachine(plan, self) for plan in scenario.members]
        self.mood = Mood()
        user = Connection(self.store, loop, Process("user"), self.random("user"), self._told)
        self.registry = _Submitting(user, self.keys)
        self.wishes = DesiredMachines(user, self.keys)

    # -- what is told -------------------------------------------------------------------------------------------------

    def random(self, what: str) -> Random:
        """A source of chance for one purpose. So one more question of one purpose changes nothing for the others."""
        return Random(f"{what} of {self.scenario.seed}")

    def count(self, what: str) -> None:
        """Count one more of a kind of thing."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def _told(self, what: str, text: str) -> None:
        self.count(what)
        self.note(text)

    def note(self, text: str, value: bytes = b"") -> None:
        """Note in the hash (and in the trace, if it is kept) that something has happened; `value` was written."""
        line = f"{self.loop.elapsed / SECOND:10.6f} {text}"
        self._digest.update(line.encode() + value)
        if self.trace is not None:
            self.trace.append(f"{line} {value.decode()}".rstrip())

    def violate(self, text: str) -> None:
        """A promise is broken."""
        self.note(f"VIOLATION {text}")
        self.violations.append(f"at {self.loop.elapsed / SECOND:.6f} s: {text}")

    @property
    def hash(self) -> str:
        """A digest of everything that happened, in 32 digits. Equal runs have equal digests."""
        return self._digest.hexdigest()

    def _committed(self, author: str, changes: list[Change], revision: int) -> None:
        for event, _ in changes:
            self.note(f"{author or 'store'} #{revision} {event.kind} {event.key}", event.value)
        self.monitor.committed(author, changes, revision)

    def _started(self, start: SimulatedStart) -> None:
        self.count("starts")
        self.note(f"{start.machine} START {start.execution} attempt {start.attempt}")
        self.monitor.started(start)

    def _ended(self, start: SimulatedStart) -> None:
        self.note(f"{start.machine} END {start.execution} attempt {start.attempt}: {start.code} {start.signal}")
        self.monitor.ended(start)

    def _body(self, spec: StepSpec) -> Body:
        """What a step does. It is drawn by the step's identity, so that no other step can change it."""
        random = Random(f"{self.scenario.seed} {spec.execution} {spec.attempt} {spec.step}")
        length = random.randrange(self.scenario.longest_step)
        shape = SHAPES[self.plans[spec.unit].shape]
        if random.random() < 0.3:
            length = 0
        elif shape.kept and random.random() < 0.8:
            length = 60 * MINUTE
        failing = shape.flaky or random.random() < 0.2
        return Body(length, int(failing and random.random() < self.scenario.failing), random.random() < 0.1)

    # -- daemons ------------------------------------------------------------------------------------------------------

    async def up(self, member: SimulatedMachine) -> None:
        """Start a daemon on a member's machine. Returns immediately; the daemon gets ready in its own process."""
        plan = member.plan
        process = member.process = Process(plan.name)
        connection = member.connection = Connection(self.store, self.loop, process, member.random, self._told)
        connection.mood = self.mood
        calls = CallExecutor(self.sink, process, plan.name, member.clock)
        facts = HostFacts(hostname=plan.name, machine_id=plan.name)
        home = self.directory / plan.name
        context = RolesContext(
            connection,
            self.keys,
            member.clock,
            HostContext(plan.name, facts, {}, home / "secrets", 1 << 20),
            {"python": calls, "docker": ContainerExecutor(member.engine, process)},
            home,
            GuardianHand(member.guardian, process),
            reader=member.reader(self.scenario.skew),
        )
        options = RolesOptions(
            instance=plan.name,
            roles=plan.roles,
            metadata={"zone": plan.zone},
            capacity=Capacity(slots=plan.slots),
            ttl=self.scenario.ttl,
            history=self.scenario.remembers,
        )
        roles = member.roles = Roles(context, options)
        self.note(f"{plan.name} UP {'+'.join(sorted(plan.roles))}")
        self.count("up")
        self.loop.spawn(process, self._live(process, roles), f"life of {plan.name}")
        await asyncio.sleep(0)

    async def _live(self, process: Process, roles: Roles) -> None:
        try:
            await roles.start()
            self.note(f"{process.name} READY")
            await roles.wait()
        except Exception as error:  # noqa: BLE001 - no error at all may end a living daemon
            if process.alive:
                self.violate(f"the daemon of {process.name} has ended: {_words(error)}")

    async def kill(self, member: SimulatedMachine, *, power: bool = False) -> None:
        """End a daemon by kill -9. With `power`, the whole machine goes down, with everything on it."""
        assert member.process is not None
        self.note(f"{member.name} {'POWER OFF' if power else 'KILL'}")
        self.count("power" if power else "kill")
        await self.loop.end_process(member.process)
        if power:
            member.engine.power_off()
            member.guardian.power_off()
        self._down(member)

    def _down(self, member: SimulatedMachine) -> None:
        if member.connection is not None:
            member.connection.break_watches("the process has ended")
        member.process = member.connection = member.roles = None
        member.leaving = False

    async def leave(self, member: SimulatedMachine, grace: Micros) -> None:
        """SIGTERM: the daemon ends by itself, in order, within `grace`. It is killed after 30 seconds."""
        assert member.process is not None
        assert member.roles is not None
        self.note(f"{member.name} LEAVE with a grace of {grace / SECOND} s")
        self.count("leave")
        process, member.leaving = member.process, True
        work = self.loop.spawn(process, member.roles.stop(grace), f"end of {member.name}")
        await asyncio.wait({work}, timeout=30)
        if member.process is not process:
            return  # it was killed meanwhile
        if not work.done():
            self.note(f"{member.name} does not end; killed")
        elif work.exception() is not None:
            self.violate(f"{member.name} could not end: {work.exception()!r}")
        await self.loop.end_process(process)
        self._down(member)

    def pause(self, member: SimulatedMachine) -> None:
        """SIGSTOP."""
        assert member.process is not None
        self.note(f"{member.name} STOP")
        self.count("pause")
        self.loop.stop_process(member.process)

    def go_on(self, member: SimulatedMachine) -> None:
        """SIGCONT."""
        if member.process is not None and member.process.stopped:
            self.note(f"{member.name} CONT")
            self.loop.continue_process(member.process)

    def cut(self, member: SimulatedMachine, *, cut: bool) -> None:
        """Cut a member off from the store, or connect it again."""
        if member.connection is not None and member.connection.cut != cut:
            self.note(f"{member.name} {'CUT' if cut else 'CONNECTED'}")
            self.count("cut" if cut else "connected")
            member.connection.cut = cut
            if not cut:
                member.connection.break_watches("the connection was cut")

    def set_away(self, *, away: bool) -> None:
        """Take the store away from everybody, or bring it back."""
        if self.store.away != away:
            self.note(f"store {'AWAY' if away else 'BACK'}")
            self.store.away = away
            if away:
                self.count("away")
                for member in self.members:
                    if member.connection is not None:
                        member.connection.break_watches("the store is away")

    def silence(self, engine: SimulatedEngine, *, silent: bool) -> None:
        """Have a machine's container engine answer nobody, or answer again."""
        self.note(f"{engine.machine} engine {'SILENT' if silent else 'ANSWERS'}")
        self.count("engine away" if silent else "engine back")
        if silent:
            engine.answers.clear()
        else:
            engine.answers.set()

    def jump(self, member: SimulatedMachine, length: Micros) -> None:
        """Set a member's wall clock."""
        member.clock.skew += length
        self.monitor.ahead = max(self.monitor.ahead, member.clock.skew)
        self._skews.append(member.clock.skew)
        self.monitor.rules.spread = max(0, *self._skews) - min(0, *self._skews)
        self.note(f"{member.name} wall clock {length / SECOND:+} s, now {member.clock.skew / SECOND:+}")
        self.count("jump")

    async def expire(self, random: Random) -> None:
        """End some lease before its time, as an operator may."""
        bound = {row.lease: key for key, row in sorted(self.store.rows().items(), reverse=True) if row.lease}
        machines = {lease for lease, key in bound.items() if key.startswith(self.keys.machines)}
        leases = sorted(bound if random.random() < 0.3 else bound.keys() - machines)
        if leases:
            lease = random.choice(leases)
            self.note(f"store EXPIRES the lease {lease}")
            self.count("expire")
            # A machine's margins rely on its lease living for the TTL, so they cannot hold now.
            self.monitor.overlap_excused = self.monitor.overlap_excused or lease in machines
            try:
                await self.store.revoke(lease)
            except StoreError as error:
                self.note(f"store: {error}")

    # -- units --------------------------------------------------------------------------------------------------------

    async def submit(self, name: str, text: bytes) -> None:
        """Submit a unit, or its new text."""
        with self._rules():
            unit = compile_unit(name, text, [], "")
        self.texts.setdefault(name, {})[unit.fingerprint] = unit
        self.units[name] = unit
        self.note(f"user SUBMIT {name} {unit.revision[:8]}")
        await self.ask(self.registry.submit(name, text, now=self.clock.now()))

    def _rules(self) -> AbstractContextManager[None]:
        return rules_of(RULES[0]) if self.scenario.skew == "rules" else nullcontext()

    async def ask(self, request: Coroutine[Any, Any, object]) -> None:
        """Make a person's request. That it is refused is no violation."""
        try:
            with self._rules():
                await request
        except (Conflict, NotFound, StoreError) as error:
            self.note(f"user: {error}")

    async def destroy(self, name: str) -> None:
        """Destroy a unit."""
        self.note(f"user DESTROY {name}")
        await self.ask(self.registry.destroy(name))

    def machines(self) -> list[str]:
        """The ids of the machines that the store has as alive."""
        return [key[len(self.keys.machines) :] for key in self.store.rows() if key.startswith(self.keys.machines)]

    # -- quiet --------------------------------------------------------------------------------------------------------

    def restless(self) -> str:
        """What keeps the cluster from being at rest, in words; empty when nothing does."""
        rows, keys = self.store.rows(), self.keys
        for key in sorted(rows):
            if key.startswith((keys.pending, keys.placements)) and not self.kept(unit_of(keys.locate(key)[1])):
                return key
        for name in sorted(self.monitor.living):
            eras = self.monitor.eras.get(name)
            if not eras or eras[-1].life != self.monitor.lives[name]:
                return f"{name} has no cursor"
            schedule = eras[-1].schedule
            if not schedule.finished and schedule.triggers:
                return f"{name} is not finished: next at {[str(state.next) for state in schedule.triggers]}"
        for key in rows:
            unit = ""
            if key.startswith(keys.executions):
                unit = key[len(keys.executions) :].partition("/")[0]
            elif key.startswith(keys.schedules):
                unit = key[len(keys.schedules) :]
            if unit and unit not in self.monitor.living:
                return f"{key} of a destroyed unit"
        if reason := unsettled(rows, keys, [self.units[name] for name in sorted(self.monitor.living)]):
            return reason
        runs = (
            one
            for one in self.sink.starts
            if one.ended is None and not (self.kept(one.unit) and keys.placement(one.machine, one.execution) in rows)
        )
        return next((f"{one.execution} runs on {one.machine}" for one in runs), "")

    def kept(self, unit: str) -> bool:
        """Whether a unit is there and is kept running."""
        return unit in self.monitor.living and self.plans[unit].kept

    async def sleep(self, length: Micros) -> None:
        """Let time pass."""
        await self.clock.sleep(max(length, MILLISECOND))


def _words(error: BaseException) -> str:
    """An exception in words; for a group, the exceptions in it."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_words(inner) for inner in error.exceptions)
    return f"{type(error).__name__}: {error}"
