"""Late results: how attempts ended whose machine the store had given up meanwhile.

Such an attempt is recorded as lost, and its execution goes on elsewhere, or is over. What really became of the attempt
is written into its record, wherever the execution is by then. No outcome is overwritten.
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

PLACEMENTS_PER_PAGE = 1_000
"""How many keys are read in one request when an execution's placement is looked for on all machines."""

WISH_POLL: Micros = 10 * SECOND
"""The pause between two looks whether somebody wants an attempt to end that goes on without a placement."""


class LateResults:
    """Writes late results, one after the other."""

    def __init__(self, store: Store, keys: Keys, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._results: asyncio.Queue[tuple[str, Attempt]] = asyncio.Queue()
        self._unwritten = 0

    @property
    def busy(self) -> bool:
        """Whether there are results that are not written yet."""
        return self._unwritten > 0

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._tell(*await self._results.get())
            self._unwritten -= 1

    def put(self, execution_id: str, attempt: Attempt) -> None:
        """An attempt has ended, whose placement is gone. `attempt` is its record with its end."""
        self._unwritten += 1
        self._results.put_nowait((execution_id, attempt))

    async def watch_wish(self, execution_id: str, stop: Callable[[str], None]) -> None:
        """Call `stop` when somebody wants an attempt to end that goes on without a placement. Asks until cancelled.

        Nobody else can tell such an attempt: it is asked for in records that this agent does not follow.
        """
        while True:
            asked = await patiently(self._clock, lambda: self._unwanted(execution_id), what="store")
            if asked:
                stop(asked)
            await self._clock.sleep(WISH_POLL)

    async def _unwanted(self, execution_id: str) -> str:
        if await self._store.get(self._keys.job(unit_of(execution_id))) is None:
            return "the unit was destroyed"
        for key in (self._keys.pending_execution(execution_id), self._keys.execution(execution_id)):
            item = await self._store.get(key)
            if item is not None:
                return decode(item, Execution).stop_requested
        return ""

    async def _tell(self, execution_id: str, attempt: Attempt) -> None:
        # Refused: somebody else has moved or written the record since it was read, so there is something new to read.
        while not await patiently(self._clock, lambda: self._settled(execution_id, attempt), what="store"):
            pass

    async def _settled(self, execution_id: str, attempt: Attempt) -> bool:
        """Whether nothing is left to be told; False when the record has just changed.

        Pinned by
        `test_a_late_result_is_told_for_good_whatever_moves_between_any_two_requests`.
        """
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

        Everything is read as of one revision. At each revision the record is in exactly one place, and what is gone
        stays gone. All machines' placements are looked through, not only those of machines that are alive: a machine's
        record may have ended before anybody has moved what it had.
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
                self._keys.placements, start=start, limit=PLACEMENTS_PER_PAGE, keys_only=True, revision=revision
            )
            for item in page.items:
                if self._keys.split_placement(item.key)[1] == execution_id:
                    found = await self._store.range(item.key, limit=1, revision=revision)
                    return found.items[0]
            start, more = (page.items[-1].key + "\0", page.more) if page.items else ("", False)
        return None


def with_late_result(execution: Execution, ended: Attempt) -> Execution | None:
    """The execution, with the real end of an attempt that was given up. None: no such attempt waits for its end."""
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
