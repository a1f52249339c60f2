"""The unit files that a person means, read from disk with the drop-ins beside them."""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from xchronos.errors import InvalidValue, Problem
from xchronos.unitfile.dropins import select_dropins
from xchronos.unitfile.names import SUFFIXES, UnitName, dropin_directories, what_instead

STDIN = "-"
"""The argument that means standard input."""


@dataclass(frozen=True, slots=True)
class DropInFile:
    """A drop-in that was read."""

    name: str
    """Its path from the unit file's directory on: `report.service.d/10-limits.conf`."""

    path: str
    """Its path as a person calls it."""

    text: bytes
    """Its content."""


@dataclass(frozen=True, slots=True)
class UnitSource:
    """A unit file that was read."""

    name: str
    """The unit's name."""

    path: str
    """The file's path as a person calls it; `<stdin>` for standard input."""

    text: bytes
    """The file's content."""

    drop_ins: list[DropInFile] = field(default_factory=list)
    """Its drop-ins, in the order in which they count."""

    @property
    def suffix(self) -> str:
        """The unit's type: `.service`, `.timer` and so on; empty when the name has none."""
        return suffix_of(self.name)


def suffix_of(name: str) -> str:
    """The unit type that a file's name ends with; empty when it ends with none."""
    suffix = os.path.splitext(name)[1]  # noqa: PTH122 - a name, and `Path` reads `.service` otherwise
    return suffix if suffix in SUFFIXES else ""


def unit_for(text: str) -> str:
    """The unit that a person means by --name: `report` is `report.service`. A name that is wrong is refused later."""
    return text if not text or suffix_of(text) else f"{text}.service"


def read_sources(paths: Iterable[str], name: str = "") -> Iterator[UnitSource | Problem]:
    """The unit files that the arguments mean, in order, and a Problem for each that cannot be read.

    Args:
        paths: A file, a directory (every unit file below it), or `-` (standard input).
        name: The unit's name, where it is not the file's.
    """
    for text in paths:
        if not text:
            yield Problem("an empty argument: expected a file, a directory or -")
        elif text == STDIN:
            yield UnitSource(name, "<stdin>", sys.stdin.buffer.read())
        elif os.path.isdir(text):  # noqa: PTH112 - `Path` raises where a directory above may not be entered
            yield from _below(Path(text))
        else:
            yield from _read(Path(text), name)


def _below(directory: Path) -> Iterator[UnitSource | Problem]:
    found = False
    unreadable: list[OSError] = []
    for home, directories, files in os.walk(directory, onerror=unreadable.append):
        directories[:] = sorted(entry for entry in directories if not entry.startswith(".") and entry[-2:] != ".d")
        for entry in sorted(files):
            if entry.startswith("."):
                continue
            if suffix_of(entry):
                found = True
                yield from _read(Path(home, entry), "")
            elif instead := what_instead(entry):
                yield Problem(f"passed over: {instead}", _shown(str(Path(home, entry))), severity="warning")
    for error in unreadable:
        yield _unreadable(error, directory)
    if not found and not unreadable:
        yield Problem("no unit files (*.service) are in this directory", _shown(str(directory)))


def _read(path: Path, name: str) -> Iterator[UnitSource | Problem]:
    name = name or path.name
    file = path
    try:
        if not path.exists() and (template := _template(name)):
            file = path.with_name(template)
        yield UnitSource(_shown(name), _shown(str(file)), file.read_bytes(), list(_drop_ins(file.parent, name)))
    except OSError as error:
        yield _unreadable(error, path)


def _unreadable(error: OSError, path: Path) -> Problem:
    return Problem(f"cannot be read: {error.strerror}", _shown(error.filename or str(path)))


def _shown(name: str) -> str:
    """A file's name as text. Bytes that are not UTF-8 become `?`, which no unit's name may contain."""
    return name.encode("utf-8", "replace").decode()


def _template(name: str) -> str | None:
    """The template of an instance: `report@.service` for `report@eu.service`; None for what is no instance."""
    try:
        return UnitName.parse(name).template
    except InvalidValue:
        return None


def _drop_ins(home: Path, name: str) -> Iterator[DropInFile]:
    try:
        directories = dropin_directories(UnitName.parse(name))
    except InvalidValue:
        return  # the compiler tells what is wrong with the name
    files = {
        directory: [entry.name for entry in (home / directory).iterdir()]
        for directory in directories
        if (home / directory).is_dir()
    }
    for chosen in select_dropins(UnitName.parse(name), files):
        path = home / chosen
        yield DropInFile(_shown(chosen), _shown(str(path)), path.read_bytes())
