"""Signals and exit statuses by name and number, as `KillSignal=` and `SuccessExitStatus=` take them.

The numbers are those of Linux on x86 and ARM. They are written out, and not taken from the machine, because every
machine of a cluster has to read the same text alike.
"""

import re
from typing import NamedTuple

from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.forms import names_in
from xchronos.unitfile.directives.scalars import parse_integer

_NAMES = names_in(
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG "
    "XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
SIGNALS: dict[str, int] = {f"SIG{name}": number for number, name in enumerate(_NAMES, 1)}
_BY_NUMBER = {number: name for name, number in SIGNALS.items()}
_RTMIN, _RTMAX = 34, 64
_REALTIME = re.compile(r"(?:SIG)?RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?")

EXIT_STATUSES: dict[str, int] = {
    "SUCCESS": 0, "FAILURE": 1, "INVALIDARGUMENT": 2, "NOTIMPLEMENTED": 3, "NOPERMISSION": 4, "NOTINSTALLED": 5,
    "NOTCONFIGURED": 6, "NOTRUNNING": 7,
    "USAGE": 64, "DATAERR": 65, "NOINPUT": 66, "NOUSER": 67, "NOHOST": 68, "UNAVAILABLE": 69, "SOFTWARE": 70,
    "OSERR": 71, "OSFILE": 72, "CANTCREAT": 73, "IOERR": 74, "TEMPFAIL": 75, "PROTOCOL": 76, "NOPERM": 77, "CONFIG": 78,
    "CHDIR": 200, "NICE": 201, "FDS": 202, "EXEC": 203, "MEMORY": 204, "LIMITS": 205, "OOM_ADJUST": 206,
    "SIGNAL_MASK": 207, "STDIN": 208, "STDOUT": 209, "CHROOT": 210, "IOPRIO": 211, "TIMERSLACK": 212,
    "SECUREBITS": 213, "SETSCHEDULER": 214, "CPUAFFINITY": 215, "GROUP": 216, "USER": 217, "CAPABILITIES": 218,
    "CGROUP": 219, "SETSID": 220, "CONFIRM": 221, "STDERR": 222, "PAM": 224, "NETWORK": 225, "NAMESPACE": 226,
    "NO_NEW_PRIVILEGES": 227, "SECCOMP": 228, "SELINUX_CONTEXT": 229, "PERSONALITY": 230, "APPARMOR_PROFILE": 231,
    "ADDRESS_FAMILIES": 232, "RUNTIME_DIRECTORY": 233, "CHOWN": 235, "SMACK_PROCESS_LABEL": 236, "KEYRING": 237,
    "STATE_DIRECTORY": 238, "CACHE_DIRECTORY": 239, "LOGS_DIRECTORY": 240, "CONFIGURATION_DIRECTORY": 241,
    "NUMA_POLICY": 242, "CREDENTIALS": 243, "BPF": 245, "EXCEPTION": 255,
}  # fmt: skip


class Signal(NamedTuple):
    """A signal: its full name (`SIGTERM`) and its number."""

    name: str
    number: int


class ExitNumbers(NamedTuple):
    """A set of exit codes and a set of signal numbers."""

    codes: frozenset[int]
    signals: frozenset[int]


def signal_name(number: int) -> str:
    """The name that systemd prints for the number of a signal."""
    if number in _BY_NUMBER:
        return _BY_NUMBER[number]
    return f"SIGRTMIN+{number - _RTMIN}" if number >= _RTMIN else f"SIG{number}"


def parse_signal(text: str) -> Signal:
    """A signal by name with or without SIG, as RTMIN+n or RTMAX-n, or by number from 1 to 64. Names are upper case.

    Raises InvalidValue.
    """
    number = SIGNALS.get(text) or SIGNALS.get(f"SIG{text}") or _real_time(text)
    if number is None:
        try:
            number = parse_integer(text, 1, _RTMAX, "a signal")
        except InvalidValue:
            raise InvalidValue(
                f"{text!r} is not a signal: expected a name such as SIGTERM or a number from 1 to {_RTMAX}"
            ) from None
    return Signal(signal_name(number), number)


def _real_time(text: str) -> int | None:
    found = _REALTIME.fullmatch(text)
    if not found:
        return None
    edge, sign, offset = found.groups()
    number = (_RTMIN if edge == "MIN" else _RTMAX) + int(f"{sign}{offset}" if sign else 0)
    fits = sign in (None, "+" if edge == "MIN" else "-") and _RTMIN <= number <= _RTMAX
    return number if fits else None


def parse_exit_status(text: str) -> int:
    """An exit status: a number from 0 to 255 or a name such as TEMPFAIL. Raises InvalidValue."""
    if text in EXIT_STATUSES:
        return EXIT_STATUSES[text]
    return parse_integer(text, 0, 255, "an exit status or its name, such as TEMPFAIL")


def exit_status_set(words: list[str]) -> tuple[ExitNumbers, list[str]]:
    """The codes and signals among the words of `SuccessExitStatus=`, and the words that are neither."""
    codes: set[int] = set()
    signals: set[int] = set()
    bad: list[str] = []
    for word in words:
        try:
            codes.add(parse_exit_status(word))
        except InvalidValue:
            try:
                signals.add(parse_signal(word).number)
            except InvalidValue:
                bad.append(word)
    return ExitNumbers(frozenset(codes), frozenset(signals)), bad


def parse_exit_statuses(text: str) -> ExitNumbers:
    """The exit codes and signals of a `SuccessExitStatus=` value. Raises InvalidValue for any other word."""
    found, bad = exit_status_set(text.split())
    if bad:
        raise InvalidValue(
            f"{bad[0]!r} is neither an exit status nor a signal: expected 0 to 255, a name such as TEMPFAIL, or SIGTERM"
        )
    return found
