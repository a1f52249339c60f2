"""A lock that one process of a machine holds at a time. It ends with the process, however that ends."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class InUse(Exception):  # noqa: N818 - whoever locks says what is in use
    """Another process holds the lock. `holder` is its pid, or `unknown`."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(f"in use by the process {holder}")


class FileLock:
    """Holds the lock file `place` until it is released, or until this process ends.

    The file is never removed. If it were, a process that has opened it and one that makes it anew would lock two files
    of one name, and both would hold the lock.

    Raises:
        InUse: another process holds the lock.
        OSError: the file cannot be opened, or its file system cannot lock it.
    """

    def __init__(self, place: Path) -> None:
        self._fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUse(os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown") from None
            with suppress(OSError):  # on a full disk the lock is ours all the same, but others do not learn our pid
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Let others have the lock."""
        os.close(self._fd)
