"""The scheduler's life: own shards, and schedule them in sessions; begin a new one when in doubt."""

import asyncio

import structlog
from prometheus_client import CollectorRegistry

from xchronos.clock import MILLISECOND, SECOND, Clock, Micros
from xchronos.engine.metrics import Metrics
from xchronos.engine.ownership import Ownership
from xchronos.engine.session import Session, StartOver
from xchronos.registry.batch import Batcher
from xchronos.registry.keys import Keys
from xchronos.store.contract import Store

log = structlog.get_logger(__name__)


class Engine:
    """Schedules the units of the shards that it owns. `machine` is this daemon's id, `ttl` the heartbeat's."""

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, machine: str, ttl: Micros, registry: CollectorRegistry
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._ttl = ttl
        self._metrics = Metrics(registry)
        self._machine = machine
        self._session: Session | None = None
        self._holding = False
        self._changed = asyncio.Event()
        self._ownership = Ownership(store, keys, clock, machine, ttl, self._changed.set)
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Schedule until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ownership.run(), name="ownership")
            await self._ownership.answered.wait()
            if not self._ownership.shards:
                log.info("standing by: other schedulers own all shards")
                self.ready.set()
            while True:
                await self._changed.wait()
                self._changed.clear()
                while self._ownership.shards and not self._changed.is_set():
                    await self._one_session()

    def hold(self) -> None:
        """Begin nothing new: this daemon is about to end. What runs is settled when it ends."""
        self._holding = True
        if self._session is not None:
            self._session.hold()

    async def settle(self, limit: Micros) -> None:
        """Wait until everything that this daemon's machine had begun is settled, for at most `limit`."""
        until = self._clock.monotonic() + limit
        while self._session is not None and self._session.has_unsettled(self._machine):
            if self._clock.monotonic() >= until:
                log.warning("attempts have ended that the scheduler could not settle; the next one will")
                return
            await self._clock.sleep(10 * MILLISECOND)

    async def _one_session(self) -> None:
        # A batcher of its own: what an ended session had still to write is not written under the next one's eyes.
        batcher = Batcher(self._store)
        writing = asyncio.create_task(batcher.run(), name="batcher")
        session = Session(self._store, self._keys, self._clock, self._ttl, self._ownership, batcher, self._metrics)
        if self._holding:
            session.hold()
        self._session = session
        work = asyncio.create_task(session.run(self.ready.set), name="session")
        changed = asyncio.create_task(self._changed.wait(), name="ownership changed")
        tasks = (work, writing, changed)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._session = None
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in (writing, work):
            problem = None if task.cancelled() else task.exception()
            if problem is None:
                continue
            if not _starts_over(problem):
                raise problem
            log.warning("scheduler reads everything again", reason=str(problem))
            await self._clock.sleep(SECOND // 5)


def _starts_over(problem: BaseException) -> bool:
    if isinstance(problem, BaseExceptionGroup):
        return all(_starts_over(inner) for inner in problem.exceptions)
    return isinstance(problem, StartOver)
