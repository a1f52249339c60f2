"""What the tests of lost links share: a sink that the steps write to, and machines with a link each."""

import asyncio
import itertools

from tests.engine.cut_store import CutStore
from tests.engine.engine_cluster import AGENT, SCHEDULER, Cluster, run

TTL = 10


class Sink:
    """What the steps write down, outside of the cluster: (execution, attempt, machine, start, end, how)."""

    def __init__(self, length: float = 60.0, lengths=None) -> None:
        self.length = length
        self.lengths = lengths or {}
        self.cluster: Cluster | None = None
        self.rows: list[list] = []

    async def body(self, spec, machine):
        assert self.cluster is not None
        row = [spec.execution, spec.attempt, machine, self.cluster.at(), None, ""]
        self.rows.append(row)
        try:
            await self.cluster.sleep(self.lengths.get(machine, self.length))
            row[5] = "ended"
        except asyncio.CancelledError:
            row[5] = "killed"
            raise
        finally:
            row[4] = self.cluster.at()
        return 0

    def overlaps(self) -> list[tuple]:
        """Pairs of runs that were at work at the same time."""
        pairs = itertools.combinations(self.rows, 2)
        return [(one, other) for one, other in pairs if one[3] < (other[4] or 1e9) and other[3] < (one[4] or 1e9)]


async def three(c: Cluster, sink: Sink, *agents: str) -> dict[str, CutStore]:
    """A scheduler, and agents each with a link of its own."""
    sink.cluster = c
    links = {}
    for name in ("s1", *agents):
        links[name] = CutStore(c.store, c.clock)
        await c.start(name, roles=SCHEDULER if name == "s1" else AGENT, store=links[name])
    return links


def play(scenario, sink: Sink) -> None:
    async def main(c: Cluster) -> None:
        await scenario(c)

    run(main, body=sink.body)


ONCE = "TriggerAt=2030-03-17T17:46:45Z\nMisfireThreshold=1h"
