"""The same promises on three Consul servers: they, schedulers and agents die, and are cut off."""

import time
from collections.abc import Callable

import pytest

from tests.cluster.checker import check, lateness, told
from tests.cluster.cluster import FULL, Cluster, eventually
from tests.cluster.sink import beating
from tests.cluster.stores import ConsulServers
from tests.cluster.test_agents import containers
from tests.cluster.test_store_faults import start
from tests.cluster.units import Window, container, due, names, recorder, until
from xchronos.model.policies import Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.consul,
    pytest.mark.usefixtures("consul_cluster_services"),
    pytest.mark.timeout(1800),  # ends only what hangs
]

UNITS = names(100 if FULL else 40)


@pytest.mark.parametrize("fault", ["cut", "kill", "pause"] if FULL else ["cut"])
def test_the_leaders_of_consul_and_of_the_schedulers_are_lost_at_once(fault: str, figures: Callable[..., None]) -> None:
    rounds = 3 if FULL else 1
    with Cluster(ConsulServers, ttl=4) as cluster:
        start(cluster)
        cluster.owned()
        window = Window(rounds * 25 if FULL else 14, delay=5)
        cluster.submit(dict.fromkeys(UNITS, recorder(window)))
        for number in range(rounds):
            until(window.first.timestamp() + 2 + number * 25)
            scheduler = eventually(cluster.leader, "somebody leads")
            server = cluster.servers.leader
            host = cluster.host_of(server)
            {"kill": server.kill, "pause": server.pause, "cut": host.cut}[fault]()
            scheduler.kill()
            time.sleep(8 if FULL else 5)
            {"kill": server.start, "pause": server.resume, "cut": host.mend}[fault]()
            scheduler.start()
        window.wait()
        fires = window.fires()
        history = cluster.settled(UNITS, len(UNITS) * len(fires))
        found = check(cluster.events(), history, due(UNITS, fires))
        assert not found, told(found)
        assert {execution.outcome for execution in history} == {Outcome.SUCCEEDED}
        figures(executions=len(history), worst_lateness=lateness(history, [], 0).surviving)


@pytest.mark.docker
@pytest.mark.usefixtures("busybox_image")
def test_all_of_consul_is_away_and_an_agent_dies_meanwhile(figures: Callable[..., None]) -> None:
    """What ran runs on in the same containers, the agent takes its own up again, and nothing starts without a claim."""
    count, away = (40, 30.0) if FULL else (4, 6.0)
    running = names(count, "long")
    with Cluster(ConsulServers, ttl=4) as cluster:
        start(cluster)
        cluster.owned()
        text = container(str(cluster.sink.parent), beating(away + 12 + count / 4), chronos="OnPartition=continue")
        cluster.submit(dict.fromkeys(running, text))
        for unit in running:
            cluster.client.start(unit)
        eventually(lambda: len(cluster.events()) >= count and len(containers(cluster)) == count, "all run")
        window = Window(away + 8, delay=4)
        cluster.submit(dict.fromkeys(UNITS, recorder(window)))
        until(window.first.timestamp() + 2)
        before = containers(cluster)
        cluster.servers.kill()
        gone = time.time()
        cluster.daemons["a0"].kill()
        time.sleep(2)  # claims that were durable may still be carried out
        started = len([event for event in cluster.events() if event.kind == "start"])
        cluster.daemons["a0"].start(wait=False)
        until(gone + away)
        assert len([event for event in cluster.events() if event.kind == "start"]) == started
        assert containers(cluster) == before
        assert all(daemon.running for daemon in cluster.daemons.values())
        cluster.servers.start()
        back = time.time()
        for daemon in cluster.daemons.values():
            daemon.wait()
        well = time.time() - back
        window.wait()
        fires = window.fires()
        history = cluster.settled([*UNITS, *running], len(UNITS) * len(fires) + count)
        found = check(cluster.events(), history, due(UNITS, fires))
        assert not found, told(found)
        ours = [execution for execution in history if execution.unit in running]
        assert {execution.outcome for execution in ours} == {Outcome.SUCCEEDED}
        assert all(len(execution.attempts) == 1 for execution in ours)
        figures(away=back - gone, containers=count, well_after=well, executions=len(history))
