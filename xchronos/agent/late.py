"""Late results: how attempts ended whose machine the store had given up meanwhile.

Such an attempt is recorded as lost, and its execution goes on elsewhere or is over. What really became of it is written
into that attempt's record, wherever the execution is by now; no outcome is ever overwritten by it.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from xchronos.agent.patience import patiently
from xchronos.clock import SECOND, Clock, Micros
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys, unit_of
from xchronos.registry.transitions import amend
from xchronos.store.contract import KeyValue, Store

log = structlog.get_logger(__name__)

TRIES = 10
"""How often a record is looked for: one that is just being moved is found the next time."""

LOOK: Micros = 10 * SECOND
"""How often it is asked whether somebody wants what goes on here to end."""


class Late:
    """Writes late results, one after the other."""

    def __init__(self, store: Store, keys: Keys, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._results: asyncio.Queue[tuple[str, Attempt]] = asyncio.Queue()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            execution_id, attempt = await self._results.get()
            await self._record(execution_id, attempt)

    def put(self, execution_id: str, attempt: Attempt) -> None:
        """An attempt has ended (`attempt` says how) whose placement is gone."""
        self._results.put_nowait((execution_id, attempt))

    async def mind(self, execution_id: str, stop: Callable[[str], None]) -> None:
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

    async def _record(self, execution_id: str, attempt: Attempt) -> None:
        for _ in range(TRIES):
            if await patiently(self._clock, lambda: self._write(execution_id, attempt), what="store"):
                return
            await self._clock.sleep(SECOND)
        log.warning("the record of a late result is gone", execution=execution_id, attempt=attempt.number)

    async def _write(self, execution_id: str, attempt: Attempt) -> bool:
        """Whether it is settled: written, or nothing to be written."""
        item = await self._find(execution_id)
        if item is None:
            return False
        execution = decode(item, Execution)
        amended = with_late_result(execution, attempt)
        if amended is None:
            return True
        done = await self._store.commit(amend(self._keys, amended, item.mod_revision))
        if done.succeeded:
            log.info("late result recorded", execution=execution_id, attempt=attempt.number, outcome=attempt.outcome)
        return done.succeeded

    async def _find(self, execution_id: str) -> KeyValue | None:
        for key in (self._keys.execution(execution_id), self._keys.pending_execution(execution_id)):
            item = await self._store.get(key)
            if item is not None:
                return item
        machines = await self._store.range(self._keys.machines, keys_only=True)
        for machine in machines.items:
            name = machine.key.removeprefix(self._keys.machines)
            item = await self._store.get(self._keys.placement(name, execution_id))
            if item is not None:
                return item
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
