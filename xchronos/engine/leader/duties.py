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
    """Something that the leader does every `every` microseconds.

    `work` gets the leader's guard, and every write that it makes has to carry it: a leader that was paused may lead no
    more, and finds that out only when its write is refused. `work` is not called while the lease is not sure.
    """

    name: str
    every: Micros
    work: Callable[[Guard], Awaitable[None]]


class LeaderDuties:
    """Carries out the duties while this scheduler leads; a new leader begins each with a full pause."""

    def __init__(self, clock: Clock, ownership: Ownership, duties: Sequence[LeaderDuty]) -> None:
        self._clock = clock
        self._ownership = ownership
        self._duties = duties

    async def run(self) -> None:
        """Carry them out until cancelled. One that the store cannot do now is tried again when it is due again."""
        async with asyncio.TaskGroup() as group:
            for duty in self._duties:
                group.create_task(self._repeat(duty), name=duty.name)

    async def _repeat(self, duty: LeaderDuty) -> None:
        while True:
            await self._clock.sleep(duty.every)
            guard = self._ownership.leader
            if guard is None:
                continue
            try:
                await duty.work(guard)
            except StoreError as error:
                log.warning("housekeeping failed for now", chore=duty.name, reason=str(error))
