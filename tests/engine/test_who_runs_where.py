"""Fleet's placement in made-up time: metadata, conflicts, pairs, copies, replacements, load balancing."""

import asyncio
from collections import defaultdict
from random import Random

import pytest

from tests.engine.cut_store import CutStore
from tests.engine.engine_cluster import AGENT, BOTH, Cluster, lasting, run
from tests.engine.faulty_store import FaultyStore
from tests.engine.machines_world import FOR_EVER, kept, machines, waiting, where
from xchronos.clock import SECOND, to_datetime
from xchronos.engine.reconcile.turn import Reconciler


def test_metadata_is_or_within_a_key_and_and_across_keys():
    async def scenario(cluster: Cluster) -> None:
        for machine, metadata in {
            "m1": {"region": "us-east-1", "diskType": "SSD"},
            "m2": {"region": "us-east-1"},
            "m3": {"region": "us-west-1", "diskType": "SSD"},
        }.items():
            await cluster.start(machine, roles=BOTH if machine == "m1" else AGENT, metadata=metadata)
        pairs = 'MachineMetadata="region=us-east-1" "diskType=SSD"\nMachineMetadata=region=us-west-1\nGlobal=true'
        await kept(cluster, "kept.service", pairs)
        await cluster.submit("fired.service", "TriggerRepeatInterval=1h", fleet=pairs)
        await cluster.sleep(1)
        assert await where(cluster) == {"kept.service": ["m1", "m3"], "fired.service": ["m1", "m3"]}

    run(scenario, FOR_EVER)


def test_conflicts_by_a_glob():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 3)
        for n in range(5):
            await kept(cluster, f"conflict.{n}.service", "Conflicts=conflict.*.service")
        await cluster.sleep(1)
        placed = await where(cluster)
        assert sorted(machine for (machine,) in placed.values()) == ["m1", "m2", "m3"]
        reasons = await waiting(cluster)
        assert len(reasons) == 2
        for reason in reasons.values():
            assert reason.startswith("1 unplaced: 1 machine is taken by a conflict with conflict.")
        freed = min(placed)
        await cluster.registry.destroy(freed)
        await cluster.sleep(1)
        after = await where(cluster)
        assert sorted(machine for (machine,) in after.values()) == ["m1", "m2", "m3"]
        assert len(await waiting(cluster)) == 1
        assert freed not in after

    run(scenario, FOR_EVER)


@pytest.mark.parametrize("declares", ["first", "second"])
def test_a_conflict_counts_whoever_declares_it(declares):
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 1)
        await kept(cluster, "a.service", "Conflicts=b.*" if declares == "first" else "")
        await kept(cluster, "b.service", "Conflicts=a.*" if declares == "second" else "")
        await cluster.sleep(1)
        assert await where(cluster) == {"a.service": ["m1"]}
        assert await waiting(cluster) == {"b.service": "1 unplaced: 1 machine is taken by a conflict with a.service"}
        await cluster.start("m2", roles=AGENT)
        await cluster.sleep(1)
        assert await where(cluster) == {"a.service": ["m1"], "b.service": ["m2"]}

    run(scenario, FOR_EVER)


@pytest.mark.parametrize("how", ["metadata", "drain", "lost"])
def test_pairs_move_together(how):
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles={"scheduler"})
        connection = FaultyStore(cluster.store, cluster.clock, Random(1))
        await cluster.start("m1", roles=AGENT, metadata={"disk": "ssd"}, store=connection)
        # The one that follows comes first: it waits for the other one.
        await kept(cluster, "a-logger.service", "MachineOf=web.service")
        await cluster.sleep(1)
        assert await waiting(cluster) == {
            "a-logger.service": "1 unplaced: 1 machine does not run web.service (MachineOf)"
        }
        await kept(cluster, "web.service", "MachineMetadata=disk=ssd")
        await cluster.sleep(1)
        assert await where(cluster) == {"web.service": ["m1"], "a-logger.service": ["m1"]}
        await cluster.start("m2", roles=AGENT, metadata={"disk": "ssd"})
        await cluster.sleep(1)
        assert await where(cluster) == {"web.service": ["m1"], "a-logger.service": ["m1"]}
        if how == "metadata":
            await cluster.registry.wishes.set_metadata("m1", {"disk": "hdd"})
        elif how == "drain":
            await cluster.registry.wishes.drain("m1", to_datetime(cluster.clock.now() + 60 * SECOND))
        else:
            await cluster.kill("m1")
        await cluster.sleep(15)
        assert await where(cluster) == {"web.service": ["m2"], "a-logger.service": ["m2"]}
        assert {e.attempts[-1].outcome for e in await cluster.registry.open_executions()} == {"lost"}

    run(scenario, FOR_EVER)


def test_what_waits_for_the_unit_that_it_follows_is_known_to_a_scheduler_that_comes_later():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s1", roles={"scheduler"})
        await cluster.start("m1", roles=AGENT)
        await kept(cluster, "log.service", "MachineOf=web.service")
        await cluster.sleep(5)
        await cluster.stop("s1")
        await cluster.start("s2", roles={"scheduler"})
        await cluster.sleep(5)
        assert await waiting(cluster) == {"log.service": "1 unplaced: 1 machine does not run web.service (MachineOf)"}
        await kept(cluster, "web.service")
        await cluster.sleep(5)
        assert await where(cluster) == {"web.service": ["m1"], "log.service": ["m1"]}

    run(scenario, FOR_EVER)


def test_what_follows_a_unit_from_a_machine_that_is_not_there_just_then():
    """The peer has gone to another machine; only when its own is back can anybody ask the follower to leave."""

    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s1", roles={"scheduler"})
        link = CutStore(cluster.store, cluster.clock)
        await cluster.start("m1", roles=AGENT, store=link)
        await kept(cluster, "web.service")
        await kept(cluster, "log.service", "MachineOf=web.service")
        await cluster.sleep(5)
        assert await where(cluster) == {"web.service": ["m1"], "log.service": ["m1"]}
        await cluster.stop("s1")
        await cluster.sleep(10)  # nobody decides what follows the attempt of web.service, which ends now
        link.cut = True
        await cluster.sleep(15)
        await cluster.start("m2", roles=AGENT)
        await cluster.start("s2", roles={"scheduler"})
        await cluster.sleep(5)
        assert await where(cluster) == {"web.service": ["m2"], "log.service": ["m1"]}
        link.cut = False
        await cluster.sleep(10)
        assert await where(cluster) == {"web.service": ["m2"], "log.service": ["m2"]}
        (log,) = await cluster.registry.open_executions("log.service")
        assert [attempt.leave for attempt in log.attempts] == ["web.service is on another machine now (MachineOf)"]

    async def body(spec, machine):
        await asyncio.sleep(10 if spec.unit == "web.service" and spec.attempt == 1 else 1e9)
        return 1

    run(scenario, body)


def test_what_follows_a_unit_that_comes_and_goes_is_left_alone():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        await cluster.submit("web.service", "TriggerCron=*/30 * * * * *\nLoadBalancing=round-robin")
        await cluster.submit("job.service", "TriggerCron=1/30 * * * * *", fleet="MachineOf=web.service")
        await kept(cluster, "kept.service", "MachineOf=web.service")
        await cluster.sleep(95)
        assert {e.attempts[0].machine for e in await cluster.history("web.service")} == {"m1", "m2"}
        # Runs for 20 s, begun beside each run of web for 10 s: that one's end does not concern it, nor its next machine.
        assert {len(e.attempts) for e in await cluster.history("job.service")} == {1}
        (execution,) = await cluster.registry.open_executions("kept.service")
        assert {attempt.leave for attempt in execution.attempts if attempt.leave} == {
            "web.service is on another machine now (MachineOf)"
        }

    async def body(spec, machine):
        await asyncio.sleep({"web.service": 10, "job.service": 20}.get(spec.unit, 1e9))

    run(scenario, body)


def test_what_follows_a_unit_follows_it_into_its_new_life():
    """Which begins on another machine while something of the former one has yet to leave the first."""

    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles={"scheduler"})
        link = FaultyStore(cluster.store, cluster.clock, Random(1))
        await cluster.start("m1", roles=AGENT, store=link)
        await kept(cluster, "web.service")
        await kept(cluster, "logger.service", "MachineOf=web.service")
        await cluster.sleep(1)
        await cluster.start("m2", roles=AGENT)
        link.dead = True
        await cluster.registry.destroy("web.service")
        await kept(cluster, "web.service")
        await cluster.sleep(3)
        assert await where(cluster) == {"web.service": ["m1", "m2"], "logger.service": ["m1"]}
        link.dead = False
        await cluster.sleep(5)
        assert await where(cluster) == {"web.service": ["m2"], "logger.service": ["m2"]}

    run(scenario, FOR_EVER)


def test_who_waits_for_a_peer_is_not_looked_at_without_end(monkeypatch):
    """While the machine of the peer and of another follower is away, and may come back or not."""
    turns = 0
    run_turn = Reconciler.run

    async def counted(self, now):
        nonlocal turns
        turns += 1
        assert turns < 1000, "turns without end"
        await run_turn(self, now)

    async def scenario(cluster: Cluster) -> None:
        for name, roles in (("s1", {"scheduler"}), ("m1", AGENT)):
            await cluster.start(name, roles=roles, slots=2, store=FaultyStore(cluster.store, cluster.clock, Random(1)))
        await kept(cluster, "web.service")
        await kept(cluster, "a-logger.service", "MachineOf=web.service")
        await kept(cluster, "b-logger.service", "MachineOf=web.service")
        await cluster.sleep(1)
        assert await where(cluster) == {"web.service": ["m1"], "a-logger.service": ["m1"]}
        await cluster.kill("s1")
        await cluster.kill("m1")
        await cluster.sleep(30)
        await cluster.start("m2", roles=AGENT)
        monkeypatch.setattr(Reconciler, "run", counted)
        await cluster.start("s2", roles={"scheduler"})
        await cluster.sleep(60)
        names = ("web.service", "a-logger.service", "b-logger.service")
        assert await where(cluster) == {name: ["m2"] for name in names}

    run(scenario, FOR_EVER)


@pytest.mark.parametrize("unit", ["kept", "fired"])
def test_availability_waits_for_machines_and_takes_no_more_than_it_needs(unit):
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        if unit == "kept":
            await kept(cluster, "a.service", chronos="Availability=3")
        else:
            await cluster.submit("a.service", "Availability=3\nTriggerRepeatInterval=1h")
        await cluster.sleep(1)
        assert await where(cluster) == {"a.service": ["m1", "m2"]}
        assert await waiting(cluster) == {"a.service": "1 unplaced: 2 machines already run a copy"}
        await cluster.start("m3", roles=AGENT)
        await cluster.sleep(1)
        assert await where(cluster) == {"a.service": ["m1", "m2", "m3"]}
        await cluster.start("m4", roles=AGENT)
        await cluster.sleep(1)
        assert await where(cluster) == {"a.service": ["m1", "m2", "m3"]}
        assert await waiting(cluster) == {}

    run(scenario, FOR_EVER)


def test_replaces_moves_whom_it_displaces():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 1)
        await kept(cluster, "old.service")
        await cluster.sleep(1)
        await kept(cluster, "new.service", "Replaces=old.service")
        await cluster.sleep(1)
        assert await where(cluster) == {"new.service": ["m1"]}
        assert await waiting(cluster) == {"old.service": "1 unplaced: 1 machine runs new.service, which replaces it"}
        await cluster.start("m2", roles=AGENT)
        await cluster.sleep(1)
        assert await where(cluster) == {"new.service": ["m1"], "old.service": ["m2"]}

    run(scenario, FOR_EVER)


@pytest.mark.parametrize("asks", ["Conflicts=x*.service", "Replaces=x*.service"])
@pytest.mark.parametrize("seed", range(5))
def test_several_schedulers_that_hear_of_one_another_late(asks, seed):
    """Their units exclude one another: whoever comes second to a machine leaves it, or does not begin there."""

    now, most = defaultdict(int), defaultdict(int)

    async def body(spec, machine):
        now[machine] += 1
        most[machine] = max(most[machine], now[machine])
        try:
            await asyncio.sleep(1e9)
        finally:
            now[machine] -= 1

    async def scenario(cluster: Cluster) -> None:
        random = Random(seed)
        cluster.body = body
        for n in range(1, 5):
            await cluster.start(f"m{n}", store=FaultyStore(cluster.store, cluster.clock, random))
        await cluster.sleep(20)
        assert len({item.value for item in (await cluster.store.range(cluster.keys.shards)).items}) > 1
        names = [f"x{n}.service" for n in range(12)] if asks.startswith("C") else ["x1.service", "y.service"]
        await asyncio.gather(
            *(kept(cluster, name, asks if name != "x1.service" or "C" in asks else "") for name in names)
        )
        await cluster.sleep(60)
        placed = await where(cluster)
        if asks.startswith("C"):
            assert sorted(machine for (machine,) in placed.values()) == ["m1", "m2", "m3", "m4"]
            assert len(await waiting(cluster)) == 8
            assert set(most.values()) == {1}
        else:
            assert sorted(placed) == names
            assert placed["x1.service"] != placed["y.service"]

    run(scenario)


@pytest.mark.parametrize(
    ("how", "spread"),
    [("workload", {"m1": 4, "m2": 4, "m3": 4}), ("round-robin", {"m1": 4, "m2": 4, "m3": 4}), ("random", None)],
)
def test_load_balancing(how, spread):
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 3)
        await cluster.submit("a.service", f"TriggerRepeatInterval=1s\nTriggerRepeatCount=11\nLoadBalancing={how}")
        await cluster.sleep(12)
        counts = defaultdict(int)
        for _, _, _, machine in cluster.log:
            counts[machine] += 1
        assert sum(counts.values()) == 12
        assert spread is None or counts == spread
        assert len(counts) == 3

    run(scenario, lasting(1000))


def test_a_changed_availability_adds_and_ends_copies_of_what_is_kept_running():
    async def scenario(cluster: Cluster) -> None:
        async def runs(copies: int, *expected: str) -> None:
            before = {e.copy: e.id for e in await cluster.registry.open_executions()}
            await kept(cluster, "copies.service", chronos=f"Availability={copies}")
            await cluster.sleep(2)
            assert (await where(cluster)).get("copies.service", []) == list(expected)
            after = {e.copy: e.id for e in await cluster.registry.open_executions()}
            assert sorted(after) == list(range(copies if expected else 0))
            # Those that stay are not touched.
            assert all(after[copy] == before[copy] for copy in after.keys() & before.keys())

        await machines(cluster, 3)
        await runs(1, "m1")
        await runs(3, "m1", "m2", "m3")
        await runs(5, "m1", "m2", "m3")
        assert await waiting(cluster) == {"copies.service": "1 unplaced: 3 machines already run a copy"}
        await cluster.start("m4", roles=AGENT)
        await cluster.sleep(2)
        assert (await where(cluster))["copies.service"] == ["m1", "m2", "m3", "m4"]
        await runs(2, "m1", "m2")
        ended = await cluster.history("copies.service")
        assert {(e.copy, e.outcome, e.reason) for e in ended} == {
            (copy, "cancelled", "Availability=2 now") for copy in (2, 3, 4)
        }
        # What somebody has stopped stays so: one copy, or all of them.
        (second,) = [e.id for e in await cluster.registry.open_executions() if e.copy == 1]
        await cluster.registry.stop(second, "by hand")
        await cluster.sleep(2)
        await kept(cluster, "copies.service", "MachineMetadata=", "Availability=2")
        await cluster.sleep(2)
        assert (await where(cluster))["copies.service"] == ["m1"]
        await cluster.registry.stop("copies.service", "by hand")
        await cluster.sleep(2)
        await runs(3)

    run(scenario, FOR_EVER)


def test_a_copy_that_was_stopped_and_is_started_again_goes_to_a_machine_of_its_own():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 1)
        await cluster.start("m2", roles=AGENT)
        await kept(cluster, "copies.service", chronos="Availability=2")
        await cluster.sleep(1)
        assert await where(cluster) == {"copies.service": ["m1", "m2"]}
        (second,) = [e for e in await cluster.registry.open_executions() if e.copy == 1]
        await cluster.registry.stop(second.id, "by hand")
        await cluster.sleep(1)
        await cluster.stop("m2")
        await cluster.registry.start("copies.service", now=cluster.clock.now())
        await cluster.sleep(1)
        assert await where(cluster) == {"copies.service": ["m1"]}
        assert await waiting(cluster) == {"copies.service": "1 unplaced: 1 machine already runs a copy"}

    run(scenario, FOR_EVER)
