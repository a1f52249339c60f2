"""Reading log files while they grow, and while they are rotated under the reader.

A log is one or two files. When the newer one is full it becomes the older one, and what was the older one is gone:
`executors.logfile` says how.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from xchronos.executors.logfile import kept_files, older

BLOCK_BYTES = 64 * 1024
"""The most bytes of a log file that are read at a time."""

NOTE = b"[xchronos: "
"""The beginning of a line that the log's writer adds, such as the one that says that output was dropped."""

NOTE_BYTES = 1024
"""The most bytes that are read of such a line."""


class Follower:
    """Reads one step's output from a place on, through every rotation.

    When a step writes more than the log's limit between two reads, some of its output is lost: no file has it any more.

    Args:
        log: The newer file, which need not exist yet.
        start: The file to begin with; None: the oldest one that is kept.
        offset: The byte of that file to begin with.
    """

    def __init__(self, log: Path, start: Path | None = None, offset: int = 0) -> None:
        self._log = log
        self._file: BinaryIO | None = None
        self._start = start or next(iter(kept_files(log)), log)
        self._offset = offset

    def read(self) -> bytes:
        """Some of the bytes that follow; empty when there are none for now."""
        while True:
            if self._file is None:
                try:
                    self._file = self._start.open("rb")
                except FileNotFoundError:
                    return b""  # the step has not written yet, or the log is being rotated
                self._file.seek(self._offset)
            data = self._file.read(BLOCK_BYTES)
            if data or not self._move_on(self._file):
                return data

    def close(self) -> None:
        """Close the file. A later `read` opens the next one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _move_on(self, file: BinaryIO) -> bool:
        """At the end of a file: go on to what follows it. Returns False when nothing does yet."""
        ours = os.fstat(file.fileno())
        current = _inode(self._log)
        if current == (ours.st_dev, ours.st_ino):
            if ours.st_size >= file.tell():
                return False
            # A process writes this file itself, so `executors.logfile.trim` copies and empties it
            # (`test_a_log_that_its_process_writes_itself_and_that_was_trimmed` in tests/api/test_logs_api.py).
            file.seek(0)
            return True
        if current is None:
            return False
        # After one rotation our file is the older one, and the log follows it. After two ours is gone, and both follow.
        self._start = self._log if self._is_read(file) else older(self._log)
        self._offset = 0
        self.close()
        return True

    def _is_read(self, file: BinaryIO) -> bool:
        """Whether the older file is the one that was just read: renamed, or copied after a line of the writer's own."""
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
    """A reader for each log. Together they begin with the last `tail` lines of all logs; None: with the first byte."""
    if tail is None:
        return [Follower(log) for log in logs]
    left = tail
    placed: list[Follower] = []
    for log in reversed(logs):
        start, offset = log, _size(log)
        for file in reversed(kept_files(log)):
            if left <= 0:
                break
            # When a file ends in the middle of a line, the next file begins with the rest: it is no line of its own
            # (`test_tail_over_steps_and_their_older_parts` in tests/api/test_logs_api.py).
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
    """The byte at which the last `lines` lines of a file begin, and how many lines the file has too few."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        if position == 0:
            return 0, lines
        file.seek(position - 1)
        # The line feed at the file's end closes the last line and begins no other.
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
    # The file's first line has no line feed before it.
    return 0, wanted - 1
