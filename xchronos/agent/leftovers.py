"""What an earlier daemon left in an executor: containers and processes of attempts that are not here any more."""

from collections.abc import Callable

import structlog

from xchronos.agent.retrying import patiently
from xchronos.clock import Clock
from xchronos.errors import ExecutorUnavailable
from xchronos.executors.contract import Executor, Leftover

log = structlog.get_logger(__name__)


async def remove_leftovers(clock: Clock, kind: str, executor: Executor, is_held: Callable[[Leftover], bool]) -> None:
    """Remove what an executor has of attempts that nobody holds; `is_held` says of each whether somebody does.

    Asks for as long as the executor is away. `is_held` is asked after the executor has answered, and not before: what
    was begun meanwhile is held by then. Pinned by
    `test_what_was_begun_while_an_executor_was_away_is_no_leftover`.
    """
    of = f"{kind} executor"
    found = await patiently(clock, executor.leftovers, what=of, kind=ExecutorUnavailable)
    orphans = [left for left in found if not is_held(left)]
    if orphans:
        log.info("removing leftovers", executor=kind, what=[left.what for left in orphans])
        await patiently(clock, lambda: executor.remove(orphans), what=of, kind=ExecutorUnavailable)
