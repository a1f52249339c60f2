"""Files of this host whose path somebody else names: a unit, or a link in a directory.

Whoever names a path decides what is there: a pipe that nobody writes to, a device without end, a file on a server that
does not answer any more. Four rules keep that from stopping anybody else, and from
telling secrets:

- What is there is judged before it is opened for reading, on a descriptor (`O_PATH`) that opens nothing: only a regular
  file is read, however many links lead to it. A device is not even opened, for that may have an effect.
- What a process has in /proc is not read: the environment of this one has passwords.
- No more is read than a limit.
- It happens in threads of its own (`threads`), each call with a deadline. A call that does not answer keeps its thread,
  so a path has one call at a time, and one that has not answered is refused to all others immediately. When no thread
  is left, everything is refused immediately, and the reason says so.
"""

import asyncio
import os
import re
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import Literal, TypeVar

import structlog

from xchronos import limits
from xchronos.errors import StartRefused
from xchronos.threads import DaemonThreads

log = structlog.get_logger(__name__)

T = TypeVar("T")

_OF_A_PROCESS = re.compile(r"/proc/[0-9]+/")
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class HostFileRefused(StartRefused):
    """A file of this host is not read. The text names who wants it, the path, what was found and what to do.

    `absent`: the system did not let it be opened: it is not there, or may not be read.
    """

    def __init__(self, message: str, *, absent: bool = False) -> None:
        self.absent = absent
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class ReadPaths:
    """Which files of this host units may have the daemon read, which reads with rights that units may not have.

    It is judged on the path of the file that was opened: a link leads nowhere else. What is nearest counts: a directory
    of `roots` inside of one of `private` is open to units.

    Attributes:
        roots: The directories whose files units may name. `/`: every file.
        private: The daemon's own files and directories, which no unit may name.
        told_only: What units may not name is read all the same, and told (`HostFiles.outside`).
    """

    roots: tuple[Path, ...] = (Path("/"),)
    private: tuple[Path, ...] = ()
    told_only: bool = False

    def judge(self, file: Path, identity: tuple[int, int], own: Path | None) -> Literal["open", "outside", "private"]:
        """What an open file is by its path and its device and inode. Blocks as long as the file system does.

        `own`: the directory of the attempt that has it read, whose files are its own.
        """
        if own is not None and _depth(file, (own,)):
            return "open"
        root, private = _depth(file, self.roots), _depth(file, self.private)
        # By its identity as well: it may have another name, a hard link.
        if private > root or any(_identity(each) == identity for each in self.private):
            return "private"
        return "open" if root else "outside"


EVERY_FILE = ReadPaths()
"""Units may name any file."""


def _depth(file: Path, directories: Iterable[Path]) -> int:
    """How many parts the nearest of the directories that the file is in, or is, has; 0: it is in none."""
    resolved = (Path(os.path.realpath(directory)) for directory in directories)
    return max((len(each.parts) for each in resolved if file.is_relative_to(each)), default=0)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return (facts.st_dev, facts.st_ino)


class HostFile:
    """A regular file that is open for reading, piece by piece. Made by `HostFiles.opened`."""

    def __init__(self, files: "HostFiles", path: str, what: str, within: float) -> None:
        """Open it. Blocks as long as the file system does; raises HostFileRefused, OSError."""
        self._closed = True
        self._descriptor = open_file(path, what, files.permit)
        self._closed = False
        self._reading = False
        self._lock = threading.Lock()
        self._files = files
        self._what = what
        self._within = within

    async def read(self, size: int) -> bytes:
        """The next piece, of at most `size` bytes; empty at the end. Raises HostFileRefused."""
        return await self._files.ask(lambda: self._read(size), self._what, within=self._within)

    def _read(self, size: int) -> bytes:
        with self._lock:
            if self._closed:
                return b""  # nobody waits for it any more
            self._reading = True
        try:
            return os.read(self._descriptor, size)
        finally:
            self._has_read()

    def _has_read(self) -> None:
        with self._lock:
            self._reading = False
            if self._closed:
                os.close(self._descriptor)

    def close(self) -> None:
        """Close the file; when a reading is under way that nobody waits for any more, as soon as that has ended."""
        if self._closed:
            return
        with self._lock:
            self._closed = True
            if not self._reading:
                os.close(self._descriptor)

    def __del__(self) -> None:
        # The opening was too slow, and nobody waits for it any more.
        self.close()


class HostFiles:
    """Opens what others name."""

    def __init__(
        self,
        within: float = limits.HOST_FILE_SECONDS,
        most: int = limits.HOST_FILE_THREADS,
        paths: ReadPaths = EVERY_FILE,
    ) -> None:
        """`within`: the seconds that a call may take. `most`: the threads that may be kept by calls without an answer.

        Nothing is started before the first call.
        """
        self.paths = paths
        """Which files may be read. It may be exchanged at any time."""
        self.outside: dict[str, str] = {}
        """What was read although it is outside of the roots: its path, and the last one that wanted it."""
        self._within = within
        self._most = most
        self._threads = DaemonThreads("xchronos host files", most)
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}
        self._overdue: dict[str, float] = {}
        """When the call that a thread carries out about something is overdue, by the monotonic clock."""

    async def read(
        self,
        path: str | Path,
        what: str,
        limit: int = limits.HOST_FILE_BYTES,
        *,
        own: Path | None = None,
        listed: bool = True,
    ) -> bytes:
        """The content of a regular file.

        Args:
            path: The file.
            what: How the reason begins when it is not read: who wants it, and the path as written.
            limit: The most bytes that it may have.
            own: The directory of the attempt that has it read, whose files are its own.
            listed: Whether `paths` has to permit it. Else the one who named it is the daemon's own operator.

        Raises:
            HostFileRefused: it is not read; the reason is told.
        """
        permit = partial(self.permit, own=own) if listed else None
        return await self.ask(lambda: read_file(os.fspath(path), what, limit, permit), what, about=os.fspath(path))

    def permit(self, descriptor: int, what: str, own: Path | None = None) -> None:
        """Raise HostFileRefused for an open file that no unit may name. Blocks as long as the file system does."""
        paths, facts = self.paths, os.fstat(descriptor)
        file = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - it is no link to a path of that name
        judged = paths.judge(file, (facts.st_dev, facts.st_ino), own)
        if judged == "open":
            return
        if paths.told_only:
            if len(self.outside) < limits.OUTSIDE_TOLD and str(file) not in self.outside:
                log.warning("a unit names a file outside of read_paths", file=str(file), wanted_by=what)
                self.outside[str(file)] = what
        elif judged == "private":
            raise HostFileRefused(f"{what}: {file} is the daemon's own, which units may not name")
        else:
            roots = ", ".join(map(str, paths.roots))
            raise HostFileRefused(
                f"{what}: {file} is outside of what units may have read on this machine ({roots}): "
                "move it there, or name its directory in the setting read_paths"
            )

    async def is_open(self, path: Path) -> bool:
        """Whether units may name a path, a file or not, as far as its links tell now. Raises HostFileRefused."""

        def judged() -> bool:
            return self.paths.judge(Path(os.path.realpath(path)), _identity(path) or (0, 0), None) == "open"

        return await self.ask(judged, f"looking at {path}", about=f"look {path}")

    async def match(self, pattern: str, what: str) -> list[str]:
        """The paths that match a pattern, in order; a path without wildcards is itself. Raises HostFileRefused."""
        if not has_magic(pattern):
            return [pattern]
        found = await self.ask(lambda: sorted(glob(pattern)), what, about=pattern)  # noqa: PTH207 - an absolute one
        if len(found) > limits.HOST_FILES_MATCHED:
            raise HostFileRefused(f"{what}: matches {len(found)} files, expected at most {limits.HOST_FILES_MATCHED}")
        return found

    @asynccontextmanager
    async def opened(self, path: str | Path, what: str, within: float) -> AsyncIterator[HostFile]:
        """A regular file, to be read piece by piece, each within so many seconds. Raises HostFileRefused."""
        name = os.fspath(path)
        file = await self.ask(lambda: HostFile(self, name, what, within), what, about=name)
        try:
            yield file
        finally:
            file.close()

    async def ask(self, work: Callable[[], T], what: str, *, about: str = "", within: float = 0.0) -> T:
        """Have a thread do something that may not answer.

        Args:
            work: What to do. When nobody waits for its result any more, that is dropped.
            what: How the reason begins when there is no answer.
            about: What it is about, in which it is alone: a path. Empty: `what`.
            within: The seconds that it may take; 0: the usual time.

        Raises:
            HostFileRefused: there was no answer in time, or none of an earlier call; or the system refused it.
        """
        about, within = about or what, within or self._within
        try:
            async with asyncio.timeout(within), self._turn(about):
                self._check(about, what)
                return await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._carry_out, work, about, within
                )
        except TimeoutError:
            raise HostFileRefused(f"{what}: no answer within {within:g} s: is it on a server that is away?") from None
        except OSError as error:
            raise HostFileRefused(f"{what}: {error.strerror or error}", absent=True) from error

    def _check(self, about: str, what: str) -> None:
        if about in self._overdue:
            raise HostFileRefused(f"{what}: an earlier reading has no answer yet: is it on a server that is away?")
        now = time.monotonic()
        silent = [each for each, due in self._overdue.copy().items() if due <= now]
        if len(silent) >= self._most:
            raise HostFileRefused(
                f"{what}: not read, for {len(silent)} other readings have no answer, and more are not begun: "
                f"the first is {silent[0]}"
            )

    def _carry_out(self, work: Callable[[], T], about: str, within: float) -> T:
        self._overdue[about] = time.monotonic() + within
        try:
            return work()
        finally:
            self._overdue.pop(about, None)  # a call that was given up as it began may be at work beside this one

    @asynccontextmanager
    async def _turn(self, about: str) -> AsyncIterator[None]:
        """One call at a time about one path: what hangs holds one thread."""
        lock, users = self._turns.get(about) or (asyncio.Lock(), 0)
        self._turns[about] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._turns.pop(about)
            if users > 1:
                self._turns[about] = (lock, users - 1)


Permit = Callable[[int, str], None]
"""Raises HostFileRefused for the descriptor of a file that may not be read, whose reason begins with the text."""


def open_file(path: str, what: str, permit: Permit | None = None) -> int:
    """A descriptor for reading a regular file. Blocks as long as the file system does; raises HostFileRefused, OSError.

    It is opened by the descriptor that was judged, so it cannot be another file by then.
    """
    judged = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        mode = os.fstat(judged).st_mode
        if not stat.S_ISREG(mode):
            found = _KINDS.get(stat.S_IFMT(mode), "no regular file")
            raise HostFileRefused(f"{what}: is {found}: expected a regular file")
        if _OF_A_PROCESS.match(str(Path(f"/proc/self/fd/{judged}").readlink())):
            raise HostFileRefused(f"{what}: says what a process was given, this daemon's secrets perhaps")
        if permit is not None:
            permit(judged, what)
        return os.open(f"/proc/self/fd/{judged}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(judged)


def read_file(path: str, what: str, limit: int = limits.HOST_FILE_BYTES, permit: Permit | None = None) -> bytes:
    """The content of a regular file. Blocks as long as the file system does; raises HostFileRefused, OSError."""
    with open(open_file(path, what, permit), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > limit else _up_to(file.fileno(), limit + 1)
    if max(size, len(data)) > limit:
        raise HostFileRefused(f"{what}: has more than {limit} bytes: expected a smaller file")
    return data


def _up_to(descriptor: int, size: int) -> bytes:
    pieces = []
    while size > 0 and (piece := os.read(descriptor, min(size, 1 << 16))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
