"""Machines that take nothing new: drains, cordons, engines that do not answer, daemons that end."""

import asyncio
from random import Random

from tests.engine.engine_cluster import AGENT, BOTH, Cluster, run
from tests.engine.faulty_store import FaultyStore
from tests.engine.machines_world import FOR_EVER, kept, machines, waiting, where
from xchronos.clock import SECOND, to_datetime
from xchronos.errors import ExecutorUnavailable


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
        held.agent._context.admission.closed = "it is held up"
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
