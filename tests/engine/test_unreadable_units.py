"""A scheduler that cannot read a unit ends nothing of it: another one takes it over, or it waits for one that can."""

import json
from random import Random
from typing import Any

import msgspec
import pytest

from tests.engine.engine_cluster import AGENT, SCHEDULER, Cluster, unit_text
from tests.engine.faulty_store import FaultyStore
from xchronos.clock import SECOND, Clock, to_datetime, to_instant
from xchronos.engine.session import TRIED_AGAIN
from xchronos.model.compile.unit import compile_unit
from xchronos.model.records import Execution, Reading, Schedule, UnitRecord
from xchronos.registry.codec import FORMAT, decode, encode
from xchronos.registry.keys import SHARDS, shard_of
from xchronos.registry.units import UnitReader, record_of
from xchronos.store.contract import Put, Txn
from xchronos.testing.clock import START, run_virtual

OLD = UnitReader(reading=Reading(level=1, version="1.0"))
NEW_KEY = "RestartSteps=3"
"""What `OLD` cannot read."""
UNITS = [f"u{number}.service" for number in range(24)]
EVERY_SECOND = "TriggerRepeatInterval=1s\nMisfireThreshold=1h\nHistoryLimit=10000\nMisfirePolicy=IGNORE_MISFIRE_POLICY"


def run(scenario) -> None:
    async def body(clock: Clock) -> None:
        cluster = Cluster(clock)
        await cluster.start("agent", AGENT)
        try:
            await scenario(cluster)
        finally:
            for machine in list(cluster.running):
                await cluster.stop(machine)

    run_virtual(body)


async def accepted(cluster: Cluster, name: str, chronos: str = "") -> None:
    """A unit with the new key is in the store: it was accepted before those schedulers lived that cannot read it."""
    text = unit_text(chronos, service=NEW_KEY)
    record = record_of(text, compile_unit(name, text))
    await cluster.store.commit(Txn((), (Put(cluster.keys.job(name), encode(record)),)))


async def fire_times(cluster: Cluster, unit: str) -> list[int]:
    """The fire times of a unit that have run, in seconds after the first."""
    ended = [execution for execution in await cluster.history(unit) if execution.outcome == "succeeded"]
    assert len(ended) == len({execution.id for execution in ended})
    return [round(execution.fire_time.timestamp() - START / SECOND) for execution in ended]


async def never_doubled_nor_missed(cluster: Cluster, unit: str, until: float) -> None:
    found = await fire_times(cluster, unit)
    assert found == list(range(found[0], found[0] + len(found))), f"{unit}: {found}"
    assert found[-1] >= until - 2, f"{unit}: {found[-1]}"
    assert all(count == 1 for (execution, _), count in cluster.starts.items() if execution.startswith(unit))


def test_whoever_can_read_a_unit_takes_it_over():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("old", SCHEDULER, reader=OLD)
        await cluster.start("new", SCHEDULER)
        await cluster.sleep(2)
        for name in UNITS:
            await accepted(cluster, name, EVERY_SECOND)
        await cluster.submit("plain.service", EVERY_SECOND)
        await cluster.sleep(30)
        for name in UNITS:
            schedule = (await cluster.registry.unit(name)).schedule
            assert schedule.finished == ""
            await never_doubled_nor_missed(cluster, name, cluster.at())
        await never_doubled_nor_missed(cluster, "plain.service", cluster.at())
        shares = {share.machine: share for share in await cluster.registry.schedulers()}
        assert {shard_of(name) for name in UNITS} <= set(shares["new"].shards)
        assert len(shares["old"].shards) + len(shares["new"].shards) == SHARDS
        assert "RestartSteps=" in next(iter(shares["old"].cannot_read.values()))
        assert shares["new"].cannot_read == {}
        assert (shares["old"].reads.level, shares["new"].reads.level) == (1, 2)

    run(scenario)


def test_without_anybody_who_can_read_it_a_unit_waits_and_what_was_missed_gets_its_record():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("new", SCHEDULER)
        await accepted(cluster, "a.service", "TriggerRepeatInterval=1s")
        await cluster.submit("plain.service", "TriggerRepeatInterval=1s")
        await cluster.sleep(5)
        await cluster.stop("new")
        await cluster.start("old", SCHEDULER, reader=OLD)
        await cluster.sleep(2)
        before = await cluster.store.get(cluster.keys.schedule("a.service"))
        await cluster.sleep(300)
        assert await cluster.store.get(cluster.keys.schedule("a.service")) == before
        (old,) = await cluster.registry.schedulers()
        assert list(old.cannot_read) == ["a.service"]
        assert cluster.started("plain.service")[-1] >= cluster.at() - 2
        await cluster.stop("old")
        await cluster.start("new", SCHEDULER)
        await cluster.sleep(5)
        missed = [execution for execution in await cluster.history("a.service") if execution.outcome == "missed"]
        assert [one.missed.count > 290 for one in missed] == [True]
        assert cluster.started("a.service")[-1] >= cluster.at() - 2

    run(scenario)


def test_what_runs_waits_and_ends_of_such_a_unit_is_left_to_who_can_read_it():
    """Attempts that are handed back, executions that wait, machines that are lost: all of it is written by nobody."""

    async def scenario(cluster: Cluster) -> None:
        await cluster.start("new", SCHEDULER)
        await accepted(cluster, "a.service", "MaxAttempts=5\nTimeBetweenAttempts=1s")
        await cluster.stop("new")
        await cluster.start("old", SCHEDULER, reader=OLD)
        await cluster.sleep(1)
        (started,) = await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(30)
        assert (await cluster.registry.execution(started)).state == "delayed"
        await cluster.stop("old")
        await cluster.start("new", SCHEDULER)
        await cluster.sleep(5)
        assert (await cluster.registry.execution(started)).outcome == "succeeded"

    run(scenario)


def test_an_attempt_that_is_handed_back_is_settled_by_who_can_read_its_unit():
    async def scenario(cluster: Cluster) -> None:
        results = iter([1, 0])

        async def body(_spec, _machine):
            await cluster.sleep(3)
            return next(results)

        cluster.body = body
        await cluster.start("new", SCHEDULER)
        await accepted(cluster, "a.service", "MaxAttempts=2")
        await cluster.sleep(1)
        (started,) = await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(1)
        await cluster.stop("new")
        await cluster.start("old", SCHEDULER, reader=OLD)
        await cluster.sleep(20)
        assert (await cluster.registry.execution(started)).state == "reported"
        await cluster.stop("old")
        await cluster.start("new", SCHEDULER)
        await cluster.sleep(10)
        ended = await cluster.registry.execution(started)
        assert (ended.outcome, len(ended.attempts)) == ("succeeded", 2)

    run(scenario)


def test_a_unit_that_can_be_read_again_goes_on_where_it_is():
    """A new text, or the end of a record that nobody could read, is news enough."""

    async def scenario(cluster: Cluster) -> None:
        await cluster.start("old", SCHEDULER, reader=OLD)
        await accepted(cluster, "a.service", EVERY_SECOND)
        (started,) = await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(5)
        assert (await cluster.registry.execution(started)).state == "delayed"
        await cluster.submit("a.service", EVERY_SECOND)
        await cluster.sleep(5)
        assert (await cluster.registry.execution(started)).outcome == "succeeded"
        assert cluster.started("a.service")
        (old,) = await cluster.registry.schedulers()
        assert old.cannot_read == {}
        await accepted(cluster, "a.service", EVERY_SECOND)
        await cluster.sleep(2)
        await cluster.registry.destroy("a.service")
        await cluster.sleep(2)
        assert await cluster.store.get(cluster.keys.schedule("a.service")) is None
        (old,) = await cluster.registry.schedulers()
        assert old.cannot_read == {}

    run(scenario)


def newer(record) -> bytes:
    return json.dumps({**msgspec.json.decode(encode(record)), "v": FORMAT + 1}).encode()


@pytest.mark.parametrize("what", ["job", "schedule", "execution"])
def test_a_record_of_a_newer_format_is_left_alone(what):
    async def scenario(cluster: Cluster) -> None:
        keys, store = cluster.keys, cluster.store
        await cluster.start("s1", SCHEDULER)
        await cluster.submit("a.service", EVERY_SECOND)
        await cluster.submit("plain.service", EVERY_SECOND)
        await cluster.sleep(3)
        await cluster.stop("s1")
        kind: Any
        key, kind = {
            "job": (keys.job("a.service"), UnitRecord),
            "schedule": (keys.schedule("a.service"), Schedule),
            "execution": (keys.pending_execution("a.service/20300317T174640.500001Z/0"), Execution),
        }[what]
        item = await store.get(key)
        record = decode(item, kind) if item is not None else Execution("a.service", to_datetime(START + 500_001))
        await store.commit(Txn((), (Put(key, newer(record)),)))
        before = [await store.get(one) for one in (keys.job("a.service"), keys.schedule("a.service"), key)]
        await cluster.start("s1", SCHEDULER)
        await cluster.sleep(70)
        assert [await store.get(one) for one in (keys.job("a.service"), keys.schedule("a.service"), key)] == before
        assert cluster.started("plain.service")[-1] >= cluster.at() - 2
        (told,) = await cluster.registry.schedulers()
        assert list(told.cannot_read) == ["a.service"]
        # Whoever mends it need not restart anything.
        await store.commit(Txn((), (Put(key, encode(record)),)))
        await cluster.sleep(70)
        assert cluster.started("a.service")[-1] >= cluster.at() - 2

    run(scenario)


@pytest.mark.parametrize("lives", [True, False])
def test_a_destroyed_unit_whose_cursor_cannot_be_read_is_removed(lives):
    """It is the way out for whoever cannot mend the cursor. `lives`: whether the scheduler sees the destruction."""

    async def scenario(cluster: Cluster) -> None:
        keys, store = cluster.keys, cluster.store
        await cluster.submit("a.service", EVERY_SECOND)
        await store.commit(Txn((), (Put(keys.schedule("a.service"), b"TEXT"),)))
        if lives:
            await cluster.start("s1", SCHEDULER)
            await cluster.sleep(2)
            (told,) = await cluster.registry.schedulers()
            assert list(told.cannot_read) == ["a.service"]
        await cluster.registry.destroy("a.service")
        if not lives:
            await cluster.start("s1", SCHEDULER)
            await cluster.sleep(TRIED_AGAIN / SECOND)  # found when it begins, it is first tried again
        await cluster.sleep(2)
        assert await store.get(keys.schedule("a.service")) is None
        (told,) = await cluster.registry.schedulers()
        assert told.cannot_read == {}
        await cluster.submit("a.service", EVERY_SECOND)
        await cluster.sleep(3)
        assert cluster.started("a.service")[-1] >= cluster.at() - 2

    run(scenario)


def test_a_unit_that_an_old_scheduler_has_finished_is_taken_up_again():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("new", SCHEDULER)
        await cluster.submit("a.service", EVERY_SECOND)
        await cluster.sleep(5)
        await cluster.stop("new")
        item = await cluster.store.get(cluster.keys.schedule("a.service"))
        old = decode(item, Schedule)
        ended = msgspec.structs.replace(
            old, fingerprint="", triggers=(), fired=0, finished="the stored unit cannot be read: x", rules=""
        )
        await cluster.store.commit(Txn((), (Put(item.key, encode(ended)),)))
        await cluster.start("new", SCHEDULER)
        await cluster.sleep(5)
        schedule = (await cluster.registry.unit("a.service")).schedule
        assert schedule.finished == ""
        assert to_instant(schedule.triggers[0].next) > cluster.clock.now() - SECOND

    run(scenario)


def test_a_machine_whose_record_is_newer_is_alive_and_nothing_of_it_is_lost():
    async def scenario(cluster: Cluster) -> None:
        async def body(_spec, _machine):
            await cluster.sleep(60)
            return 0

        cluster.body = body
        link = FaultyStore(cluster.store, cluster.clock, Random(1))
        await cluster.start("m2", AGENT, store=link, metadata={"disk": "ssd"})
        await cluster.start("s1", SCHEDULER)
        await cluster.submit("a.service", fleet="MachineMetadata=disk=ssd")
        (started,) = await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(2)
        await cluster.stop("s1")
        item = await cluster.store.get(cluster.keys.machine("m2"))
        machine = next(one for one in await cluster.registry.machines() if one.id == "m2")
        await cluster.store.commit(Txn((), (Put(item.key, newer(machine), item.lease),)))
        await cluster.start("s1", SCHEDULER)
        await cluster.sleep(30)
        running = await cluster.registry.execution(started)
        assert (running.state, running.current.leave, running.attempts) == ("running", "", ())

    run(scenario)


def test_a_machine_that_cannot_read_a_unit_gets_none_of_it():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s1", SCHEDULER)
        await cluster.start("m0", AGENT, reader=OLD)
        await cluster.sleep(1)
        for _ in range(5):
            await accepted(cluster, "a.service")
            (started,) = await cluster.registry.start("a.service", now=cluster.clock.now())
            await cluster.sleep(1)
            ended = await cluster.registry.execution(started)
            assert [attempt.machine for attempt in ended.attempts] == ["agent"]
        await cluster.stop("agent")
        (started,) = await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(5)
        waiting = await cluster.registry.execution(started)
        assert (waiting.state, waiting.reason) == (
            "waiting",
            "1 unplaced: 1 machine cannot read RestartSteps=",
        )

    run(scenario)
