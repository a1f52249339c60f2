"""A step's log: it keeps at most `limit` bytes, in two files. `<log>.1` holds the older part.

To read a log from its beginning, read `kept_files` in order. A reader that tails the file sees a new inode when a
`BoundedLog` has rotated it, and a shorter file when `trim` has cut one that a process writes itself.
"""

import errno
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

logger = structlog.get_logger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def older(log: Path) -> Path:
    """The file that holds the older part of a log: `<log>.1`."""
    return log.with_name(log.name + ".1")


def kept_files(log: Path) -> tuple[Path, ...]:
    """The files that hold a step's output, oldest first; those that exist."""
    return tuple(path for path in (older(log), log) if path.exists())


def _halves(limit: int) -> tuple[bytes, int]:
    """The line that goes before a log whose beginning is gone, and how many bytes each file may hold besides it."""
    note = b"[xchronos: output is limited to %d bytes; its beginning was dropped]\n" % limit
    half = max(limit // 2, 1)
    return (note, half - len(note)) if len(note) < half // 2 else (b"", half)


class BoundedLog:
    """Writes a log file. When `write` returns the kernel has every byte, so a reader sees it immediately.

    `written` counts the bytes of output that the two files hold or have held; each write raises it. With `resume`,
    writing goes on at the end of what is there, unless the log was rotated already; otherwise the files start anew.

    A full disk does not fail the step: what there is no room for is left out and not counted
    (`test_a_full_disk_leaves_out_and_counts_only_what_is_kept`).
    """

    def __init__(self, log: Path, limit: int, *, resume: bool = False) -> None:
        self._log = log
        self._head, self._half = _halves(limit)
        self._rotations = 0
        resume = resume and not older(log).exists()
        if not resume:
            older(log).unlink(missing_ok=True)
        self._descriptor = self._open(0 if resume else os.O_TRUNC)
        self._size = os.fstat(self._descriptor).st_size
        self.written = self._size
        self._told = False

    def _open(self, flags: int) -> int:
        return os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_APPEND | flags, 0o640)

    def write(self, data: bytes | memoryview) -> None:
        """Append output, rotating as often as it takes."""
        view = memoryview(data)
        try:
            while len(view) > self._half - self._size:
                room = max(self._half - self._size, 0)
                self._append(view[:room])
                view = view[room:]
                self._rotate()
            self._append(view)
        except OSError as error:
            self._bear(error)

    def note(self, text: str) -> None:
        """Append a line of our own, on a line by itself. It is no output of the step: `written` does not count it."""
        data = f"[xchronos: {text}]\n".encode()
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            data = b"\n" + data
        written = self.written
        try:
            self._append(memoryview(data))
        except OSError as error:
            self._bear(error)
        self.written = written

    def _bear(self, error: OSError) -> None:
        """Go on when the disk is full, with one warning. Raises every other error."""
        if error.errno not in _NO_ROOM:
            raise error
        if not self._told:
            self._told = True
            logger.warning("output cannot be kept", log=str(self._log), reason=error.strerror)

    def tail(self, count: int) -> bytes:
        """The last bytes of the current file."""
        return os.pread(self._descriptor, count, max(self._size - count, 0))

    @property
    def begins(self) -> int:
        """How many bytes of output came before those in the current file; meaningless after a `note`."""
        return self.written - self._size

    def agrees(self, offset: int, data: memoryview) -> bool:
        """Whether `data` is the output from byte `offset` on, as far as the current file can tell."""
        old = max(self.begins - offset, 0)
        data = data[old:]
        return not data or os.pread(self._descriptor, len(data), offset + old - self.begins) == data

    def restart(self) -> None:
        """Forget everything written so far."""
        older(self._log).unlink(missing_ok=True)
        os.ftruncate(self._descriptor, 0)
        self._size = self.written = self._rotations = 0

    @property
    def rotated(self) -> bool:
        """Whether the current file is no longer the whole output."""
        return self._rotations > 0

    def _append(self, view: memoryview) -> None:
        while view:
            count = os.write(self._descriptor, view)
            self._size += count
            self.written += count
            view = view[count:]

    def _rotate(self) -> None:
        self._rotations += 1
        if self._rotations == 1 or not self._head:
            self._log.replace(older(self._log))
        else:
            # Copied, not renamed, so that the note comes before everything that is kept: where the gap is.
            temporary = self._log.with_name(self._log.name + ".trim")
            with temporary.open("wb") as target, self._log.open("rb") as source:
                target.write(self._head)
                shutil.copyfileobj(source, target)
            temporary.replace(older(self._log))
            self._log.unlink()
        fresh = self._open(0)
        os.close(self._descriptor)
        self._descriptor = fresh
        self._size = 0

    def close(self) -> None:
        """Close the file. Closing again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def trim(log: Path, limit: int) -> bool:
    """Bound a log that another process appends to: once it is longer than half the limit, its end moves to `<log>.1`.

    The writer has the file open in append mode, so the file is copied and then cut to nothing, not renamed. What the
    writer appends between the last byte copied and the cut is lost. The copy goes on until nothing is left to copy, so
    that gap is only microseconds long. Returns whether anything was done.
    """
    head, half = _halves(limit)
    with log.open("r+b") as source:
        size = source.seek(0, os.SEEK_END)
        if size <= half:
            return False
        source.seek(size - half)
        temporary = log.with_name(log.name + ".trim")
        with temporary.open("wb") as target:
            target.write(head)
            shutil.copyfileobj(source, target)
        source.truncate(0)
    temporary.replace(older(log))
    return True
