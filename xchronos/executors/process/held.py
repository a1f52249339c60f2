"""What a daemon knows of the host steps in its table: which there are, which have begun, which are over."""

import asyncio
import errno
import heapq
import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from xchronos.executors.contract import FORBIDDEN, StepExit, StepSpec
from xchronos.executors.hostfacts import boot_id, start_ticks
from xchronos.executors.process import wrapper
from xchronos.executors.process.earlier import Home
from xchronos.executors.process.launcher import RECORD_LENGTH
from xchronos.executors.process.table import Ended, SlotEntry, StepRecord, StepTable, packed
from xchronos.executors.signals import signal_name

VANISHED = "the process vanished without an exit status"

Identity = tuple[str, int, str]


class StepEnd(NamedTuple):
    """How a step ended, and how many bytes its log had then; -1 when nobody knows."""

    exit: StepExit
    output: int


class HeldStep:
    """One step.

    Attributes:
        identity: Execution, attempt, step.
        kill_mode: The unit's KillMode=.
        slot: Its place in the table; -1 for one that an earlier version has begun.
        pid: Its holder's pid; 0 before it has one.
        begun: Whether it has one, so that it is not started again.
        answer: What the launcher says to its start; None while it is not asked.
        unsure: The launcher has gone, and only the next one knows that nobody is about to begin the step.
        over: Done when the holder has gone. It is another one from then on, when the holder has not begun.
    """

    def __init__(
        self, identity: Identity, kill_mode: str, table: StepTable, slot: int, home: Home | None = None
    ) -> None:
        self.identity = identity
        self.kill_mode = kill_mode
        self.slot = slot
        self.pid = 0
        self.begun = False
        self.answer: asyncio.Future[None] | None = None
        self.unsure = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._table = table
        self._home = home

    def entry(self) -> SlotEntry | None:
        """What is written down of it. A page that was just written: the kernel has it in memory."""
        if self._home is not None:
            return self._home.read()
        entry = self._table.read(self.slot)
        return entry if entry is not None and entry.record.identity == self.identity else None

    def program(self) -> int:
        """The pid of the program, once it is executed; 0 before that."""
        entry = self.entry()
        return entry.program if entry is not None else 0

    def outcome(self) -> StepEnd:
        """How it ended. To be asked once it is over."""
        entry = self.entry()
        ended = entry.ended if entry is not None else None
        if ended is None:
            return StepEnd(StepExit(lost=True, reason=VANISHED), -1)
        return StepEnd(_exit_of(ended), -1 if self._home is not None else ended.output)

    def may_have_left(self) -> bool:
        """Whether it is over and processes of it may still run."""
        if not self.over.done() or not self.begun:
            return False
        entry = self.entry()
        if entry is None or not entry.pid or (entry.ended is not None and entry.ended.alone):
            return False
        return not _reused(entry)

    @property
    def what(self) -> str:
        """What it is, for people."""
        return f"process {self.pid}" if self.pid else "process that was never started"

    def end(self) -> None:
        """The holder has gone."""
        if not self.over.done():
            self.over.set_result(None)

    def not_begun(self, *, unsure: bool) -> None:
        """Nobody holds it, and it may be asked for again."""
        before = self.over
        self.over = asyncio.get_running_loop().create_future()
        self.begun, self.pid, self.answer, self.unsure = False, 0, None, unsure
        before.set_result(None)

    def forget_home(self) -> None:
        """Remove what an earlier version has written of it."""
        if self._home is not None:
            self._home.forget()


class HeldSteps:
    """All steps of the table in `directory`.

    Attributes:
        known: Whether the table was read.
    """

    def __init__(self, directory: Path) -> None:
        self.known = False
        self._directory = directory
        self._table: StepTable | None = None
        self._attempts: dict[tuple[str, int], dict[str, HeldStep]] = {}
        self._slots: dict[int, HeldStep] = {}
        self._free: list[int] = []
        self._growing = asyncio.Lock()
        self._watched: dict[int, HeldStep] = {}

    async def open(self) -> None:
        """Read what is there. To be called when no former launcher starts anything any more. Raises OSError."""
        self._table, entries, homes, count = await asyncio.to_thread(self._load)
        self._free = list(range(count))
        for slot, entry in entries:
            self._adopt(entry, slot, None)
        taken = set(self._slots)
        self._free = [slot for slot in range(count) if slot not in taken]
        for home, entry in homes:
            self._adopt(entry, -1, home)
        self.known = True

    def _load(self) -> "tuple[StepTable, list[tuple[int, SlotEntry]], list[tuple[Home, SlotEntry]], int]":
        boot, homes = boot_id(), []
        for home in Home.all(self._directory):
            with suppress(ValueError, FileNotFoundError):  # one that nobody can read stands for nothing
                entry = home.read()
                if entry is None and not home.give_up(boot):
                    entry = home.read()
                if entry is not None:
                    homes.append((home, entry))
        table = StepTable(f"{self._directory}/table")
        return table, list(table.entries()), homes, len(table)

    def _adopt(self, entry: SlotEntry, slot: int, home: Home | None) -> None:
        assert self._table is not None
        record = entry.record
        step = HeldStep(record.identity, record.kill_mode, self._table, slot, home)
        self._keep(step)
        step.pid = entry.pid
        here = record.boot == boot_digits()
        # In another boot, a claim alone means that it may have run.
        step.begun = bool(entry.pid) or not here
        if step.begun and not here:
            step.end()
        elif step.begun:
            self._watch(step, entry)

    def _keep(self, step: HeldStep) -> None:
        execution, attempt, name = step.identity
        self._attempts.setdefault((execution, attempt), {})[name] = step
        if step.slot >= 0:
            self._slots[step.slot] = step

    # -- which there are ----------------------------------------------------------------------------------------------

    def of(self, identity: Identity) -> HeldStep | None:
        """A step; None when it is not known."""
        steps = self._attempts.get(identity[:2])
        return steps.get(identity[2]) if steps is not None else None

    def of_attempt(self, execution: str, attempt: int) -> list[HeldStep]:
        """The steps of an attempt."""
        return list(self._attempts.get((execution, attempt), {}).values())

    def all(self) -> Iterable[HeldStep]:
        """Every step."""
        return [step for steps in self._attempts.values() for step in steps.values()]

    async def take(self, spec: StepSpec) -> HeldStep:
        """A slot for a step that has none. Raises OSError when the table cannot grow."""
        assert self._table is not None
        while not self._free:
            async with self._growing:
                if not self._free:
                    count = len(self._table)
                    self._free = list(range(count, await asyncio.to_thread(self._table.grow)))
        step = HeldStep(spec.identity, spec.kill_mode, self._table, heapq.heappop(self._free))
        self._keep(step)
        return step

    def forget(self, step: HeldStep) -> bool:
        """Know it no more. Whether its slot may be used again: not while a holder may still write into it."""
        execution, attempt, name = step.identity
        steps = self._attempts.get((execution, attempt), {})
        if steps.get(name) is not step:
            return False
        del steps[name]
        if not steps:
            del self._attempts[execution, attempt]
        if step.slot < 0 or (step.begun and not step.over.done()):
            return False
        del self._slots[step.slot]
        heapq.heappush(self._free, step.slot)
        return True

    # -- what becomes of them -----------------------------------------------------------------------------------------

    def began(self, slot: int, pid: int) -> None:
        """The launcher has forked the holder of a step."""
        step = self._slots[slot]
        step.begun, step.pid = True, pid

    def ended(self, slot: int) -> None:
        """The holder of a step has gone, says the launcher."""
        step = self._slots.get(slot)
        if step is None or step.over.done():
            return
        entry = step.entry()
        if entry is not None and not entry.pid:
            step.not_begun(unsure=False)  # it was killed before it has done anything
        else:
            step.end()

    def orphaned(self) -> None:
        """The launcher has gone, and tells of no end any more."""
        for step in self._slots.values():
            if step.begun and not step.over.done():
                entry = step.entry()
                if entry is not None and entry.pid:
                    self._watch(step, entry)
                else:
                    step.not_begun(unsure=True)

    def find_again(self, step: HeldStep) -> None:
        """Look whether a launcher that has gone has had a step begun. To be called when another one is ready."""
        entry = step.entry()
        step.unsure = False
        if entry is not None and entry.pid:
            step.begun, step.pid = True, entry.pid
            self._watch(step, entry)

    def _watch(self, step: HeldStep, entry: SlotEntry) -> None:
        """See to it that the step is over when its holder, who is no child of the launcher, has gone."""
        try:
            descriptor = os.pidfd_open(entry.pid)
        except OSError as error:
            # Nothing has the number any more, or only a thread of some other process (EINVAL, since Linux 6.9 ENOENT):
            # either way the holder has gone (`test_a_number_that_is_a_threads_now_means_lost`).
            if error.errno not in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
                raise
            step.end()
            return
        # The pid is checked after its descriptor was opened: the descriptor cannot come to mean another process later.
        if start_ticks(entry.pid) != entry.ticks:
            os.close(descriptor)
            step.end()
            return
        self._watched[descriptor] = step
        asyncio.get_running_loop().add_reader(descriptor, self._gone, descriptor)

    def _gone(self, descriptor: int) -> None:
        step = self._watched.pop(descriptor)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        with suppress(ChildProcessError):
            os.waitpid(step.pid, os.WNOHANG)  # it is our own child where this process adopts all orphans (pid 1)
        step.end()

    def close(self) -> None:
        """Look at nothing any more."""
        for descriptor in self._watched:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        self._watched.clear()
        if self._table is not None:
            self._table.close()
            self.known = False


def boot_digits() -> str:
    """The id of this boot, as a record has it."""
    return boot_id().replace("-", "")


def request_of(spec: StepSpec, asked: int) -> bytes:
    """What the launcher is asked for a step that was permitted at `asked`, in ns of CLOCK_MONOTONIC.

    Raises ValueError when the names are too long for a slot.
    """
    boot = boot_digits()
    record = packed(StepRecord(*spec.identity, spec.kill_mode, spec.on_partition, boot, asked))
    directory = spec.working_directory or spec.directory
    own = "own" if Path(directory).is_relative_to(spec.directory) else ""
    forbidden_since = asked if spec.on_partition == "stop" else 0
    words = (
        spec.log_path, directory, own, spec.user, spec.group, str(forbidden_since), boot, spec.program,
        str(len(spec.argv)), *spec.argv, *(f"{name}={value}" for name, value in spec.env.items()),
    )  # fmt: skip
    return RECORD_LENGTH.pack(len(record)) + record + os.fsencode("\0".join(words))


def _exit_of(ended: Ended) -> StepExit:
    if ended.code == -1 and not ended.signal:
        return StepExit(lost=True, reason=FORBIDDEN if ended.reason == wrapper.FORBIDDEN else ended.reason)
    return StepExit(
        code=None if ended.signal else ended.code,
        signal=signal_name(ended.signal) if ended.signal else "",
        reason=ended.reason,
        started_at=_moment(ended.began) if ended.started else None,
        ended_at=_moment(ended.ended),
    )


def _moment(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def _reused(entry: SlotEntry) -> bool:
    """Whether the holder's pid, and with it the number of its session, may mean another process by now.

    While a member of the old session lives, the kernel gives the session's number to no other process. So a living
    process of that pid that is not the holder proves that the old session is empty. Another boot proves it too.
    """
    ticks = start_ticks(entry.pid)
    return entry.record.boot != boot_digits() or (ticks is not None and ticks != entry.ticks)
