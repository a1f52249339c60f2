"""Keeping the past of a store on servers from growing without end."""

from collections import deque

import structlog

from xchronos.clock import Clock, Micros
from xchronos.engine.leader.duties import LeaderDuty
from xchronos.registry.keys import Keys
from xchronos.store.contract import Guard, Store

log = structlog.get_logger(__name__)


class Compaction:
    """Has the store forget what is older than `keep`.

    Watches that fall further behind than that, and pages that take longer, begin anew. Where the servers compact by
    themselves, or somebody else does, this finds nothing left to do. It gives no disk space back: that is the
    operator's to do (`etcdctl defrag`), as it stops a server for a moment.
    """

    def __init__(self, store: Store, keys: Keys, clock: Clock, keep: Micros) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._keep = keep
        self._seen: deque[tuple[Micros, int]] = deque()

    @property
    def duty(self) -> LeaderDuty:
        """What the leader has to do: twice in the time that is kept, so that at most one and a half of it is."""
        return LeaderDuty("compaction", max(self._keep // 2, 1), self.run)

    async def run(self, _guard: Guard) -> None:
        """Note how far the store is now, and compact to how far it was `keep` ago, if that was seen.

        Without the guard, as a compaction by a former leader does no harm.
        """
        now = self._clock.monotonic()
        old = 0
        while self._seen and self._seen[0][0] <= now - self._keep:
            _, old = self._seen.popleft()
        revision = (await self._store.range(self._keys.election, limit=1, keys_only=True)).revision
        self._seen.append((now, revision))
        if old:
            await self._store.compact(old)
            log.debug("compacted", revision=old, now=revision)
