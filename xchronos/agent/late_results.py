"""Late results: how attempts ended whose machine the store had given up meanwhile.

Such an attempt is recorded as lost, and its execution goes on elsewhere or is over. What really became of it is written
into that attempt's record, wherever the execution is by now; no outcome is ever overwritten by it.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from xchronos.agent.retrying import patiently
from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import StoreError
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys, unit_of
from xchronos.registry.transitions import amend
from xchronos.store.contract import KeyValue, Store

log = structlog.get_logger(__name__)

PAGE = 1_000
"""How many placements are looked through at once for the one that an execution has by now."""

LOOK: Micros = 10 * SECOND
"""How often it is asked whether somebody wants what goes on here to end."""


class LateResults:
    """Writes late results, one after the other."""

    def __init__(self, store: Store, keys: Keys, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._results: asyncio.Queue[tuple[str, Attempt]] = asyncio.Queue()
        self._untold = 0

    @property
    def busy(self) -> bool:
        """Whether there are results that are not told yet."""
        return self._untold > 0

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._tell(*await self._results.get())
            self._untold -= 1

    def put(self, execution_id: str, attempt: Attempt) -> None:
        """An attempt has ended (`attempt` says how) whose placement is gone."""
        self._untold += 1
        self._results.put_nowait((execution_id, attempt))

    async def watch_wish(self, execution_id: str, stop: Callable[[str], None]) -> None:
        """Ask until cancelled whether an attempt that goes on without a placement has to end, as nobody can tell it."""
        while True:
            asked = await patiently(self._clock, lambda: self._unwanted(execution_id), what="store")
            if asked:
                stop(asked)
            await self._clock.sleep(LOOK)

    async def _unwanted(self, execution_id: str) -> str:
        if await self._store.get(self._keys.job(unit_of(execution_id))) is None:
            return "the unit was destroyed"
        for key in (self._keys.pending_execution(execution_id), self._keys.execution(execution_id)):
            item = await self._store.get(key)
            if item is not None:
                return decode(item, Execution).stop_requested
        return ""

    async def _tell(self, execution_id: str, attempt: Attempt) -> None:
        # What is refused was moved or written by somebody else since it was read: there is something new to read.
        while not await patiently(self._clock, lambda: self._settled(execution_id, attempt), what="store"):
            pass

    async def _settled(self, execution_id: str, attempt: Attempt) -> bool:
        """Whether it is told for good, or there is nothing to be told; False when the record has just changed."""
        item = await self._find(execution_id)
        if item is None:
            log.info("the record of a late result is gone", execution=execution_id, attempt=attempt.number)
            return True
        try:
            amended = with_late_result(decode(item, Execution), attempt)
        except StoreError as error:
            log.error("a late result cannot be recorded", reason=str(error))  # noqa: TRY400 - nothing of ours failed
            return True
        if amended is None:
            return True
        done = await self._store.commit(amend(self._keys, amended, item.mod_revision))
        if done.succeeded:
            log.info("late result recorded", execution=execution_id, attempt=attempt.number, outcome=attempt.outcome)
        return done.succeeded

    async def _find(self, execution_id: str) -> KeyValue | None:
        """The record, wherever it is; None when there is none any more.

        Everything is read as of one moment, in which it was in exactly one place, and what is gone stays gone. The
        machine that has it need not be alive: its record may have ended, and nobody have moved on what it had.
        """
        revision = 0
        for key in (self._keys.execution(execution_id), self._keys.pending_execution(execution_id)):
            page = await self._store.range(key, limit=1, revision=revision)
            if page.items and page.items[0].key == key:
                return page.items[0]
            revision = page.revision
        start, more = "", True
        while more:
            page = await self._store.range(
                self._keys.placements, start=start, limit=PAGE, keys_only=True, revision=revision
            )
            for item in page.items:
                if self._keys.split_placement(item.key)[1] == execution_id:
                    found = await self._store.range(item.key, limit=1, revision=revision)
                    return found.items[0]
            start, more = (page.items[-1].key + "\0", page.more) if page.items else ("", False)
        return None


def with_late_result(execution: Execution, ended: Attempt) -> Execution | None:
    """The execution with the real end of an attempt that was given up; None when no such attempt waits for one."""
    for index, known in enumerate(execution.attempts):
        if (known.number, known.machine) == (ended.number, ended.machine):
            if known.outcome is not Outcome.LOST or known.late is not None:
                return None
            assert ended.outcome is not None
            at = "" if ended.ended_at is None else f" at {ended.ended_at.isoformat(timespec='seconds')}"
            why = f": {ended.reason}" if ended.reason else ""
            told = msgspec.structs.replace(
                known,
                late=ended.outcome,
                started_at=known.started_at or ended.started_at,
                steps=ended.steps,
                reason=f"{known.reason}; it ended after its machine was given up: {ended.outcome}{at}{why}",
            )
            attempts = (*execution.attempts[:index], told, *execution.attempts[index + 1 :])
            return msgspec.structs.replace(execution, attempts=attempts)
    return None
