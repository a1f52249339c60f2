"""The launcher: a small process that forks the holder of each host step (`wrapper`): none starts an interpreter.

The daemon starts it (`python -I -S`), and it ends with the daemon. It owns nothing that it could take along: what it
has forked goes on without it, and what it was asked to start and has not claimed is asked of the next one. So it may
die, or be killed, at any point:

- Before the claim is on the disk nothing was started.
- A claim without a holder may be started by the next launcher. It waits until it has the lock, and a holder lets go
  of the lock that it was forked with only after it has written itself down: so there is none on its way
  (`test_a_launcher_that_dies_at_any_point_starts_each_step_once`).
- A holder goes on by itself.

Its standard input is the connection with the daemon. A request is `length (4 bytes), kind (1), slot (4)` and the rest:
`S` starts a step (the length of its record in 2 bytes, the record, and what `_plan` reads), `F` gives a slot back. An
answer is `kind (1), slot (4), number (4)`: `R` it is ready; `B` the step has begun, with its holder's pid; `E` its
holder has ended; `N` nothing was started, with an errno.
"""

import gc
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from xchronos.executors.process.table import StepTable
from xchronos.executors.process.wrapper import BYSTANDERS, StepPlan, carry_out

REQUEST = struct.Struct("<IcI")
RECORD_LENGTH = struct.Struct("<H")
ANSWER = struct.Struct("<cII")

SYNC_PAUSE = 0.02
"""Seconds for which an end waits for a claim to come, before it is forced to the disk alone."""

LOCK_PATIENCE = 0.5
"""Seconds that the launcher of a daemon before this one has to end by itself, before it is killed."""

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_READ = 1 << 20


class Launcher:
    """Starts what the daemon asks for. `directory` has the table, the lock, and the guardian's notice."""

    def __init__(self, directory: str) -> None:
        self._notice = f"{directory}/struck"
        self._lock = _locked(f"{directory}/launcher")
        self._table = StepTable(f"{directory}/table")
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._heard, self._bell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._slots: dict[int, int] = {}
        self._unsynced = 0.0
        self._prctl = _prctl()
        self._prctl(_PR_SET_NAME, b"xchronos-launch")

    def run(self) -> None:
        """Serve until the daemon has gone."""
        signal.set_wakeup_fd(self._bell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _hear)
        gc.collect()
        gc.freeze()  # what is forked must not touch what it never uses
        gc.disable()
        poller = select.poll()
        poller.register(0, select.POLLIN)
        poller.register(self._heard, select.POLLIN)
        waiting = b""
        _tell(ANSWER.pack(b"R", 0, os.getpid()))
        while True:
            left = None if not self._unsynced else max(self._unsynced + SYNC_PAUSE - time.monotonic(), 0) * 1000
            ready = [descriptor for descriptor, _ in poller.poll(left)]
            if self._heard in ready:
                self._collect()
            if 0 in ready:
                data = os.read(0, _READ)
                if not data:
                    break
                waiting = self._serve(waiting + data)
            if self._unsynced and time.monotonic() >= self._unsynced + SYNC_PAUSE:
                self._sync()
        self._sync()

    def _serve(self, data: bytes) -> bytes:
        """Do what whole requests ask for. Returns what is left of the bytes."""
        at, starts = 0, []
        while len(data) - at >= REQUEST.size:
            length, kind, slot = REQUEST.unpack_from(data, at)
            if len(data) - at < length:
                break
            body = data[at + REQUEST.size : at + length]
            at += length
            if kind == b"F":
                self._table.free(slot)
            else:
                (length,) = RECORD_LENGTH.unpack_from(body)
                record, rest = body[RECORD_LENGTH.size :][:length], body[RECORD_LENGTH.size + length :]
                self._table.claim(slot, record)
                starts.append((slot, record, rest))
        if starts:
            self._sync()  # nothing is started that could be started again after a power cut
            _tell(b"".join([self._launch(*start) for start in starts]))
        return data[at:]

    def _launch(self, slot: int, record: bytes, rest: bytes) -> bytes:
        """Fork the holder of a step. Returns the answer."""
        launcher = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._table.free(slot)
            return ANSWER.pack(b"N", slot, error.errno or 0)
        if pid == 0:
            self._hold(slot, record, rest, launcher)
        self._slots[pid] = slot
        return ANSWER.pack(b"B", slot, pid)

    def _hold(self, slot: int, record: bytes, rest: bytes, launcher: int) -> None:
        """The holder's life. Never returns."""
        code = 1
        try:
            os.setsid()
            self._table.hold(slot, os.getpid(), _ticks())
            # From here on the step is this process's, whatever becomes of the launcher.
            os.close(self._lock)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(self._null, 0)  # the daemon has to see when the launcher goes
            self._prctl(_PR_SET_NAME, b"xchronos-holder")
            inherits = self._prctl(_PR_SET_CHILD_SUBREAPER, 1) == 0
            carry_out(_plan(rest), self._table, slot, record, self._notice, inherits=inherits)
            if os.getppid() != launcher:
                self._table.sync()  # nobody else does
            code = 0
        except BaseException:  # noqa: BLE001 - it must not go on as a second launcher
            sys.excepthook(*sys.exc_info())
        os._exit(code)

    def _collect(self) -> None:
        """Collect the holders that have ended, and tell the daemon."""
        with suppress(BlockingIOError):
            os.read(self._heard, 4096)
        told = []
        with suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                told.append(ANSWER.pack(b"E", self._slots.pop(pid), pid))
        if told:
            _tell(b"".join(told))
            self._unsynced = self._unsynced or time.monotonic()

    def _sync(self) -> None:
        self._unsynced = 0.0
        self._table.sync()


def _tell(answers: bytes) -> None:
    """Answer the daemon. A signal may cut a write in two."""
    while answers:
        answers = answers[os.write(0, answers) :]


def _plan(rest: bytes) -> StepPlan:
    """NUL-separated: log, directory, `own` or "", user, group, asked, boot, program, count, arguments, environment."""
    parts = rest.split(b"\0")
    log, directory, own, user, group, asked, boot, program, count = parts[:9]
    last = 9 + int(count)
    env = {}
    for part in parts[last:]:
        name, _, value = part.partition(b"=")
        env[name] = value
    return StepPlan(
        log, directory, bool(own), os.fsdecode(user), os.fsdecode(group), program, parts[9:last], env,
        int(asked), boot.decode(),
    )  # fmt: skip


def _locked(path: str) -> int:
    """Take the lock of a launcher, from one that a former daemon may have left. Returns its descriptor."""
    import fcntl  # noqa: PLC0415 - of no use to what is forked

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                _kill(os.pread(descriptor, 64, 0).decode())
                until += LOCK_PATIENCE
            time.sleep(0.005)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {_ticks()}".encode(), 0)
            return descriptor


def _kill(holder: str) -> None:
    """Kill the launcher whose pid and start time are written in the lock file, if it is still that one."""
    pid, _, ticks = holder.partition(" ")
    with suppress(OSError, ValueError):
        if _ticks(pid) == int(ticks):
            os.kill(int(pid), signal.SIGKILL)


def _ticks(pid: str = "self") -> int:
    """When a process started, in clock ticks since boot."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is more than is needed here
        return int(file.read().rpartition(b")")[2].split()[19])


def _prctl() -> Callable[..., int]:
    """prctl(2), for which the standard library needs ctypes. Without that it fails."""
    try:
        import ctypes  # noqa: PLC0415 - a Python may come without
    except ImportError:
        return lambda *_: -1
    call = ctypes.CDLL(None).prctl
    unsigned, nothing = ctypes.c_ulong, ctypes.c_ulong(0)

    def prctl(option: int, value: int | bytes) -> int:
        argument = ctypes.c_char_p(value) if isinstance(value, bytes) else unsigned(value)
        return int(call(option, argument, nothing, nothing, nothing))

    return prctl


def _hear(_number: int, _frame: object) -> None:
    """A handler that does nothing, so that the wakeup descriptor is written to."""


def main(directory: str) -> None:
    """Serve the daemon at the other end of the standard input."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # files that the daemon has inherited, for example
    os.chdir("/")
    os.umask(0o022)
    for heard in signal.valid_signals() - BYSTANDERS:
        signal.signal(heard, signal.SIG_IGN)  # meant for the daemon, or for a step
    with suppress(BrokenPipeError, ConnectionResetError):
        Launcher(directory).run()
    sys.stderr.flush()
    os._exit(0)
