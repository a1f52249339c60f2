"""The parent of one host process: it claims the start, starts the program, and writes down how the program ended.

It is run as a script (`python -I -S wrapper.py <directory>`) in a session of its own, so that it and the program
outlive the daemon. It imports only built-in modules, so it starts in about 10 ms and stays small.

In `<directory>` it reads

- `plan`: the step, NUL-separated: program, user, group, working directory, `own` if that is the attempt's own, number
  of arguments, arguments, environment assignments;

and writes two files, each whole and durable before it goes on:

- `claim`: `<pid> <start ticks> <boot id>`. It is made by link(2), which only one wrapper can win. A wrapper that finds
  a claim knows that another one has started the program or is about to, and ends
  (`test_of_two_wrappers_one_starts_the_program`).
- `status`: exit code, signal number, whether the program was started, start and end in ns since the epoch, a text.
"""

import errno
import os
import signal
import sys
import time

# systemd's exit codes for what goes wrong between fork and execve (`test_what_fails_before_execve_has_systemds_code`).
CHDIR, EXEC, GROUP, USER = 200, 203, 216, 217
_BYSTANDERS = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGCONT})


class SetupError(Exception):
    """The program could not be started; `code` is systemd's exit code for that."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


def read(path: str) -> bytes:
    """A file's bytes."""
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib would triple the start-up time
        return file.read()


def publish(directory: str, name: str, text: str, *, exclusive: bool = False) -> bool:
    """Write a whole file durably. With `exclusive`, returns False and writes nothing when the file exists already.

    This is what `durable.write_whole` does; a script that has to start in 10 ms cannot import that.
    """
    temporary = os.path.join(directory, f".{name}.{os.getpid()}")  # noqa: PTH118
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    won = True
    if exclusive:
        try:
            os.link(temporary, os.path.join(directory, name))  # noqa: PTH118
        except FileExistsError:
            won = False
        os.unlink(temporary)  # noqa: PTH108
    else:
        os.replace(temporary, os.path.join(directory, name))  # noqa: PTH105, PTH118
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(handle)
    os.close(handle)
    return won


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


def enter(directory: str) -> None:
    """Change to the working directory. Raises SetupError 200."""
    try:
        os.chdir(directory)
    except OSError as error:
        raise SetupError(CHDIR, f"cannot change to the directory {directory}: {error.strerror}") from None


def execute(program: str, argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """Replace this process by the program; only returns by raising SetupError 203."""
    if "/" in program:
        candidates = [program]
    else:
        path = os.fsdecode(env.get(b"PATH", b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
        candidates = [f"{directory or '.'}/{program}" for directory in path.split(":")]
    text = f"executable not found: {program}"
    for candidate in candidates:
        try:
            os.execve(candidate, argv, env)  # noqa: S606 - running what the unit says is the purpose
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                if os.path.exists(candidate):  # noqa: PTH110
                    text = f"the interpreter of {candidate} was not found"
                continue
            text = f"cannot execute {candidate}: {error.strerror}"
    raise SetupError(EXEC, text)


def child(plan: list[bytes], report: int) -> None:
    """The program's side of the fork: never returns."""
    try:
        os.setpgid(0, 0)
        for caught in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            # SIGPIPE is ignored, as systemd does by default (IgnoreSIGPIPE=yes): a program's write then fails instead.
            signal.signal(caught, signal.SIG_IGN if caught == signal.SIGPIPE else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        program, user, group, directory, own = (os.fsdecode(part) for part in plan[:5])
        count = int(plan[5])
        arguments = plan[6 : 6 + count]
        env = dict(part.split(b"=", 1) for part in plan[6 + count :])
        os.umask(0o022)
        if own:
            # The attempt's own directory is below the daemon's state, where no other user may pass. So enter it before
            # becoming that user (`test_anybody_is_let_into_the_attempts_own_directory_only`).
            enter(directory)
        become(user, group)
        if not own:
            enter(directory)
        execute(program, arguments, env)
    except SetupError as error:
        os.write(report, f"{error.code} {error}".encode(errors="surrogateescape"))
    except BaseException as error:  # noqa: BLE001 - the parent must be told of any error
        os.write(report, f"{EXEC} {type(error).__name__}: {error}".encode(errors="replace"))
    os._exit(EXEC)


def main(directory: str) -> int:
    """Claim the start, start the program, wait for its end, write the status."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # files that the daemon has inherited, for example
    for heard in signal.valid_signals() - _BYSTANDERS:
        signal.signal(heard, signal.SIG_IGN)  # signals to the program's session must not end the wrapper
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        ticks = file.read().rpartition(")")[2].split()[19]
    boot = read("/proc/sys/kernel/random/boot_id").decode().strip()
    if not publish(directory, "claim", f"{os.getpid()} {ticks} {boot}", exclusive=True):
        return 0
    plan = read(os.path.join(directory, "plan")).split(b"\0")  # noqa: PTH118
    receive, report = os.pipe()
    started = time.time_ns()
    pid = os.fork()
    if pid == 0:
        child(plan, report)
    os.close(report)
    trouble = os.read(receive, 4096).decode(errors="replace")  # ends when execve closes the other side
    os.close(receive)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            break
    code, text, number = os.waitstatus_to_exitcode(status), "", 0
    if code < 0:
        code, number = -1, -code
    if trouble:
        word, _, text = trouble.partition(" ")
        code, number = int(word), 0
    publish(directory, "status", f"{code}\n{number}\n{0 if trouble else 1}\n{started}\n{time.time_ns()}\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
