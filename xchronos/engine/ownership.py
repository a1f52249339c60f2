"""Which shards this scheduler owns, and the fence that every one of its writes carries.

A shard is owned by whoever holds its key; the key is bound to a lease, and the key's create revision is the *term*. A
write guarded by the term is refused as soon as the ownership has ended, however late the former owner finds out.
"""

import asyncio
from collections.abc import Callable

import structlog

from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import LeaseLost, StoreError, StoreUnavailable
from xchronos.registry.keys import SHARDS, Keys, shard_of
from xchronos.store.contract import Guard, Put, Store, Txn

log = structlog.get_logger(__name__)


class Ownership:
    """Holds a lease and, bound to it, the keys of the shards that this scheduler owns.

    `changed` is called whenever the set of owned shards has changed.
    """

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, owner: str, ttl: Micros, changed: Callable[[], None]
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._owner = owner
        self._ttl = ttl
        self._changed = changed
        self._lease = 0
        self._fences: dict[int, Guard] = {}
        self._good_until: Micros = 0
        self.answered = asyncio.Event()
        """Set once the store has said which shards are to be had."""

    @property
    def shards(self) -> frozenset[int]:
        """The shards owned now, as far as this scheduler knows."""
        return frozenset(self._fences)

    @property
    def sure(self) -> bool:
        """Whether the lease is certain to live still.

        Without that word a decision is not worth making: its write would most likely be refused.
        """
        return self._clock.monotonic() < self._good_until

    def fence(self, unit: str) -> Guard | None:
        """The guard for a write about `unit`; None when its shard is not ours."""
        return self._fences.get(shard_of(unit))

    async def run(self) -> None:
        """Acquire what is free and keep it, until cancelled; then give everything back."""
        try:
            while True:
                try:
                    await self._keep()
                    self.answered.set()
                except LeaseLost:
                    log.warning("scheduler lease lost; acquiring anew", owner=self._owner)
                    self._drop()
                except StoreUnavailable as error:
                    log.warning("store unavailable; what runs goes on", reason=str(error))
                if self._lease and not self.sure:
                    self._drop()
                await self._clock.sleep(self._ttl // 3 if len(self._fences) == SHARDS else min(self._ttl // 3, SECOND))
        finally:
            await asyncio.shield(self._give_back())

    async def _keep(self) -> None:
        asked = self._clock.monotonic()
        if self._lease:
            await self._store.renew(self._lease)
        else:
            self._lease = await self._store.grant(self._ttl / SECOND)
        # Counted from before the question: the store's own count can only have begun later.
        self._good_until = asked + self._ttl
        missing = [n for n in range(SHARDS) if n not in self._fences]
        if missing:
            await self._acquire(missing)

    async def _acquire(self, numbers: list[int]) -> None:
        before = len(self._fences)
        # One look at all of them: who stands by asks every second.
        page = await self._store.range(self._keys.shards)
        held = {item.key for item in page.items if item.lease != self._lease}
        try:
            for number in numbers:
                key = self._keys.shard(number)
                if key not in held and (created := await self._take(key)):
                    self._fences[number] = Guard(key, created, "create")
            if self._fences:
                # The leader is whoever got there first; it says so in the key that other programs read.
                await self._take(self._keys.election)
        finally:
            if len(self._fences) > before:
                log.info("scheduling", shards=len(self._fences), of=SHARDS)
                self._changed()

    async def _take(self, key: str) -> int:
        """Bind a free key to our lease; the revision at which it became ours, 0 when it is somebody else's."""
        done = await self._store.commit(Txn((Guard(key, 0),), (Put(key, self._owner.encode(), self._lease),)))
        if done.succeeded:
            return done.revision
        # Ours already when the answer to an earlier write was lost on the way.
        held = await self._store.get(key)
        return held.create_revision if held is not None and held.lease == self._lease else 0

    def _drop(self) -> None:
        self._lease = 0
        self._fences.clear()
        self._changed()

    async def _give_back(self) -> None:
        lease, self._lease = self._lease, 0
        self._fences.clear()
        if lease:
            try:
                await self._store.revoke(lease)
            except StoreError as error:
                log.info("the scheduler lease ends by itself", reason=str(error))
