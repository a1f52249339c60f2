"""Facts of this machine that outlive no boot: its boot id, when it booted, when a process started."""

import os
import socket
import struct
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def boot_id() -> str:
    """The kernel's random id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def boot_time() -> float:
    """When this machine booted, in seconds since the epoch by today's wall clock."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third on (state, parent, group, session ...); None for no such process.

    The second, the program's name, may hold anything, blanks and parentheses included, and is left out.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def start_ticks(pid: int) -> int | None:
    """When a living process started, in clock ticks since boot: with the pid, its identity. None for a zombie, too."""
    fields = stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return int(fields[19])


def engine_started(path: str) -> float | None:
    """When the process behind a unix socket started, in seconds since the epoch; None when that cannot be told.

    A socket that was opened by the init system on the engine's behalf tells nothing about the engine; then the file
    beside it does in which dockerd leaves its pid.
    """
    pid = _listener(path)
    if pid is not None and pid <= 1:
        pid = _noted_pid(Path(path).with_suffix(".pid"))
    ticks = start_ticks(pid) if pid else None
    return None if ticks is None else boot_time() + ticks / _TICKS


def _listener(path: str) -> int | None:
    """The pid of who opened a unix socket to listen on it; None: nobody does, 0: it cannot be seen from here."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        try:
            peer.connect(path)
        except OSError:
            return None
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)


def _noted_pid(file: Path) -> int:
    """The pid of the dockerd that has left it in a file; 0 for none that lives."""
    try:
        pid = int(file.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return 0
    return pid if name == "dockerd" else 0
