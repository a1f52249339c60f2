"""The judgement of a unit file's sections and assignments, one by one.

Each is checked: is it known, would systemd accept its value, and does xchronos act on it?
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from xchronos.dockercli.quadlet.container import CONTAINER_KEYS
from xchronos.errors import InvalidValue, Problem, Severity, quoted
from xchronos.limits import PROBLEMS_TOLD
from xchronos.model.compile.chronos import CHRONOS_KEYS
from xchronos.model.compile.container import has_meaning
from xchronos.model.compile.reader import problem_at, unmarked
from xchronos.model.conditions import HOST_CONDITIONS
from xchronos.unitfile import Option, UnitFile, UnitName, did_you_mean, expand, lint, parse_exec, suggest
from xchronos.unitfile.directives import NEWEST, check, is_known, meaning
from xchronos.unitfile.directives.versions import VIA_SHELL, unavailable
from xchronos.unitfile.fleet.requirements import FLEET_KEYS
from xchronos.unitfile.lint import EXEC_KEYS, stray_comment

OWN_SECTIONS = ("X-Fleet", "X-Chronos", "Container")
SYSTEMD_SECTIONS = ("Unit", "Service", "Install")
_SECTIONS = (*OWN_SECTIONS, *SYSTEMD_SECTIONS)

_CONDITIONS = frozenset(f"{prefix}{kind}" for prefix in ("Condition", "Assert") for kind in HOST_CONDITIONS)
_EXPANDED = frozenset(("EnvironmentFile", "User", "Group", "WorkingDirectory")) | _CONDITIONS
"""The keys, besides commands, whose specifiers the machine expands. A specifier that does not exist is an error.

In `Environment=`, as in systemd, a word with such a specifier is dropped with a warning.
"""

_OWN_WORDS = {
    "cron": "TriggerCron",
    "cronschedule": "TriggerCron",
    "crontab": "TriggerCron",
    "schedule": "TriggerCron",
    "trigger": "TriggerCron, TriggerCalendar, TriggerAt, TriggerISO8601 or TriggerRepeatInterval",
    "oncalendar": "TriggerCalendar",
    "calendar": "TriggerCalendar",
    "at": "TriggerAt",
    "iso8601": "TriggerISO8601",
    "interval": "TriggerRepeatInterval",
    "every": "TriggerRepeatInterval",
    "onunitactivesec": "TriggerRepeatInterval",
    "onactivesec": "TriggerStartDelay",
    "onbootsec": "TriggerStartDelay",
    "onstartupsec": "TriggerStartDelay",
    "randomizeddelaysec": "RandomizedDelay",
    "persistent": "MisfirePolicy",
    "tz": "TimeZone",
    "retries": "MaxAttempts",
    "attempts": "MaxAttempts",
    "replicas": "Availability",
}
"""Words of crontabs, timers and other schedulers, in lower case, with the key of [X-Chronos] that they mean."""

_ANY_UNIT = UnitName.parse("v.service")
_REMEMBERED = 200
"""The length, in characters, from which the judgement of a value is not cached, to save memory."""


class Judgement:
    """The problems of all sections and assignments of a file.

    `container` says whether it has a [Container]. `systemd` is the version of systemd by which keys and values of
    systemd are judged.
    """

    def __init__(self, file: UnitFile, name: UnitName, *, container: bool, systemd: int = NEWEST) -> None:
        self.problems: list[Problem] = []
        """The problems that xchronos itself finds."""
        self.verdicts: list[Problem] = []
        """The warnings of systemd. One of them counts if xchronos has no problem with the assignment."""
        self.misplaced: set[tuple[str, int]] = set()
        """The file and line of each key that belongs to another section."""
        self._name = name
        self._container = container
        self._systemd = systemd
        type_option = file.last("Service", "Type")
        self._type = type_option.value if type_option is not None else ""
        for header in file.headers:
            if header.name not in _SECTIONS:
                self.problems.append(_unknown_section(header.name, header.file, header.line))
        for option in file.options:
            if option.section == "X-Chronos":
                self._own(option)
            elif option.section == "X-Fleet":
                self._home(option, FLEET_KEYS)
            elif option.section in SYSTEMD_SECTIONS and not option.name.startswith("X-"):
                self._of_systemd(option)

    def _own(self, option: Option) -> None:
        if option.name not in CHRONOS_KEYS:
            # What is nearly a key of this section is one, even if another section has a key of exactly this name:
            # in [Container], Timezone= would not change when the unit fires.
            own = _OWN_WORDS.get(option.name.casefold())
            hint = f", did you mean {own}?" if own else did_you_mean(option.name, CHRONOS_KEYS, len(self.problems))
            if hint or not self._home(option, CHRONOS_KEYS):
                self.problems.append(problem_at(option, f"unknown key{hint}"))
        elif unmarked(option.value) != option.value:
            message = "the footnote mark (*) is not part of the value: dropped"
            self.problems.append(problem_at(option, message, "warning"))

    def _home(self, option: Option, known: Iterable[str]) -> bool:
        """Whether the key belongs to another section than its own. If so, the problem is reported."""
        if option.name in known:
            return False
        home = _home_of(option.name)
        if home:
            self.misplaced.add((option.file, option.line))
            self.problems.append(
                problem_at(option, f"{option.name} is no key of [{option.section}]: expected it in {home}")
            )
        return bool(home)

    def _of_systemd(self, option: Option) -> None:
        section, key = option.section, option.name
        if not is_known(section, key) and (key in CHRONOS_KEYS or key in FLEET_KEYS):
            self._home(option, ())
            return
        if not is_known(section, key) and len(self.verdicts) >= PROBLEMS_TOLD:
            # Nobody is told of it one by one (see `did_you_mean`).
            self.verdicts.append(problem_at(option, "unknown key", "warning"))
            return
        if (section, key, option.value) == ("Service", "Type", "dbus"):
            return  # it depends on BusName=, which is another assignment; `service` judges it
        if key in _EXPANDED and "%" in option.value:
            try:
                expand(option.value, self._name)
            except InvalidValue as error:
                self.problems.append(problem_at(option, str(error)))
                return
        # Only specifiers depend on the unit's name. Without one, all units share the cached judgement.
        name = self._name if "%" in option.value else _ANY_UNIT
        judge = _verdict if len(option.value) < _REMEMBERED else _verdict.__wrapped__
        severity, message = judge(section, key, option.value, name, self._type, self._container, self._systemd)
        if section == "Service" and key in EXEC_KEYS and self._systemd < VIA_SHELL and "|" in option.value:
            message = self._shell_prefix(option.value)
        if severity == "error":
            self.problems.append(problem_at(option, message))
        elif message:
            self.verdicts.append(problem_at(option, message, "warning"))

    def _shell_prefix(self, value: str) -> str:
        try:
            lines = parse_exec(value).lines
        except InvalidValue:
            return ""  # `commands` says what is wrong with it
        if not any(line.via_shell for line in lines):
            return ""
        return f"the prefix '|' is known from systemd {VIA_SHELL} on: systemd {self._systemd} runs no shell"


def _unknown_section(name: str, file: str, line: int) -> Problem:
    """The problem of an unknown section. It is an error if the name seems to mean a section of xchronos."""
    near = suggest(name, _SECTIONS)
    if near in OWN_SECTIONS or name.startswith("X-"):
        expected = (
            f"did you mean [{near}]?" if near else "the sections of xchronos are [X-Chronos], [X-Fleet], [Container]"
        )
        return Problem(f"unknown section [{name}]: {expected}", file, line)
    hint = f", did you mean [{near}]?" if near else ""
    return Problem(f"unknown section [{name}]: it is not read{hint}", file, line, severity="warning")


def _home_of(key: str) -> str:
    """The sections in which a key is known, as text: `[Unit] or [Service]`. Empty if there are none."""
    homes = {"X-Chronos": key in CHRONOS_KEYS, "X-Fleet": key in FLEET_KEYS, "Container": key in CONTAINER_KEYS}
    homes |= {section: is_known(section, key) for section in SYSTEMD_SECTIONS}
    return " or ".join(f"[{section}]" for section, known in homes.items() if known)


@lru_cache(maxsize=4096)
def _verdict(
    section: str, key: str, value: str, name: UnitName, service_type: str, container: bool, systemd: int
) -> tuple[Severity, str]:
    """The judgement of systemd on an assignment. If systemd accepts it, a warning if the key has no effect here."""
    verdict = check(section, key, value, name=name, service_type=service_type, version=systemd)
    if verdict.outcome == "refused":
        return "error", verdict.message
    if verdict.outcome != "ok":
        if not is_known(section, key) and key in CONTAINER_KEYS:
            return "warning", f"{key} is no key of [{section}]: expected it in [Container]; ignored"
        return "warning", verdict.message + _all_the_same(section, key, container=container, systemd=systemd)
    if not value or (section == "Service" and has_meaning(key, container=container)):
        return "warning", ""
    if section == "Unit" and key in _CONDITIONS:
        message = "is not judged in a unit with a [Container], whose steps do not see the machine's files"
        return "warning", message if container else ""
    match meaning(section, key):
        case "ignored" if section == "Unit" and key.startswith(("Condition", "Assert")):
            return "warning", "has no meaning in xchronos, which does not judge it: the unit runs as if it held"
        case "ignored":
            return "warning", "has no meaning in xchronos: accepted and ignored"
        case "container":
            return "warning", "has no meaning without a [Container]: other steps do without it"
    return "warning", ""


def _all_the_same(section: str, key: str, *, container: bool, systemd: int) -> str:
    """A remark on a value that systemd of this version ignores and another one accepts: whether xchronos acts on it."""
    acted_upon = meaning(section, key) == "used" or (section == "Service" and has_meaning(key, container=container))
    if acted_upon and unavailable(section, key, systemd):
        return "; xchronos acts on it all the same"
    return ""


def settle(file: UnitFile, problems: Sequence[Problem], verdicts: Sequence[Problem]) -> list[Problem]:
    """All problems, each once.

    A warning of systemd is dropped if xchronos has a problem with the same assignment. A comment after a value is
    added, as a hint, to the problem that it causes (`test_a_comment_behind_a_value_is_a_hint_for_what_it_breaks`).
    """
    ours = {(problem.file, problem.line, problem.key) for problem in problems}
    found = [*problems, *(word for word in verdicts if (word.file, word.line, word.key) not in ours)]
    found.extend(lint(file, comments=False))
    # Warnings about commands have other causes than a comment.
    place: dict[tuple[str, int, str], int] = {}
    for position, problem in enumerate(found):
        if problem.severity == "error" or not problem.key.startswith("Exec"):
            place.setdefault((problem.file, problem.line, problem.key), position)
    for option in file.options:
        hint = stray_comment(option) if "#" in option.value or ";" in option.value else ""
        position = place.get((option.file, option.line, option.name), -1)
        if hint and position >= 0:
            found[position] = msgspec.structs.replace(found[position], message=f"{found[position].message}; {hint}")
        elif hint:
            found.append(problem_at(option, f"{hint}; all of {quoted(option.value)} is the value", "warning"))
    return found
