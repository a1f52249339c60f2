"""What a docker command writes on this machine: its journal, and the `--cidfile`.

The journal is what it remembers, so that after a crash the next call knows what was begun before.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from xchronos.durable import write_whole
from xchronos.errors import StartRefused
from xchronos.executors.contract import StepSpec
from xchronos.hostfiles import HostFileRefused, read_file


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


def write_id(path: Path, container: str) -> None:
    """Write a container's id into a new file. Blocks as long as the file system does.

    A file of that very content is one that an earlier daemon has written for this very container.

    Raises:
        StartRefused: there is something else of that name, a file or not.
        OSError: the file cannot be made.
    """
    what = f"container ID file {path}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        known = b""
        with suppress(HostFileRefused):  # it is no file, or a large one: it is not ours in any case
            known = read_file(str(path), what)
        if known.decode(errors="replace") != container:
            raise StartRefused(f"{what} exists: another container may be running by it; delete it first") from None
        return
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - of a descriptor
        file.write(container)
