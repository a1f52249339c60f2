"""Several schedulers over one store, and what must hold of the fire times whoever of them comes and goes."""

import asyncio
from random import Random

from tests.engine.engine_cluster import AGENT, SCHEDULER, Cluster
from tests.engine.faulty_store import FaultyStore
from xchronos.clock import SECOND, Clock, to_instant
from xchronos.errors import StoreUnavailable
from xchronos.registry.keys import SHARDS, shard_of
from xchronos.registry.roster import Roster
from xchronos.store.memory import MemoryStore
from xchronos.testing.clock import START, VirtualClock, run_virtual

TTL = 10 * SECOND
UNITS = [f"u{n}.service" for n in range(48)]
EVERY_SECOND = "TriggerRepeatInterval=1s\nMisfireThreshold=1h\nHistoryLimit=1000"


class PausableStore(FaultyStore):
    """A connection that can be held up, as all of a process is that is stopped; it keeps all answers to writes."""

    def __init__(self, store, clock, random) -> None:
        super().__init__(store, clock, random)
        self.going = asyncio.Event()
        self.going.set()
        self.answers = []
        self.losing = 0

    async def reach(self):
        await super().reach()
        await self.going.wait()

    async def commit_many(self, txns):
        done = await super().commit_many(txns)
        self.answers += [(self.clock.now(), txn, answer) for txn, answer in zip(txns, done, strict=True)]
        if self.losing:
            self.losing -= 1
            raise StoreUnavailable("the answer is lost")
        return done

    async def deliver(self, batches):
        async for batch in super().deliver(batches):
            await self.going.wait()
            yield batch


class World:
    """A cluster with one machine for the attempts, and schedulers that come and go."""

    def __init__(self, clock: Clock, store=None, seed: int = 1, ttl=TTL) -> None:
        self.clock = clock
        self.random = Random(seed)
        self.cluster = Cluster(clock, store)
        self.ttl = ttl

    async def begin(self, units=UNITS, chronos: str = EVERY_SECOND) -> None:
        await self.cluster.start("agent", AGENT, ttl=self.ttl)
        for name in units:
            await self.cluster.submit(name, chronos)

    async def join(self, machine: str, store=None):
        store = PausableStore(store or self.cluster.store, self.clock, self.random)
        return await self.cluster.start(machine, SCHEDULER, store=store, ttl=self.ttl)

    def connection(self, machine: str) -> PausableStore:
        store = self.cluster.running[machine].store
        assert isinstance(store, PausableStore)
        return store

    async def roster(self) -> Roster:
        keys = self.cluster.keys
        return Roster(keys, (await self.cluster.store.range(keys.scheduling)).items)

    async def shards(self) -> dict[str, set[int]]:
        return {share.machine: set(share.shards) for share in (await self.roster()).shares()}

    async def balanced(self, machines: set[str]) -> None:
        shares = await self.shards()
        assert set(shares) == machines
        counts = [len(shards) for shards in shares.values()]
        assert sum(counts) == SHARDS, shares
        assert max(counts) - min(counts) <= 1

    async def lateness(self, since: float = float("-inf")) -> dict[str, list[tuple[float, float]]]:
        """By unit, when each fire time was and how late it was decided about, in seconds."""
        found = {}
        for name in UNITS:
            found[name] = [
                (
                    round((to_instant(execution.fire_time) - START) / SECOND, 3),
                    (execution.claimed_at - execution.fire_time).total_seconds(),
                )
                for execution in await self.cluster.history(name)
            ]
        return {name: [one for one in fires if one[0] >= since] for name, fires in found.items()}

    async def check_every_tick_once(self) -> None:
        """Equality: no fire time is missing, none was decided twice, none was started twice."""
        cluster = self.cluster
        assert set(cluster.starts.values()) == {1}
        now = self.clock.now()
        for name in UNITS:
            schedule = (await cluster.registry.unit(name)).schedule
            due = list(range(to_instant(schedule.anchor), now + 1, SECOND))
            # In this order: what ends meanwhile is seen twice rather than never.
            runs = await cluster.registry.open_executions(name) + await cluster.history(name)
            fired = sorted({to_instant(execution.fire_time) for execution in runs})
            assert len({execution.id for execution in runs}) == len(fired), name
            # What is due at this very moment may still be on its way, and time may go on.
            assert fired[: len(due) - 1] == due[:-1], name

    async def check_lateness(self, since: float, moved: set[int], limit: float, others: float = 0.1) -> None:
        for name, fires in (await self.lateness(since)).items():
            late = max(late for _, late in fires)
            assert late <= (limit if shard_of(name) in moved else others), (name, shard_of(name), late)


def scenario(play, seed: int = 1):
    async def main(clock: VirtualClock) -> None:
        world = World(clock, MemoryStore(clock), seed)
        await play(world)
        await world.cluster.close()

    run_virtual(main)
