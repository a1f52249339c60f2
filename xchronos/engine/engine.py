"""The scheduler's life: own shards, and schedule them in sessions; begin a new one when in doubt."""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import structlog
from prometheus_client import CollectorRegistry

from xchronos.aio import cancel_and_wait, reached
from xchronos.clock import MILLISECOND, SECOND, Micros
from xchronos.engine.leader.duties import LeaderDuties, LeaderDuty
from xchronos.engine.metrics import SchedulerMetrics
from xchronos.engine.session import Session, StartOver
from xchronos.engine.shards.ownership import Ownership
from xchronos.engine.state.context import SchedulerContext
from xchronos.errors import Conflict, StoreError, XchronosError
from xchronos.store.batcher import Batcher

log = structlog.get_logger(__name__)

LAST_WRITES: Micros = SECOND
"""How long a scheduler that ends waits for the answers to what it has written."""


class Engine:
    """Schedules the units of the shards that it owns.

    `registry` gets the metrics, `instance` is this daemon's as in its record; `duties` are what is done once for the
    whole cluster, while this scheduler leads it.
    """

    def __init__(
        self,
        context: SchedulerContext,
        registry: CollectorRegistry,
        *,
        instance: str,
        duties: Sequence[LeaderDuty] = (),
    ) -> None:
        self._context = context
        self._store = context.store
        self._clock = context.clock
        self._metrics = SchedulerMetrics(registry)
        self._machine = context.machine
        self._session: Session | None = None
        self._holding = False
        self._changed = asyncio.Event()
        self._ownership = Ownership(context, instance, self, self._metrics)
        self._duties = LeaderDuties(context.clock, self._ownership, duties)
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Schedule until cancelled.

        Raises Conflict when another daemon has this id, and StoreError when the store cannot be used any more.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ownership.run(), name="ownership")
                group.create_task(self._duties.run(), name="leader duties")
                await self._ownership.answered.wait()
                if not self._ownership.fences:
                    log.info("standing by: other schedulers own all shards")
                    self.ready.set()
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    while self._ownership.fences:
                        await self._one_session()
        except BaseExceptionGroup as problems:
            told = problems.subgroup((Conflict, StoreError))
            raise (problems if told is None else _first(told)) from None

    @property
    def heard(self) -> bool:
        """Whether the store has answered of late."""
        return self._ownership.lease.heard

    @property
    def cannot_read(self) -> Mapping[str, str]:
        """Stored units that this scheduler has met and cannot read, with the reason."""
        return self._session.cannot_read if self._session is not None else {}

    async def machine_of(self, execution_id: str) -> str | None:
        """The machine that an open execution is on by what is in memory; empty: on none; None: it is not in memory.

        Memory may lag behind the store, and be ahead of it while a write is under way: ask the store before believing.
        """
        return self._session.machine_of(execution_id) if self._session is not None else None

    def hold(self) -> None:
        """Begin nothing new: this daemon is about to end.

        Other schedulers take over at once; what only this one can settle is settled when it ends.
        """
        self._holding = True
        self._ownership.leave()
        if self._session is not None:
            self._session.hold()

    async def settle(self, limit: Micros) -> None:
        """Wait until this daemon can go, for at most `limit`: all that its machine had begun is settled by somebody."""
        if not await reached(self._clock, self._may_go, 10 * MILLISECOND, limit):
            log.warning("attempts have ended that the scheduler could not settle; the next one will")

    def _may_go(self) -> bool:
        unsettled = self._session is not None and self._session.has_unsettled(self._machine)
        return self._ownership.may_go and not unsettled

    def shards_changed(self) -> None:
        """See `ownership.ShardListener`."""
        self._changed.set()
        if self._session is not None:
            self._session.shards_changed()

    def quiet(self, numbers: Collection[int]) -> bool:
        """See `ownership.ShardListener`."""
        return self._session is None or self._session.quiet(numbers)

    async def _one_session(self) -> None:
        # A batcher of its own: what an ended session had still to write is not written under the next one's eyes.
        batcher = Batcher(self._store)
        writing = asyncio.create_task(batcher.run(), name="batcher")
        session = Session(self._context, self._ownership, batcher, self._metrics)
        if self._holding:
            session.hold()
        self._session = session
        work = asyncio.create_task(session.run(self.ready.set), name="session")
        tasks = (writing, work)
        for task in tasks:
            task.add_done_callback(_ask)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._session = None
            try:
                await cancel_and_wait(work)
                batcher.close()
                await asyncio.wait({writing}, timeout=LAST_WRITES / SECOND)
                if not writing.done() or writing.exception() is not None:
                    # Nobody waits for the answers any more. What has not arrived when the next session begins never
                    # will.
                    self._ownership.doubt_all()
                await cancel_and_wait(writing)
            finally:
                # This daemon may end while the last writes are waited for: nobody else ends them.
                writing.cancel()
        problems = [task.exception() for task in tasks if not task.cancelled()]
        for problem in problems:
            if problem is None:
                continue
            if not _starts_over(problem):
                raise problem
            log.warning("scheduler reads everything again", reason=str(problem))
            await self._clock.sleep(SECOND // 5)


def _ask(task: "asyncio.Task[None]") -> None:
    """Ask how a task has ended: nobody else does when the daemon ends just then, and asyncio logs what is not asked."""
    if not task.cancelled():
        task.exception()


def _first(problems: BaseExceptionGroup[XchronosError]) -> BaseException:
    problem: BaseException = problems
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


def _starts_over(problem: BaseException) -> bool:
    if isinstance(problem, BaseExceptionGroup):
        return all(_starts_over(inner) for inner in problem.exceptions)
    return isinstance(problem, StartOver)
