"""The holder of one host step: the parent of its program. It writes down that it runs, and how it ended.

The launcher forks it, and it goes on whatever becomes of the launcher and the daemon: it is in a session of its own and
hears no signal. It inherits every process that the program leaves behind, so it knows when there is none.
"""

import errno
import os
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from xchronos.executors.process.table import Ended, StepTable, struck

# systemd's exit codes for what goes wrong between fork and execve (`test_what_fails_before_execve_has_systemds_code`).
CHDIR, EXEC, STDOUT, GROUP, USER = 200, 203, 209, 216, 217
BYSTANDERS = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGCONT})
"""The signals that a launcher and a holder do not ignore."""

FORBIDDEN = "FORBIDDEN"
"""The reason of a step that was not started because that is forbidden by now."""

_HEARD = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
# SIGPIPE stays ignored, as systemd does by default (IgnoreSIGPIPE=yes): a program's write then fails instead.
_BACK_TO_DEFAULT = tuple(_HEARD - {signal.SIGPIPE})
_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class SetupError(Exception):
    """The program could not be started; `code` is systemd's exit code for that."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


class StepPlan(NamedTuple):
    """What is started.

    Attributes:
        log: The file that the program's output is appended to.
        directory: Where it starts.
        own: That is the attempt's own directory.
        user, group: Who it runs as, by name or number; "": as the daemon.
        program: A path, or a name that is looked for in PATH.
        argv, env: As execve(2) takes them.
        asked: When the start was permitted, in ns of CLOCK_MONOTONIC. 0: nothing forbids it any more.
        boot: The boot id of that clock.
    """

    log: bytes
    directory: bytes
    own: bool
    user: str
    group: str
    program: bytes
    argv: list[bytes]
    env: dict[bytes, bytes]
    asked: int
    boot: str


def become(user: str, group: str) -> None:
    """Take on the identity of a user (name or number) and group. Raises SetupError 217 or 216."""
    if not user and not group:
        return
    import grp  # noqa: PLC0415 - both only where they are needed
    import pwd  # noqa: PLC0415

    uid, gid, name = -1, -1, ""
    if user:
        try:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
            uid, gid, name = entry.pw_uid, entry.pw_gid, entry.pw_name
        except KeyError:
            if not user.isdecimal():
                raise SetupError(USER, f"there is no user {user!r} on this machine") from None
            uid = gid = int(user)
    if group:
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise SetupError(GROUP, f"there is no group {group!r} on this machine") from None
    try:
        if gid >= 0:
            if os.geteuid() == 0:
                os.setgroups(os.getgrouplist(name, gid) if name else [gid])
            os.setresgid(gid, gid, gid)
    except OSError as error:
        raise SetupError(GROUP, f"cannot become group {group or gid}: {error.strerror}") from None
    try:
        if uid >= 0:
            os.setresuid(uid, uid, uid)
    except OSError as error:
        raise SetupError(USER, f"cannot become user {user}: {error.strerror}") from None


def enter(directory: bytes) -> None:
    """Change to the working directory. Raises SetupError 200."""
    try:
        os.chdir(directory)
    except OSError as error:
        raise SetupError(CHDIR, f"cannot change to the directory {os.fsdecode(directory)}: {error.strerror}") from None


def spawn(plan: StepPlan) -> int:
    """Start the program as it is, in a process group of its own. Returns its pid. Raises SetupError 203."""
    return _first(plan, _spawned)


def _spawned(candidate: bytes, plan: StepPlan) -> int:
    return os.posix_spawn(candidate, plan.argv, plan.env, setpgroup=0, setsigmask=(), setsigdef=_BACK_TO_DEFAULT)


def _executed(candidate: bytes, plan: StepPlan) -> int:
    os.execve(candidate, plan.argv, plan.env)  # noqa: S606 - running what the unit says is the purpose


def _first(plan: StepPlan, start: Callable[[bytes, StepPlan], int]) -> int:
    """Start the first of the paths that the program may be. Raises SetupError 203 when none can be."""
    program = plan.program
    if b"/" in program:
        candidates = [program]
    else:
        path = plan.env.get(b"PATH", _PATH)
        candidates = [(directory or b".") + b"/" + program for directory in path.split(b":")]
    text = f"executable not found: {os.fsdecode(program)}"
    for candidate in candidates:
        try:
            return start(candidate, plan)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                if os.path.exists(candidate):  # noqa: PTH110
                    text = f"the interpreter of {os.fsdecode(candidate)} was not found"
                continue
            text = f"cannot execute {os.fsdecode(candidate)}: {error.strerror}"
    raise SetupError(EXEC, text)


def _fork(plan: StepPlan) -> int:
    """Start the program as another user. Returns its pid. Raises SetupError."""
    receive, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(plan, report)
    os.close(report)
    trouble = os.read(receive, 4096).decode(errors="replace")  # ends when execve closes the other side
    os.close(receive)
    if trouble:
        os.waitpid(pid, 0)
        code, _, text = trouble.partition(" ")
        raise SetupError(int(code), text)
    return pid


def _child(plan: StepPlan, report: int) -> None:
    """The program's side of the fork: never returns."""
    try:
        os.setpgid(0, 0)
        for caught in _BACK_TO_DEFAULT:
            signal.signal(caught, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # The attempt's own directory is below the daemon's state, where no other user may pass. So it was entered
        # before becoming that user (`test_anybody_is_let_into_the_attempts_own_directory_only`).
        become(plan.user, plan.group)
        if not plan.own:
            enter(plan.directory)
        _first(plan, _executed)
    except SetupError as error:
        os.write(report, f"{error.code} {error}".encode(errors="surrogateescape"))
    except BaseException as error:  # noqa: BLE001 - the parent must be told of any error
        os.write(report, f"{EXEC} {type(error).__name__}: {error}".encode(errors="replace"))
    os._exit(EXEC)


def start(plan: StepPlan, notice: str) -> int:
    """Start the program, unless the file `notice` forbids it by now. Returns its pid. Raises SetupError."""
    if plan.asked and struck(notice, plan.boot, plan.asked):
        raise SetupError(-1, FORBIDDEN)
    other = bool(plan.user or plan.group)
    if plan.own or not other:
        enter(plan.directory)
    pid = _fork(plan) if other else spawn(plan)
    os.chdir("/")
    return pid


def open_log(log: bytes) -> None:
    """Let this process, and what it starts, write into the log. Raises SetupError 209."""
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise SetupError(STDOUT, f"cannot write the output to {os.fsdecode(log)}: {error.strerror}") from None
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def carry_out(plan: StepPlan, table: StepTable, slot: int, record: bytes, notice: str, *, inherits: bool) -> None:
    """Start the program, wait for its end, and write both down. `inherits`: its orphans become this one's children."""
    began = time.time_ns()
    try:
        open_log(plan.log)
        pid = start(plan, notice)
    except SetupError as error:
        now = time.time_ns()
        table.end(slot, record, Ended(error.code, 0, False, began, now, True, 0, str(error)))
        return
    table.runs(slot, pid)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            break
    now = time.time_ns()
    code = os.waitstatus_to_exitcode(status)
    number = max(-code, 0)
    alone = inherits and _alone()
    output = os.fstat(1).st_size
    table.end(slot, record, Ended(-1 if number else code, number, True, began, now, alone, output, ""))


def _alone() -> bool:
    """Whether no child is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False
