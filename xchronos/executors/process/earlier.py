"""Host steps that a version before the table has begun: each has a directory, in which its own wrapper writes.

Such a wrapper goes on when the machine is given this version. It has read the file `plan` and made `claim` (pid, start
ticks, boot id) by a link(2) that only one could win; `status` says how the program ended. Nothing is begun so any more.

This module imports the standard library only: the guardian reads these directories, too.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from xchronos.executors.process import tree
from xchronos.executors.process.table import Ended, SlotEntry, StepRecord

NOBODY = 1 << 22
"""The pid in a claim that no wrapper has made: greater than any pid of Linux, so the claimant is never alive."""


class Home:
    """The directory of one step's process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def all(cls, state: Path) -> Iterator["Home"]:
        """Every step that has one."""
        for path in sorted(state.glob("*/*/record")):
            yield cls(path.parent)

    def read(self) -> SlotEntry | None:
        """What is known of the step; None when nobody has claimed its start. Raises OSError or ValueError."""
        known = json.loads((self.path / "record").read_bytes())
        try:
            pid, ticks, boot = (self.path / "claim").read_text().split()
        except FileNotFoundError:
            return None
        record = StepRecord(
            known["execution"], known["attempt"], known["step"], known["kill_mode"],
            known.get("on_partition", "continue"), boot.replace("-", ""), 0,
        )  # fmt: skip
        ended = self._ended()
        program = tree.main_process(int(pid)) or 0 if ended is None else 0
        return SlotEntry(record, int(pid), int(ticks), program, ended)

    def _ended(self) -> Ended | None:
        try:
            text = os.fsdecode((self.path / "status").read_bytes())
        except FileNotFoundError:
            return None
        code, number, started, began, ended, reason, *_ = text.split("\n")
        return Ended(int(code), int(number), started == "1", int(began), int(ended), False, 0, reason)

    def give_up(self, boot: str) -> bool:
        """See to it that no wrapper claims the start any more, and remove the directory. False: one has claimed it."""
        mine = self.path / f".claim.{os.getpid()}"
        mine.write_text(f"{NOBODY} 0 {boot}")
        try:
            os.link(mine, self.path / "claim")
        except FileExistsError:
            mine.unlink()
            return False
        self.forget()
        return True

    def forget(self) -> None:
        """Remove the directory, and that of its attempt if it is the last one."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            self.path.parent.rmdir()
