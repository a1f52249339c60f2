"""Looking and reading so that what does not answer holds up only its own directory, or its own file."""

import asyncio
import os.path
from collections.abc import Sequence

from xchronos import limits
from xchronos.errors import StartRefused
from xchronos.hostfiles import HostFiles
from xchronos.intake.files import Content, Found, Listing
from xchronos.intake.scan import list_directory, read_units
from xchronos.intake.selection import Selection, select


class DirectoryReader:
    """Has threads of its own look at directories and read files (`hostfiles`)."""

    def __init__(self, directories: Sequence[str]) -> None:
        self._directories = directories
        self._files = HostFiles(limits.UNIT_DIRECTORY_SECONDS)
        self._looks: dict[str, asyncio.Task[Listing]] = {}
        """The looks at directories that have not answered so far, by directory."""
        self._seen: frozenset[str] = frozenset()
        """The names of the unit files that the last look has seen, units or not."""

    async def look(self) -> tuple[list[Listing], Selection]:
        """What the directories hold, and the units that they describe.

        One that does not answer soon cannot be read for now. The others do not wait for it, and a later look takes its
        answer: it is checked again before anything is read or taken away.
        """
        listings = await asyncio.gather(*(self._list(directory) for directory in self._directories))
        self._seen = frozenset(name for listing in listings for name in listing.units)
        # With many units it takes so long that others would wait for it.
        return listings, await asyncio.to_thread(select, [listing for listing in listings if not listing.error])

    async def _list(self, directory: str) -> Listing:
        look = self._looks.pop(directory, None)
        if look is None:
            look = asyncio.create_task(self._looked_at(directory), name=f"look at {directory}")
        patience = limits.UNIT_DIRECTORY_PATIENCE
        try:
            await asyncio.wait({look}, timeout=patience)
        except asyncio.CancelledError:
            look.cancel()
            raise
        if look.done():
            return look.result()
        self._looks[directory] = look
        return Listing(directory, error=f"cannot be read: no answer within {patience:g} s")

    async def _looked_at(self, directory: str) -> Listing:
        try:
            return await self._files.ask(lambda: list_directory(directory), "cannot be read", about=directory)
        except StartRefused as error:
            return Listing(directory, error=str(error))

    async def read(self, units: Sequence[Found]) -> list[Content]:
        """The content of each of the units, in their order."""
        try:
            return await self._files.ask(lambda: read_units(units), "unit files")
        except StartRefused:
            # One of them does not answer: which?
            return list(await asyncio.gather(*(self._read(unit) for unit in units)))

    async def _read(self, unit: Found) -> Content:
        try:
            return (await self._files.ask(lambda: read_units([unit]), "cannot be read", about=unit.path))[0]
        except StartRefused as error:
            return Content(unit, error=f"{unit.path}: {error}")

    async def is_back(self, name: str) -> bool:
        """Whether a file of this name has come since the last look, which has seen none. Nobody knows: it may have."""
        if name in self._seen:
            return False  # it was there, and is no unit of its own
        paths = [os.path.join(directory, name) for directory in self._directories]  # noqa: PTH118 - strings, as in scan
        try:
            return await self._files.ask(lambda: any(map(os.path.lexists, paths)), "cannot be read", about=name)
        except StartRefused:
            return True
