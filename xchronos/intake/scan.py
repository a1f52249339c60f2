"""Looking at directories and reading unit files. Everything here blocks, so it runs in a thread."""

# Paths are strings here: ten thousand Path objects cost more than the look itself.
# ruff: noqa: PTH115, PTH116, PTH118, PTH120, PTH123

import os
import stat
from collections.abc import Iterable

from xchronos.intake.files import NOT_TEXT, Content, Found, Listing, Stamp, is_text, printable
from xchronos.limits import UNIT_BYTES
from xchronos.model.records import DropIn
from xchronos.unitfile.document import UnitFile
from xchronos.unitfile.names import PODMAN_SUFFIXES, SUFFIXES

_SERVICE = ".service"
_NULL = os.makedev(1, 3)
_OTHER_SUFFIXES = tuple(sorted({*SUFFIXES, *PODMAN_SUFFIXES} - {_SERVICE}))
# A pipe that takes a unit file's place between the look and the opening must not block the reader for ever
# (`test_a_pipe_in_the_place_of_a_file_does_not_block_the_reader` in tests/intake/test_intake_scan.py).
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def list_directory(directory: str) -> Listing:
    """What a directory holds that could be a unit. Hidden files, editors' backups and the like are passed over."""
    units: dict[str, Stamp] = {}
    drop_ins: dict[str, dict[str, Stamp]] = {}
    others: list[str] = []
    bad: dict[str, str] = {}
    if not is_text(directory):
        return Listing(directory, error=NOT_TEXT)
    try:
        facts = os.stat(directory)
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if name.endswith(_SERVICE):
                    stamp = _stamp(entry)
                    if stamp is not None:
                        units[name] = stamp
                elif name.endswith((f"{_SERVICE}.d", "service.d")):
                    problem = _looked_into(entry, drop_ins)
                    if problem:
                        bad[entry.path] = problem
                elif name.endswith(_OTHER_SUFFIXES):
                    others.append(name)
        real = os.path.realpath(directory)
    except OSError as error:
        return Listing(directory, error=f"cannot be read: {error.strerror}")
    return Listing(directory, real, (facts.st_dev, facts.st_ino), units, drop_ins, tuple(sorted(others)), bad)


def _looked_into(entry: os.DirEntry[str], drop_ins: dict[str, dict[str, Stamp]]) -> str:
    """List what seems to be a directory of drop-ins. Returns what is wrong with it; it is none of a unit's then."""
    try:
        if not entry.is_dir():
            return ""
    except OSError as error:
        # Its files may matter, so the units that they are for must not change: see `_list_drop_ins`.
        drop_ins[entry.name] = _unreadable(entry.path, error)
        return f"cannot be read: {error.strerror}"
    if not is_text(entry.name):
        return NOT_TEXT
    drop_ins[entry.name] = _list_drop_ins(entry.path)
    return ""


def _list_drop_ins(directory: str) -> dict[str, Stamp]:
    found: dict[str, Stamp] = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(".conf") and not entry.name.startswith("."):
                    stamp = _stamp(entry)
                    if stamp is not None:
                        found[entry.name] = stamp
    except FileNotFoundError:
        return {}
    except OSError as error:
        # Its files may matter, so the units that they are for must not change: the directory stands for a file that
        # cannot be read (tests/intake/: `test_a_drop_in_directory_that_may_not_be_read_makes_its_unit_unreadable`).
        return {**found, **_unreadable(directory, error)}
    return found


def _unreadable(directory: str, error: OSError) -> dict[str, Stamp]:
    name = "unreadable.conf"
    return {name: Stamp(f"{directory}/{name}", "bad", problem=f"the directory cannot be read: {error.strerror}")}


def _stamp(entry: os.DirEntry[str]) -> Stamp | None:
    """The stamp of a directory's entry; None when the file is gone already."""
    target = ""
    if not is_text(entry.name):
        return Stamp(entry.path, "bad", problem=NOT_TEXT)
    try:
        if entry.is_symlink():
            target = os.path.normpath(os.path.join(os.path.dirname(entry.path), os.readlink(entry.path)))
            # What is not UTF-8 is in none of our directories, and the notes could not hold it.
            target = printable(target)
        facts = entry.stat()
    except FileNotFoundError:
        if not target:
            return None
        return Stamp(entry.path, "bad", target=target, problem=f"a link to {target}, which does not exist")
    except OSError as error:
        return Stamp(entry.path, "bad", target=target, problem=f"cannot be read: {error.strerror}")
    mode = facts.st_mode
    if stat.S_ISCHR(mode) and facts.st_rdev == _NULL:
        return Stamp(entry.path, "null", target=target)
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        return Stamp(entry.path, "bad", target=target, problem=f"is {what}: expected a file")
    problem = f"has {facts.st_size} bytes: a unit file has at most {UNIT_BYTES}" if facts.st_size > UNIT_BYTES else ""
    return Stamp(
        entry.path,
        "bad" if problem else "file",
        facts.st_dev,
        facts.st_ino,
        facts.st_size,
        facts.st_mtime_ns,
        facts.st_ctime_ns,
        target,
        problem,
    )


def read_units(units: Iterable[Found]) -> list[Content]:
    """The content of each of the units, in their order."""
    return [_read(found) for found in units]


class _MovedError(Exception):
    """The file is no longer what its stamp says."""


def _read(found: Found) -> Content:
    if found.problem:
        return Content(found, error=found.problem)
    main, *rest = found.stamps
    path = main.path
    try:
        text = _bytes_of(main)
        drop_ins: list[DropIn] = []
        for stamp in rest:
            path = stamp.path
            drop_ins.append(DropIn(path, _bytes_of(stamp).decode()))
    except (_MovedError, FileNotFoundError):
        return Content(found, moved=True)
    except OSError as error:
        return Content(found, error=f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        return Content(found, error=f"{path}: not valid UTF-8 at byte {error.start}")
    parts = tuple(UnitFile(drop_in.name, drop_in.text.encode(), ()) for drop_in in drop_ins)
    return Content(found, text, tuple(drop_ins), UnitFile(main.path, text, (), dropins=parts).revision)


def _bytes_of(stamp: Stamp) -> bytes:
    if stamp.empty:
        return b""
    descriptor = os.open(stamp.path, _OPEN)
    with open(descriptor, "rb", buffering=0) as file:
        data = file.read(UNIT_BYTES + 1)
        facts = os.fstat(descriptor)
    seen = (stamp.device, stamp.inode, stamp.size, stamp.mtime_ns)
    if (facts.st_dev, facts.st_ino, len(data), facts.st_mtime_ns) != seen:
        raise _MovedError
    return data
