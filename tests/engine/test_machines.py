"""What people want of machines, and who runs where: drains, cordons, metadata, fleet's placement, in made-up time."""

import asyncio
import contextlib
from collections import defaultdict
from random import Random

import pytest
from engine_cluster import BOTH, Cluster, run
from faulty_store import FaultyStore

from xchronos.clock import SECOND, to_datetime
from xchronos.errors import ExecutorUnavailable, NotFound

AGENT = frozenset(("agent",))


def lasting(seconds):
    async def body(spec, machine):
        await asyncio.sleep(seconds)
        return 0

    return body


FOR_EVER = lasting(1e9)


async def kept(cluster: Cluster, name: str, fleet: str = "", chronos: str = "") -> None:
    """Submit a unit that is kept running."""
    text = (
        f"[Service]\nExecStart=/bin/true\nRestart=always\n[X-Fleet]\n{fleet}\n[X-Chronos]\nExecutor=python\n{chronos}\n"
    )
    await cluster.registry.submit(name, text.encode(), now=cluster.clock.now())
    await cluster.sleep(0.01)


async def where(cluster: Cluster) -> dict[str, list[str]]:
    """The machines on which each unit runs now, sorted."""
    found = defaultdict(list)
    for execution in await cluster.registry.open_executions():
        if execution.state == "running" and execution.current is not None and not execution.current.leave:
            found[execution.unit].append(execution.current.machine)
    return {unit: sorted(machines) for unit, machines in found.items()}


async def waiting(cluster: Cluster) -> dict[str, str]:
    """Why each unit's waiting executions wait."""
    return {e.unit: e.reason for e in await cluster.registry.open_executions() if e.state == "waiting"}


async def machines(cluster: Cluster, count: int, **fields) -> None:
    """m1 schedules too, the others only run."""
    for n in range(1, count + 1):
        await cluster.start(f"m{n}", roles=BOTH if n == 1 else AGENT, **fields)


# -- who runs where ---------------------------------------------------------------------------------------------------


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


def test_a_machine_that_joins_gets_its_copy_of_what_runs_everywhere():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        await kept(cluster, "kept.service", "Global=true")
        await kept(cluster, "ssd.service", "Global=true\nMachineMetadata=disk=ssd")
        await cluster.submit("fired.service", "TriggerCron=0 * * * * *", fleet="Global=true")
        await cluster.sleep(70)
        assert await where(cluster) == {"kept.service": ["m1", "m2"]}
        assert await waiting(cluster) == {"ssd.service": "1 unplaced: 2 machines lack disk=ssd"}
        await cluster.start("m3", roles=AGENT, metadata={"disk": "ssd"})
        await cluster.sleep(1)
        assert await where(cluster) == {"kept.service": ["m1", "m2", "m3"], "ssd.service": ["m3"]}
        before = {(e.fire_time, e.attempts[0].machine) for e in await cluster.history("fired.service")}
        await cluster.sleep(60)
        after = {(e.fire_time, e.attempts[0].machine) for e in await cluster.history("fired.service")} - before
        assert sorted(machine for _, machine in after) == ["m1", "m2", "m3"]
        assert len({fire_time for fire_time, _ in after}) == 1
        # A machine that comes to fit, one that does not fit any more, and one that does again.
        await cluster.registry.wishes.set_metadata("m2", {"disk": "ssd"})
        await cluster.sleep(1)
        assert (await where(cluster))["ssd.service"] == ["m2", "m3"]
        await cluster.registry.wishes.set_metadata("m3", {}, ["disk"])
        await cluster.sleep(1)
        assert (await where(cluster))["ssd.service"] == ["m2"]
        (ended,) = await cluster.history("ssd.service")
        assert (ended.outcome, ended.reason) == ("lost", "m3 lacks disk=ssd")
        await cluster.registry.wishes.set_metadata("m3", {"disk": "ssd"})
        await cluster.sleep(1)
        assert await where(cluster) == {"kept.service": ["m1", "m2", "m3"], "ssd.service": ["m2", "m3"]}
        assert await waiting(cluster) == {}

    async def body(spec, machine):
        await asyncio.sleep(1 if spec.unit == "fired.service" else 1e9)

    run(scenario, body)


def test_what_runs_everywhere_over_restarts_pauses_and_machines_without_room():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2, slots=2)
        await kept(cluster, "one.service", "Global=true")
        await cluster.sleep(1)
        await cluster.start("m3", roles=AGENT, slots=1)
        await cluster.sleep(1)
        await kept(cluster, "two.service", "Global=true")
        await cluster.sleep(1)
        assert await where(cluster) == {"one.service": ["m1", "m2", "m3"], "two.service": ["m1", "m2"]}
        # The slot on m3 is free again, and then a scheduler comes that has heard of nothing.
        await cluster.registry.destroy("one.service")
        await cluster.sleep(1)
        assert await where(cluster) == {"two.service": ["m1", "m2", "m3"]}
        await cluster.registry.set_desired("two.service", "paused")
        await cluster.stop("m1")
        await cluster.start("m4", roles=BOTH)
        await cluster.sleep(5)
        assert await where(cluster) == {"two.service": ["m2", "m3"]}
        await cluster.registry.set_desired("two.service", "active")
        await cluster.sleep(1)
        assert await where(cluster) == {"two.service": ["m2", "m3", "m4"]}
        await cluster.start("m1", roles=BOTH)
        await cluster.sleep(1)
        assert await where(cluster) == {"two.service": ["m1", "m2", "m3", "m4"]}
        # Its new text concerns no more than the machines that are still to come.
        await kept(cluster, "two.service", "")
        await cluster.start("m5", roles=AGENT)
        await cluster.sleep(1)
        assert await where(cluster) == {"two.service": ["m1", "m2", "m3", "m4"]}
        await cluster.registry.destroy("two.service")
        await cluster.sleep(1)
        assert await cluster.left_over() == []

    run(scenario, FOR_EVER)


def test_a_machine_that_was_full_when_the_unit_came():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 1)
        await cluster.start("m2", roles=AGENT, slots=1, metadata={"small": "yes"})
        await kept(cluster, "first.service", "MachineMetadata=small=yes")
        await cluster.sleep(1)
        await kept(cluster, "all.service", "Global=true")
        await cluster.sleep(1)
        assert await where(cluster) == {"first.service": ["m2"], "all.service": ["m1"]}
        await cluster.registry.destroy("first.service")
        await cluster.sleep(1)
        assert await where(cluster) == {"all.service": ["m1", "m2"]}

    run(scenario, FOR_EVER)


def test_more_machines_than_one_txn_holds_get_their_copies():
    async def scenario(cluster: Cluster) -> None:
        cluster.store.max_operations = 8
        await machines(cluster, 2)
        await kept(cluster, "all.service", "Global=true")
        await cluster.sleep(1)
        await asyncio.gather(*(cluster.start(f"m{n}", roles=AGENT) for n in range(3, 21)))
        await cluster.sleep(2)
        assert (await where(cluster))["all.service"] == sorted(f"m{n}" for n in range(1, 21))

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


# -- drains, cordons, changed metadata --------------------------------------------------------------------------------


def test_a_drain_with_a_deadline():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        await cluster.registry.wishes.cordon("m2")
        await kept(cluster, "kept.service")
        for name in ("short", "long"):
            await cluster.submit(f"{name}.service", "MaxAttempts=1")
            await cluster.registry.start(f"{name}.service", now=cluster.clock.now())
        await cluster.sleep(1)
        assert set(map(tuple, (await where(cluster)).values())) == {("m1",)}
        await cluster.registry.wishes.uncordon("m2")
        await cluster.registry.wishes.drain("m1", to_datetime(cluster.clock.now() + 60 * SECOND), "new disk")
        await cluster.sleep(1)
        # What is kept running has moved, the others have their time.
        assert await where(cluster) == {"kept.service": ["m2"], "short.service": ["m1"], "long.service": ["m1"]}
        await cluster.sleep(57)
        assert await where(cluster) == {"kept.service": ["m2"], "long.service": ["m1"]}
        await cluster.sleep(4)
        assert await where(cluster) == {"kept.service": ["m2"], "long.service": ["m2"]}
        (short,) = await cluster.history("short.service")
        assert [(a.machine, a.outcome) for a in short.attempts] == [("m1", "succeeded")]
        await cluster.sleep(120)
        (long,) = await cluster.history("long.service")
        # One attempt is all it has, and the one that had to leave was not charged.
        assert [(a.machine, a.outcome, a.reason) for a in long.attempts] == [
            ("m1", "lost", "m1 is being drained: new disk"),
            ("m2", "succeeded", ""),
        ]
        assert (await cluster.store.range(cluster.keys.machine_placements("m1"))).items == []
        # Nothing comes until the drain is ended.
        await cluster.stop("m2")
        await cluster.sleep(5)
        assert await where(cluster) == {}
        assert "cordoned" in (await waiting(cluster))["kept.service"]
        await cluster.registry.wishes.uncordon("m1")
        await cluster.sleep(1)
        assert await where(cluster) == {"kept.service": ["m1"]}

    async def body(spec, machine):
        await asyncio.sleep({"short.service": 30, "long.service": 100}.get(spec.unit, 1e9))

    run(scenario, body)


def test_copies_on_every_machine_that_a_trigger_started_end_with_a_drain_and_wait_out_a_cordon():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        await cluster.submit("a.service", "TriggerRepeatInterval=1h\nMaxAttempts=2", fleet="Global=true")
        await cluster.sleep(1)
        await cluster.registry.wishes.cordon("m1")
        await cluster.sleep(10)
        # The first attempts have failed; the second one on m1 waits until the cordon is lifted.
        assert await where(cluster) == {"a.service": ["m2"]}
        assert await waiting(cluster) == {"a.service": "m1 is cordoned"}
        await cluster.registry.wishes.uncordon("m1")
        await cluster.sleep(1)
        assert await where(cluster) == {"a.service": ["m1", "m2"]}
        await cluster.registry.wishes.drain("m2", to_datetime(cluster.clock.now()))
        await cluster.sleep(2)
        assert await where(cluster) == {"a.service": ["m1"]}
        (ended,) = await cluster.history("a.service")
        assert (ended.outcome, ended.reason) == ("lost", "m2 is cordoned")
        assert [attempt.reason for attempt in ended.attempts] == ["start-0: exited with 1", "m2 is being drained"]

    async def body(spec, machine):
        if spec.attempt == 1:
            await asyncio.sleep(5)
            return 1
        await asyncio.sleep(1e9)
        return 0

    run(scenario, body)


def test_an_engine_that_does_not_answer_gets_nothing_and_loses_nothing(monkeypatch):
    text = b"[Service]\nExecStart=/bin/true\nRestart=always\n[Container]\nImage=x\n"

    async def scenario(cluster: Cluster) -> None:
        for n in (1, 2):
            await cluster.start(f"m{n}", roles=BOTH if n == 1 else AGENT, kind="docker")
        away: set[str] = set()
        for machine, roles in cluster.running.items():
            executor = roles._executors["docker"]

            async def probe(machine=machine) -> str:
                if machine in away:
                    raise ExecutorUnavailable("connection refused")
                return "27.0"

            monkeypatch.setattr(executor, "probe", probe, raising=False)
        await cluster.registry.submit("a.service", text, now=cluster.clock.now())
        await cluster.sleep(15)
        (machine,) = (await where(cluster))["a.service"]
        (other,) = {"m1", "m2"} - {machine}
        away |= {machine, other}
        await cluster.sleep(30)
        # What runs goes on; what is new waits.
        assert await where(cluster) == {"a.service": [machine]}
        await cluster.registry.submit("b.service", text, now=cluster.clock.now())
        await cluster.sleep(1)
        assert await waiting(cluster) == {
            "b.service": "1 unplaced: 2 machines have no usable Docker engine: connection refused"
        }
        away.remove(other)
        await cluster.sleep(15)
        assert await where(cluster) == {"a.service": [machine], "b.service": [other]}

    run(scenario, FOR_EVER)


def test_an_uncordon_ends_a_drain_before_its_deadline():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        await cluster.submit("a.service")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(1)
        (machine,) = (await where(cluster))["a.service"]
        await cluster.registry.wishes.drain(machine, to_datetime(cluster.clock.now() + 10 * SECOND))
        await cluster.sleep(5)
        await cluster.registry.wishes.uncordon(machine)
        await cluster.sleep(20)
        assert await where(cluster) == {"a.service": [machine]}

    run(scenario, FOR_EVER)


def test_what_has_not_begun_leaves_a_draining_machine_at_once_and_is_not_charged():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles={"scheduler"})
        connection = FaultyStore(cluster.store, cluster.clock, Random(1))
        held = await cluster.start("m1", roles=AGENT, store=connection)
        held.agent._shop.closing = "it is held up"
        await cluster.submit("a.service")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(1)
        (execution,) = await cluster.registry.open_executions()
        assert (execution.state, execution.current.machine) == ("placed", "m1")
        await cluster.start("m2", roles=AGENT)
        await cluster.registry.wishes.drain("m1", to_datetime(cluster.clock.now() + 3600 * SECOND))
        await cluster.sleep(1)
        assert await where(cluster) == {"a.service": ["m2"]}
        (execution,) = await cluster.registry.open_executions()
        (first,) = execution.attempts
        assert (first.machine, first.outcome, first.started_at) == ("m1", "lost", None)
        assert first.reason == "m1 is being drained"

    run(scenario, FOR_EVER)


def test_a_cordon_keeps_new_work_away_and_leaves_the_rest():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        await kept(cluster, "kept.service", "Global=true")
        await cluster.submit("a.service", "TriggerCron=*/10 * * * * *")
        await cluster.sleep(1)
        await cluster.registry.wishes.cordon("m1", "noise")
        await cluster.sleep(60)
        assert await where(cluster) == {"kept.service": ["m1", "m2"], "a.service": ["m2"] * 6}

    run(scenario, FOR_EVER)


def test_changed_metadata_moves_what_no_longer_fits():
    async def scenario(cluster: Cluster) -> None:
        for machine, disk in (("m1", "ssd"), ("m2", "ssd"), ("m3", "hdd")):
            await cluster.start(machine, roles=BOTH if machine == "m1" else AGENT, metadata={"disk": disk})
        await cluster.registry.wishes.cordon("m2")
        await kept(cluster, "kept.service", "MachineMetadata=disk=ssd")
        await cluster.submit("job.service", "MaxAttempts=1", fleet="MachineMetadata=disk=ssd")
        await cluster.submit("any.service")
        for name in ("job.service", "any.service"):
            await cluster.registry.start(name, now=cluster.clock.now())
        await cluster.sleep(1)
        await cluster.registry.wishes.uncordon("m2")
        before = await where(cluster)
        assert (before["kept.service"], before["job.service"]) == (["m1"], ["m1"])
        await cluster.registry.wishes.set_metadata("m1", {"disk": "hdd"})
        await cluster.sleep(1)
        assert await where(cluster) == {**before, "kept.service": ["m2"], "job.service": ["m2"]}
        (job,) = await cluster.registry.open_executions("job.service")
        assert (job.attempts[0].outcome, job.attempts[0].reason) == ("lost", "m1 lacks disk=ssd (it has disk=hdd)")
        await cluster.registry.wishes.set_metadata("m2", {}, ["disk"])
        await cluster.sleep(1)
        assert await waiting(cluster) == dict.fromkeys(
            ("kept.service", "job.service"), "1 unplaced: 3 machines lack disk=ssd"
        )
        await cluster.registry.wishes.set_metadata("m3", {"disk": "ssd"})
        await cluster.sleep(1)
        assert await where(cluster) == {**before, "kept.service": ["m3"], "job.service": ["m3"]}

    run(scenario, FOR_EVER)


def test_a_daemon_that_ends_is_a_drain_of_its_machine():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 2)
        await cluster.registry.wishes.cordon("m1")
        await kept(cluster, "kept.service")
        for name in ("short.service", "long.service"):
            await cluster.submit(name)
            await cluster.registry.start(name, now=cluster.clock.now())
        await cluster.submit("ticking.service", "TriggerRepeatInterval=1s")
        await cluster.sleep(1)
        assert set(map(tuple, (await where(cluster)).values())) == {("m2",)}
        await cluster.registry.wishes.uncordon("m1")
        before = cluster.at()
        stopping = asyncio.create_task(cluster.stop("m2", grace=20 * SECOND))
        await cluster.sleep(1)
        placed = await where(cluster)
        assert (placed["kept.service"], placed["short.service"], placed["long.service"]) == (["m1"], ["m2"], ["m2"])
        (record,) = [machine for machine in await cluster.registry.machines() if machine.id == "m2"]
        assert (record.cordoned, record.cordon_reason) == (True, "xchronosd is shutting down")
        # What people say meanwhile does not open it again.
        await cluster.registry.wishes.uncordon("m2")
        await stopping
        assert 20 <= cluster.at() - before <= 21
        await cluster.sleep(1)
        assert (await where(cluster))["long.service"] == ["m1"]
        (short,) = await cluster.history("short.service")
        assert [(a.machine, a.outcome) for a in short.attempts] == [("m2", "succeeded")]
        late = {machine for at, execution, _, machine in cluster.log if at > before + 0.1}
        assert late == {"m1"}

    async def body(spec, machine):
        await asyncio.sleep({"short.service": 10, "ticking.service": 0}.get(spec.unit, 1e9))

    run(scenario, body)


def test_what_is_kept_running_comes_back_with_the_only_daemon():
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await kept(cluster, "kept.service")
        await kept(cluster, "everywhere.service", "Global=true")
        await cluster.sleep(1)
        began = cluster.at()
        await cluster.stop("m1", grace=60 * SECOND)
        # Nobody waits for what never ends.
        assert cluster.at() - began < 5
        await cluster.start("m1")
        await cluster.sleep(1)
        assert await where(cluster) == {"kept.service": ["m1"], "everywhere.service": ["m1"]}

    run(scenario, FOR_EVER)


@pytest.mark.parametrize("seed", range(20))
def test_metadata_that_changes_while_things_are_placed(seed):
    """Whatever the order in which everybody hears of it: nothing is begun where it does not fit, nothing is charged."""
    begun: list[tuple[str, bool]] = []

    async def scenario(cluster: Cluster) -> None:
        random = Random(seed)
        for n in range(1, 4):
            connection = FaultyStore(cluster.store, cluster.clock, random)
            await cluster.start(f"m{n}", roles=BOTH if n == 1 else AGENT, store=connection)

        async def body(spec, machine):
            record = next(m for m in await cluster.registry.machines() if m.id == machine)
            begun.append((machine, record.metadata.get("disk") == "ssd"))
            await asyncio.sleep(0.5)

        cluster.body = body
        await cluster.submit("a.service", "TriggerRepeatInterval=100ms", fleet="MachineMetadata=disk=ssd")
        for _ in range(60):
            machine = f"m{random.randrange(1, 4)}"
            if random.random() < 0.5:
                await cluster.registry.wishes.set_metadata(machine, {"disk": "ssd"})
            else:
                await cluster.registry.wishes.set_metadata(machine, {"disk": random.choice(["hdd", "nvme"])})
            await cluster.sleep(random.random() * 0.5)
        for n in range(1, 4):
            await cluster.registry.wishes.set_metadata(f"m{n}", {"disk": "ssd"})
        await cluster.registry.set_desired("a.service", "paused")
        await cluster.sleep(60)
        history = await cluster.history("a.service")
        assert history
        assert {execution.outcome for execution in history} <= {"succeeded", "missed"}
        assert max(cluster.starts.values()) == 1
        # A step may begin while the news is on its way to its machine: then it is made to leave.
        wrong = sum(not right for _, right in begun)
        assert wrong <= len(begun) // 3

    run(scenario)


def test_everything_destroyed_and_gone_leaves_nothing():
    async def scenario(cluster: Cluster) -> None:
        await machines(cluster, 3)
        await kept(cluster, "everywhere.service", "Global=true")
        await kept(cluster, "kept.service", "Conflicts=other.*")
        await kept(cluster, "pair.service", "MachineOf=kept.service")
        await cluster.submit("fired.service", "TriggerRepeatInterval=1s\nLoadBalancing=round-robin\nAvailability=2")
        await cluster.sleep(5)
        await cluster.registry.wishes.drain("m2", to_datetime(cluster.clock.now()))
        await cluster.registry.wishes.set_metadata("m3", {"disk": "ssd"})
        await cluster.sleep(5)
        await cluster.stop("m3")
        await cluster.sleep(5)
        for name in await cluster.registry.unit_names():
            await cluster.registry.destroy(name)
        await cluster.sleep(5)
        await cluster.registry.wishes.uncordon("m2")
        for machine in ("m2", "m1"):
            await cluster.stop(machine)
        await cluster.registry.wishes.forget("m3")
        assert [item.key for item in (await cluster.store.range("")).items] == []

    run(scenario, lasting(20))


@pytest.mark.parametrize("seed", [*range(10), 279, 347, 397])
def test_whatever_is_done_to_machines_all_is_where_it_belongs_in_the_end(seed):
    async def scenario(cluster: Cluster) -> None:
        random = Random(seed)
        names = [f"m{n}" for n in range(1, 6)]

        async def join(machine: str) -> None:
            connection = FaultyStore(cluster.store, cluster.clock, random, trouble=0.01 if seed % 2 else 0.0)
            disk = {"disk": random.choice(["ssd", "hdd"])}
            await cluster.start(machine, roles=random.choice([BOTH, AGENT]), store=connection, metadata=disk)

        async def act() -> None:
            machine, wishes = random.choice(names), cluster.registry.wishes
            alive, now = machine in cluster.running, cluster.clock.now()
            match random.randrange(7):
                case 0 if not alive:
                    await join(machine)
                case 1 if alive and len(cluster.running) > 2:
                    await cluster.stop(machine, grace=random.randrange(0, 5) * SECOND)
                case 2 if alive and len(cluster.running) > 2:
                    await cluster.kill(machine)
                case 3:
                    await wishes.cordon(machine)
                case 4:
                    await wishes.uncordon(machine)
                case 5:
                    await wishes.drain(machine, to_datetime(now + random.randrange(0, 20) * SECOND))
                case 6:
                    await wishes.set_metadata(machine, {"disk": random.choice(["ssd", "hdd"])})

        await cluster.start("s", store=FaultyStore(cluster.store, cluster.clock, random), roles={"scheduler"})
        for machine in names:
            await join(machine)
        await kept(cluster, "all.service", "Global=true")
        await kept(cluster, "ssd.service", "Global=true\nMachineMetadata=disk=ssd")
        await kept(cluster, "three.service", chronos="Availability=3")
        await kept(cluster, "web.service", "MachineMetadata=disk=ssd")
        await kept(cluster, "log.service", "MachineOf=web.service")
        for n in range(2):
            await kept(cluster, f"x{n}.service", "Conflicts=x*.service")
        await cluster.submit("fired.service", "TriggerRepeatInterval=3s\nMaxAttempts=1")
        for _ in range(60):
            with contextlib.suppress(NotFound):
                await act()
            await cluster.sleep(random.random() * 3)
        for machine in names:
            if machine not in cluster.running:
                await join(machine)
            await cluster.registry.wishes.uncordon(machine)
        await cluster.registry.wishes.set_metadata("m1", {"disk": "ssd"})
        await cluster.registry.set_desired("fired.service", "paused")
        await cluster.sleep(120)
        ssd = [m.id for m in await cluster.registry.machines() if m.metadata["disk"] == "ssd"]
        placed = await where(cluster)
        assert await waiting(cluster) == {}
        assert placed["all.service"] == names
        assert placed["ssd.service"] == ssd
        assert len(set(placed["three.service"])) == len(placed["three.service"]) == 3
        assert placed["web.service"] == placed["log.service"]
        assert placed["web.service"][0] in ssd
        assert len(placed["x0.service"]) == len(placed["x1.service"]) == 1
        assert placed["x0.service"] != placed["x1.service"]
        assert max(cluster.starts.values()) == 1
        history = await cluster.history("fired.service")
        assert {execution.outcome for execution in history} <= {"succeeded", "missed"}
        for name in await cluster.registry.unit_names():
            await cluster.registry.destroy(name)
        await cluster.sleep(60)
        for machine in (*names, "s"):
            await cluster.stop(machine)
        # A machine's last word may not have reached the store.
        await cluster.sleep(30)
        for machine in await cluster.registry.wishes.all():
            await cluster.registry.wishes.forget(machine)
        assert [item.key for item in (await cluster.store.range("")).items] == []

    async def body(spec, machine):
        await asyncio.sleep(2 if spec.unit == "fired.service" else 1e9)

    run(scenario, body)
