"""An attempt's own memory on this machine: what it has done so far, so that a restarted daemon repeats nothing.

Each attempt has a directory. It holds the unit's text as the attempt began with it (`unit.json`), which steps were
begun and how they ended (`journal.json`), the steps' output, and while the attempt runs the scratch directory that its
steps share.
"""

import asyncio
import shutil
import threading
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from xchronos.clock import Clock, Micros, to_datetime, to_instant
from xchronos.durable import Strength, write_whole
from xchronos.errors import XchronosError
from xchronos.executors.hostfacts import boot_id
from xchronos.model.lifecycle import ATTEMPT
from xchronos.model.records import StepResult, UnitRecord, fire_key
from xchronos.registry.codec import FORMAT

log = structlog.get_logger(__name__)


JOURNAL_FORMAT = 1
"""The format of `journal.json` that this program writes, and the newest that it reads."""


class NewerJournal(XchronosError):  # noqa: N818
    """A newer agent has begun the attempt, and keeps its journal in a format that is not known here."""


class _AttemptNotes(msgspec.Struct):
    """The journal's file.

    Attributes:
        begun: When each step was begun, by the wall clock.
        ended: What each step that has ended came to. Entries that are no steps: `artifact`, `ending`, `severed`.
        clocked: What the monotonic clock read when each step was begun, in the boot `boot`.
        boot: The boot id of the machine.
        v: Its format, see `JOURNAL_FORMAT`.
    """

    begun: dict[str, datetime] = {}
    ended: dict[str, StepResult] = {}
    clocked: dict[str, Micros] = {}
    boot: str = ""
    v: int = JOURNAL_FORMAT


class _Format(msgspec.Struct):
    """What is read of a file before anything else of it is believed."""

    v: int = 1


_PHASE_ORDER = {phase: position for position, phase in enumerate(ATTEMPT)}
_DECODER = msgspec.json.Decoder(_AttemptNotes)


class ForgetfulMemory:
    """The memory of an attempt that cannot be resumed, because its steps run inside this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun: dict[str, Micros] = {}

    def result(self, step: str) -> StepResult | None:  # noqa: ARG002 - the protocol's
        """Nothing is remembered."""
        return None

    def begun(self, step: str) -> bool:
        """Whether the step was begun."""
        return step in self._begun

    def elapsed(self, step: str) -> Micros:
        """How long the step has been running, in microseconds."""
        now = self._clock.monotonic()
        return now - self._begun.setdefault(step, now)

    def began(self) -> Micros | None:
        """When the first step was begun."""
        return min(self._begun.values(), default=None)

    async def record(self, result: StepResult, *, for_good: bool = False) -> bool:  # noqa: ARG002 - the protocol's
        """Nothing is remembered."""
        return False


class AttemptJournal:
    """The memory of an attempt whose steps outlive the daemon, in `directory`.

    What a full disk has no room for is remembered while this daemon lives: a step that has ended well is no failure
    because of a full disk. After a crash the next daemon asks the executor, which knows its steps by itself.
    Pinned by
    `test_a_step_that_ended_well_is_no_failure_because_its_journal_has_no_room`.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.directory = directory
        self._clock = clock
        self._file = directory / "journal.json"
        self._notes = _AttemptNotes()
        self._begun: dict[str, Micros] = {}
        self._saving = threading.Lock()

    @property
    def scratch(self) -> Path:
        """The directory that the attempt's steps share; removed when the attempt has ended."""
        return self.directory / "scratch"

    @property
    def exists(self) -> bool:
        """Whether the attempt was begun on this machine."""
        return (self.directory / "unit.json").exists()

    def open(self) -> UnitRecord:
        """Go on with an attempt that was begun. Returns the unit as it was then.

        What becomes of an attempt whose journal cannot be read is decided by `placement_runner`: `_begun_with` calls a
        damaged journal's attempt lost, and one that is newer `PlacementRunner._leave_alone` leaves to a newer agent.

        Raises:
            OSError: the journal cannot be read.
            ValueError: it is damaged.
            NewerJournal: it has a format that is newer than this program's.
        """
        text = (self.directory / "unit.json").read_bytes()
        _check_format(text, FORMAT, "unit.json")
        record = msgspec.json.decode(text, type=UnitRecord)
        if self._file.exists():
            notes = self._file.read_bytes()
            _check_format(notes, JOURNAL_FORMAT, self._file.name)
            self._notes = _DECODER.decode(notes)
        self.scratch.mkdir(exist_ok=True)
        return record

    def create(self, record: UnitRecord) -> None:
        """Begin. Keeps the unit's text, so that the attempt ends with the text that it began with."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        # Steps in containers run as other users than the daemon.
        self.scratch.chmod(0o1777)
        write_whole(self.directory / "unit.json", msgspec.json.encode(record), "file")

    def result(self, step: str) -> StepResult | None:
        """The recorded result of a step that has ended."""
        return self._notes.ended.get(step)

    def begun(self, step: str) -> bool:
        """Whether the step was begun, by this daemon or an earlier one."""
        return step in self._notes.begun

    def elapsed(self, step: str) -> Micros:
        """How long ago the step was begun, in microseconds. The wall clock counts only across a boot of the machine."""
        known = self._begun.get(step)
        if known is None:
            known = self._begun[step] = self._when(step)
        return self._clock.monotonic() - known

    def _when(self, step: str) -> Micros:
        """When a step was begun, on this boot's monotonic clock. A step that was not begun is begun now."""
        notes, boot, monotonic = self._notes, boot_id(), self._clock.monotonic()
        if step not in notes.begun:
            if notes.boot != boot:
                notes.boot, notes.clocked = boot, {}
            notes.begun[step] = to_datetime(self._clock.now())
            notes.clocked[step] = monotonic
            # Not forced to the disk: a power cut ends the step, and nobody needs its time limit any more.
            self._save("none")
            return monotonic
        if notes.boot == boot and step in notes.clocked:
            return notes.clocked[step]
        return monotonic - max(self._clock.now() - to_instant(notes.begun[step]), 0)

    def began(self) -> Micros | None:
        """When the first step was begun, on this boot's monotonic clock; None: no step was begun in this boot."""
        return min(self._notes.clocked.values(), default=None) if self._notes.boot == boot_id() else None

    async def record(self, result: StepResult, *, for_good: bool = False) -> bool:
        """Remember a step's end: durably, unless the disk is full. See `Memory.record`."""
        self._notes.ended[result.name] = result
        strength: Strength = "directory" if for_good else "file"
        return await asyncio.get_running_loop().run_in_executor(None, self._save, strength)

    def close(self) -> None:
        """The attempt has ended and its record is durable. Its output stays, its scratch directory goes."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _save(self, strength: Strength) -> bool:
        # The main process and another command may end together, and each end is saved by a thread of its own.
        with self._saving:
            try:
                write_whole(self._file, msgspec.json.encode(self._notes), strength)
            except OSError as error:
                log.warning("the journal cannot be written", file=str(self._file), reason=error.strerror)
                return False
        return True


def _check_format(text: bytes, known: int, name: str) -> None:
    """Raise NewerJournal for a file whose format is newer than the one that is known. Raises ValueError."""
    found = msgspec.json.decode(text, type=_Format).v
    if found > known:
        raise NewerJournal(f"{name} has the format {found}, and this xchronos reads it up to the format {known}")


def attempt_directory(root: Path, unit: str, fire_time: datetime, copy: int, attempt: int) -> str:
    """Where an attempt's files are: below its unit's directory, sorted by fire time."""
    # A string: most attempts that run inside this process never look there, and making a Path is dear.
    return f"{root}/{unit}/{fire_key(fire_time)}-{copy}-{attempt}"


def logs_in(directory: str) -> list[tuple[str, Path]]:
    """The steps of an attempt that have output here, with their log files, in the order in which the steps run."""
    where = Path(directory)
    if not where.is_dir():
        return []
    files = []
    for path in where.glob("*.log"):
        phase, _, number = path.stem.rpartition("-")
        if phase in _PHASE_ORDER and number.isdecimal():
            files.append((_PHASE_ORDER[phase], int(number), path))
    return [(path.stem, path) for _, _, path in sorted(files)]


def forget(root: Path, unit: str, keep: int) -> None:
    """Remove the files of a unit's oldest attempts, all but `keep`. An attempt with a scratch directory still runs."""
    home = root / unit
    if not home.is_dir():
        return
    ended = sorted(entry for entry in home.iterdir() if not (entry / "scratch").exists())
    for entry in ended[: max(len(ended) - keep, 0)]:
        shutil.rmtree(entry, ignore_errors=True)
    if keep == 0 and not any(home.iterdir()):
        home.rmdir()


def sweep(root: Path, held: Collection[Path], units: Collection[str] = ()) -> None:
    """Remove the scratch directories of attempts that nobody works on any more. Their output stays.

    `held` are the directories of attempts that somebody works on; those of `units` are all left alone.
    """
    for scratch in root.glob("*/*/scratch"):
        if scratch.parent not in held and scratch.parent.parent.name not in units:
            shutil.rmtree(scratch, ignore_errors=True)
