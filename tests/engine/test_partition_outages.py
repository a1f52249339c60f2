"""A store that everybody has lost, and machines and schedulers that are lost together."""

import pytest

from tests.engine.cut_store import CutStore
from tests.engine.engine_cluster import Cluster
from tests.engine.partition_world import ONCE, TTL, Sink, play, three
from xchronos.clock import HOUR, SECOND
from xchronos.model.policies import Outcome


def test_when_all_machines_are_gone_nothing_runs_for_ever():
    sink = Sink(HOUR / SECOND)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1", "m2")
        await c.submit("bounded.service", f"{ONCE}\nConcurrency=forbid\nStartDeadline=30s")
        await c.submit("patient.service", f"{ONCE}\nConcurrency=forbid")
        await c.sleep(10)
        for name in ("m1", "m2"):
            links[name].cut = True
        await c.sleep(60)
        (execution,) = await c.history("bounded.service")
        assert execution.outcome is Outcome.LOST
        assert "StartDeadline passed" in execution.reason
        (waiting,) = await c.registry.open_executions()
        assert (waiting.unit, waiting.state) == ("patient.service", "waiting")
        sink.length = 5
        links["m2"].cut = False
        await c.sleep(30)
        (execution,) = await c.history("patient.service")
        assert execution.outcome is Outcome.SUCCEEDED
        assert sink.overlaps() == [pair for pair in sink.overlaps() if pair[0][0] != pair[1][0]]

    play(scenario, sink)


def test_an_outage_of_the_whole_store_stops_only_what_must_not_risk_it():
    sink = Sink(90)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1", "m2", "m3")
        for number in range(6):
            await c.submit(f"c{number}.service", f"{ONCE}\nAvailability=2")
        await c.submit("stop.service", f"{ONCE}\nOnPartition=stop")
        await c.submit("tick.service", "TriggerCron=@every 5s\nMisfireThreshold=1s\nMisfirePolicy=FIRE_NOW")
        await c.sleep(12)
        begun = len(sink.rows)
        for link in links.values():
            link.cut = True
        away = c.at()
        await c.sleep(30)
        assert [row for row in sink.rows if row[3] > away] == [], "nothing starts without a durable claim"
        assert {row[0].partition("/")[0] for row in sink.rows if row[5] == "killed"} == {"stop.service"}
        for link in links.values():
            link.cut = False
        await c.sleep(200)
        assert begun >= 13
        for number in range(6):
            for execution in await c.history(f"c{number}.service"):
                assert execution.outcome is Outcome.SUCCEEDED
                assert len(execution.attempts) == 1, "nobody was given up on the store's return"
        (execution,) = await c.history("stop.service")
        assert [a.outcome for a in execution.attempts] == [Outcome.LOST, Outcome.SUCCEEDED]
        assert max(c.starts.values()) == 1

    play(scenario, sink)


def test_a_daemon_says_that_its_store_is_away():
    sink = Sink(20)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1")
        assert [daemon.health() for daemon in c.running.values()] == [[], []]
        for link in links.values():
            link.cut = True
        await c.sleep(8)
        assert c.running["s1"].health() == ["the scheduler has no answer from the job store"]
        assert c.running["m1"].health() == ["the agent has no answer from the job store"]
        for link in links.values():
            link.cut = False
        await c.sleep(5)
        assert [daemon.health() for daemon in c.running.values()] == [[], []]

    play(scenario, sink)


def test_a_result_of_the_outage_is_recorded_when_the_store_is_back():
    sink = Sink(20)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1")
        await c.submit("job.service", ONCE)
        await c.sleep(10)
        for link in links.values():
            link.cut = True
        await c.sleep(45)
        assert [row[5] for row in sink.rows] == ["ended"]
        for link in links.values():
            link.cut = False
        await c.sleep(40)
        (execution,) = await c.history("job.service")
        assert execution.outcome is Outcome.SUCCEEDED
        assert len(sink.rows) == 1

    play(scenario, sink)


@pytest.mark.parametrize("length", [4, 7, 9, 12, 40])
def test_the_news_of_dead_leases_behind_an_outage_is_not_believed_at_once(length):
    """The store is stopped as a whole: its clock goes on, so when it is back it ends every lease before anything else."""
    sink = Sink(90)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1", "m2", "m3")
        for number in range(6):
            await c.submit(f"c{number}.service", f"{ONCE}\nAvailability=2")
        await c.sleep(25)
        for link in links.values():
            link.frozen = True
        await c.sleep(length)
        for link in links.values():
            link.frozen = False
        await c.sleep(200)
        assert len(sink.rows) == 12
        for number in range(6):
            for execution in await c.history(f"c{number}.service"):
                assert [a.outcome for a in execution.attempts] == [Outcome.SUCCEEDED]

    play(scenario, sink)


def test_a_machine_that_dies_in_an_outage_is_lost_a_while_after_it():
    sink = Sink(60)

    async def scenario(c: Cluster) -> None:
        links = await three(c, sink, "m1", "m2")
        await c.submit("job.service", ONCE)
        await c.sleep(25)
        for link in links.values():
            link.frozen = True
        await c.sleep(15)
        dead = sink.rows[0][2]
        await c.kill(dead)
        for name, link in links.items():
            if name != dead:
                link.frozen = False
        back = c.at()
        await c.sleep(100)
        assert [row[2] for row in sink.rows] == [dead, "m2" if dead == "m1" else "m1"]
        assert back + TTL - 1 <= sink.rows[1][3] <= back + TTL + 2
        (execution,) = await c.history("job.service")
        assert execution.outcome is Outcome.SUCCEEDED

    play(scenario, sink)


def test_scheduler_and_agent_on_the_same_lost_machine():
    sink = Sink(60)

    async def scenario(c: Cluster) -> None:
        sink.cluster = c
        for name in ("m1", "m2", "m3"):
            await c.start(name, store=CutStore(c.store, c.clock))
        for number in range(12):
            await c.submit(f"u{number}.service", f"{ONCE}\nConcurrency=forbid")
        await c.sleep(20)
        first = len(sink.rows)
        killed_at = c.at()
        await c.kill("m1")
        lost = {row[0] for row in sink.rows if row[2] == "m1"}
        assert first == 12
        assert lost
        await c.sleep(100)
        again = sink.rows[first:]
        assert {row[0] for row in again} == lost
        assert max(row[3] for row in again) <= killed_at + TTL + 2
        for number in range(12):
            (execution,) = await c.history(f"u{number}.service")
            assert execution.outcome is Outcome.SUCCEEDED

    play(scenario, sink)


def test_a_daemon_says_what_its_store_says_of_itself(monkeypatch):
    monkeypatch.setattr(CutStore, "faults", lambda store: ["the quota is reached"], raising=False)

    async def scenario(c: Cluster) -> None:
        await three(c, Sink(20), "m1")
        assert c.running["m1"].health() == ["the job store: the quota is reached"]

    play(scenario, Sink(20))
