"""Which leases have run out. Every client looks, by its own clock, and the first one to end a lease has ended it.

A lease is a key in Consul that each renewal rewrites. It has run out when nobody has rewritten it for its whole TTL. So
it never ends before its TTL has passed since the last renewal, and it ends soon after. Consul refuses its end if it was
renewed in the last moment.

Time counts only while Consul answers. After a silence of Consul's every lease has its whole TTL again, because its
holder could not renew it either (`test_a_lease_is_not_ended_for_consuls_silence`). etcd does the same when its leader
changes.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Container

import msgspec

from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import StoreError
from xchronos.store.consul.http import Agents
from xchronos.store.consul.layout import decode_ttl

_LOOK_INTERVAL: Micros = SECOND // 2
_SILENCE: Micros = 2 * SECOND
_MAX_ENDS_PER_LOOK = 20
_UNKNOWN_TTL: Micros = 60 * SECOND  # for a lease whose key holds something that is no record of a lease


class _Seen(msgspec.Struct):
    """A lease as it was seen last. `index` is the ModifyIndex of its key, 0 after the key has vanished.

    `deadline` is when it runs out, by this client's monotonic clock; each renewal that is seen puts it off.
    """

    index: int
    ttl: Micros
    deadline: Micros


class Reaper:
    """Ends the leases that have run out.

    `living` holds the leases that have not ended; the mirror keeps it up to date. `end` is called with a lease and the
    ModifyIndex that its key still has to have.
    """

    def __init__(
        self,
        agents: Agents,
        prefix: str,
        clock: Clock,
        living: Container[int],
        end: Callable[[int, int], Awaitable[None]],
    ) -> None:
        self._agents = agents
        self._prefix = prefix
        self._clock = clock
        self._living = living
        self._end = end
        self._leases: dict[int, _Seen] = {}
        self._heard: Micros | None = None

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._clock.sleep(self._pause())
            try:
                await self.look()
            except StoreError:  # callers of the store are told that Consul is away; here the leases just wait
                continue

    async def look(self) -> None:
        """Look once: note which leases were renewed, and end those that have run out. Raises StoreError."""
        asked = self._clock.monotonic()
        found = await self._agents.all(self._prefix)
        now = self._clock.monotonic()
        silent = self._heard is None or now - self._heard > _SILENCE
        self._heard = asked
        there = {int(item.key.removeprefix(self._prefix)): item for item in found}
        for lease, item in there.items():
            seen = self._leases.get(lease)
            if seen is None or seen.index != item.modify_index:
                seconds = decode_ttl(item.value or b"")
                # What is no record of a lease is no renewal either, whoever wrote it
                # (`test_a_lease_whose_key_somebody_deletes_or_overwrites`).
                if seen is not None and seconds is None:
                    seen.index = item.modify_index
                    continue
                ttl = _UNKNOWN_TTL if seconds is None else round(seconds * SECOND)
                self._leases[lease] = _Seen(item.modify_index, ttl, now + ttl)
            elif silent:
                seen.deadline = now + seen.ttl
        for lease in list(self._leases):
            if lease not in there:
                if lease in self._living:  # somebody deleted the key by hand, or the mirror has not read its end yet
                    self._leases[lease].index = 0
                else:
                    del self._leases[lease]
        due = [(lease, seen.index) for lease, seen in self._leases.items() if seen.deadline <= now]
        await asyncio.gather(*[self._end(lease, index) for lease, index in due[:_MAX_ENDS_PER_LOOK]])

    def _pause(self) -> Micros:
        """How long to wait before the next look: half a second, or less when a lease is due before that.

        Each client waits a little differently, so that not all try to end the same lease.
        """
        now = self._clock.monotonic()
        pause = min([_LOOK_INTERVAL, *(seen.deadline - now for seen in self._leases.values())])
        return max(pause, _LOOK_INTERVAL // 10) + round(random.uniform(0, _LOOK_INTERVAL / 10))  # noqa: S311
