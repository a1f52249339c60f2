"""Kinds of single values: each judges the value of a key as systemd does.

A kind is a function of (key, value, scope). It returns a `DirectiveVerdict`, or raises InvalidValue for a value that
systemd warns about and ignores. Some functions here return kinds; `table` calls those at import.

The effect of a value is *shown* under a label, as a line `Label: value`. The label is the key unless the kind is told
another one. With an empty label, systemd does not show the value, and there is no line. The test `test_measured`
compares all kinds with what systemd 252 was seen to do.
"""

import re

from xchronos.clock import SECOND
from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.forms import plain_path, systemd_timespan
from xchronos.unitfile.directives.scalars import INFINITY, LIMITS, parse_bool, parse_integer, parse_mode, parse_rlimit
from xchronos.unitfile.directives.signals import parse_signal
from xchronos.unitfile.directives.verdict import OK, DirectiveVerdict, Kind, Scope, ignored, refused, shown, warned
from xchronos.unitfile.timespan import parse_timespan

UINT32 = 2**32 - 1
"""The largest number of the many keys that systemd keeps in 32 bits."""

_NOBODY = (65535, UINT32)
_NSEC_PART = re.compile(r"([0-9]{1,30})(?:\.([0-9]{1,30}))?\s*([A-Za-zµμ]*)\s*")
_IO_CLASSES = {"none": "best-effort", "realtime": "realtime", "best-effort": "best-effort", "idle": "idle"}
_BUS_NAME = re.compile(r"[A-Za-z_-][A-Za-z0-9_-]*(?:\.[A-Za-z_-][A-Za-z0-9_-]*)+")
_SCHEDULERS = ("other", "fifo", "rr", "batch", "", "idle")


def anything(_key: str, _value: str, _scope: Scope) -> DirectiveVerdict:
    """Any value. It is judged elsewhere, or there is nothing to judge."""
    return OK


def boolean(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """A boolean whose effect is `Key: yes`."""
    return shown(f"{key}: yes" if parse_bool(value) else f"{key}: no")


def silent_boolean(_key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """A boolean that systemd does not show."""
    parse_bool(value)
    return OK


def optional_boolean(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """A boolean. The empty value means the default."""
    return boolean(key, value, scope) if value else OK


def silent_optional_boolean(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """A boolean that systemd does not show. The empty value means the default."""
    return silent_boolean(key, value, scope) if value else OK


def dynamic_user(_key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`DynamicUser=`. A bad value refuses the unit. `yes` turns on the protections that it implies."""
    try:
        wanted = parse_bool(value)
    except InvalidValue as problem:
        return refused(str(problem))
    if not wanted:
        return OK
    user = scope.name.prefix
    return shown(
        "PrivateTmp: yes", "ProtectHome: read-only", "ProtectSystem: strict", "RestrictSUIDSGID: yes",
        f"User: {user}", f"Group: {user}", "DynamicUser: yes",
    )  # fmt: skip


def isolate(_key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`OnFailureIsolate=`: `yes` is an old spelling of `OnFailureJobMode=isolate`."""
    return shown("OnFailureJobMode: isolate" if parse_bool(value) else "OnFailureJobMode: replace")


def choice(words: str, *, booleans: bool = False, empty: bool = False, label: str | None = None) -> Kind:
    """One of the given words, shown under `label` (the key if None).

    With `booleans`, a boolean in any spelling is accepted too. With `empty`, the empty value means the default.
    """
    known = frozenset(words.split())
    expected = ", ".join(words.split())

    def judge(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
        name = key if label is None else label
        if value in known:
            return shown(f"{name}: {value}") if name else OK
        if booleans and value:
            try:
                return shown(f"{name}: yes" if parse_bool(value) else f"{name}: no")
            except InvalidValue:
                pass  # The message below names the words as well.
        if empty and not value:
            return OK
        raise InvalidValue(f"{value!r} is none of its values: expected {'yes, no, ' if booleans else ''}{expected}")

    return judge


def kill_mode(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`KillMode=`. `none` is accepted with a warning."""
    verdict = _KILL_MODE(key, value, scope)
    if value == "none":
        message = "KillMode=none is unsafe: processes of the unit stay behind when it stops; use mixed or control-group"
        return warned(message, *verdict.effect)
    return verdict


_KILL_MODE = choice("control-group process mixed none", empty=True)


def service_type(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`Type=`, with the other settings whose defaults it changes."""
    verdict = _TYPE(key, value, scope)
    match value:
        case "oneshot":
            return shown(*verdict.effect, "TimeoutStartSec: infinity")
        case "notify":
            return shown(*verdict.effect, "NotifyAccess: main")
        case "dbus":
            return refused("Type=dbus needs BusName=: no message bus is watched here; expected simple, exec or oneshot")
        case _:
            return verdict


_TYPE = choice("simple exec forking oneshot dbus notify idle")


def time(*names: str, zero_is_infinity: bool = False, empty: bool = False, accuracy: int = SECOND) -> Kind:
    """A time span, shown under each of `names` (the key if there are none), to `accuracy` microseconds.

    With `zero_is_infinity`, 0 means no limit. With `empty`, the empty value means the default.
    """

    def judge(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
        if empty and not value:
            return OK
        micros = parse_timespan(value)
        if micros == 0 and zero_is_infinity:
            micros = None
        text = systemd_timespan(micros, accuracy)
        return shown(*(f"{name}: {text}" for name in names or (key,) if name))

    return judge


def watchdog(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`WatchdogSec=`. A length other than 0 also allows the main process to send notifications."""
    micros = parse_timespan(value)
    return OK if micros == 0 else shown("NotifyAccess: main", f"{key}: {systemd_timespan(micros)}")


def nanoseconds(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """A time span in which a number without a unit is in nanoseconds."""
    if value.strip() == "infinity":
        return OK
    total, position = 0, 0
    while position < len(value) or not value:
        found = _NSEC_PART.match(value, position)
        if not found:
            raise InvalidValue(
                f"{value!r} is not a time span: expected nanoseconds, or a number with a unit such as 50us"
            )
        number, unit = f"{found[1]}.{found[2] or 0}", found[3]
        if unit in ("", "ns", "nsec"):
            total += int(found[1])
        else:
            micros = parse_timespan(f"{number}{unit}")
            total += 0 if micros is None else micros * 1000
        position = found.end()
    if total >= INFINITY:
        raise InvalidValue(f"{value!r} is too long: expected less than 584 years")
    return shown(f"{key}: {total}")


def integer(low: int, high: int, what: str, *, label: str | None = None, empty: bool = False) -> Kind:
    """A whole number from `low` to `high`, shown under `label` (the key if None). `what` names it in errors.

    With `empty`, the empty value means the default.
    """

    def judge(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
        if empty and not value:
            return OK
        number = parse_integer(value, low, high, what)
        name = key if label is None else label
        return shown(f"{name}: {number}") if name else OK

    return judge


def mode(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """A file mode in octal digits."""
    return shown(f"{key}: {parse_mode(value):04o}")


def description(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`Description=`. The default is the unit's name."""
    expanded = scope.expand(value)
    return shown(f"{key}: {expanded}") if expanded not in ("", scope.name.full) else OK


def descriptor_store(_key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`FileDescriptorStoreMax=`. A number other than 0 also allows the main process to send notifications."""
    number = parse_integer(value, 0, UINT32, "a number of descriptors")
    lines = (f"File Descriptor Store Max: {number}", "File Descriptor Store Current: 0")
    return shown("NotifyAccess: main", *lines) if number else OK


def bus_name(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`BusName=`: two or more words, separated by dots."""
    name = scope.expand(value)
    if len(name) > 255 or not _BUS_NAME.fullmatch(name):
        raise InvalidValue(f"{name!r} is no bus name: expected such as org.example.Service")
    return shown("Type: dbus", f"{key}: {name}", "Bus Name Good: no")


def numa_policy(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`NUMAPolicy=`, one of the kernel's policies."""
    verdict = _NUMA(key, value, scope)
    return shown(*verdict.effect, "NUMAMask:") if verdict.effect else verdict


_NUMA = choice("default preferred bind interleave local", empty=True)


def signal(*names: str) -> Kind:
    """A signal by name or number, shown under each of `names` (the key if there are none)."""

    def judge(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
        text = parse_signal(value).name
        return shown(*(f"{name}: {text}" for name in names or (key,) if name))

    return judge


def rlimit(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`LimitX=`: one value, or `soft:hard`."""
    limit = parse_rlimit(key.removeprefix("Limit"), value)
    soft, hard = (INFINITY if bound is None else bound for bound in limit)
    return shown(f"{key}: {hard}", f"{key}Soft: {soft}")


LIMIT_KEYS = tuple(f"Limit{name}" for name in LIMITS)


def user(*, many: bool = False) -> Kind:
    """A user or a group by name or number; with `many` a list of them. A bad one refuses the unit."""

    def judge(key: str, value: str, scope: Scope) -> DirectiveVerdict:
        if not value:
            return OK
        try:
            names = [scope.expand(word) for word in (value.split() if many else [value])]
        except InvalidValue as problem:
            return refused(str(problem))
        for name in names:
            if not _is_user(name):
                return refused(
                    f"{name!r} is no user or group: expected a name, or a number other than 65535 and 4294967295"
                )
        effect = f"{key}: {' '.join(names)}"
        if key == "User" and value == "nobody":
            return warned("User=nobody is not safe: other services run as nobody, too; use a user of its own", effect)
        return shown(effect)

    return judge


def _is_user(name: str) -> bool:
    digits = name.removeprefix("-")
    if digits.isascii() and digits.isdigit():
        plain = digits == name and (digits == "0" or digits[0] != "0")
        return plain and len(digits) <= 10 and int(digits) <= UINT32 and int(digits) not in _NOBODY
    return name not in ("", ".", "..") and not any(char in ":/\x7f" or char < " " for char in name)


def working_directory(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`WorkingDirectory=`: a path or `~`, with an optional `-` before it.

    A bad path refuses the unit, and after a `-` it is only ignored.
    """
    optional = value.startswith("-")
    text = value[optional:]
    if not value:
        return OK
    if text == "~":
        return OK  # The user's home directory is known on the machine only.
    try:
        return shown(f"{key}: {plain_path(scope.expand(text))}")
    except InvalidValue as problem:
        return ignored(str(problem)) if optional else refused(str(problem))


def path(*more: str, label: str | None = None, fatal: bool = False) -> Kind:
    """One absolute path, shown under `label` (the key if None) after the lines `more`.

    With `fatal`, a bad path refuses the unit.
    """

    def judge(key: str, value: str, scope: Scope) -> DirectiveVerdict:
        try:
            text = scope.expand(value)
            if not text:
                return OK
            text = plain_path(text)
        except InvalidValue as problem:
            return refused(str(problem)) if fatal else ignored(str(problem))
        name = key if label is None else label
        return shown(*more, *((f"{name}: {text}",) if name else ()))

    return judge


def root_directory(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`RootDirectory=`: an absolute path. `/` changes nothing."""
    verdict = _ROOT(key, value, scope)
    lines = verdict.effect
    return verdict if not lines else OK if lines[0].endswith(": /") else shown(*lines, "MountAPIVFS: yes")


_ROOT = path(fatal=True)


def pid_file(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`PIDFile=`: a path. A relative one is below /run."""
    if not value:
        return OK
    text = scope.expand(value)
    try:
        return shown(f"{key}: {plain_path(text if text.startswith('/') else f'/run/{text}')}")
    except InvalidValue as problem:
        return refused(str(problem))


def text(*, label: str | None = None, fatal: bool = False, pattern: str = "") -> Kind:
    """Any text with its specifiers expanded, shown under `label` (the key if None).

    `pattern` is a regular expression that the whole expanded text has to match; empty allows any text. With `fatal`, an
    unknown specifier refuses the unit.
    """
    shape = re.compile(pattern, re.DOTALL)

    def judge(key: str, value: str, scope: Scope) -> DirectiveVerdict:
        try:
            expanded = scope.expand(value)
        except InvalidValue as problem:
            return refused(str(problem)) if fatal else ignored(str(problem))
        if value and pattern and not shape.fullmatch(expanded):
            raise InvalidValue(f"{expanded!r} does not fit: expected text of the form {pattern}")
        name = key if label is None else label
        return shown(f"{name}: {expanded}") if name and expanded else OK

    return judge


def io_class(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`IOSchedulingClass=`, by name or number."""
    if not value:
        return OK
    name = _IO_CLASSES.get(value)
    if name is None:
        number = parse_integer(value, 0, 7, "an I/O class: none, realtime, best-effort, idle, or")
        name = list(_IO_CLASSES.values())[number] if number < len(_IO_CLASSES) else str(number)
    return shown(f"{key}: {name}", "IOPriority: 4")


def io_priority(_key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`IOSchedulingPriority=`: 0 to 7. It sets the class best-effort."""
    if not value:
        return OK
    return shown("IOSchedulingClass: best-effort", f"IOPriority: {parse_integer(value, 0, 7, 'an I/O priority')}")


def cpu_scheduling(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`CPUSchedulingPolicy=`, by name or number. It sets the lowest priority of the policy."""
    if not value:
        return OK
    if value in _SCHEDULERS:
        number = _SCHEDULERS.index(value)
    else:
        number = parse_integer(value, 0, 2**31 - 1, "a scheduling policy: other, batch, idle, fifo, rr, or")
    name = _SCHEDULERS[number] if number < len(_SCHEDULERS) and _SCHEDULERS[number] else str(number)
    priority = {"fifo": 1, "rr": 1}.get(name, 0 if number <= 7 else -1)
    return shown(f"{key}: {name}", f"CPUSchedulingPriority: {priority}", "CPUSchedulingResetOnFork: no")


def cpu_priority(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`CPUSchedulingPriority=`: 0 to 99."""
    number = parse_integer(value, 0, 99, "a scheduling priority")
    return shown("CPUSchedulingPolicy: other", f"{key}: {number}", "CPUSchedulingResetOnFork: no")
