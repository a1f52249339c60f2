"""Reading log files while they grow and are rotated under the reader (see `executors.logfile` for how they are)."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from xchronos.executors.logfile import kept_files, older

BLOCK_BYTES = 64 * 1024
"""The most bytes of a log file that are read at a time."""

NOTE = b"[xchronos: "
"""How a line begins that a log's writer adds, such as the one that tells that output was dropped."""

NOTE_BYTES = 1024
"""The most bytes that are read of such a line."""


class Follower:
    """Reads one step's output from some place on, over rotations, as far as it goes.

    Whoever writes faster than is read here, by the log's whole limit between two reads, has output dropped: it is
    not kept anywhere.
    """

    def __init__(self, log: Path, start: Path | None = None, offset: int = 0) -> None:
        self._log = log
        self._file: BinaryIO | None = None
        self._start = start or next(iter(kept_files(log)), log)
        self._offset = offset

    def read(self) -> bytes:
        """Some of what follows; empty when there is nothing for now."""
        while True:
            if self._file is None:
                try:
                    self._file = self._start.open("rb")
                except FileNotFoundError:
                    return b""  # not there yet, or just being rotated
                self._file.seek(self._offset)
            data = self._file.read(BLOCK_BYTES)
            if data or not self._move_on(self._file):
                return data

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _move_on(self, file: BinaryIO) -> bool:
        """At the end of a file: go to the one that follows it, if there is one."""
        ours = os.fstat(file.fileno())
        current = _inode(self._log)
        if current == (ours.st_dev, ours.st_ino):
            if ours.st_size >= file.tell():
                return False
            file.seek(0)  # a process writes it itself, and it was cut: see `trim`
            return True
        if current is None:
            return False
        # Once rotated, ours is the older one and the log follows it; rotated twice, both follow.
        self._start = self._log if self._is_read(file) else older(self._log)
        self._offset = 0
        self.close()
        return True

    def _is_read(self, file: BinaryIO) -> bool:
        """Whether the older part is the file that was just read: renamed, or copied behind a line of our own."""
        try:
            kept = older(self._log).open("rb")
        except FileNotFoundError:
            return True
        with kept:
            ours, theirs = os.fstat(file.fileno()), os.fstat(kept.fileno())
            if os.path.samestat(ours, theirs):
                return True
            line = kept.readline(NOTE_BYTES)
            if theirs.st_size - (len(line) if line.startswith(NOTE) else 0) != ours.st_size:
                return False
            span = min(ours.st_size, BLOCK_BYTES)
            file.seek(-span, os.SEEK_END)
            kept.seek(-span, os.SEEK_END)
            return file.read(span) == kept.read(span)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def followers(logs: Sequence[Path], tail: int | None) -> list[Follower]:
    """A reader for each log, together placed before the last `tail` lines of all of them; None: at the beginnings."""
    if tail is None:
        return [Follower(log) for log in logs]
    left = tail
    placed: list[Follower] = []
    for log in reversed(logs):
        start, offset = log, _size(log)
        for file in reversed(kept_files(log)):
            if left <= 0:
                break
            # A file that ends in the middle of a line is followed by the line's end: not a line of its own.
            offset, left = _last_lines(file, left)
            start = file
        placed.append(Follower(log, start, offset))
    return placed[::-1]


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0


def _last_lines(path: Path, lines: int) -> tuple[int, int]:
    """Where the last `lines` lines of a file begin, and how many lines there were too few."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        if position == 0:
            return 0, lines
        file.seek(position - 1)
        # The line end that closes the last line does not begin another one.
        wanted = lines + (file.read(1) == b"\n")
        while position > 0:
            length = min(BLOCK_BYTES, position)
            position -= length
            file.seek(position)
            block = file.read(length)
            count = block.count(b"\n")
            if count >= wanted:
                at = len(block)
                for _ in range(wanted):
                    at = block.rindex(b"\n", 0, at)
                return position + at + 1, 0
            wanted -= count
    # The file's first line has no line end before it.
    return 0, wanted - 1
