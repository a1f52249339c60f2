"""Removes what attempts of destroyed units left on this machine, a while after the unit is gone.

Nobody tells an agent that a unit was destroyed, and the agent may have been away then. So it looks from time to time
whether the units still exist of which it has files.
"""

import asyncio
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from xchronos.agent.retrying import ClockChance, patiently
from xchronos.aio import spread
from xchronos.clock import MINUTE, Clock, Micros
from xchronos.registry.keys import Keys
from xchronos.store.contract import Store
from xchronos.store.reading import read_some

log = structlog.get_logger(__name__)

GC_PERIOD: Micros = 10 * MINUTE
"""The time between two looks. Files go when their unit was gone at two looks in a row: a store that is empty by mistake
must not cost their output. Pinned by
`test_a_unit_that_comes_back_soon_keeps_its_output`."""


class FileGc:
    """Removes the files of units that are gone, below `directory`. `busy` gives the units of what runs here."""

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
            await self._clock.sleep(spread(GC_PERIOD, ClockChance(self._clock)))

    async def _look(self) -> None:
        # Listed before the store is asked: a new unit of the same name makes its files later, so they are not listed.
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
    """By unit, its directory and the directories of its attempts."""
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
