"""Agents die, and are cut off: what they ran is run elsewhere, and Concurrency=forbid stays what it says."""

import subprocess
import time
from collections.abc import Callable, Sequence

import pytest

from tests.cluster.checker import Run, check, overlaps, runs, told
from tests.cluster.cluster import FULL, Cluster, DaemonProcess, eventually
from tests.cluster.sink import beating
from tests.cluster.units import Window, container, due, names
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution

pytestmark = [
    pytest.mark.slow,
    pytest.mark.etcd,
    pytest.mark.docker,
    pytest.mark.usefixtures("cluster_services", "busybox_image"),
    pytest.mark.timeout(1800),  # ends only what hangs
]

TTL = 4.0
CONTINUE, STOP = "OnPartition=continue", "OnPartition=stop"


def boot(members: int = 3) -> Cluster:
    """A scheduler apart and three agents."""
    return Cluster(members=members, ttl=TTL)


def start(cluster: Cluster) -> list[DaemonProcess]:
    """Starts everything; returns the agents."""
    agents = [cluster.daemon(f"a{number}", "agent") for number in range(3)]
    cluster.start(cluster.daemon("s0", "scheduler"), *agents)
    return agents


def containers(cluster: Cluster, *, everything: bool = False) -> dict[str, str]:
    """The cluster's containers that run: their unit by their id."""
    label = f"label=xchronos.namespace={cluster.namespace}"
    command = ["docker", "ps", "--no-trunc", "--filter", label, "--format", '{{.ID}} {{.Label "xchronos.unit"}}']
    lines = subprocess.run(
        command + ["-a"] * everything, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return dict(line.split() for line in lines)


def runs_of(cluster: Cluster, *units: str) -> list[Run]:
    return [run for run in runs(cluster.events()) if run.key.unit in units]


def test_what_a_killed_agent_ran_is_run_elsewhere(figures: Callable[..., None]) -> None:
    with boot() as cluster:
        agents = start(cluster)
        where = str(cluster.sink.parent)
        cluster.submit({"job.service": container(where, beating(TTL * 2 + 4), chronos=CONTINUE)})
        cluster.client.start("job.service")
        first = eventually(lambda: runs_of(cluster, "job.service"), "it runs")[0]
        victim = cluster.daemons[first.machine]
        victim.kill()
        killed = time.time()
        second = eventually(lambda: runs_of(cluster, "job.service")[1:], "it runs elsewhere")[0]
        assert second.machine != first.machine
        assert second.key.attempt == 2
        again = second.began - killed
        victim.start()
        back = time.time()
        leftovers = lambda: [unit for unit in containers(cluster, everything=True).values() if unit == "job.service"]  # noqa: E731
        eventually(lambda: len(leftovers()) <= 1, "the leftover is removed")
        removed = time.time() - back
        history = cluster.settled(["job.service"], 1)
        found = check(cluster.events(), history, {})
        assert not found, told(found)
        (execution,) = history
        assert [attempt.outcome for attempt in execution.attempts][-1] is Outcome.SUCCEEDED
        assert execution.attempts[0].machine == first.machine
        eventually(lambda: not containers(cluster, everything=True), "no container is left")
        assert len(agents) == 3
        figures(replaced_after=again, bound=TTL + 2, leftover_removed_after=removed)
        assert again <= TTL + 2


FORBID = "Concurrency=forbid"


@pytest.mark.parametrize("fault", ["cut", "kill", "pause"] if FULL else ["cut"])
def test_forbidden_runs_never_overlap_and_the_next_tick_is_not_blocked(
    fault: str, figures: Callable[..., None]
) -> None:
    units = names(3 if FULL else 2)
    with boot() as cluster:
        start(cluster)
        window = Window(40 if FULL else 18, delay=3)
        where = str(cluster.sink.parent)
        text = container(where, beating(2.5), chronos=f"TriggerCron=*/2 * * * * *\n{FORBID}\n{window.keys}")
        cluster.submit(dict.fromkeys(units, text))
        running = eventually(lambda: alive(cluster, units), "something runs")
        victim = cluster.daemons[running[-1].machine]
        hurt = time.time()
        if fault == "kill":
            victim.kill()
        elif fault == "pause":
            victim.pause()
        else:
            victim.host.cut()
        time.sleep(TTL * 2 + 2)
        others = [run for run in runs_of(cluster, *units) if run.began > hurt + TTL and run.machine != victim.name]
        assert others, "nothing runs elsewhere"
        healed = time.time()
        if fault == "kill":
            victim.start()
        elif fault == "pause":
            victim.resume()
        else:
            victim.host.mend()
        window.wait(5)
        history = cluster.settled(units, len(units))
        events = cluster.events()
        found = [*check(events, history, due(units, window.fires(2))), *overlaps(events)]
        assert not found, told(found)
        # Every unit went on, on both sides of the fault.
        for unit in units:
            assert [run for run in runs_of(cluster, unit) if run.began > healed], unit
        last_on_victim = max(
            (run.last for run in runs_of(cluster, *units) if run.machine == victim.name and run.began < hurt),
            default=hurt,
        )
        first_elsewhere = min(run.began for run in others)
        figures(
            last_beat_of_the_lost=last_on_victim - hurt, first_elsewhere=first_elsewhere - hurt,
            runs=len(runs_of(cluster, *units)), outcomes=tally(history),
        )  # fmt: skip


def alive(cluster: Cluster, units: Sequence[str]) -> list[Run]:
    """Runs that have not ended."""
    return [run for run in runs_of(cluster, *units) if not run.ended]


def tally(history: Sequence[Execution]) -> dict[str, int]:
    """How many executions ended how."""
    found: dict[str, int] = {}
    for execution in history:
        assert execution.outcome is not None
        found[execution.outcome.value] = found.get(execution.outcome.value, 0) + 1
    return found


def test_a_cut_off_agent_keeps_what_may_continue_and_ends_what_must_stop(figures: Callable[..., None]) -> None:
    long = TTL * 3 + 6
    with boot() as cluster:
        start(cluster)
        where = str(cluster.sink.parent)
        only = "MachineID=a0"
        cluster.submit(
            {
                "go-on.service": container(where, beating(long), chronos=CONTINUE, fleet=only),
                "stop.service": container(where, beating(long), chronos=STOP, fleet=only),
            }
        )
        for unit in ("go-on.service", "stop.service"):
            cluster.client.start(unit)
        eventually(lambda: len(runs_of(cluster, "go-on.service", "stop.service")) == 2, "both run")
        agent = cluster.daemons["a0"]
        before = {unit: id_ for id_, unit in containers(cluster).items()}
        agent.host.cut()
        cut = time.time()
        time.sleep(TTL * 2)
        during = {unit: id_ for id_, unit in containers(cluster).items()}
        assert during.get("go-on.service") == before["go-on.service"]
        assert "stop.service" not in during
        (stopped,) = runs_of(cluster, "stop.service")
        (went_on,) = runs_of(cluster, "go-on.service")
        assert went_on.last > cut + TTL * 2 - 1
        figures(stopped_after=stopped.last - cut, ttl=TTL)
        # It is over before anybody else may begin: the lease began to count at the last renewal before the cut.
        assert stopped.last - cut < TTL
        agent.host.mend()
        history = cluster.settled(["go-on.service", "stop.service"], 2)
        found = check(cluster.events(), history, {})
        assert not found, told(found)
        # What went on is all that there ever was of it; what was stopped runs anew on its only machine.
        (went_on,) = runs_of(cluster, "go-on.service")
        assert went_on.ended
        assert [run.key.attempt for run in runs_of(cluster, "stop.service")] == [1, 2]
        assert {execution.outcome for execution in history} == {Outcome.SUCCEEDED}, history
