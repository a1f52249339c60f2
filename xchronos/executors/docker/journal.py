"""What a docker command remembers on disk, so that after a crash the next call knows what was begun before."""

import asyncio
from pathlib import Path

import msgspec

from xchronos.durable import write_whole
from xchronos.executors.contract import StepSpec


class _Page(msgspec.Struct):
    first: dict[str, str] = {}
    format: int = 1


class StepJournal:
    """One step's journal: a file in the attempt's directory, durable before the command asks anything of the engine.

    `again` says that an earlier call was begun, so that each part of the command may have happened. A container needs
    no journal: its name and labels serve as one. See `test_it_is_on_the_disk_with_its_name_before_the_command_begins`.
    """

    def __init__(self, spec: StepSpec) -> None:
        self._path = Path(spec.directory) / f".{spec.step}.begun"
        self.again = self._path.exists()
        self._page = msgspec.json.decode(self._path.read_bytes(), type=_Page) if self.again else _Page()

    async def begin(self) -> None:
        """Write that the command begins. Does nothing when that was written before."""
        if not self.again:
            await asyncio.to_thread(self._write)

    async def remember(self, what: str, value: str) -> str:
        """The value that the first call for `what` gave, however often this is called. It is durable on return."""
        if what not in self._page.first:
            self._page.first[what] = value
            await asyncio.to_thread(self._write)
        return self._page.first[what]

    def _write(self) -> None:
        write_whole(self._path, msgspec.json.encode(self._page), "directory")
