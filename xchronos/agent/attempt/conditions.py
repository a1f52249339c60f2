"""Condition*= and Assert*= of [Unit]: what the machine must be like before an attempt begins (systemd.unit(5)).

Only units whose steps run on the host have them: in a container they would speak of the wrong file system.
"""

import glob
import operator
import os
import socket
import stat
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.agent.steps.host_facts import total_memory
from xchronos.errors import InvalidValue
from xchronos.model.conditions import HostCondition
from xchronos.model.policies import Outcome
from xchronos.model.unit import Unit
from xchronos.unitfile import Escapes, HostFacts, UnitName, expand, split_words
from xchronos.unitfile.directives import parse_integer, parse_size


def unmet_conditions(unit: Unit, facts: HostFacts) -> AttemptEnd | None:
    """How an attempt ends that must not begin on this machine; None when it may begin.

    A condition that does not hold skips the attempt; an assertion that does not hold fails it.
    """
    if not unit.conditions:
        return None
    name = UnitName.parse(unit.name)
    failed = _unmet([one for one in unit.conditions if not one.asserted], name, facts)
    if failed:
        return AttemptEnd(Outcome.SKIPPED, f"condition not met: {failed}", "condition", ())
    failed = _unmet([one for one in unit.conditions if one.asserted], name, facts)
    if failed:
        return AttemptEnd(Outcome.FAILED, f"assertion failed: {failed}", "assert", ())
    return None


def _unmet(conditions: Iterable[HostCondition], name: UnitName, facts: HostFacts) -> str:
    """The first that keeps the attempt from beginning; "" when none does.

    Every plain condition must hold, and one of those with `|`.
    """
    alternatives: list[str] = []
    alternative_holds = False
    for condition in conditions:
        holds = _holds(condition, name, facts)
        if condition.alternative:
            alternatives.append(condition.text)
            alternative_holds = alternative_holds or holds
        elif not holds:
            return condition.text
    return "" if alternative_holds or not alternatives else "none of " + ", ".join(alternatives)


def _holds(condition: HostCondition, name: UnitName, facts: HostFacts) -> bool:
    """Whether it holds. One that cannot be judged does not, whether it is negated or not: so does systemd."""
    try:
        value = expand(condition.value, name, facts)
        return _TESTS[condition.kind](value, facts) != condition.negated
    except InvalidValue:
        return False


def _mode(test: Callable[[os.stat_result], bool], *, follow: bool = True) -> Callable[[str, HostFacts], bool]:
    def holds(path: str, _: HostFacts) -> bool:
        try:
            return test(os.stat(path, follow_symlinks=follow))  # noqa: PTH116 - Path has no follow_symlinks in 3.11
        except OSError:
            return False

    return holds


def _not_empty(path: str, _: HostFacts) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def _is_host(pattern: str, facts: HostFacts) -> bool:
    return pattern == facts.machine_id or fnmatchcase(socket.gethostname().lower(), pattern.lower())


def _compared(wanted: str, have: int, parse: Callable[[str], int]) -> bool:
    """`>= 4`, `< 2G`: an operator, and a number for it. Without an operator at least so much is wanted."""
    sign = next((found for found in _OPERATORS if wanted.startswith(found)), "")
    return _OPERATORS[sign or ">="](have, parse(wanted.removeprefix(sign).strip()))


_OPERATORS: Mapping[str, Callable[[int, int], bool]] = {
    "<=": operator.le, "<": operator.lt, "!=": operator.ne, "=": operator.eq, ">=": operator.ge, ">": operator.gt,
}  # fmt: skip


def _is_architecture(wanted: str, facts: HostFacts) -> bool:
    return wanted in ("native", facts.architecture)


def _has_cpus(wanted: str, _: HostFacts) -> bool:
    return _compared(wanted, len(os.sched_getaffinity(0)), lambda text: parse_integer(text, 0, 2**32 - 1, "a number"))


def _has_memory(wanted: str, _: HostFacts) -> bool:
    return _compared(wanted, total_memory(), parse_size)


def _is_on_command_line(wanted: str, _: HostFacts) -> bool:
    """`debug` or `debug=1` of the kernel's command line for `debug`; a word with `=` has to be there as it is."""
    words = split_words(_text("/proc/cmdline"), Escapes.DROP_RELAXED)
    return wanted in words or ("=" not in wanted and any(word.startswith(f"{wanted}=") for word in words))


def _is_loaded(module: str, _: HostFacts) -> bool:
    """A module of the kernel that has been initialised, or is built in."""
    if not module or "/" in module or module in (".", ".."):
        raise InvalidValue(f"{module!r} is no module: expected a name such as ext4")
    home = f"/sys/module/{module}"
    return os.path.isdir(home) and _text(f"{home}/initstate").strip() in ("", "live")  # noqa: PTH112


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


_TESTS: Mapping[str, Callable[[str, HostFacts], bool]] = {
    "PathExists": _mode(lambda _: True),
    "PathExistsGlob": lambda pattern, _: bool(glob.glob(pattern)),  # noqa: PTH207 - an absolute pattern
    "PathIsDirectory": _mode(lambda found: stat.S_ISDIR(found.st_mode)),
    "PathIsSymbolicLink": _mode(lambda found: stat.S_ISLNK(found.st_mode), follow=False),
    "PathIsMountPoint": lambda path, _: os.path.ismount(path),  # Path.is_mount raises for files
    "PathIsReadWrite": lambda path, _: os.path.exists(path) and not os.statvfs(path).f_flag & os.ST_RDONLY,  # noqa: PTH110
    "PathIsSocket": _mode(lambda found: stat.S_ISSOCK(found.st_mode)),
    "DirectoryNotEmpty": _not_empty,
    "FileNotEmpty": _mode(lambda found: stat.S_ISREG(found.st_mode) and found.st_size > 0),
    "FileIsExecutable": _mode(lambda found: stat.S_ISREG(found.st_mode) and bool(found.st_mode & 0o111)),
    "Host": _is_host,
    "Architecture": _is_architecture,
    "CPUs": _has_cpus,
    "Memory": _has_memory,
    "KernelCommandLine": _is_on_command_line,
    "KernelModuleLoaded": _is_loaded,
}
