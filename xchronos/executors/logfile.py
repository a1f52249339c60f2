"""A step's log file: grows while the step runs, keeps at most `limit` bytes in two files, the older one as `<log>.1`.

Whoever reads a log from the beginning reads `kept_files` in order. A reader that tails the file sees it replaced (a
new inode) when it is rotated by a `BoundedLog`, or shortened when a process writes it itself (`trim`).
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
    """The line that stands before a log whose beginning is gone, and how many bytes either file may hold besides."""
    note = b"[xchronos: output is limited to %d bytes; its beginning was dropped]\n" % limit
    half = max(limit // 2, 1)
    return (note, half - len(note)) if len(note) < half // 2 else (b"", half)


class BoundedLog:
    """Writes a log file. Every byte is with the kernel when `write` returns, so a reader sees it at once.

    `written` counts the bytes of output that the two files hold or have held. When `resume` is true and nothing was
    rotated away yet, writing goes on behind what is there; else the files start anew. What a full disk has no room for
    is left out, and not counted: a step does not fail for the sake of its log.
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
        """Append a line of our own, which is no output of the step; on a line of its own."""
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
        """Go on without what there is no room for. Raises every other error."""
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
        """How many bytes of output came before what the current file holds; meaningless behind a `note`."""
        return self.written - self._size

    def agrees(self, offset: int, data: memoryview) -> bool:
        """Whether `data` is the output from byte `offset` on, as far as the current file tells."""
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
            # Copied, not renamed, so that the note stands where the gap is: at the very beginning of what is kept.
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
        """Close the file. Idempotent."""
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
    """Bound a log that another process appends to: when it passed half the limit, its end moves to `<log>.1`.

    The writer holds the file open in append mode, so the file is copied and cut to nothing rather than renamed. What
    is written between the last copied byte and the cut is lost; copying until nothing is left keeps that gap to
    microseconds. Returns whether anything was done.
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
