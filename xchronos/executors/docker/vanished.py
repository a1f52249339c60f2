"""A running container that has lost its process, and the engine does not know.

"The engine" is two programs. dockerd learns of an end from containerd. Of one that falls into a restart of containerd
it may never hear: it shows the container as running for good, and a wait for its end has no answer (20.10 and 26.1,
after a kill of containerd alone).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable

from xchronos.errors import ExecutorUnavailable
from xchronos.executors.docker.client import DockerClient, EngineRefusal
from xchronos.executors.docker.inspected import Inspected
from xchronos.executors.hostfacts import cgroups_of, process_born

PROCESS_LOOK = 5.0
"""Seconds between two looks whether a running container still has its process. A shorter step is never looked at."""

GONE_LOOKS = 3
"""How often in a row a running container has no process, before that is believed. An engine may learn of it later."""

_NO_CONTAINERD = re.compile(
    r"code = Unavailable|connection error: desc|transport is closing|error reading from server: EOF"
    r"|containerd\.sock|: unavailable$|\bEOF: (unknown|unavailable)$"
)


def without_containerd(message: str) -> bool:
    """Whether dockerd refuses a call in these words because its containerd did not answer."""
    return _NO_CONTAINERD.search(message) is not None


class ProcessWatch:
    """Tells, by what /proc shows, whether a container that the engine shows as running has lost its process.

    Only where /proc/<pid>/cgroup has named the container while it ran is its pid one of this machine's, as seen from
    here. Elsewhere (the engine is in another pid namespace) a missing process proves nothing.

    Attributes:
        pid: the process that is watched; 0 before it was seen.
    """

    def __init__(self, container: str) -> None:
        """`container` is the whole id."""
        self._container = container
        self.pid = 0
        self._born: int | None = None
        self._gone = 0

    def is_there(self, born: int | None) -> bool:
        """Whether the watched process lives, by when the process of its pid was born; None: there is none."""
        if born is None or born != self._born:
            return False
        self._gone = 0
        return True

    def judge(self, pid: int, born: int | None, cgroups: str, *, told: bool) -> bool | None:
        """Decide by what the engine shows of the running container, and /proc of its process.

        Args:
            pid: the container's, by the engine.
            born: when the process of that pid was born; None: there is none.
            cgroups: the text of /proc/<pid>/cgroup; "": there is none.
            told: whether the engine had every way to know of the end: its containerd answers.

        Returns:
            True: its process is gone, and the engine does not know. False: /proc proves nothing. None: look again.
        """
        if not pid or pid != self.pid:  # not seen before, or started again by somebody
            if born is None or self._container not in cgroups:
                return False
            self.pid, self._born, self._gone = pid, born, 0
            return None
        if not self.is_there(born) and told:
            self._gone += 1
        return True if self._gone >= GONE_LOOKS else None


async def has_vanished(
    engine: DockerClient, container: str, look: Callable[[str], Awaitable[Inspected | None]]
) -> bool:
    """Watch a running container's process. True: it is gone, and the engine does not know. False: no way to tell.

    While containerd is away nothing is decided: the engine may be told of the end after that. `container` is the whole
    id, and `look` asks the engine for it until the engine answers.
    """
    if engine.socket is None:
        return False  # its processes are another machine's
    watch = ProcessWatch(container)
    while True:
        await asyncio.sleep(PROCESS_LOOK)
        if watch.is_there(process_born(watch.pid)):
            continue
        try:
            found = await look(container)
            told = watch.pid == 0 or await _has_containerd(engine, container)
        except EngineRefusal:
            continue
        if found is None or not found.state.running:
            return False  # the wait tells
        pid = found.state.pid
        verdict = watch.judge(pid, process_born(pid), cgroups_of(pid), told=told)
        if verdict is not None:
            return verdict


async def _has_containerd(engine: DockerClient, container: str) -> bool:
    """Whether the engine's containerd answers. It does not matter what: there may be no ps, or no such task."""
    try:
        await engine.call("GET", f"/containers/{container}/top")
    except EngineRefusal as refusal:
        return not without_containerd(refusal.message)
    except ExecutorUnavailable:
        return False
    return True
