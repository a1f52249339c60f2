"""The course of events: everything that is done to daemons, the store and the units during the trouble."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from xchronos.clock import MILLISECOND, SECOND, Micros, to_datetime
from xchronos.errors import Conflict
from xchronos.model.records import Desired
from xchronos.testing.simulation.machines import SimulatedEngine
from xchronos.testing.simulation.network import Mood
from xchronos.testing.simulation.scenario import UnitPlan
from xchronos.testing.simulation.world import SimulatedMachine, World


class Course:
    """Makes things go wrong. A scenario's weights name methods of this class: each is one kind of event.

    An event takes effect immediately. What ends it (a daemon that comes back, say) happens later, in a task.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.scenario = world.scenario
        self.random = world.random("course")
        self._plans: dict[str, UnitPlan] = {plan.name: plan for plan in self.scenario.units}
        self._changes = 0
        self._later: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Start every daemon that is not late, and submit all units but the last. Nothing goes wrong yet."""
        for member in self.world.members:
            if member.plan.late:
                self._meanwhile(self._back(member, self._length(self.scenario.seconds * SECOND)))
            else:
                await self.world.up(member)
        for plan in self.scenario.units[:-1]:
            await self.world.submit(plan.name, plan.text())
        await self.world.sleep(self._length(SECOND))
        while self.scenario.leap and len(self.world.monitor.eras) < len(self.scenario.units) - 1:
            await self.world.sleep(SECOND)

    async def trouble(self) -> None:
        """Make events happen, as often and for as long as the scenario says. Ends early when a promise is broken."""
        world, weights = self.world, self.scenario.weights
        self._set_mood(self.scenario.mood)
        names = sorted(weights)
        end = world.loop.elapsed + self.scenario.seconds * SECOND
        while world.loop.elapsed < end and not world.violations:
            await world.sleep(self._length(SECOND // 2))
            what = self.random.choices(names, [weights[name] for name in names])[0]
            if what != "nothing":
                await getattr(self, what)()

    async def calm(self) -> None:
        """End all trouble. What was begun ends first; then every daemon is up, connected and running."""
        world = self.world
        if self.scenario.back or self.scenario.leap:
            for member in world.members:
                world.jump(member, member.plan.skew - member.clock.skew)
        self._set_mood(Mood())
        if self._later:
            await asyncio.wait(self._later)
        for member in world.members:
            world.go_on(member)
            world.cut(member, cut=False)
            if member.process is None:
                await world.up(member)
        world.set_away(away=False)
        if self.scenario.skew:
            await self._upgrade_all()
        # The cluster does not uncordon machines or resume schedules by itself: people have to.
        while any(member.name not in world.machines() for member in world.members if "agent" in member.plan.roles):
            await world.sleep(SECOND)
        await self.submit()
        for member in world.members:
            await world.ask(world.wishes.uncordon(member.name))
            # With the metadata of the beginning there is a machine for every unit.
            await world.ask(world.wishes.set_metadata(member.name, {"zone": member.plan.zone}))
        for name in sorted(world.monitor.living):
            await world.ask(world.registry.set_desired(name, "active", now=world.clock.now()))
            if world.kept(name):
                await self._keep(name)

    async def _upgrade_all(self) -> None:
        """Replace every daemon that is not the newest."""
        for member in self.world.members:
            if not member.newest:
                member.newest = True
                await self.world.kill(member)
                await self.world.up(member)

    async def _keep(self, name: str) -> None:
        """Start a unit that is kept running, since somebody may have stopped it."""
        world = self.world
        while name in world.monitor.living:
            try:
                await world.registry.start(name, now=world.clock.now())
            except Conflict:
                await world.sleep(SECOND // 2)  # it is still stopping
            else:
                return

    def _set_mood(self, mood: Mood) -> None:
        self.world.mood = mood
        for member in self.world.members:
            if member.connection is not None:
                member.connection.mood = mood

    def _length(self, most: Micros) -> Micros:
        return self.random.randrange(10 * MILLISECOND, most)

    def _some(self) -> SimulatedMachine | None:
        """A random member whose daemon runs; None when no daemon does."""
        found = [member for member in self.world.members if member.process is not None]
        return self.random.choice(found) if found else None

    def _unit(self) -> str:
        living = sorted(self.world.monitor.living)
        return self.random.choice(living) if living else ""

    def _meanwhile(self, work: Coroutine[Any, Any, None]) -> None:
        self._later.append(asyncio.create_task(work))

    # -- daemons and machines -----------------------------------------------------------------------------------------

    async def kill(self, *, power: bool = False) -> None:
        """A daemon is killed (kill -9), and comes back soon."""
        member = self._some()
        if member is not None:
            await self.world.kill(member, power=power)
            self._meanwhile(self._back(member, self._length(2 * self.scenario.patience)))

    async def power(self) -> None:
        """A machine loses its power, with everything that runs on it."""
        await self.kill(power=True)

    async def leave(self) -> None:
        """A daemon is asked to end."""
        member = self._some()
        if member is not None and not member.leaving:
            self._meanwhile(self._leave(member, self.random.choice((0, SECOND)), self._length(self.scenario.ttl)))

    async def _leave(self, member: SimulatedMachine, grace: Micros, away: Micros) -> None:
        await self.world.leave(member, grace)
        await self._back(member, away)

    async def _back(self, member: SimulatedMachine, after: Micros) -> None:
        await self.world.sleep(after)
        if member.process is None:
            await self.world.up(member)

    async def upgrade(self) -> None:
        """A daemon is replaced: by a newer one mostly, or by an older one."""
        member = self._some()
        if member is not None and not member.leaving:
            member.newest = self.random.random() < 0.6
            self.world.count("upgrade" if member.newest else "downgrade")
            if self.random.random() < 0.5:
                await self.world.kill(member)
                self._meanwhile(self._back(member, self._length(self.scenario.ttl)))
            else:
                self._meanwhile(self._leave(member, self.random.choice((0, SECOND)), self._length(self.scenario.ttl)))

    async def pause(self) -> None:
        """A daemon's process is stopped for a while; the world goes on."""
        member = self._some()
        if member is not None and member.process is not None and not member.process.stopped:
            self.world.pause(member)
            self._meanwhile(self._go_on(member, self._length(2 * self.scenario.patience)))

    async def _go_on(self, member: SimulatedMachine, after: Micros) -> None:
        process = member.process
        await self.world.sleep(after)
        if member.process is process:
            self.world.go_on(member)

    async def cut(self) -> None:
        """A daemon cannot reach the store for a while; the others can."""
        member = self._some()
        if member is not None and member.connection is not None and not member.connection.cut:
            self.world.cut(member, cut=True)
            self._meanwhile(self._connect(member, self._length(3 * self.scenario.patience)))

    async def _connect(self, member: SimulatedMachine, after: Micros) -> None:
        connection = member.connection
        await self.world.sleep(after)
        if member.connection is connection:
            self.world.cut(member, cut=False)

    async def engine(self) -> None:
        """A machine's container engine answers nobody for a while; what it runs goes on."""
        engine = self.random.choice(self.world.members).engine
        if engine.answers.is_set():
            self.world.silence(engine, silent=True)
            self._meanwhile(self._answer(engine, self._length(3 * self.scenario.ttl)))

    async def _answer(self, engine: SimulatedEngine, after: Micros) -> None:
        await self.world.sleep(after)
        self.world.silence(engine, silent=False)

    async def jump(self) -> None:
        """Somebody sets a wall clock."""
        if self.scenario.back:
            for member in self.world.members:
                self.world.jump(member, -self._length(self.scenario.back))
            return
        member, length = self.random.choice(self.world.members), self.random.choice((-1, 1))
        if self.scenario.leap:
            length *= self._length(self.scenario.leap)
            self.world.jump(member, member.plan.skew + length - member.clock.skew)
        else:
            self.world.jump(member, length * self._length(5 * SECOND))

    # -- the store ----------------------------------------------------------------------------------------------------

    async def away(self) -> None:
        """Nobody can reach the store for a while."""
        if not self.world.store.away:
            self.world.set_away(away=True)
            self._meanwhile(self._come_back(self._length(2 * self.scenario.ttl)))

    async def _come_back(self, after: Micros) -> None:
        await self.world.sleep(after)
        self.world.set_away(away=False)

    async def compact(self) -> None:
        """The store forgets its past."""
        self.world.note("store COMPACT")
        self.world.count("compact")
        await self.world.store.compact(self.world.store.revision)

    async def expire(self) -> None:
        """A lease ends before its time."""
        await self.world.expire(self.random)

    # -- people -------------------------------------------------------------------------------------------------------

    async def submit(self) -> None:
        """All units that are not there (yet, or any more) are submitted."""
        for plan in self.scenario.units:
            if plan.name not in self.world.monitor.living:
                await self.world.submit(plan.name, plan.text())

    async def change(self) -> None:
        """A unit gets another text with the same triggers: its cursor goes on."""
        name = self._unit()
        if name:
            self._changes += 1
            await self.world.submit(name, self._plans[name].text(note=f"change {self._changes}"))

    async def retrigger(self) -> None:
        """A unit gets other triggers: its schedule starts anew."""
        name = self._unit()
        if name:
            await self.world.submit(name, self._plans[name].text(interval=self.random.randrange(1, 4)))

    async def destroy(self) -> None:
        """A unit is destroyed, even if it runs."""
        name = self._unit()
        if name:
            await self.world.destroy(name)

    async def start(self) -> None:
        """A unit is started by hand."""
        name = self._unit()
        if name:
            self.world.note(f"user START {name}")
            await self.world.ask(self.world.registry.start(name, now=self.world.clock.now()))

    async def end(self) -> None:
        """Everything that runs of a unit is stopped."""
        name = self._unit()
        if name:
            self.world.note(f"user STOP {name}")
            await self.world.ask(self.world.registry.stop(name, "stopped by hand"))

    async def hold(self) -> None:
        """A schedule is paused, or goes on."""
        name = self._unit()
        if name:
            desired: Desired = self.random.choice(("paused", "active", "active"))
            self.world.note(f"user {desired.upper()} {name}")
            await self.world.ask(self.world.registry.set_desired(name, desired, now=self.world.clock.now()))

    async def cordon(self) -> None:
        """A machine is cordoned, or drained, or may have work again."""
        machines, wishes = self.world.machines(), self.world.wishes
        if machines:
            name, what = self.random.choice(machines), self.random.choice(("cordon", "drain", "uncordon", "uncordon"))
            self.world.note(f"user {what.upper()} {name}")
            if what == "drain":
                until = to_datetime(self.world.clock.now() + self._length(3 * SECOND))
                await self.world.ask(wishes.drain(name, until))
            else:
                await self.world.ask(wishes.cordon(name) if what == "cordon" else wishes.uncordon(name))

    async def move(self) -> None:
        """A machine gets other metadata. Units that ask for the former metadata have to go elsewhere."""
        machines = self.world.machines()
        if machines:
            name, zone = self.random.choice(machines), self.random.choice(("east", "west"))
            self.world.note(f"user MOVE {name} to {zone}")
            await self.world.ask(self.world.wishes.set_metadata(name, {"zone": zone}))
