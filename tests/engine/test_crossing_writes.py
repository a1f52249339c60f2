"""Writes of a scheduler that cross with what happens to machines, wishes and records meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from tests.engine.cut_store import CutStore
from tests.engine.engine_cluster import AGENT, SCHEDULER, Cluster, run
from tests.engine.faulty_store import FaultyStore
from tests.engine.late_links import Meanwhile
from tests.engine.machines_world import FOR_EVER, where
from tests.services.links import Link
from xchronos.store.contract import Put, Txn


class Overtaken(Link):
    """Once, `meanwhile` happens between the store's answer about the keys with a prefix and its arrival."""

    def __init__(self, store, prefix: str) -> None:
        super().__init__(store)
        self.prefix = prefix
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def range(self, prefix, **options):
        page = await super().range(prefix, **options)
        if self.meanwhile is not None and prefix == self.prefix:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return page


def test_a_machine_that_is_back_before_it_is_given_up_keeps_what_it_runs():
    async def scenario(cluster: Cluster) -> None:
        async def back() -> None:
            agent.cut = False
            await cluster.sleep(5)

        link = Meanwhile(cluster.store, f"{cluster.keys.pending}a.service/")
        agent = CutStore(cluster.store, cluster.clock)
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT, store=agent)
        await cluster.start("m2", roles=AGENT)
        await cluster.registry.wishes.cordon("m2")
        await cluster.submit("a.service", "TriggerRepeatInterval=1h")
        await cluster.sleep(5)
        await cluster.registry.wishes.uncordon("m2")
        link.meanwhile = back
        agent.cut = True
        await cluster.sleep(60)
        assert link.happened
        assert [(attempt, machine) for _, _, attempt, machine in cluster.log] == [(1, "m1")]
        (execution,) = await cluster.registry.open_executions("a.service")
        assert (execution.state, execution.attempts) == ("running", ())

    run(scenario, FOR_EVER)


def test_a_machine_that_is_lost_while_something_is_being_placed_on_it():
    async def scenario(cluster: Cluster) -> None:
        async def dies() -> None:
            await cluster.kill("m1")
            await cluster.start("m2", roles=AGENT)
            await cluster.sleep(15)

        link = Meanwhile(cluster.store, cluster.keys.placement("m1", "a.service/"), dies)
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT, store=FaultyStore(cluster.store, cluster.clock, Random(1)))
        await cluster.submit("a.service")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(60)
        assert link.happened
        assert [(attempt, machine) for _, _, attempt, machine in cluster.log] == [(2, "m2")]

    run(scenario)


def test_copies_of_a_refused_write_take_nobodys_room():
    async def scenario(cluster: Cluster) -> None:
        async def changes() -> None:
            (item,) = (await cluster.store.range(f"{cluster.keys.pending}a.service/")).items
            await cluster.store.commit(Txn((), (Put(item.key, item.value),)))

        link = Meanwhile(cluster.store, cluster.keys.placement("m1", "a.service/"), changes)
        await cluster.start("s", roles=SCHEDULER, store=link)
        for machine in ("m1", "m2", "m3"):
            await cluster.start(machine, roles=AGENT, slots=1)
        await cluster.submit("a.service", fleet="Global=true")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(5)
        assert link.happened
        assert await where(cluster) == {"a.service": ["m1", "m2", "m3"]}
        found = await cluster.registry.open_executions()
        assert sorted(execution.copy for execution in found if not execution.stands) == [0, 1, 2]
        assert sum(execution.stands for execution in found) == 1, "the start itself, for machines that come to fit"

    run(scenario, FOR_EVER)


def test_an_attempt_that_fails_while_it_is_being_asked_to_stop_is_not_tried_again():
    async def scenario(cluster: Cluster) -> None:
        async def fails() -> None:
            await cluster.sleep(5)

        link = Meanwhile(cluster.store, cluster.keys.placement("m1", "a.service/"))
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT)
        await cluster.submit("a.service", "Concurrency=replace\nMaxAttempts=3")
        first, second = [], []
        first += await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(2)
        link.meanwhile = fails
        second += await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(60)
        assert link.happened
        ends = {
            execution.id: (execution.outcome, len(execution.attempts))
            for execution in await cluster.history("a.service")
        }
        assert ends == {first[0]: ("cancelled", 1), second[0]: ("failed", 3)}

    async def body(spec, machine):
        await asyncio.sleep(4)
        return 1

    run(scenario, body)


def test_what_waits_for_a_machine_is_replaced_too():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles=SCHEDULER)
        await cluster.submit("a.service", "Concurrency=replace")
        (first,) = await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(5)
        (second,) = await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(5)
        assert [(end.id, end.outcome) for end in await cluster.history("a.service")] == [(first, "cancelled")]
        await cluster.start("m1", roles=AGENT)
        await cluster.sleep(5)
        assert {end.id: end.outcome for end in await cluster.history("a.service")} == {
            first: "cancelled",
            second: "succeeded",
        }

    run(scenario)


@pytest.mark.parametrize("how", ["good", "bad", "not again"])
def test_a_scheduler_that_has_just_come_starts_what_an_end_sets_off(how):
    async def scenario(cluster: Cluster) -> None:
        link = FaultyStore(cluster.store, cluster.clock, Random(1))
        await cluster.start("s1", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT, metadata={"disk": "ssd"})
        await cluster.submit("next.service")
        chain = "OnSuccess=next.service" if how == "good" else "OnFailure=next.service"
        tries = "MaxAttempts=2\nStartDeadline=40s" if how == "not again" else ""
        await cluster.submit("a.service", tries, unit=chain, fleet="MachineMetadata=disk=ssd")
        await cluster.sleep(1)
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(5)
        if how == "not again":
            # It waits for a machine already.
            await cluster.registry.wishes.set_metadata("m1", {"disk": "hdd"})
            await cluster.sleep(10)
        await cluster.kill("s1")
        await cluster.sleep(20)
        await cluster.start("s2", roles=SCHEDULER)
        await cluster.sleep(60)
        assert [end.trigger for end in await cluster.history("next.service")] == ["chain"]

    async def body(spec, machine):
        await asyncio.sleep(10)
        return int(how != "good" and spec.unit == "a.service")

    run(scenario, body)


@pytest.mark.parametrize("what", ["paused", "new", "destroyed"])
def test_what_happens_to_units_while_their_shards_are_being_adopted(what):
    """Its new scheduler, busy with other shards, hears of it before it decides about the unit, and not again."""
    names = [f"u{number}.service" for number in range(16)]

    async def scenario(cluster: Cluster) -> None:
        async def happens() -> None:
            for name in names:
                if what == "paused":
                    await cluster.registry.set_desired(name, "paused")
                elif what == "new":
                    await cluster.submit(f"new-{name}", "TriggerRepeatInterval=1h")
                else:
                    await cluster.registry.destroy(name)
            await cluster.sleep(2)

        link = Overtaken(cluster.store, cluster.keys.jobs)
        await cluster.start("s1", roles=SCHEDULER)
        await cluster.start("s2", roles=SCHEDULER, store=link)
        for name in names:
            await cluster.submit(name, "TriggerRepeatInterval=1h\nTriggerStartDelay=1h")
        await cluster.sleep(20)
        link.meanwhile = happens
        await cluster.stop("s1")
        await cluster.sleep(20)
        assert link.meanwhile is None
        if what == "destroyed":
            assert await cluster.left_over() == []
        for name in names if what == "paused" else ():
            assert (await cluster.registry.unit(name)).schedule.paused
        for name in names if what == "new" else ():
            assert len(await cluster.registry.open_executions(f"new-{name}")) == 1

    run(scenario)
