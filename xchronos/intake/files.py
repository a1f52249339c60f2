"""What a look at the directories finds, as plain values. `scan` makes them, `selection` and `plan` judge them."""

from typing import Literal, TypeAlias

import msgspec

from xchronos.model.records import DropIn

StampKind: TypeAlias = Literal["file", "null", "bad"]
"""What a file is. `null` is /dev/null, or a link to it. `bad` cannot be a unit file: `Stamp.problem` says why."""


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """One file as it was seen. As long as its stamp is the same, so is its content.

    Of a symlink, all but `path` and `target` is about the file at its end.
    """

    path: str
    """The file's path in its directory."""

    kind: StampKind = "file"
    """What it is."""

    device: int = 0
    """The device that it is on; 0 unless it is a `file`."""

    inode: int = 0
    """Its inode; 0 unless it is a `file`."""

    size: int = 0
    """Its length in bytes."""

    mtime_ns: int = 0
    """When it was last written, in nanoseconds since the epoch."""

    ctime_ns: int = 0
    """When it or its inode last changed, in nanoseconds since the epoch."""

    target: str = ""
    """Where a symlink points to, one hop, as an absolute path; empty: it is no symlink."""

    problem: str = ""
    """Why it cannot be read: it is a dangling link, a directory, a pipe. Empty: nothing is known against it."""

    @property
    def empty(self) -> bool:
        """Whether it is empty as systemd sees it. An empty unit file masks the unit."""
        return self.kind == "null" or (self.kind == "file" and not self.size)


class Listing(msgspec.Struct, frozen=True):
    """What one directory holds."""

    directory: str
    """Its path, as it is configured."""

    real: str = ""
    """Its path without symlinks."""

    identity: tuple[int, int] = (0, 0)
    """Its device and inode; (0, 0) when it could not be read."""

    units: dict[str, Stamp] = {}
    """The files called `*.service`, by name."""

    drop_ins: dict[str, dict[str, Stamp]] = {}
    """The files called `*.conf` in each directory for drop-ins, by the directory's name and their own."""

    others: tuple[str, ...] = ()
    """The names of the files of systemd's other unit types, in order."""

    bad: dict[str, str] = {}
    """The paths of what belongs to no unit and cannot be meant so, each with what is wrong with it."""

    error: str = ""
    """Why the directory could not be read; unless empty, nothing is known of it."""


class Found(msgspec.Struct, frozen=True):
    """A unit that the directories describe."""

    name: str
    """The unit's name."""

    directory: str
    """The directory that has its main file."""

    stamps: tuple[Stamp, ...]
    """The main file's stamp, then those of its drop-ins in the order in which they count."""

    @property
    def path(self) -> str:
        """The main file's path."""
        return self.stamps[0].path

    @property
    def problem(self) -> str:
        """Why it cannot be read, as far as the stamps show; empty: they show no reason."""
        return next((f"{printable(stamp.path)}: {stamp.problem}" for stamp in self.stamps if stamp.problem), "")


class Content(msgspec.Struct, frozen=True):
    """What the files of a unit say, or why they could not be read."""

    found: Found
    """The unit, with the stamps that its files had before the reading."""

    text: bytes = b""
    """The main file's content."""

    drop_ins: tuple[DropIn, ...] = ()
    """The drop-ins, in the order in which they count."""

    revision: str = ""
    """A hash of all that was read."""

    error: str = ""
    """Why a file could not be read; empty: all were."""

    moved: bool = False
    """Whether a file changed between the look and the reading. Then nothing else here says anything."""


def source_of(directory: str) -> str:
    """The source that the record of a unit from this directory names."""
    return f"directory:{directory}"


NOT_TEXT = "its name is not UTF-8: give it another name"
"""What is wrong with a file or a directory whose name no record and no answer can hold."""


def is_text(path: str) -> bool:
    """Whether a path is UTF-8."""
    return path.isascii() or not any("\ud800" <= char <= "\udfff" for char in path)


def printable(path: str) -> str:
    """A path as text that every log and every JSON takes. Bytes that are not UTF-8 are shown as escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
