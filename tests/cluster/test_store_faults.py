"""etcd dies, sleeps, is cut off, compacted and defragmented; what runs goes on, and nothing is lost."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.cluster.checker import check, lateness, told
from tests.cluster.cluster import FULL, Cluster, Waits, eventually
from tests.cluster.sink import beating
from tests.cluster.stores import EtcdServers
from tests.cluster.test_agents import containers
from tests.cluster.units import Window, container, due, names, recorder, until
from xchronos.errors import ApiError
from xchronos.model.policies import Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.etcd,
    pytest.mark.usefixtures("cluster_services"),
    pytest.mark.timeout(1800),  # ends only what hangs
]

UNITS = names(200 if FULL else 60)


def start(cluster: Cluster) -> None:
    """Two schedulers, two agents."""
    roles = {"s0": "scheduler", "s1": "scheduler", "a0": "agent", "a1": "agent"}
    cluster.start(*(cluster.daemon(name, role) for name, role in roles.items()))


@pytest.mark.docker
@pytest.mark.usefixtures("busybox_image")
def test_all_of_etcd_is_away_for_a_while(figures: Callable[..., None]) -> None:
    count, away = (100, 30.0) if FULL else (6, 6.0)
    running = names(count, "long")
    with Cluster(ttl=3) as cluster:
        start(cluster)
        where = str(cluster.sink.parent)
        setup = count / 4
        cluster.submit(
            dict.fromkeys(running, container(where, beating(away + 10 + setup), chronos="OnPartition=continue"))
        )
        for unit in running:
            cluster.client.start(unit)
        eventually(lambda: len(cluster.events()) >= count and len(containers(cluster)) == count, "all run")
        window = Window(away + (14 if FULL else 8), delay=3)
        cluster.submit(dict.fromkeys(UNITS, recorder(window)))
        until(window.first.timestamp() + 2)
        before = containers(cluster)
        cluster.servers.kill()
        gone = time.time()
        time.sleep(2)  # claims that were durable may still be carried out
        started = len([event for event in cluster.events() if event.kind == "start"])
        with pytest.raises(ApiError) as refused:
            cluster.client.units().__next__()
        assert refused.value.status == 503, refused.value
        until(gone + away)
        assert len([event for event in cluster.events() if event.kind == "start"]) == started
        assert containers(cluster) == before
        assert all(daemon.running for daemon in cluster.daemons.values())
        cluster.servers.start()
        back = time.time()
        first = eventually(
            lambda: next((e.when for e in cluster.events() if e.kind == "start" and e.when > back), None), "it resumes"
        )
        window.wait()
        fires = window.fires()
        history = cluster.settled([*UNITS, *running], len(UNITS) * len(fires) + count)
        found = check(cluster.events(), history, due(UNITS, fires))
        assert not found, told(found)
        assert {execution.outcome for execution in history} == {Outcome.SUCCEEDED}
        assert all(len(execution.attempts) == 1 for execution in history if execution.unit in running)
        figures(away=back - gone, containers=count, resumed_after=first - back, executions=len(history))


@pytest.mark.parametrize("fault", ["cut", "kill", "pause"] if FULL else ["cut"])
def test_one_member_is_lost(fault: str, figures: Callable[..., None]) -> None:
    with Cluster(ttl=4) as cluster:
        start(cluster)
        window = Window(30 if FULL else 12, delay=3)
        cluster.submit(dict.fromkeys(UNITS, recorder(window)))
        until(window.first.timestamp() + 2)
        victim = cluster.servers.leader
        host = cluster.host_of(victim)
        {"kill": victim.kill, "pause": victim.pause, "cut": host.cut}[fault]()
        time.sleep(8 if FULL else 5)
        {"kill": victim.start, "pause": victim.resume, "cut": host.mend}[fault]()
        window.wait()
        fires = window.fires()
        history = cluster.settled(UNITS, len(UNITS) * len(fires))
        found = check(cluster.events(), history, due(UNITS, fires))
        assert not found, told(found)
        assert {execution.outcome for execution in history} == {Outcome.SUCCEEDED}
        figures(executions=len(history), worst_lateness=lateness(history, [], 0).surviving)


def test_compaction_and_defragmentation_lose_no_event(figures: Callable[..., None]) -> None:
    with Cluster(ttl=4) as cluster:
        start(cluster)
        assert isinstance(cluster.servers, EtcdServers)
        window = Window(40 if FULL else 10, delay=3)
        cluster.submit(dict.fromkeys(UNITS, recorder(window)))
        rounds = 0
        while time.time() < window.last.timestamp():
            began = time.time()
            cluster.servers.compact()
            cluster.servers.defrag()
            rounds += 1
            until(began + 1)
        window.wait()
        fires = window.fires()
        history = cluster.settled(UNITS, len(UNITS) * len(fires))
        found = check(cluster.events(), history, due(UNITS, fires))
        assert not found, told(found)
        assert {execution.outcome for execution in history} == {Outcome.SUCCEEDED}
        figures(rounds=rounds, executions=len(history), worst_lateness=lateness(history, [], 0).surviving)


def test_everything_restarts_over_pending_one_shots(figures: Callable[..., None]) -> None:
    count = 10_000 if FULL else 500
    units = names(count, "once")
    with Cluster(ttl=4) as cluster, Waits(cluster.pids) as waits:
        start(cluster)
        assert isinstance(cluster.servers, EtcdServers)
        at = int(time.time() + (240 if FULL else 30))
        text = f"[Service]\nType=oneshot\nExecStart=/record\n[X-Chronos]\nExecutor=python\nTriggerAt={at}\n"
        began = time.time()
        cluster.submit(dict.fromkeys(units, text))
        submitted = time.time() - began
        assert time.time() < at - 5, f"submitting took {submitted:.0f} s"
        for daemon in cluster.daemons.values():
            daemon.kill()
        cluster.servers.kill()
        until(at + 1)
        cluster.servers.start()
        before = cluster.servers.calls()
        restarted = time.time()
        cluster.start(*cluster.daemons.values())
        first = eventually(lambda: next((event.when for event in cluster.events()), None), "the first one runs")
        eventually(lambda: len(cluster.events()) >= 2 * count, "all have run")
        done = time.time() - restarted
        calls = cluster.servers.calls() - before
        history = cluster.settled(units, count)
        found = check(cluster.events(), history, due(units, [datetime.fromtimestamp(at, UTC)]))
        assert not found, told(found)
        decided = first - restarted
        waited = waits.during(restarted, first)
        figures(
            units=count, submitted_in=submitted, first_decision_after=decided,
            first_decision_without_waiting_for_a_cpu=decided - waited, all_done_after=done,
            range_requests=calls["Range"], txns=calls["Txn"],
        )  # fmt: skip
        assert decided - waited <= 5
        assert calls["Range"] < 100 + count // 20
