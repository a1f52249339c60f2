"""What an intake has refused is written into the store, so that the whole cluster can tell of it."""

from collections.abc import Callable, Iterable, Sequence

import structlog

from xchronos.clock import SECOND, Clock, Micros
from xchronos.errors import LeaseLost, StoreError
from xchronos.intake.problems import IntakeProblem
from xchronos.limits import PROBLEM_CHARACTERS, PROBLEMS_TOLD, REFUSED_FILES
from xchronos.model.records import RefusedFile
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys
from xchronos.store.contract import Delete, Operation, Put, Store, Txn

log = structlog.get_logger(__name__)

LOOK_EVERY: Micros = SECOND
"""How often the problems are compared with what is written."""

TTL: Micros = 60 * SECOND
"""How long after the daemon's end its refused files are still told of."""


class RefusedFiles:
    """Keeps the records of a machine's refused files as its intake's `problems` are, bound to a lease of their own.

    A store that does not answer is tried again: nothing depends on these records.
    """

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, machine: str, problems: Callable[[], Sequence[IntakeProblem]]
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._machine = machine
        self._problems = problems
        self._lease = 0
        self._renewed: Micros = 0
        self._written: dict[str, RefusedFile] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._look()
            except StoreError as error:
                log.debug("refused files are told of later", reason=str(error))
            await self._clock.sleep(LOOK_EVERY)

    async def _look(self) -> None:
        wanted = records(self._problems())
        if not (wanted or self._written):
            return
        await self._keep_lease()
        changes: list[Operation] = [Delete(self._key(unit)) for unit in self._written.keys() - wanted.keys()]
        for unit, record in wanted.items():
            if self._written.get(unit) != record:
                changes.append(Put(self._key(unit), encode(record), self._lease))
        room = self._store.max_operations
        for first in range(0, len(changes), room):
            await self._store.commit(Txn((), tuple(changes[first : first + room])))
        self._written = wanted

    async def _keep_lease(self) -> None:
        now = self._clock.monotonic()
        if self._lease and now - self._renewed < TTL // 3:
            return
        if self._lease:
            try:
                await self._store.renew(self._lease)
            except LeaseLost:
                self._lease = 0
        if not self._lease:
            self._lease = await self._store.grant(TTL / SECOND)
            self._written = {}
        self._renewed = now

    def _key(self, unit: str) -> str:
        return f"{self._keys.refused}{unit}/{self._machine}"


def records(problems: Iterable[IntakeProblem]) -> dict[str, RefusedFile]:
    """The records of those problems that are about a unit, by unit: as many, and as much of each, as is allowed."""
    found: dict[str, RefusedFile] = {}
    for problem in problems:
        if problem.unit and len(found) < REFUSED_FILES:
            messages = tuple(message[:PROBLEM_CHARACTERS] for message in problem.messages[:PROBLEMS_TOLD])
            found[problem.unit] = RefusedFile(problem.path, messages, problem.since)
    return found
