"""What the tests of machines share: units that are kept running, and where they are."""

from collections import defaultdict

from tests.engine.engine_cluster import AGENT, BOTH, Cluster, lasting

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
