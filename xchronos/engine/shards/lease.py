"""The lease that a scheduler lives by: kept alive, and how far its word can be relied upon."""

import asyncio
from collections.abc import Callable
from random import Random

import structlog

from xchronos.aio import spread, woken
from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import LeaseLost, StoreError, StoreUnavailable
from xchronos.store.contract import RENEWALS, Store

log = structlog.get_logger(__name__)


class Lease:
    """One lease after another. `changed` is called whenever it is renewed, new, or lost.

    Attributes:
        id: The store's number of the lease; 0 while there is none.
        heard_since: Since when (monotonic) the store has been heard without a break that a lease might not outlive.
    """

    def __init__(self, store: Store, clock: Clock, owner: str, ttl: Micros, changed: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._ttl = ttl
        self._changed = changed
        self._good_until: Micros = 0
        self._heard_at: Micros | None = None
        self._due = asyncio.Event()
        self._random = Random(owner)  # noqa: S311 - spreads schedulers, keeps no secret
        self.id = 0
        self.heard_since: Micros = 0

    @property
    def sure(self) -> bool:
        """Whether the lease is certain to live still.

        When it is not, a decision is not worth making: its write would most likely be refused.
        """
        return self._clock.monotonic() < self._good_until

    @property
    def heard(self) -> bool:
        """Whether the store was heard of late.

        A break of half a TTL is none to the leases of others: they are renewed every fifth of it.
        """
        return self._heard_at is not None and self._clock.monotonic() - self._heard_at <= self._ttl // 2

    async def keep(self) -> None:
        """Renew the lease early and often until cancelled. When it is lost, get another one."""
        while True:
            pause = self._ttl // RENEWALS
            try:
                await self._renew()
            except LeaseLost:
                self.lose(self.id)
                continue
            except StoreUnavailable as error:
                log.warning("store unavailable; what runs goes on", reason=str(error))
                pause = self.backoff()
            self._due.clear()
            await woken(self._clock, self._due, pause)

    async def _renew(self) -> None:
        asked = self._clock.monotonic()
        if self.id:
            await self._store.renew(self.id)
        else:
            self.id = await self._store.grant(self._ttl / SECOND)
        if not self.heard:
            self.heard_since = self._clock.monotonic()
        self._heard_at = self._clock.monotonic()
        # Counted from before the question: the store's own count can only have begun later.
        self._good_until = asked + self._ttl
        self._changed()

    def lose(self, lease: int) -> None:
        """The store has said that it does not have this lease any more."""
        if lease and lease == self.id:
            log.warning("scheduler lease lost; joining anew", owner=self._owner)
            self.id = 0
            self._good_until = 0
            self._changed()
            self._due.set()

    def backoff(self) -> Micros:
        """A pause before the store is asked again: short, and not the same for everybody."""
        return spread(min(self._ttl // 10, SECOND), self._random)

    async def give_back(self) -> None:
        """End the lease now, and with it all that is bound to it."""
        lease, self.id = self.id, 0
        self._changed()
        if lease:
            try:
                await self._store.revoke(lease)
            except StoreError as error:
                log.info("the scheduler lease ends by itself", reason=str(error))
