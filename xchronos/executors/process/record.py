"""What is on disk about one host process: its record, and the files of its wrapper (see `wrapper`)."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from xchronos.durable import sync_directory, write_whole
from xchronos.executors.contract import StepExit, StepSpec
from xchronos.executors.hostfacts import boot_id, start_ticks
from xchronos.executors.signals import signal_name
from xchronos.model.policies import OnPartition


class ProcessRecord(msgspec.Struct, frozen=True):
    """Which step a host process belongs to. It is durable before the process is started."""

    unit: str
    execution: str
    attempt: int
    step: str
    kill_mode: str
    format: int = 1
    on_partition: OnPartition = "continue"


class Claim(msgspec.Struct, frozen=True):
    """The wrapper that won the right to start the program: its pid, start time in clock ticks, and boot id."""

    pid: int
    ticks: int
    boot: str

    @property
    def alive(self) -> bool:
        """Whether this very wrapper still lives: same boot, same pid, same start time."""
        return self.boot == boot_id() and start_ticks(self.pid) == self.ticks


def attempt_home(state: Path, execution: str, attempt: int) -> Path:
    """The directory of an attempt's host processes."""
    return state / f"{hashlib.sha256(execution.encode()).hexdigest()[:20]}-{attempt}"


class Home:
    """The directory of one step's process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, state: Path, spec: StepSpec) -> "Home":
        """The home of this step."""
        return cls(attempt_home(state, spec.execution, spec.attempt) / spec.step)

    @classmethod
    def all(cls, state: Path) -> Iterator["Home"]:
        """The home of every step that has one."""
        for path in sorted(state.glob("*/*/record")):
            yield cls(path.parent)

    def prepare(self, spec: StepSpec) -> None:
        """Write the plan and the record, durably, so that nothing is started that could not be found again."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory = spec.working_directory or spec.directory
        own = "own" if Path(directory).is_relative_to(spec.directory) else ""
        plan = [
            spec.program, spec.user, spec.group, directory, own,
            str(len(spec.argv)), *spec.argv, *(f"{name}={value}" for name, value in spec.env.items()),
        ]  # fmt: skip
        # Only the daemon's user may read them: environments hold secrets.
        write_whole(self.path / "plan", os.fsencode("\0".join(plan)), "file", mode=0o600)
        record = ProcessRecord(
            spec.unit, spec.execution, spec.attempt, spec.step, spec.kill_mode, on_partition=spec.on_partition
        )
        write_whole(self.path / "record", msgspec.json.encode(record), "file", mode=0o600)
        for changed in (self.path, self.path.parent, self.path.parent.parent):
            sync_directory(changed)

    @property
    def record(self) -> ProcessRecord:
        """The record, read from the disk."""
        return msgspec.json.decode((self.path / "record").read_bytes(), type=ProcessRecord)

    @property
    def claim(self) -> Claim | None:
        """The wrapper that has started the program or is about to; None when none has claimed the start."""
        try:
            pid, ticks, boot = (self.path / "claim").read_text().split()
        except FileNotFoundError:
            return None
        return Claim(int(pid), int(ticks), boot)

    @property
    def status(self) -> StepExit | None:
        """How the program ended; None before that, and also when the wrapper died before it could write it."""
        try:
            text = os.fsdecode((self.path / "status").read_bytes())
        except FileNotFoundError:
            return None
        code, number, started, began, ended, reason, *_ = text.split("\n")
        return StepExit(
            code=None if number != "0" else int(code),
            signal="" if number == "0" else signal_name(int(number)),
            reason=reason,
            started_at=_moment(began) if started == "1" else None,
            ended_at=_moment(ended),
        )

    def forget(self) -> None:
        """Remove the directory and its files."""
        shutil.rmtree(self.path, ignore_errors=True)


def _moment(nanoseconds: str) -> datetime:
    return datetime.fromtimestamp(int(nanoseconds) / 1e9, UTC)
