"""Noticing that something has moved in a directory.

The notice only says when to look. A look finds out what has moved, and there are looks without a notice
(`test_without_notice_from_the_system_changes_are_still_found` in tests/intake/test_intake_files.py).
"""

import asyncio
from collections.abc import Sequence

import structlog
from watchfiles import awatch

from xchronos.aio import woken
from xchronos.clock import SECOND, Clock, Micros

log = structlog.get_logger(__name__)

BLIND: Micros = 2 * SECOND
"""How often to look where the system does not tell of changes, in microseconds."""


class DirectoryWatch:
    """Says when to look at the directories again."""

    def __init__(self, clock: Clock, directories: Sequence[str]) -> None:
        self._clock = clock
        self._directories = directories
        self._identities: list[tuple[int, int]] = []
        self._moved = asyncio.Event()
        self._other_directories = asyncio.Event()
        self._blind = False

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
        """Watch until cancelled."""
        while True:
            await self._other_directories.wait()
            self._other_directories.clear()
            # What happens before the new watch is set up goes unnoticed, so there must be a look after it.
            self._moved.set()
            await self._watch_these()

    async def _watch_these(self) -> None:
        """Watch those of the directories that exist, until others are to be watched."""
        there = [
            directory
            for directory, identity in zip(self._directories, self._identities, strict=True)
            if identity != (0, 0)
        ]
        self._blind = len(there) < len(self._directories)
        if not there:
            return
        try:
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
        except (OSError, RuntimeError) as error:
            self._blind = True
            log.warning("changes are not noticed; looking every other second", reason=str(error))
