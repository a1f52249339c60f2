"""News that comes late, or several pieces of it at once."""

import asyncio
from itertools import count

from engine_cluster import AGENT, SCHEDULER, Cluster, run
from machines_world import kept, where
from services.links import Link

from xchronos.registry.keys import shard_of


class Late(Link):
    """While it is not `going`, watches bring nothing; then what has piled up comes at once."""

    def __init__(self, store) -> None:
        super().__init__(store)
        self.going = asyncio.Event()
        self.going.set()

    async def deliver(self, batches):
        async for batch in batches:
            await self.going.wait()
            yield batch


def test_a_peer_that_was_away_for_a_moment_is_found_where_it_came_back():
    """Its scheduler has seen each of its moves; the follower's one hears of all of them at once."""

    async def scenario(cluster: Cluster) -> None:
        links = {name: Late(cluster.store) for name in ("s1", "s2")}
        for name, link in links.items():
            await cluster.start(name, roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT)
        await cluster.sleep(5)

        def scheduler(unit: str) -> str:
            return next(name for name in links if shard_of(unit) in cluster.running[name].engine._ownership.fences)

        names = (f"log{number}.service" for number in count())
        follower = next(name for name in names if scheduler(name) != scheduler("web.service"))
        await kept(cluster, "web.service")
        await kept(cluster, follower, "MachineOf=web.service")
        await cluster.sleep(5)
        links[scheduler(follower)].going.clear()
        await cluster.sleep(10)
        (web,) = await cluster.registry.open_executions("web.service")
        assert [attempt.outcome for attempt in web.attempts] == ["failed"]
        links[scheduler(follower)].going.set()
        await cluster.sleep(5)
        assert await where(cluster) == {"web.service": ["m1"], follower: ["m1"]}
        (log,) = await cluster.registry.open_executions(follower)
        assert log.attempts == ()

    async def body(spec, machine):
        await asyncio.sleep(10 if spec.unit == "web.service" and spec.attempt == 1 else 1e9)
        return 1

    run(scenario, body)
