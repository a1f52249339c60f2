"""A clock that stands still until it is moved."""

import asyncio
from heapq import heappop, heappush
from itertools import count

from xchronos.clock import SECOND, Instant, Micros


class ManualClock:
    """Moved by `advance`, which wakes the sleepers whose time has come, in order."""

    def __init__(self) -> None:
        self._now: Micros = 0
        self._sleepers: list[tuple[Micros, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def now(self) -> Instant:
        return self._now

    def monotonic(self) -> Micros:
        return self._now

    async def sleep(self, length: Micros) -> None:
        future = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self._now + length, next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        await self._settle()
        until = self._now + round(seconds * SECOND)
        while self._sleepers and self._sleepers[0][0] <= until:
            self._now, _, future = heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
            await self._settle()
        self._now = until

    async def _settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
