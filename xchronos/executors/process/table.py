"""The table of this machine's host steps: one file with a slot for each, which outlives the daemon and its launcher.

Who writes what, and when (each is one pwrite(2) into a page of the kernel, so a kill -9 of the writer loses nothing):

- The launcher writes the *claim* of a step and forces it to the disk before it forks anything. No claim is written over
  before the daemon has given the slot back. So after a power cut a claim of another boot means: it may have run.
- The *holder*, which is the parent of the program, writes its pid and its start time as the first thing it does. A
  claim without a holder, once the launcher that made it and all that this one has forked have let go of the lock file,
  stands for a step that was not started (see `launcher`).
- The holder writes the pid of the program once that has been executed, and how it ended (`Ended`).

This module imports the standard library only: the launcher and the guardian are programs of their own.
"""

import errno
import os
import struct
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

SLOT = 512
"""The bytes of a slot. Eight are in one page, so that steps that begin or end together cost one write of the disk."""

GROWTH = 64
"""How many slots are added when none is free."""

_PAGE = 4096
_MAGIC = b"XCS2"
# A slot: whether it is claimed and by what, who holds it, the program; then the claim's record, and behind it the end.
_CLAIM = struct.Struct("<4sIH")
_HOLDER = struct.Struct("<QI")
_PROGRAM = struct.Struct("<I")
_CLAIM_AT, _HOLDER_AT, _PROGRAM_AT, _RECORD_AT = 0, 12, 24, 28
_RECORD = struct.Struct("<16sQIBBH")
_END = struct.Struct("<iBBQQQ")
_CHECKED = struct.Struct("<IH")
RECORD_BYTES = SLOT - _RECORD_AT - _CHECKED.size - _END.size - 64
"""The most bytes of a step's record: the longest name of a unit fits, and leaves some words for a reason."""

_KILL_MODES = ("control-group", "mixed", "process", "none")
_ON_PARTITION = ("continue", "stop")
_STRUCK = struct.Struct("<Q16sI")
_TORN_TRIES = 5


class StepRecord(NamedTuple):
    """What a claim says.

    Attributes:
        execution, attempt, step: Whose process it is.
        kill_mode: The unit's KillMode=.
        on_partition: The unit's OnPartition=.
        boot: The boot id of the machine when the start was claimed, as 32 hexadecimal digits.
        asked: When the daemon was last permitted to start it, in ns of CLOCK_MONOTONIC (see `strike`).
    """

    execution: str
    attempt: int
    step: str
    kill_mode: str
    on_partition: str
    boot: str
    asked: int

    @property
    def identity(self) -> tuple[str, int, str]:
        """What tells this step from every other one."""
        return (self.execution, self.attempt, self.step)


class Ended(NamedTuple):
    """How a step ended.

    Attributes:
        code: The exit code; -1 when a signal ended it, or nothing was started.
        signal: The number of the signal that ended it; 0 for none.
        started: Whether the program ran.
        began, ended: In ns since the epoch.
        alone: Whether it has left no process behind: the holder, who inherits all of them, has no child any more.
        output: How many bytes the log had at the end.
        reason: In words, why it could not be started.
    """

    code: int
    signal: int
    started: bool
    began: int
    ended: int
    alone: bool
    output: int
    reason: str


class SlotEntry(NamedTuple):
    """What a slot says. `pid` and `ticks` are the holder's, 0 before there is one; `program` is 0 before it runs."""

    record: StepRecord
    pid: int
    ticks: int
    program: int
    ended: Ended | None


class StepTable:
    """The file. `descriptor` is open for reading and writing, and is inherited by whoever writes into it."""

    def __init__(self, path: str) -> None:
        """Raises OSError when there is none and none can be made."""
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Close the file. Closing again does nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __len__(self) -> int:
        return os.fstat(self.descriptor).st_size // _PAGE * (_PAGE // SLOT)  # a page that was torn is written again

    def grow(self) -> int:
        """Add free slots, durably, so that a claim only writes over what is there. Returns how many there are now.

        Raises OSError when there is no room.
        """
        count, page = len(self), bytes(_PAGE)
        for offset in range(count * SLOT, (count + GROWTH) * SLOT, _PAGE):
            # Each page by itself: the kernel keeps together in memory what was written together, and counts and looks
            # for what is to be written back in such units.
            if os.pwrite(self.descriptor, page, offset) < _PAGE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self.descriptor)
        return count + GROWTH

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, slot: int) -> SlotEntry | None:
        """What a slot says; None when it is free, or its claim was not whole when the power failed."""
        return parse(os.pread(self.descriptor, SLOT, slot * SLOT))

    def entries(self) -> Iterator[tuple[int, SlotEntry]]:
        """Every slot that is not free, with its number."""
        slot, pages = 0, 64 * SLOT
        while data := os.pread(self.descriptor, pages, slot * SLOT):
            for start in range(0, len(data), SLOT):
                entry = parse(data[start : start + SLOT])
                if entry is not None:
                    yield slot, entry
                slot += 1

    # -- writing ------------------------------------------------------------------------------------------------------

    def claim(self, slot: int, record: bytes) -> None:
        """Claim a slot for a step, whatever it has said before. `record` is what `packed` has made."""
        head = _CLAIM.pack(_MAGIC, zlib.crc32(record), len(record)).ljust(_RECORD_AT, b"\0")
        os.pwrite(self.descriptor, (head + record).ljust(SLOT, b"\0"), slot * SLOT)

    def sync(self) -> None:
        """Force to the disk what was written."""
        os.fdatasync(self.descriptor)

    def hold(self, slot: int, pid: int, ticks: int) -> None:
        """Write down who is the parent of the program."""
        os.pwrite(self.descriptor, _HOLDER.pack(ticks, pid), slot * SLOT + _HOLDER_AT)

    def runs(self, slot: int, program: int) -> None:
        """Write down the pid of the program, which has been executed."""
        os.pwrite(self.descriptor, _PROGRAM.pack(program), slot * SLOT + _PROGRAM_AT)

    def end(self, slot: int, record: bytes, ended: Ended) -> None:
        """Write down how the step of a `record` ended. Of a reason what has no room is left out."""
        room = SLOT - _RECORD_AT - len(record) - _CHECKED.size - _END.size
        reason = os.fsencode(ended.reason)
        if len(reason) > room:
            reason = reason[: room - 3] + b"..."
        flags = ended.started | ended.alone << 1
        text = _END.pack(ended.code, ended.signal, flags, ended.began, ended.ended, ended.output) + reason
        data = _CHECKED.pack(zlib.crc32(text), len(text)) + text
        os.pwrite(self.descriptor, data, slot * SLOT + _RECORD_AT + len(record))

    def free(self, slot: int) -> None:
        """Give a slot back. Nobody writes into it any more."""
        os.pwrite(self.descriptor, bytes(_CLAIM.size), slot * SLOT + _CLAIM_AT)


def packed(record: StepRecord) -> bytes:
    """A record as a claim has it. Raises ValueError when it is too long for a slot."""
    execution = record.execution.encode()
    data = _RECORD.pack(
        bytes.fromhex(record.boot), record.asked, record.attempt,
        _KILL_MODES.index(record.kill_mode), _ON_PARTITION.index(record.on_partition), len(execution),
    ) + execution + record.step.encode()  # fmt: skip
    if len(data) > RECORD_BYTES:
        raise ValueError(f"{record.execution[:300]}: its name is too long for a host process")
    return data


def unpacked(data: bytes) -> StepRecord:
    """What `packed` has packed."""
    boot, asked, attempt, kill_mode, on_partition, length = _RECORD.unpack_from(data)
    names = data[_RECORD.size :]
    return StepRecord(
        names[:length].decode(), attempt, names[length:].decode(),
        _KILL_MODES[kill_mode], _ON_PARTITION[on_partition], boot.hex(), asked,
    )  # fmt: skip


def parse(data: bytes) -> SlotEntry | None:
    """What the bytes of a slot say; None for a free one."""
    if len(data) < SLOT:
        return None
    magic, check, length = _CLAIM.unpack_from(data)
    record = data[_RECORD_AT : _RECORD_AT + length]
    if magic != _MAGIC or zlib.crc32(record) != check:
        return None
    ticks, pid = _HOLDER.unpack_from(data, _HOLDER_AT)
    (program,) = _PROGRAM.unpack_from(data, _PROGRAM_AT)
    return SlotEntry(unpacked(record), pid, ticks, program, _ended(data[_RECORD_AT + length :]))


def _ended(data: bytes) -> Ended | None:
    check, length = _CHECKED.unpack_from(data)
    text = data[_CHECKED.size : _CHECKED.size + length]
    if not length or zlib.crc32(text) != check:
        return None
    code, number, flags, began, at, output = _END.unpack_from(text)
    reason = text[_END.size :].decode(errors="replace")  # it may be cut within a letter, and goes into JSON
    return Ended(code, number, bool(flags & 1), began, at, bool(flags & 2), output, reason)


# -- what must not be started any more --------------------------------------------------------------------------------


def strike(path: str, boot: str) -> None:
    """Forbid every start with OnPartition=stop that was permitted in this boot (as in StepRecord) before now.

    The guardian does so, and then looks.

    A holder writes down that it holds its step, and then asks `struck`. So whatever the order in which these four
    happen, one of the two knows of the other: the program is not started, or the guardian finds and ends it.
    """
    body = struct.pack("<Q16s", time.monotonic_ns(), bytes.fromhex(boot))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, body + struct.pack("<I", zlib.crc32(body)), 0)
    finally:
        os.close(descriptor)


def struck(path: str, boot: str, asked: int) -> bool:
    """Whether a start that was permitted at `asked` has been forbidden since."""
    for _ in range(_TORN_TRIES):
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - not a module more than needed
                data = file.read()
        except FileNotFoundError:
            return False
        if len(data) == _STRUCK.size and zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0]:
            moment, life, _ = _STRUCK.unpack(data)
            return bool(life.hex() == boot and moment >= asked)
        time.sleep(0.001)  # it is being written
    return False  # a power cut has torn it, and ended all that it was about
