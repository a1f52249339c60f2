"""Machines that are not there, and when that means that they are lost.

When the store was away, the leases of living machines may have ended meanwhile, and the news of that comes before the
machines can have joined anew. So no machine is given up before the store has been heard for long enough without a
break.
"""

import asyncio

from xchronos.aio import woken
from xchronos.clock import SECOND, Clock, Micros
from xchronos.engine.shards.ownership import Ownership
from xchronos.engine.state.cluster_state import ClusterState
from xchronos.engine.state.work_queue import WorkQueue

REJOINING: Micros = 5 * SECOND
"""What joining anew may take after a break, however short the TTL is: the pause between two tries, the time until a
silent member of the store's cluster is found out, and another try."""


class LostMachines:
    """Passes machines on to `work_queue.lost_machines` when their time has come. `ttl` is that of their leases."""

    def __init__(self, clock: Clock, ttl: Micros, ownership: Ownership, cluster: ClusterState, work: WorkQueue) -> None:
        self._clock = clock
        self._ttl = ttl
        self._ownership = ownership
        self._cluster = cluster
        self._work = work
        self._begun = clock.monotonic()
        self._due: dict[str, Micros] = {}
        self._news = asyncio.Event()

    def gone(self, machine: str) -> None:
        """Its record was seen to go: it has left, or its lease has ended."""
        self._due[machine] = self._clock.monotonic()
        self._news.set()

    def missing(self, machine: str) -> None:
        """It holds something and has no record: it may just be joining.

        When everything has been followed for a TTL already, the news of that would have come.
        """
        if machine not in self._due:
            self._due[machine] = max(self._begun + self._ttl, self._clock.monotonic())
            self._news.set()

    async def run(self) -> None:
        """Look after the machines until cancelled."""
        while True:
            self._news.clear()
            self._due = {machine: due for machine, due in self._due.items() if machine not in self._cluster.machines}
            if self._due:
                await woken(self._clock, self._news, self._pass_on())
            else:
                await self._news.wait()

    def _pass_on(self) -> Micros:
        """Pass on the machines that are lost. Returns how long there is nothing more to do, in microseconds."""
        if not self._ownership.lease.heard:
            return self._ttl // 10
        now = self._clock.monotonic()
        # A machine that could not renew its lease gets the time to join anew.
        grace = self._ownership.lease.heard_since + max(self._ttl, REJOINING)
        lost = [machine for machine, due in self._due.items() if max(due, grace) <= now]
        for machine in lost:
            del self._due[machine]
        if lost:
            self._work.lost_machines.update(lost)
            self._work.wake()
        return min((max(due, grace) - now for due in self._due.values()), default=self._ttl)
