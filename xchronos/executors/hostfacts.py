"""Facts that hold for one boot of this machine: its boot id, when it booted, when a process started."""

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
    """When this machine booted, in seconds since the epoch by the present wall clock."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third on (state, parent, group, session ...); None for no such process.

    The second field, the program's name, is left out: it may hold blanks and parentheses
    (`test_a_name_with_blanks_and_parentheses_is_read`).
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def start_ticks(pid: int) -> int | None:
    """When a living process started, in clock ticks since boot; None when there is none, or it is a zombie.

    Together with the pid and the boot id this identifies a process.
    """
    fields = stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return int(fields[19])


def process_born(pid: int) -> int | None:
    """As `start_ticks`, but a zombie counts too: its first thread has ended, others may run. None for the pid 0."""
    fields = stat_fields(pid) if pid else None
    return None if fields is None else int(fields[19])


def cgroups_of(pid: int) -> str:
    """The text of /proc/<pid>/cgroup: the cgroups of a process, one in a line; "" when there is no such process."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def engine_started(path: str) -> float | None:
    """When the engine that listens on a unix socket started, in seconds since the epoch; None when nobody can tell.

    The init system may have opened the socket for the engine. The socket then tells nothing about the engine, but
    dockerd writes its pid into a file beside it (`test_when_an_engine_started_whose_socket_is_the_init_systems`).
    """
    pid = _listener(path)
    if pid is not None and pid <= 1:
        pid = _noted_pid(Path(path).with_suffix(".pid"))
    ticks = start_ticks(pid) if pid else None
    return None if ticks is None else boot_time() + ticks / _TICKS


def _listener(path: str) -> int | None:
    """The pid of the process that opened a unix socket to listen on it.

    None when nobody listens; 0 when the process cannot be seen from here (it is in another pid namespace).
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        try:
            peer.connect(path)
        except OSError:
            return None
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)


def _noted_pid(file: Path) -> int:
    """The pid in a file that dockerd has written; 0 when no dockerd of that pid lives."""
    try:
        pid = int(file.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return 0
    return pid if name == "dockerd" else 0
