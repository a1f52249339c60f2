"""Writing a file as a whole: whoever reads it, at whatever moment, finds what was there before or all that is new.

`append` is the exception, for files whose readers can tell a part of a line from a whole one.
How much of that outlives a power cut costs time, so each writer says which promise it makes. This module imports the
standard library only.
"""

import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Literal, TypeAlias

Strength: TypeAlias = Literal["none", "file", "directory"]
"""What is left when the power fails after the write has returned:

- `none`: either file, or an empty one. For what is only a convenience, and can be told to be damaged.
- `file`: the old file or the new one, whole. For what may be found again in another way.
- `directory`: the new one. For what must not be forgotten. A directory that is new itself has to be in its own parent
  first: see `sync_directory`.

When only the process ends, be it killed in the middle, each of them leaves the old file or the new one.
"""

_numbers = count()


def write_whole(path: Path, data: bytes, strength: Strength, *, mode: int = 0o666) -> None:
    """Put `data` in the place of the file `path`, or of none.

    The data is written under another name in the same directory first, `.<name>.<pid>-<number>`. That file is removed
    when anything goes wrong; only a process that is killed in the middle leaves it. Several threads may write the same
    file: one of them is last. Blocks: with more than `none`, not for an event loop.

    Args:
        path: Where; its directory is there.
        data: All of what the file will hold.
        strength: What outlives a power cut.
        mode: The new file's permissions, less the umask; those of the old one do not count.

    Raises:
        OSError: it could not be written, and the old file is as it was. Only when the directory cannot be forced to the
            disk, which is last, the new file is there and may not outlive a power cut.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}-{next(_numbers)}"
    descriptor = _create(temporary, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if strength != "none":
                file.flush()
                os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if strength == "directory":
        sync_directory(path.parent)


def append(path: Path, data: bytes, strength: Strength) -> None:
    """Put `data` at the end of the file `path`, which is made if it is missing.

    When the disk is full, or the power fails, a part of it may be there. Blocks as `write_whole` does.

    Raises:
        OSError: not all of it could be written, or forced to the disk.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if strength != "none":
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if strength == "directory":
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Force to the disk which files a directory has. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(temporary: Path, mode: int) -> int:
    """A file that nobody else has opened, and that is no link to another one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(temporary, flags, mode)
    except FileExistsError:
        # A process that was killed had the number of this one.
        temporary.unlink()
        return os.open(temporary, flags, mode)
