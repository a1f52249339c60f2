"""Condition*= and Assert*= of [Unit]: what the machine must be like before an attempt begins (systemd.unit(5)).

Only units whose steps run on the host have them: in a container they would speak of the wrong file system.
"""

import glob
import os
import socket
import stat
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from xchronos.agent.attempt.interfaces import AttemptEnd
from xchronos.errors import InvalidValue
from xchronos.model.conditions import HostCondition
from xchronos.model.policies import Outcome
from xchronos.model.unit import Unit
from xchronos.unitfile import HostFacts, UnitName, expand


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
    try:
        value = expand(condition.value, name, facts)
    except InvalidValue:
        return False
    return _TESTS[condition.kind](value, facts) != condition.negated


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


_TESTS: Mapping[str, Callable[[str, HostFacts], bool]] = {
    "PathExists": _mode(lambda _: True),
    "PathExistsGlob": lambda pattern, _: bool(glob.glob(pattern)),  # noqa: PTH207 - an absolute pattern
    "PathIsDirectory": _mode(lambda found: stat.S_ISDIR(found.st_mode)),
    "PathIsSymbolicLink": _mode(lambda found: stat.S_ISLNK(found.st_mode), follow=False),
    "PathIsMountPoint": lambda path, _: os.path.ismount(path),  # Path.is_mount raises for files
    "PathIsReadWrite": lambda path, _: os.path.exists(path) and not os.statvfs(path).f_flag & os.ST_RDONLY,  # noqa: PTH110
    "DirectoryNotEmpty": _not_empty,
    "FileNotEmpty": _mode(lambda found: stat.S_ISREG(found.st_mode) and found.st_size > 0),
    "FileIsExecutable": _mode(lambda found: stat.S_ISREG(found.st_mode) and bool(found.st_mode & 0o111)),
    "Host": _is_host,
}
