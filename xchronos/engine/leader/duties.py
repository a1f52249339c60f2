"""What is done once for the whole cluster, from time to time, by the scheduler that leads it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from xchronos.clock import Clock, Micros
from xchronos.engine.shards.ownership import Ownership
from xchronos.errors import StoreError
from xchronos.store.contract import Guard

log = structlog.get_logger(__name__)


class LeaderDuty(msgspec.Struct, frozen=True):
    """Something to do every so often (`every`, in microseconds).

    `work` gets the leader's guard. Every write it makes has to carry it: a leader that was paused is one no more, and
    finds out only by that. It is not called while the lease is not sure.
    """

    name: str
    every: Micros
    work: Callable[[Guard], Awaitable[None]]


class LeaderDuties:
    """Does the chores while this scheduler leads; who leads anew begins with a full pause."""

    def __init__(self, clock: Clock, ownership: Ownership, duties: Sequence[LeaderDuty]) -> None:
        self._clock = clock
        self._ownership = ownership
        self._duties = duties

    async def run(self) -> None:
        """Do them until cancelled. A store that cannot do one now is asked again when it is due again."""
        async with asyncio.TaskGroup() as group:
            for chore in self._duties:
                group.create_task(self._repeat(chore), name=chore.name)

    async def _repeat(self, chore: LeaderDuty) -> None:
        while True:
            await self._clock.sleep(chore.every)
            guard = self._ownership.leader
            if guard is None:
                continue
            try:
                await chore.work(guard)
            except StoreError as error:
                log.warning("housekeeping failed for now", chore=chore.name, reason=str(error))
