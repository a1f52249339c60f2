"""Noticing that something has moved in a directory.

The notice only says when to look. A look finds out what has moved, and there are looks without a notice
(`test_without_notice_from_the_system_changes_are_still_found` in tests/intake/test_intake_files.py).
"""

import asyncio
from collections.abc import Sequence

import structlog
from watchfiles import awatch

from xchronos.aio import cancel_and_wait, woken
from xchronos.clock import SECOND, Clock, Micros
from xchronos.intake.files import printable

log = structlog.get_logger(__name__)

BLIND: Micros = 2 * SECOND
"""How often to look where the system does not tell of changes, in microseconds."""


TRY_AGAIN: Micros = 60 * SECOND
"""How long to wait before changes are to be noticed again after that has failed, in microseconds."""


class DirectoryWatch:
    """Says when to look at the directories again."""

    def __init__(self, clock: Clock, directories: Sequence[str]) -> None:
        self._clock = clock
        self._directories = directories
        self._identities: list[tuple[int, int]] = []
        self._moved = asyncio.Event()
        self._other_directories = asyncio.Event()
        self._blind = False
        self._told = ""
        """The failure that the log tells of; empty: changes are noticed, as far as is known."""

    def follow(self, identities: list[tuple[int, int]]) -> None:
        """Watch the directories that have these identities now, one for each path.

        A watch on a directory that was replaced notices nothing, so it is set up anew.
        """
        if identities != self._identities:
            self._identities = identities
            self._other_directories.set()

    async def changed(self, timeout: Micros) -> None:  # noqa: ASYNC109 - on our clock
        """Return when something has moved since the last call returned, and after `timeout` at the latest."""
        if self._blind:
            timeout = min(timeout, BLIND)
        await woken(self._clock, self._moved, timeout)
        self._moved.clear()

    async def run(self) -> None:
        """Watch until cancelled. Whatever the system's notices fail of, nothing here ends by it."""
        await self._other_directories.wait()
        while True:
            self._other_directories.clear()
            # What happens before the new watch is set up goes unnoticed, so there must be a look after it.
            self._moved.set()
            if await self._watch_these():
                await self._other_directories.wait()
            else:
                await woken(self._clock, self._other_directories, TRY_AGAIN)

    async def _watch_these(self) -> bool:
        """Watch those of the directories that exist, until others are to be watched. False: it has failed."""
        there = [
            directory
            for directory, identity in zip(self._directories, self._identities, strict=True)
            if identity != (0, 0)
        ]
        self._blind = len(there) < len(self._directories)
        if not there:
            return True
        # A task of its own, so that whatever it ends with is a value here: watchfiles raises groups of its errors, and
        # what its part in Rust fails of is no Exception (`test_the_notice_may_fail_of_anything`).
        notice = asyncio.create_task(self._notice(there), name="intake notice")
        try:
            await asyncio.wait({notice})
        finally:
            await cancel_and_wait(notice)
        error = notice.exception()
        if error is None:
            return True
        self._blind = True
        self._moved.set()
        reason = _words(error)
        if reason != self._told:
            self._told = reason
            log.warning("changes are not noticed; looking every other second", reason=reason)
        return False

    async def _notice(self, there: Sequence[str]) -> None:
        changes = awatch(
            *there,
            watch_filter=None,
            debounce=200,
            step=50,
            stop_event=self._other_directories,
            rust_timeout=1_000,
            ignore_permission_denied=True,
        )
        async for _ in changes:
            self._moved.set()
            if self._told:
                self._told = ""
                log.info("changes are noticed again")


def _words(error: BaseException) -> str:
    """What went wrong, in a line: the errors of a group one after another."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_words(each) for each in error.exceptions)
    return printable(str(error)) or type(error).__name__
