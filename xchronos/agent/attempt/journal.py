"""An attempt's own memory on this machine: what it has done so far, so that a restarted daemon repeats nothing.

Each attempt has a directory. It holds the unit's text as the attempt began with it (`unit.json`), which steps were
begun and how they ended (`journal.json`, while the attempt runs), the steps' output, and while the attempt runs the
scratch directory that its steps share.
"""

import asyncio
import os
import shutil
import threading
from collections.abc import Collection
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import msgspec
import structlog

from xchronos.clock import Clock, Micros, to_datetime, to_instant
from xchronos.durable import Strength, append, write_whole
from xchronos.errors import XchronosError
from xchronos.executors.hostfacts import boot_id
from xchronos.model.lifecycle import ATTEMPT
from xchronos.model.records import StepResult, UnitRecord, fire_key
from xchronos.registry.codec import FORMAT
from xchronos.store.recent import LruCache

log = structlog.get_logger(__name__)

_TEXTS = 4_096
"""Of how many units `AttemptFiles` knows a file with the text."""

JOURNAL_FORMAT = 1
"""The format of `journal.json` that this program writes, and the newest that it reads."""


class NewerJournal(XchronosError):  # noqa: N818
    """A newer agent has begun the attempt, and keeps its journal in a format that is not known here."""


class _AttemptNotes(msgspec.Struct, omit_defaults=True):
    """A line of the journal's file, and what all of its lines together say. A line that is not whole says nothing.

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

    async def record(self, result: StepResult, strength: Strength = "file") -> bool:  # noqa: ARG002 - the protocol's
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
        self._unsaved = b""
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
            for line in self._file.read_bytes().splitlines():
                self._read(line)
        self.scratch.mkdir(exist_ok=True)
        return record

    def _read(self, line: bytes) -> None:
        notes = self._notes
        try:
            _check_format(line or b"{}", JOURNAL_FORMAT, self._file.name)
            more = _DECODER.decode(line or b"{}")
        except msgspec.DecodeError:
            log.warning("a line of a journal is not whole", file=str(self._file))
            return
        if more.boot not in ("", notes.boot):
            notes.boot, notes.clocked = more.boot, {}
        notes.begun |= more.begun
        notes.ended |= more.ended
        notes.clocked |= more.clocked

    def create(self, record: UnitRecord, files: "AttemptFiles | None" = None) -> None:
        """Begin. Keeps the unit's text, so that the attempt ends with the text that it began with."""
        (files or AttemptFiles()).create(self.directory, msgspec.json.encode(record))

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
            began = notes.begun[step] = to_datetime(self._clock.now())
            notes.clocked[step] = monotonic
            # Not forced to the disk: a power cut ends the step, and nobody needs its time limit any more.
            self._save(_AttemptNotes({step: began}, {}, {step: monotonic}, boot), "none")
            return monotonic
        if notes.boot == boot and step in notes.clocked:
            return notes.clocked[step]
        return monotonic - max(self._clock.now() - to_instant(notes.begun[step]), 0)

    def began(self) -> Micros | None:
        """When the first step was begun, on this boot's monotonic clock; None: no step was begun in this boot."""
        return min(self._notes.clocked.values(), default=None) if self._notes.boot == boot_id() else None

    async def record(self, result: StepResult, strength: Strength = "file") -> bool:
        """Remember a step's end, unless the disk is full. See `Memory.record`."""
        self._notes.ended[result.name] = result
        line = _AttemptNotes(ended={result.name: result})
        if strength == "none":
            return self._save(line, strength)
        return await asyncio.get_running_loop().run_in_executor(None, self._save, line, strength)

    def close(self) -> None:
        """The attempt has ended and its record is durable. Its output stays, its scratch directory and journal go."""
        try:
            self.scratch.rmdir()
        except OSError:
            shutil.rmtree(self.scratch, ignore_errors=True)
        self._file.unlink(missing_ok=True)

    def _save(self, notes: _AttemptNotes, strength: Strength) -> bool:
        # The main process and another command may end together, and each end is saved by a thread of its own.
        with self._saving:
            self._unsaved += b"\n" + msgspec.json.encode(notes)
            try:
                append(self._file, self._unsaved, strength)
            except OSError as error:
                log.warning("the journal cannot be written", file=str(self._file), reason=error.strerror)
                return False
            self._unsaved = b""
        return True


def _check_format(text: bytes, known: int, name: str) -> None:
    """Raise NewerJournal for a file whose format is newer than the one that is known. Raises ValueError."""
    found = msgspec.json.decode(text, type=_Format).v
    if found > known:
        raise NewerJournal(f"{name} has the format {found}, and this xchronos reads it up to the format {known}")


class AttemptFiles:
    """The directories of a machine's attempts: made, with the text that each begins with, and removed.

    Attempts that begin with the same text share a file of it, by links. All that is asked here blocks.
    """

    def __init__(self) -> None:
        self._texts: LruCache[str, tuple[bytes, Path]] = LruCache(_TEXTS)
        self._turn = threading.Lock()

    def create(self, directory: Path, text: bytes) -> None:
        """Make an attempt's directory, with the scratch directory in it, and its unit's text, whole. Raises OSError."""
        scratch = directory / "scratch"
        with self._turn:  # who forgets takes a directory without this one for that of an attempt that has ended
            scratch.mkdir(parents=True, exist_ok=True)
        # Steps in containers run as other users than the daemon.
        scratch.chmod(0o1777)
        self._write(directory / "unit.json", text)

    def _write(self, path: Path, text: bytes) -> None:
        unit, digest = path.parent.parent.name, sha256(text).digest()
        with self._turn:
            known = self._texts.get(unit)
        linked = known is not None and known[0] == digest and _linked(known[1], path)
        if not linked:
            write_whole(path, text, "file")
        with self._turn:
            now = self._texts.get(unit)
            # The file of the latest fire time stays for longest.
            if now is None or now[0] != digest or now[1].name < path.name or (now is known and not linked):
                self._texts.put(unit, (digest, path))

    def forget(self, root: Path, unit: str, keep: int) -> None:
        """Remove the files of a unit's oldest attempts, all but `keep`. One with a scratch directory still runs."""
        home = f"{root}/{unit}"
        with self._turn:
            try:
                names = sorted(os.listdir(home))  # noqa: PTH208 - a hundred Paths for a hundred names, each time
            except FileNotFoundError:
                return
            if len(names) > keep:
                ended = [name for name in names if not os.path.exists(f"{home}/{name}/scratch")]  # noqa: PTH110
                for name in ended[: max(len(ended) - keep, 0)]:
                    shutil.rmtree(f"{home}/{name}", ignore_errors=True)
            if keep == 0 and not os.listdir(home):  # noqa: PTH208
                Path(home).rmdir()


def _linked(known: Path, path: Path) -> bool:
    """Give a file one name more. False: it was removed, or has too many."""
    try:
        os.link(known, path)
    except OSError:
        return False
    return True


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


def sweep(root: Path, held: Collection[Path], units: Collection[str] = ()) -> None:
    """Remove the scratch directories of attempts that nobody works on any more. Their output stays.

    `held` are the directories of attempts that somebody works on; those of `units` are all left alone.
    """
    for scratch in root.glob("*/*/scratch"):
        if scratch.parent not in held and scratch.parent.parent.name not in units:
            shutil.rmtree(scratch, ignore_errors=True)
