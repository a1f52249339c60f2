"""Unit files on disk: which ones a person means, with the drop-ins beside them."""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from xchronos.errors import InvalidValue, Problem
from xchronos.unitfile.dropins import select_dropins
from xchronos.unitfile.names import SUFFIXES, UnitName, dropin_directories

STDIN = "-"


@dataclass(frozen=True, slots=True)
class DropInFile:
    """A drop-in: `name` is its path beside the unit file, `path` what a person calls it."""

    name: str
    path: str
    text: bytes


@dataclass(frozen=True, slots=True)
class UnitSource:
    """A unit file that was read. `path` is what a person calls it."""

    name: str
    path: str
    text: bytes
    drop_ins: list[DropInFile] = field(default_factory=list)

    @property
    def suffix(self) -> str:
        """`.service`, `.timer` ...; empty when the name has none."""
        return suffix_of(self.name)


def suffix_of(name: str) -> str:
    """The unit type in a file's name; empty when it is none."""
    suffix = os.path.splitext(name)[1]  # noqa: PTH122 - a name, and `Path` reads `.service` otherwise
    return suffix if suffix in SUFFIXES else ""


def unit_for(text: str) -> str:
    """The unit that a person means by --name: `report` is `report.service`. What is no name is left for its judge."""
    return text if not text or suffix_of(text) else f"{text}.service"


def read_sources(paths: Iterable[str], name: str = "") -> Iterator[UnitSource | Problem]:
    """The unit files that the arguments mean, in order; a Problem for each that cannot be read.

    A directory means every unit file below it; `-` is standard input. `name` is the unit's name, for one that its
    file does not tell.
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
            if not entry.startswith(".") and suffix_of(entry):
                found = True
                yield from _read(Path(home, entry), "")
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
    """A file's name as text; bytes in it that are none become `?`, which no unit's name may have."""
    return name.encode("utf-8", "replace").decode()


def _template(name: str) -> str | None:
    """`report@eu.service` is made of `report@.service` when it has no file of its own."""
    try:
        return UnitName.parse(name).template
    except InvalidValue:
        return None


def _drop_ins(home: Path, name: str) -> Iterator[DropInFile]:
    try:
        directories = dropin_directories(UnitName.parse(name))
    except InvalidValue:
        return  # the compiler says what is wrong with the name
    files = {
        directory: [entry.name for entry in (home / directory).iterdir()]
        for directory in directories
        if (home / directory).is_dir()
    }
    for chosen in select_dropins(UnitName.parse(name), files):
        path = home / chosen
        yield DropInFile(_shown(chosen), _shown(str(path)), path.read_bytes())
