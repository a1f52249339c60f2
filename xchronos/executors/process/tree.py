"""The processes of a step: everything in the session of its wrapper, and everything that descends from it."""

import os
import signal
from contextlib import suppress
from typing import NamedTuple

from xchronos.executors.hostfacts import stat_fields


class Seen(NamedTuple):
    """One process in a look at /proc."""

    pid: int
    parent: int
    session: int


def look() -> list[Seen]:
    """Every living process of the machine."""
    seen = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - a hundred Paths for a hundred names
        if entry.isdecimal():
            fields = stat_fields(int(entry))
            if fields is not None and fields[0] not in "ZX":
                seen.append(Seen(int(entry), int(fields[1]), int(fields[3])))
    return seen


def members(leader: int) -> list[int]:
    """The pids of a step, parents before children, without its wrapper (the session's leader).

    The session finds what was orphaned, the descent what made a session of its own; what did both is out of reach,
    and is what a container is for.
    """
    seen = look()
    found = {leader}
    grown = True
    while grown:
        more = {process.pid for process in seen if process.session == leader or process.parent in found} - found
        grown = bool(more)
        found |= more
    return sorted(found - {leader})


def main_process(leader: int) -> int | None:
    """The wrapper's own child: the step's main process. None before the fork and after the end."""
    return next((process.pid for process in look() if process.parent == leader), None)


def send(pids: list[int], number: int) -> None:
    """Send a signal to each; those that have ended are passed over. A stopped process is woken to receive it."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            if number in (signal.SIGTERM, signal.SIGHUP):
                os.kill(pid, signal.SIGCONT)


def kill_all(leader: int) -> None:
    """SIGKILL a whole tree, again until nothing new appears: a forking one may outrun a single look."""
    for _ in range(20):
        pids = members(leader)
        if not pids:
            return
        send(pids, signal.SIGKILL)


def has_executed(pid: int) -> bool:
    """Whether a forked process runs its program already (the kernel's PF_FORKNOEXEC is off)."""
    fields = stat_fields(pid)
    return fields is not None and not int(fields[6]) & 0x40


def reap(children: set[int]) -> None:
    """Let those children of this process that have ended go, from the kernel's table and from `children`."""
    for pid in tuple(children):
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        children.discard(pid)
