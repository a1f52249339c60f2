"""News that comes late, several pieces of it at once, or while a write is under way."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import msgspec
from engine_cluster import AGENT, SCHEDULER, Cluster, run
from machines_world import FOR_EVER, kept, waiting, where
from services.links import Link

from xchronos.clock import to_datetime
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution
from xchronos.registry.codec import decode
from xchronos.registry.keys import shard_of
from xchronos.registry.transitions import put
from xchronos.store.contract import Delete, Guard, Put, Txn


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


class Meanwhile(Late):
    """Once, `meanwhile` happens before a Txn is carried out that writes a key which contains `what`.

    Every answer comes after `answers_after` seconds.
    """

    answers_after = 0.0

    def __init__(self, store, what: str, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        super().__init__(store)
        self.what = what
        self.meanwhile = meanwhile

    async def commit_many(self, txns):
        keys = [operation.key for txn in txns for operation in txn.operations if isinstance(operation, Put)]
        if self.meanwhile is not None and any(self.what in key for key in keys):
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        answers = await super().commit_many(txns)
        await asyncio.sleep(self.answers_after)
        return answers

    @property
    def happened(self) -> bool:
        return self.meanwhile is None


def test_a_machine_that_fits_again_while_the_end_of_its_copy_is_being_written():
    async def scenario(cluster: Cluster) -> None:
        async def fits_again() -> None:
            await cluster.registry.wishes.set_metadata("m2", {"disk": "ssd"})
            await cluster.sleep(1)

        link = Meanwhile(cluster.store, cluster.keys.history("all.service"), fits_again)
        await cluster.start("s", roles=SCHEDULER, store=link)
        for machine in ("m1", "m2"):
            await cluster.start(machine, roles=AGENT, metadata={"disk": "ssd"})
        await kept(cluster, "all.service", "Global=true\nMachineMetadata=disk=ssd")
        await cluster.sleep(1)
        assert await where(cluster) == {"all.service": ["m1", "m2"]}
        await cluster.registry.wishes.set_metadata("m2", {"disk": "hdd"})
        await cluster.sleep(5)
        assert link.happened
        assert await where(cluster) == {"all.service": ["m1", "m2"]}

    run(scenario, FOR_EVER)


def test_machines_that_come_while_a_cursor_is_in_doubt_get_their_copy():
    async def scenario(cluster: Cluster) -> None:
        async def another_revision_and_another_machine() -> None:
            item = await cluster.store.get(cluster.keys.schedule("all.service"))
            await cluster.store.commit(Txn((), (Put(item.key, item.value),)))
            await cluster.start("m3", roles=AGENT)
            await cluster.sleep(1)

        link = Meanwhile(cluster.store, cluster.keys.schedule("all.service"))
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT)
        await kept(cluster, "all.service", "Global=true")
        await cluster.sleep(1)
        link.meanwhile = another_revision_and_another_machine
        await cluster.start("m2", roles=AGENT)
        await cluster.sleep(5)
        assert link.happened
        assert await where(cluster) == {"all.service": ["m1", "m2", "m3"]}

    run(scenario, FOR_EVER)


def test_room_that_was_only_to_be_taken_is_given_to_who_waits():
    async def scenario(cluster: Cluster) -> None:
        async def fits_no_more() -> None:
            await cluster.registry.wishes.set_metadata("m1", {"disk": "hdd"})
            await cluster.sleep(1)
            # The record is another one now, so the placement is refused.
            (item,) = (await cluster.store.range(f"{cluster.keys.pending}a.service/")).items
            await cluster.store.commit(Txn((), (Put(item.key, item.value),)))

        link = Meanwhile(cluster.store, cluster.keys.placement("m1", "a.service/"), fits_no_more)
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT, slots=1, metadata={"disk": "ssd"})
        await cluster.submit("first.service")
        await cluster.registry.start("first.service", now=cluster.clock.now())
        await cluster.sleep(1)
        await kept(cluster, "a.service", "MachineMetadata=disk=ssd")
        await kept(cluster, "b.service")
        await cluster.sleep(1)
        full = "1 unplaced: 1 machine has no free slot"
        assert await waiting(cluster) == {"a.service": full, "b.service": full}
        await cluster.sleep(20)
        assert link.happened
        assert await where(cluster) == {"b.service": ["m1"]}
        assert await waiting(cluster) == {"a.service": "1 unplaced: 1 machine lacks disk=ssd, 1 has no free slot"}

    async def body(spec, machine):
        await asyncio.sleep(10 if spec.unit == "first.service" else 1e9)

    run(scenario, body)


def test_an_execution_that_somebody_else_ended_while_it_was_to_be_placed_is_in_nobodys_way():
    async def scenario(cluster: Cluster) -> None:
        async def ends() -> None:
            (item,) = (await cluster.store.range(f"{cluster.keys.pending}a.service/")).items
            ended = msgspec.structs.replace(
                decode(item, Execution),
                state="ended", outcome=Outcome.SKIPPED, ended_at=to_datetime(cluster.clock.now()),
            )  # fmt: skip
            guard = Guard(item.key, item.mod_revision)
            await cluster.store.commit(Txn((guard,), (Delete(item.key), put(cluster.keys, ended))))
            await cluster.sleep(1)

        link = Meanwhile(cluster.store, cluster.keys.placement("m1", "a.service/"), ends)
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT)
        await cluster.submit("a.service", "Concurrency=forbid")
        for _ in range(2):
            await cluster.registry.start("a.service", now=cluster.clock.now())
            await cluster.sleep(5)
        assert link.happened
        assert [str(execution.outcome) for execution in await cluster.history("a.service")] == ["skipped", "succeeded"]

    run(scenario)


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


def test_what_was_seen_to_move_before_the_answer_came_is_not_held_to_be_gone():
    running: set[str] = set()

    async def scenario(cluster: Cluster) -> None:
        async def changes() -> None:
            (item,) = (await cluster.store.range(f"{cluster.keys.placements}m1/a.service/")).items
            link.going.clear()
            await cluster.store.commit(Txn((), (Put(item.key, item.value),)))

        link = Meanwhile(cluster.store, cluster.keys.placement("m1", "a.service/"))
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT)
        await cluster.submit("a.service", "Concurrency=replace")
        link.answers_after = 1
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(5)
        link.answers_after = 0
        # The write that asks the first run to end is refused: its record has changed at that moment.
        link.meanwhile = changes
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(2)
        assert link.happened
        link.going.set()
        await cluster.sleep(20)
        assert [str(execution.outcome) for execution in await cluster.history("a.service")] == ["cancelled"]
        assert len(running) == 1

    async def body(spec, machine):
        assert not running, "they overlap"
        running.add(spec.identity)
        try:
            await asyncio.sleep(1e9)
        finally:
            running.discard(spec.identity)

    run(scenario, body)


def test_what_a_new_life_of_a_unit_has_run_is_not_forgotten_with_the_old_one():
    async def scenario(cluster: Cluster) -> None:
        async def changes() -> None:
            item = await cluster.store.get(cluster.keys.schedule("a.service"))
            await cluster.store.commit(Txn((), (Put(item.key, item.value),)))

        await cluster.start("s1", roles=SCHEDULER)
        await cluster.start("m1", roles=AGENT)
        await cluster.submit("a.service")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(5)
        await cluster.kill("s1")
        await cluster.sleep(30)
        await cluster.registry.destroy("a.service")
        await cluster.submit("a.service")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        link = Meanwhile(cluster.store, cluster.keys.schedule("a.service"), changes)
        await cluster.start("s2", roles=SCHEDULER, store=link)
        await cluster.sleep(20)
        assert link.happened
        assert [str(execution.outcome) for execution in await cluster.history("a.service")] == ["succeeded"]

    run(scenario)
