"""News that comes late, several pieces of it at once, or while a write is under way."""

import asyncio
from itertools import count

import msgspec
import pytest

from tests.engine.engine_cluster import AGENT, SCHEDULER, Cluster, run, unit_text
from tests.engine.late_links import Late, Meanwhile
from tests.engine.machines_world import FOR_EVER, kept, waiting, where
from tests.services.links import Link
from xchronos.clock import SECOND, to_datetime
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution, fire_key
from xchronos.registry.codec import decode
from xchronos.registry.keys import shard_of
from xchronos.registry.transitions import put
from xchronos.store.contract import Delete, Guard, Put, Txn


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


def test_a_text_that_comes_while_the_cursor_is_being_written_is_accepted_behind_it():
    async def scenario(cluster: Cluster) -> None:
        link = Meanwhile(cluster.store, "")
        link.answers_after = 1
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT)
        await cluster.sleep(5)
        await cluster.submit("a.service", "TriggerRepeatInterval=1h\nTriggerStartDelay=1h")
        await cluster.sleep(0.5)
        await cluster.registry.set_desired("a.service", "paused")
        await cluster.sleep(10)
        status = await cluster.registry.unit("a.service")
        assert status.schedule.unit_revision == status.revision
        assert status.schedule.paused

    run(scenario)


def test_fire_times_that_a_text_in_the_queue_excludes_are_not_claimed():
    """More units change at the instant of a fire time than a turn accepts: the others do not fire by their old text."""
    names = [f"u{number}.service" for number in range(100)]

    async def scenario(cluster: Cluster) -> None:
        link = Late(cluster.store)
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT)
        await cluster.sleep(5)
        link.going.clear()
        for name in names:
            await cluster.registry.submit(name, unit_text("TriggerCron=*/10 * * * * *"), now=cluster.clock.now())
        link.going.set()
        await cluster.clock.sleep(20 * SECOND - cluster.clock.now() % (10 * SECOND) - SECOND // 2)
        link.going.clear()
        for name in names:
            await cluster.registry.set_desired(name, "paused")
        await cluster.clock.sleep(10 * SECOND - cluster.clock.now() % (10 * SECOND))
        link.going.set()
        await cluster.sleep(15)
        for name in names:
            assert [fired % 10 for fired in cluster.started(name)] == [cluster.started(name)[0] % 10], name
            assert (await cluster.registry.unit(name)).schedule.paused

    run(scenario)


@pytest.mark.parametrize("how", ["changed", "destroyed and submitted again"])
def test_copies_that_are_still_owed_when_their_unit_changes(how):
    """What was decided about a fire time is written, though its unit has other triggers by then; not for a namesake."""

    async def scenario(cluster: Cluster) -> None:
        async def changes() -> None:
            if how != "changed":
                await cluster.registry.destroy("a.service")
            text = unit_text("TriggerRepeatInterval=2h\nTriggerStartDelay=1h\nAvailability=20")
            await cluster.registry.submit("a.service", text, now=cluster.clock.now())

        cluster.store.max_operations = 8
        at = to_datetime(cluster.clock.now() + 5 * SECOND)
        link = Meanwhile(cluster.store, f"{fire_key(at)}/10", changes)
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.submit("a.service", f"TriggerAt={at.isoformat()}\nAvailability=20")
        await cluster.sleep(10)
        assert link.happened
        copies = sorted(e.copy for e in await cluster.registry.open_executions("a.service"))
        assert copies == (list(range(20)) if how == "changed" else [])
        assert (await cluster.registry.unit("a.service")).schedule.owed == ()

    run(scenario)


def test_a_unit_that_changes_just_when_its_ttl_ends_is_destroyed_nevertheless():
    async def scenario(cluster: Cluster) -> None:
        async def pauses() -> None:
            await cluster.registry.set_desired("a.service", "paused")

        link = Meanwhile(cluster.store, cluster.keys.job("a.service"), pauses)
        link.kind = Delete
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.submit("a.service", "TriggerRepeatInterval=1h\nTTL=10s")
        await cluster.sleep(15)
        assert link.happened
        assert await cluster.left_over() == []

    run(scenario)


class Withheld(Link):
    """What this daemon writes about a placement of its own is under way until somebody else sends it."""

    def __init__(self, store) -> None:
        super().__init__(store)
        self.under_way: list[Txn] = []

    async def commit_many(self, txns):
        if any(operation.key.startswith("/xchronos/var/placements/") for txn in txns for operation in txn.operations):
            self.under_way += txns
            await asyncio.Event().wait()
        return await super().commit_many(txns)


def test_an_attempt_that_a_dead_daemon_began_behind_its_successor_s_back_comes_to_its_end():
    async def scenario(cluster: Cluster) -> None:
        async def arrives() -> None:
            await cluster.store.commit_many(first.under_way)

        first = Withheld(cluster.store)
        await cluster.start("s", roles=SCHEDULER)
        await cluster.start("m1", roles=AGENT, store=first)
        await cluster.submit("a.service")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(1)
        assert len(first.under_way) == 1
        await cluster.kill("m1")
        second = Meanwhile(cluster.store, "/placements/m1/", arrives)
        await cluster.start("m1", roles=AGENT, store=second)
        await cluster.sleep(20)
        assert second.happened
        (execution,) = await cluster.history("a.service")
        assert execution.outcome == "succeeded"
        assert max(cluster.starts.values()) == 1

    run(scenario)
