"""What attempts of destroyed units left on this machine is removed, a while after the unit is gone.

Nobody tells an agent that a unit was destroyed, and it may have been away then: it looks now and again at the units of
which it still has files.
"""

import asyncio
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from xchronos.agent.retrying import patiently, spread
from xchronos.clock import MINUTE, Clock, Micros
from xchronos.registry.keys import Keys
from xchronos.store.contract import Store
from xchronos.store.reading import read_some

log = structlog.get_logger(__name__)

EVERY: Micros = 10 * MINUTE
"""How long between two looks. What goes was gone at two looks, so that a wrong or an empty store costs no output."""


class FileGc:
    """Removes the files of units that are gone from `directory`. `busy` are the units of which something runs here."""

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, directory: Path, busy: Callable[[], Collection[str]]
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._directory = directory
        self._busy = busy
        self._gone: set[str] = set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._look()
            await self._clock.sleep(spread(self._clock, EVERY))

    async def _look(self) -> None:
        # Listed before the store is asked: what a unit of the same name begins from now on is not among it.
        found = await asyncio.to_thread(_files, self._directory)
        known = await patiently(
            self._clock, lambda: read_some(self._store, self._keys.jobs, found.keys()), what="store"
        )
        gone = found.keys() - known.keys() - set(self._busy())
        due, self._gone = gone & self._gone, gone
        if due:
            log.info("removing the output of units that are gone", units=sorted(due))
            await asyncio.to_thread(_remove, [found[unit] for unit in due])


def _files(root: Path) -> dict[str, tuple[Path, list[Path]]]:
    """By unit, its directory and those of its attempts."""
    if not root.is_dir():
        return {}
    return {home.name: (home, list(home.iterdir())) for home in root.iterdir() if home.is_dir()}


def _remove(found: list[tuple[Path, list[Path]]]) -> None:
    for home, attempts in found:
        for attempt in attempts:
            shutil.rmtree(attempt, ignore_errors=True)
        try:
            home.rmdir()
        except OSError as error:
            log.warning("a directory could not be removed", path=str(home), reason=str(error))
