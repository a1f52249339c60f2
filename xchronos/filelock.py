"""A lock that one process of a machine has at a time, and that ends with it however it ends."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class InUse(Exception):  # noqa: N818 - whoever locks says what is in use
    """Another process has the lock: `holder` is its pid, or `unknown`."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(f"in use by the process {holder}")


class FileLock:
    """Holds the lock file `place` until released, or until this process ends.

    The file is left behind on purpose: removing it would let two processes lock two different files of one name.

    Raises:
        InUse: another process has it.
        OSError: the file cannot be opened, or not be locked where it lies.
    """

    def __init__(self, place: Path) -> None:
        self._fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUse(os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown") from None
            with suppress(OSError):  # on a full disk it is ours all the same, though nobody is told whose
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Let others have it."""
        os.close(self._fd)
