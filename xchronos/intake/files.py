"""What a look at the directories finds: plain values, made by `scan`, judged by `selection` and `plan`."""

from typing import Literal, TypeAlias

import msgspec

from xchronos.model.records import DropIn

StampKind: TypeAlias = Literal["file", "null", "bad"]
"""`null` is a device, in practice a link to /dev/null; `bad` is what cannot be a unit file (see `Stamp.problem`)."""


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """One file as it was seen. As long as its stamp is the same, so is its content.

    `target` is where a symlink points to, one hop, as an absolute path; everything else is about the file at its end.
    `problem` says why it cannot be read (a dangling link, a directory, a pipe).
    """

    path: str
    kind: StampKind = "file"
    device: int = 0
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    target: str = ""
    problem: str = ""

    @property
    def empty(self) -> bool:
        """Whether systemd takes it for empty: as a unit file it masks the unit."""
        return self.kind == "null" or (self.kind == "file" and not self.size)


class Listing(msgspec.Struct, frozen=True):
    """What one directory holds. With `error` it could not be read, and nothing is known of it.

    `real` is its path without symlinks, `identity` its device and inode. `units` are the files called `*.service` by
    name, `drop_ins` those called `*.conf` in each `*.service.d`, `others` the names of systemd's other unit types.
    """

    directory: str
    real: str = ""
    identity: tuple[int, int] = (0, 0)
    units: dict[str, Stamp] = {}
    drop_ins: dict[str, dict[str, Stamp]] = {}
    others: tuple[str, ...] = ()
    error: str = ""


class Found(msgspec.Struct, frozen=True):
    """A unit that the directories describe: its main file's stamp, then those of its drop-ins as they count."""

    name: str
    directory: str
    stamps: tuple[Stamp, ...]

    @property
    def path(self) -> str:
        """The main file."""
        return self.stamps[0].path

    @property
    def problem(self) -> str:
        """Why it cannot be read, as far as that shows without trying."""
        return next((f"{stamp.path}: {stamp.problem}" for stamp in self.stamps if stamp.problem), "")


class Content(msgspec.Struct, frozen=True):
    """What the files of a unit say, or (`error`) why they cannot be read; `moved`: they changed under the reading."""

    found: Found
    text: bytes = b""
    drop_ins: tuple[DropIn, ...] = ()
    revision: str = ""
    error: str = ""
    moved: bool = False


def source_of(directory: str) -> str:
    """What the record of a unit from this directory names as its source."""
    return f"directory:{directory}"


def printable(path: str) -> str:
    """A path as text that any log and any JSON takes: bytes that are not UTF-8 are shown as escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
