"""Keeping the logs of running host steps within their bounds: all of them are looked at together, in a thread."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from xchronos.executors.logfile import trim

log = structlog.get_logger(__name__)

TRIM_INTERVAL = 0.5
"""Seconds between two looks at the sizes of the logs of running steps."""


class LogTrimmer:
    """Looks at logs that programs write themselves."""

    def __init__(self) -> None:
        self._logs: Counter[tuple[Path, int]] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, path: Path, limit: int) -> Iterator[None]:
        """Keep a log within `limit` bytes while this is open."""
        self._logs[path, limit] += 1
        self._wait()
        try:
            yield
        finally:
            self._logs[path, limit] -= 1
            if not self._logs[path, limit]:
                del self._logs[path, limit]

    async def trim(self, path: Path, limit: int) -> None:
        """Look at one log now."""
        await asyncio.to_thread(_trimmed, [(path, limit)])

    def _wait(self) -> None:
        if self._timer is None and self._look is None:
            self._timer = asyncio.get_running_loop().call_later(TRIM_INTERVAL, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._logs:
            self._look = asyncio.create_task(self._all(), name="trim logs")

    async def _all(self) -> None:
        try:
            await asyncio.to_thread(_trimmed, list(self._logs))
        finally:
            self._look = None
        self._wait()


def _trimmed(logs: list[tuple[Path, int]]) -> None:
    for path, limit in logs:
        try:
            if path.stat().st_size > limit // 2:
                trim(path, limit)
        except FileNotFoundError:
            continue  # its step has not begun to write
        except OSError as error:
            log.warning("output cannot be bounded", file=str(path), reason=error.strerror)
