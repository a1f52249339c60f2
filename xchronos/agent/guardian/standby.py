"""A second guardian, for a daemon in a container: `xchronos-guardian STATE_DIRECTORY`, in a container of its own.

The guardian that an agent starts is a process beside the agent. When the agent runs in a container, its guardian ends
with the container, and `docker pause` stops both; the steps' own containers go on in the engine. Nobody would end what
has `OnPartition=stop` before it is started elsewhere. So another process stands by outside, with the same state
directory and the same engine. It reads the same deadline and strikes as the first guardian does, whether or not the
first one still can. What one of them has ended stays ended.

It is there for all lives of the agent. It needs nothing but what the agent leaves in the state directory. Host
processes are no business of it: those of a daemon in a container end with the container.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from xchronos.agent.guardian.process import STATE_POLL, STRIKE_POLL, Guardian, locked, now, read, unlock


class Standby(Guardian):
    """Watches the deadline in the agent's guardian `directory`. Raises FileNotFoundError before there is one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = self._inodes()
        settings = json.loads((directory / "settings").read_bytes())
        super().__init__(**{**settings, "directory": str(directory), "processes": ""})

    def _inodes(self) -> tuple[int, int]:
        return (self._directory / "settings").stat().st_ino, (self._directory / "state").stat().st_ino

    @property
    def current(self) -> bool:
        """Whether the files are still those that it reads: the agent may have new settings, or an empty directory."""
        return self._files == self._inodes()

    def look(self) -> float:
        """Strike if the deadline has passed. Returns in how many seconds to look again."""
        at = now()  # before the file is read: a deadline that is put off right after that has not passed
        known = read(self._state)
        if known is None:
            return STRIKE_POLL  # it is being written
        deadline, over, boot = known
        if over or boot != self._boot.replace("-", ""):
            return STATE_POLL
        if deadline > at:
            return min((deadline - at) / 1e9, STATE_POLL)
        # An agent that is only paused may go on at any moment, with what it was about to start.
        return STRIKE_POLL if self.strike() or not self._agent_is_gone() else STATE_POLL

    def _agent_is_gone(self) -> bool:
        if not locked(self._agent):
            return False
        unlock(self._agent)
        return True

    def close(self) -> None:
        """Read the files no more."""
        for descriptor in (self._state, self._agent, self._mark):
            os.close(descriptor)


def stand_by(directory: Path) -> None:
    """Watch what is, or will be, in the agent's guardian directory. Never returns."""
    standby: Standby | None = None
    while True:
        try:
            if standby is not None and not standby.current:
                standby.close()
                standby = None
            if standby is None:
                standby = Standby(directory)
            pause = standby.look()
        except FileNotFoundError:
            pause = STATE_POLL  # the agent has had nothing to guard yet
        time.sleep(pause)


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    """The console script."""
    named = sys.argv[1:] or [os.environ.get("XCHRONOS_STATE_DIRECTORY", "")]
    if len(named) != 1 or not Path(named[0]).is_absolute():
        sys.exit("usage: xchronos-guardian STATE_DIRECTORY (an absolute path; also: XCHRONOS_STATE_DIRECTORY)")
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, _leave)  # pid 1 of a container gets no signal that it has no handler for
    stand_by(Path(named[0]) / "guardian")
