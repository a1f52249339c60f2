"""A placement's record in the store: what this agent knows of it, and the two writes that move it on.

Both writes are guarded by the revision of the record that this agent has read. When somebody else has written meanwhile
(a request to stop, the scheduler that takes the placement away), the store refuses, and the agent reads the record anew
and decides anew: nothing is written over, and nothing is begun or ended for a placement that is not here any more.
"""

from datetime import datetime

import msgspec
import structlog

from xchronos.agent import outcomes
from xchronos.agent.attempt.journal import attempt_directory
from xchronos.agent.context import AgentContext
from xchronos.agent.retrying import patiently
from xchronos.model.lifecycle import advance
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution
from xchronos.registry.codec import decode, encode
from xchronos.registry.transitions import begin, finish, report
from xchronos.store.contract import Committed, Event, KeyValue, Txn

log = structlog.get_logger(__name__)


class PlacementRecord:
    """The record of one placement.

    Attributes:
        key: Where it is in the store.
        life: The revision that created it. A placement that comes back under the same key has another.
        execution: The record as it was last read, or written by this agent.
        directory: Where the attempt keeps its files.
        taken_away: The record is gone from the store: this agent has recorded the end, or somebody else took it away.
        ended: The attempt's end is recorded, by this agent or an earlier one.
    """

    __slots__ = ("_context", "_known", "_written", "directory", "ended", "execution", "key", "life", "taken_away")

    def __init__(self, context: AgentContext, item: KeyValue | Event, execution: Execution) -> None:
        self.key = item.key
        self.life = item.create_revision
        self.execution = execution
        self.taken_away = False
        self.ended = False
        self._context = context
        self._known = item.mod_revision
        self._written = b""
        number = self.attempt.number
        self.directory = attempt_directory(
            context.directory, execution.unit, execution.fire_time, execution.copy, number
        )

    @property
    def attempt(self) -> Attempt:
        """The attempt that is placed. Raises ValueError for a record without one."""
        if self.execution.current is None:
            raise ValueError(f"{self.execution.id} is placed here without a current attempt")
        return self.execution.current

    @property
    def is_running(self) -> bool:
        """Whether the record says that the attempt runs."""
        return self.execution.state == "running"

    def take_in(self, item: KeyValue | Event) -> bool:
        """The record was rewritten. Whether that was news. Raises StoreError if the record cannot be read."""
        # This agent's own writes are told by the store's answer. What the watch tells of them is old by then.
        if item.mod_revision <= self._known or item.value == self._written:
            return False
        self._known, self.execution = item.mod_revision, decode(item, Execution)
        return True

    async def begin(self, started_at: datetime, revision: str) -> bool:
        """Record that the attempt starts, with the unit's text of that revision. False: the record has changed.

        Raises IllegalEvent when the execution is not `placed`.
        """
        attempt = msgspec.structs.replace(self.attempt, started_at=started_at, revision=revision)
        running = advance(self.execution, "start", current=attempt)
        self._written = encode(running)
        done = await self._commit(begin(self.key, self._written, self._known))
        # The watch may have been faster than the answer, and may have brought a later request to stop along.
        if done.succeeded and self._known < done.revision:
            self._known, self.execution = done.revision, running
        return done.succeeded

    async def end(self, attempt: Attempt) -> bool:
        """Record how the attempt ended: a success is final, everything else goes back to the scheduler.

        False: the record has changed. Raises IllegalEvent when the execution can neither end nor be handed back.
        """
        done = await self._commit(self._end(attempt))
        self.ended = self.ended or done.succeeded
        return done.succeeded

    def _end(self, attempt: Attempt) -> Txn:
        if attempt.outcome is Outcome.SUCCEEDED and not self.execution.report:
            return finish(self._context.keys, self.key, outcomes.concluded(self.execution, attempt), self._known)
        self._written = encode(advance(self.execution, "report", current=attempt))
        return report(self.key, self._written, self._known)

    async def _commit(self, txn: Txn) -> Committed:
        # However long the store takes to answer: the end of what ran is kept until it can be recorded.
        return await patiently(self._context.clock, lambda: self._context.batcher.submit(txn), what="store")

    async def read(self) -> KeyValue | None:
        """The record as the store has it now, for `take_in`. None: it is gone, or another one by now."""
        item = await patiently(self._context.clock, lambda: self._context.store.get(self.key), what="store")
        if item is None or item.create_revision != self.life:
            return None
        # An answer of this agent's own write may have been lost: what was written counts as news here.
        self._written = b""
        return item
