"""A step's log: it keeps at least the last half of `limit` bytes of output, and all of an output that is no longer.

`<log>` has the newest output. When that fills half the limit, the file becomes `<log>.1`, and what was `<log>.1` is
dropped. `<log>.0` is then a line that says how much is gone. To read a log from its beginning, read `kept_files` in
order. A reader that tails the file sees a new inode when a `BoundedLog` has rotated it, and a shorter file when `trim`
has cut one that a process writes itself.

`.<log>.page` says what the files cannot: how many bytes were dropped, how many are lines of our own, and how far the
output's source was read (`BoundedLog.mark`). It is written only once there is something to say.

This module imports the standard library only: `docker.attachment.process` is a process of its own.
"""

import errno
import json
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xchronos.durable import write_whole

logger = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def older(log: Path) -> Path:
    """The file that holds the older part of a log: `<log>.1`."""
    return log.with_name(log.name + ".1")


def drop_note(log: Path) -> Path:
    """The file with the line that says how much of a log's beginning was dropped: `<log>.0`."""
    return log.with_name(log.name + ".0")


def kept_files(log: Path) -> tuple[Path, ...]:
    """The files that hold a step's output, oldest first; those that exist."""
    return tuple(path for path in (drop_note(log), older(log), log) if path.exists())


def _half(limit: int) -> int:
    return max((limit + 1) // 2, 1)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _LogPage:
    """What is known of a log besides its files' bytes.

    Attributes:
        dropped: How many bytes of output are in no file any more.
        older_notes, notes: How many bytes of the older and of the newer file are lines of our own.
        gaps: Output was lost before it reached the log, nobody knows how much.
        rotating: The inode of the file whose rotation was begun last.
        marked: How many bytes of output were written when `position` was.
        position: What the writer has remembered; None: nothing yet.
    """

    def __init__(self, log: Path) -> None:
        self._path = log.with_name(f".{log.name}.page")
        self._log = log
        self.dropped = self.older_notes = self.notes = self.rotating = self.marked = 0
        self.gaps = False
        self.position: Any = None

    def load(self) -> None:
        """Read what was saved. One that a power cut has damaged counts as none."""
        with suppress(FileNotFoundError, ValueError):
            saved = json.loads(self._path.read_bytes())
            self.dropped, self.older_notes, self.notes = saved["dropped"], saved["older_notes"], saved["notes"]
            self.rotating, self.marked, self.position = saved["rotating"], saved["marked"], saved["position"]
            self.gaps = saved["gaps"]

    def save(self) -> None:
        """Write everything; also the line about what was dropped, when that has changed."""
        names = ("dropped", "older_notes", "notes", "rotating", "marked", "position", "gaps")
        write_whole(self._path, json.dumps({name: getattr(self, name) for name in names}).encode(), "none")

    def tell(self, limit: int) -> None:
        """Write the line that says how much is gone."""
        count = f"{'at least ' if self.gaps else ''}{self.dropped} bytes"
        line = f"[xchronos: output is limited to {limit} bytes; its beginning was dropped: {count}]\n"
        write_whole(drop_note(self._log), line.encode(), "none", mode=0o640)

    def forget(self) -> None:
        """Remove what was saved, with the line and the older part."""
        for path in (self._path, drop_note(self._log), older(self._log)):
            path.unlink(missing_ok=True)


class BoundedLog:
    """Writes a log file. When `write` returns the kernel has every byte, so a reader sees it immediately.

    `written` counts the bytes of output that the files hold or have held; each write raises it. `path` and `limit` are
    as they were given. With `resume`, writing
    goes on at the end of what is there; otherwise the files start anew.

    A full disk does not fail the step: what there is no room for is left out, and a line says how much that was as soon
    as there is room (`test_a_full_disk_leaves_out_and_counts_only_what_is_kept`).
    """

    def __init__(self, log: Path, limit: int, *, resume: bool = False) -> None:
        self.path = log
        self.limit = limit
        self._half = _half(limit)
        self._left_out = 0
        self._told = False
        if not resume:
            _LogPage(log).forget()
        self._begin(0 if resume else os.O_TRUNC)

    def _begin(self, flags: int) -> None:
        log = self.path
        page = self._page = _LogPage(log)
        page.load()
        if page.rotating and log.exists() and log.stat().st_ino == page.rotating:
            log.replace(older(log))  # a crash came between the page and the rotation that it tells of
        self._descriptor = self._open(flags)
        self._size = os.fstat(self._descriptor).st_size
        self.written = page.dropped + _size(older(log)) - page.older_notes + self._size - page.notes

    def reopen(self) -> None:
        """Go on at the end of what another process has written meanwhile."""
        self.close()
        self._begin(0)

    def _open(self, flags: int) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | flags, 0o640)

    def write(self, data: bytes | memoryview) -> None:
        """Append output, rotating as often as it takes."""
        view, before = memoryview(data), self.written
        try:
            if self._left_out and view:
                self._confess()
            while len(view) > (room := self._half - (self._size - self._page.notes)):
                view = self._append(view, max(room, 0))
                self._rotate()
            self._append(view, len(view))
        except OSError as error:
            self._bear(error)
            self._left_out += len(data) - (self.written - before)

    def note(self, text: str) -> None:
        """Append a line of our own, on a line by itself. It is no output of the step: `written` does not count it."""
        try:
            self._note(text)
        except OSError as error:
            self._bear(error)

    def gap(self, text: str) -> None:
        """As `note`, where output was lost before it came here."""
        self._page.gaps = True
        self.note(text)

    def _note(self, text: str) -> None:
        data = f"[xchronos: {text}]\n".encode()
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            data = b"\n" + data
        before = self._size
        try:
            while data:
                count = os.write(self._descriptor, data)
                self._size += count
                data = data[count:]
        finally:
            self._page.notes += self._size - before
        self._page.save()

    def _confess(self) -> None:
        """Say what a full disk had no room for, where that is missing."""
        self._note(f"{self._left_out} bytes of output are missing here: the disk was full")
        self._left_out = 0

    def _bear(self, error: OSError) -> None:
        """Go on when the disk is full, with one warning. Raises every other error."""
        if error.errno not in _NO_ROOM:
            raise error
        if not self._told:
            self._told = True
            logger.warning("output cannot be kept: %s (%s)", error.strerror, self.path)

    def tail(self, count: int) -> bytes:
        """The last bytes of the current file."""
        return os.pread(self._descriptor, count, max(self._size - count, 0))

    def restart(self) -> None:
        """Forget everything written so far."""
        self._page.forget()
        self._page = _LogPage(self.path)
        os.ftruncate(self._descriptor, 0)
        self._size = self.written = self._left_out = 0

    # -- what the output's source needs ------------------------------------------------------------------------------

    def mark(self, position: Any) -> None:
        """Remember a position in the output's source (a JSON value) that belongs to the end of what is written now.

        A process that resumes this log after a crash gets it back, whether the crash was the daemon's or the engine's.
        It does not outlive a power cut, which ends the step as well.
        """
        self._page.position, self._page.marked = position, self.written
        try:
            self._page.save()
        except OSError as error:
            self._bear(error)

    @property
    def marked(self) -> tuple[Any, int, bytes]:
        """The position that was marked last, how many bytes were written since, and these bytes.

        None without one: then everything was written since. Of the bytes only those are there that the files hold.
        """
        page = self._page
        count = self.written - (page.marked if page.position is not None else 0)
        recent = self.tail(min(count, self._size))
        if count > len(recent) and (earlier := older(self.path)).exists():
            with earlier.open("rb") as file:
                file.seek(max(_size(earlier) - (count - len(recent)), 0))
                recent = file.read() + recent
        return page.position, count, recent

    def sync(self) -> None:
        """Force the output to the disk. Blocks."""
        os.fsync(self._descriptor)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def _append(self, view: memoryview, most: int) -> memoryview:
        """Append the first bytes, `most` of them. Returns the others."""
        rest, view = view[most:], view[:most]
        while view:
            count = os.write(self._descriptor, view)
            self._size += count
            self.written += count
            view = view[count:]
        return rest

    def _rotate(self) -> None:
        before = self._page
        page = self._page = _LogPage(self.path)
        page.dropped = before.dropped + max(_size(older(self.path)) - before.older_notes, 0)
        page.older_notes, page.marked, page.position = before.notes, before.marked, before.position
        page.gaps = before.gaps
        page.rotating = os.fstat(self._descriptor).st_ino
        try:
            page.save()
        except OSError:
            self._page = before
            raise
        self.path.replace(older(self.path))
        fresh = self._open(0)
        os.close(self._descriptor)
        self._descriptor = fresh
        self._size = 0
        if page.dropped:
            page.tell(self.limit)

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
    """Bound a log that another process appends to: once it holds more than `limit`, the last half moves to `<log>.1`.

    The writer has the file open in append mode, so the file is copied and then cut to nothing, not renamed. What the
    writer appends between the last byte copied and the cut is lost. The copy goes on until nothing is left to copy, so
    that gap is only microseconds long. Returns whether anything was done.
    """
    half, old = _half(limit), _size(older(log))
    with log.open("r+b") as source:
        size = source.seek(0, os.SEEK_END)
        if size + old <= limit:
            return False
        temporary = log.with_name(log.name + ".trim")
        with temporary.open("wb") as target:
            if size < half and old:
                with older(log).open("rb") as before:
                    before.seek(max(old - (half - size), 0))
                    shutil.copyfileobj(before, target)
            source.seek(max(size - half, 0))
            shutil.copyfileobj(source, target)
            kept, size = target.tell(), source.tell()
        source.truncate(0)
    temporary.replace(older(log))
    page = _LogPage(log)
    page.load()
    page.dropped += old + size - kept
    page.save()
    page.tell(limit)
    return True
