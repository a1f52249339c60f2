"""What a docker command remembers on disk, so that a call after a crash knows what an earlier one may have done."""

import asyncio
from pathlib import Path

import msgspec

from xchronos.durable import write_whole
from xchronos.executors.contract import StepSpec


class _Page(msgspec.Struct):
    first: dict[str, str] = {}
    format: int = 1


class StepJournal:
    """One step's journal, a file in the attempt's directory, written durably before the command touches the engine.

    `again`: an earlier call was begun, so each part of the command may have happened. (A container needs no journal:
    its name and labels are one.)
    """

    def __init__(self, spec: StepSpec) -> None:
        self._path = Path(spec.directory) / f".{spec.step}.begun"
        self.again = self._path.exists()
        self._page = msgspec.json.decode(self._path.read_bytes(), type=_Page) if self.again else _Page()

    async def begin(self) -> None:
        """Note that the command begins."""
        if not self.again:
            await asyncio.to_thread(self._write)

    async def remember(self, what: str, value: str) -> str:
        """What was first remembered under a word: the first call's value, durably, however often it is called."""
        if what not in self._page.first:
            self._page.first[what] = value
            await asyncio.to_thread(self._write)
        return self._page.first[what]

    def _write(self) -> None:
        write_whole(self._path, msgspec.json.encode(self._page), "directory")
