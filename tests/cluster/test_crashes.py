"""A daemon dies at the worst points: started exactly once, recorded exactly once."""

import secrets
import time
from collections.abc import Callable

import pytest

from tests.cluster.checker import check, told
from tests.cluster.cluster import Cluster, eventually
from tests.cluster.units import container, process
from xchronos.model.policies import Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.etcd,
    pytest.mark.docker,
    pytest.mark.usefixtures("cluster_services", "busybox_image"),
]


@pytest.fixture(scope="module")
def cluster():
    """One cluster for all points: a scheduler apart, and one agent, whose lease outlives its restart."""
    with Cluster(members=1, ttl=10) as found:
        found.start(found.daemon("s0", "scheduler"), found.daemon("a0", "agent"))
        yield found


@pytest.mark.parametrize("kind", ["process", "container"])
@pytest.mark.parametrize("point", ["claimed", "launch", "ended", "recorded"])
def test_started_once_and_recorded_once(cluster: Cluster, point: str, kind: str, figures: Callable[..., None]) -> None:
    unit = f"{point}-{kind}-{secrets.token_hex(3)}.service"
    texts = {
        "process": process(str(cluster.sink), "sleep 0.5"),
        "container": container(str(cluster.sink.parent), "sleep 0.5"),
    }
    cluster.submit({unit: texts[kind]})
    # A success is recorded by the agent; only a claim is the scheduler's.
    victim = cluster.daemons["s0" if point == "claimed" else "a0"]
    witness = cluster.daemons["a0" if point == "claimed" else "s0"]
    victim.arm(point, unit)
    witness.client.start(unit)
    victim.died()
    began = time.time()
    victim.start()
    history = eventually(lambda: ended(cluster, unit), "it has ended")
    (execution,) = history
    assert execution.outcome is Outcome.SUCCEEDED, execution
    assert len(execution.attempts) == 1
    events = [event for event in cluster.events() if event.key.unit == unit]
    assert [event.kind for event in events] == ["start", "end"]
    found = check(events, history, {})
    assert not found, told(found)
    figures(back_and_done_after=time.time() - began)


def ended(cluster: Cluster, unit: str):
    """The unit's history, once nothing of it is open."""
    history = cluster.history([unit])
    return history if history and all(execution.state == "ended" for execution in history) else None
