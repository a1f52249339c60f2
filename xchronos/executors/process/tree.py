"""The processes of a step: every process in the session of its holder, and every descendant of the holder."""

import os
import signal
from contextlib import suppress
from typing import NamedTuple

from xchronos.executors.hostfacts import stat_fields


class Seen(NamedTuple):
    """One process as /proc showed it: its pid, its parent's pid, its session's number."""

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
    """The pids of a step's processes in rising order, without the holder (the session's leader).

    By the session a process is found whose parent has ended; by its descent one that has made a session of its own
    (`test_kill_ends_the_whole_tree_even_in_other_sessions`). A process that did both is not found; containers are for
    such programs.
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
    """The child of an earlier version's wrapper, which had but one. None before the fork and after the child's end."""
    return next((process.pid for process in look() if process.parent == leader), None)


def is_child(pid: int, parent: int) -> bool:
    """Whether a process still is a child of another one: after its end, its number may be somebody else's."""
    fields = stat_fields(pid)
    return fields is not None and int(fields[1]) == parent


def send(pids: list[int], number: int) -> None:
    """Send a signal to each pid; those that have ended are skipped. SIGTERM and SIGHUP also wake a stopped process."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            if number in (signal.SIGTERM, signal.SIGHUP):
                os.kill(pid, signal.SIGCONT)


def kill_all(leader: int) -> None:
    """SIGKILL a whole tree, again until no process is left: a process that forks may escape a single look."""
    for _ in range(20):
        pids = members(leader)
        if not pids:
            return
        send(pids, signal.SIGKILL)


def reap(children: set[int]) -> None:
    """Collect the ended children of this process, so that no zombies stay, and remove them from `children`."""
    for pid in tuple(children):
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        children.discard(pid)
