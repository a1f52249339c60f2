"""The deadlines of an embedded store's leases: each is a sleeping task that ends its lease in time."""

import asyncio
from collections.abc import Awaitable, Callable
from math import isfinite

from xchronos.aio import Backoff, cancel_and_wait, retry
from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import LeaseLost, StoreError

_RETRY_AFTER: Micros = SECOND


def parse_ttl(ttl_seconds: float) -> Micros:
    """The TTL in microseconds. Raises StoreError unless it is a positive, finite number of seconds."""
    if not (isfinite(ttl_seconds) and ttl_seconds > 0):
        raise StoreError(f"a lease cannot live {ttl_seconds} s: expected a positive number of seconds")
    return max(1, round(ttl_seconds * SECOND))


class LeaseTable:
    """When each lease runs out, on the monotonic clock. One task per lease sleeps, so that a renewal costs nothing.

    `expire` is called after a lease has run out, and again every second while the store cannot write. From the first
    call on the lease cannot be renewed, even while its keys are still there (`test_a_failed_expiry_is_tried_again`).
    """

    def __init__(self, clock: Clock, expire: Callable[[int], Awaitable[None]]) -> None:
        self._clock = clock
        self._expire = expire
        self._ttls: dict[int, Micros] = {}
        self._deadlines: dict[int, Micros] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def add(self, lease: int, ttl: Micros) -> None:
        """Let a lease live for `ttl` from now on."""
        self._ttls[lease] = ttl
        self._deadlines[lease] = self._clock.monotonic() + ttl
        self._tasks[lease] = asyncio.create_task(self._guard(lease), name=f"lease {lease}")

    def renew(self, lease: int) -> None:
        """Start the TTL anew. Raises LeaseLost when the lease is gone or has run out."""
        now = self._clock.monotonic()
        if self._deadlines.get(lease, now) <= now:
            raise LeaseLost(f"the lease {lease} has expired or was revoked")
        self._deadlines[lease] = now + self._ttls[lease]

    def remove(self, lease: int) -> None:
        """Forget a lease that is gone. The store calls this for revoked leases and for expired ones."""
        self._deadlines.pop(lease, None)
        self._ttls.pop(lease, None)
        task = self._tasks.pop(lease, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def close(self) -> None:
        """Stop all the tasks. No lease expires any more."""
        await cancel_and_wait(*self._tasks.values())
        self._tasks.clear()

    async def _guard(self, lease: int) -> None:
        while (left := self._deadlines[lease] - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
        # The keys stay until the store can write again.
        await retry(lambda: self._expire(lease), StoreError, Backoff(self._clock, _RETRY_AFTER, _RETRY_AFTER))
