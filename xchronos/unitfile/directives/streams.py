"""Kinds of input, output and logging."""

from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.forms import names_in, plain_path
from xchronos.unitfile.directives.scalars import parse_integer
from xchronos.unitfile.directives.verdict import OK, DirectiveVerdict, Kind, Scope, shown, warned


def output(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`StandardOutput=` and `StandardError=`: a word, `fd:NAME`, or `file:`, `append:` or `truncate:` and a path."""
    kind, colon, rest = value.partition(":")
    if kind in _FILE_FORMS and colon:
        return shown(f"{key}: {kind}", f"{key}{_FILE_FORMS[kind]}: {plain_path(scope.expand(rest))}")
    if kind == "fd":
        return _descriptor(key, rest, scope)
    syslog = ("SyslogFacility: daemon", "SyslogLevel: info")
    if value in ("syslog", "syslog+console"):
        new = value.replace("syslog", "journal")
        return warned(f"{key}={value} is obsolete: expected {new}", f"{key}: {new}", *syslog)
    if value in _LOGGED:
        return shown(f"{key}: {value}", *syslog)
    if value in ("inherit", "null", "tty", "socket"):
        return shown(f"{key}: {value}")
    raise InvalidValue(
        f"{value!r} is no output: expected inherit, null, tty, journal, kmsg, journal+console, kmsg+console, socket, "
        "fd:NAME, file:PATH, append:PATH or truncate:PATH"
    )


_FILE_FORMS = {"file": "File", "append": "FileToAppend", "truncate": "FileToTruncate"}
_LOGGED = frozenset(("journal", "kmsg", "journal+console", "kmsg+console"))


def input_(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`StandardInput=`: a word, `fd:NAME` or `file:PATH`."""
    kind, colon, rest = value.partition(":")
    if kind == "file" and colon:
        return shown(f"{key}: file", f"{key}File: {plain_path(scope.expand(rest))}")
    if kind == "fd":
        return _descriptor(key, rest, scope)
    if value in ("null", "tty", "tty-force", "tty-fail", "socket", "data"):
        return shown(f"{key}: {value}")
    raise InvalidValue(
        f"{value!r} is no input: expected null, tty, tty-force, tty-fail, socket, data, fd:NAME or file:PATH"
    )


def _descriptor(key: str, name: str, scope: Scope) -> DirectiveVerdict:
    expanded = scope.expand(name)
    if ":" in expanded:
        raise InvalidValue(f"{expanded!r} is no name of a file descriptor: expected one without a colon")
    return shown(f"{key}: fd", f"{key}FileDescriptorName: {expanded or '(null)'}")


def input_data(_key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`StandardInputText=`: text for the standard input. It sets `StandardInput=data`."""
    scope.expand(value)
    return shown("StandardInput: data") if value else OK


def log_level(label: str) -> Kind:
    """A log level of syslog, by name or number. It is shown under `label`, or not at all if that is empty."""

    def judge(_key: str, value: str, _scope: Scope) -> DirectiveVerdict:
        name = value if value in _LEVELS else _LEVELS[parse_integer(value, 0, 7, "a log level such as info, or")]
        return shown(f"{label}: {name}") if label else OK

    return judge


_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_FACILITIES = frozenset(
    names_in(
        "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp "
        "local0 local1 local2 local3 local4 local5 local6 local7"
    )
)


def log_facility(_key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`SyslogFacility=`, by name or number. It is not shown."""
    if value not in _FACILITIES:
        parse_integer(value, 0, 127, "a log facility such as daemon, or")
    return OK
