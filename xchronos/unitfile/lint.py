"""Warnings about text that is legal in a unit file but is probably not what its author meant.

Four mistakes are looked for: a comment after a value, a `%` of `date` or `printf` that is read as a specifier, a
variable as the program, and shell syntax where there is no shell (`shell_syntax`). Errors, and warnings about docker
command lines, are reported elsewhere.
"""

import re
from collections.abc import Iterator

from xchronos.errors import InvalidValue, Problem
from xchronos.unitfile.document import Option, UnitFile
from xchronos.unitfile.execline import parse_exec
from xchronos.unitfile.shell_syntax import shell_syntax
from xchronos.unitfile.words import Escapes, split_words

EXEC_KEYS = frozenset(
    {"ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"}
)
"""The keys of `[Service]` that hold command lines."""

_FREE_TEXT = frozenset({"Description", "Documentation", "Payload"})
# The repetitions are bounded. Otherwise a line with a thousand dates would be searched to its end for each of them.
_DATE_FORMAT = re.compile(r"\bdate\b[^|;&]{0,100}?\+[^\s|;&]{0,100}?(?<!%)(?:%%)*(%[A-Za-z0-9])")
_PRINTF_FORMAT = re.compile(r"\bprintf\b[^|;&]{0,200}?(?<!%)(?:%%)*(%[sdixuc])")


def lint(unit: UnitFile, *, comments: bool = True) -> list[Problem]:
    """Warnings about a parsed unit file, in the order of its options. `comments=False` leaves out stray comments."""
    found: list[Problem] = []
    for option in unit.options:
        if comments and (hint := stray_comment(option)):
            found.append(_warning(option, f"{hint}; all of {option.value!r} is the value"))
        commands = option.name in EXEC_KEYS and option.section == "Service"
        if commands and ("%" in option.value or "$" in option.value):
            found += (_warning(option, message) for message in _exec(option))
        if commands or (option.name == "Exec" and option.section == "Container"):
            message = shell_syntax(option.value)
            if message:
                found.append(_warning(option, message))
    return found


def stray_comment(option: Option) -> str:
    """A hint for a value that seems to end in a comment, such as `no # never`. It is empty if the value does not.

    Commands may take `#1` as an argument or end in `;`, and prose may speak of issue #7. In those values only a `#`
    that is a word of its own counts.
    """
    value = option.value
    strict = option.name in _FREE_TEXT or (option.section == "Service" and option.name in EXEC_KEYS)
    if "#" not in value and (strict or ";" not in value):
        return ""
    try:
        words = split_words(value, Escapes.KEEP_UNKNOWN)
    except InvalidValue:
        # Quotes have no meaning in most keys. An open one is no reason not to look for comments.
        words = value.split()
    for word in words[1:]:
        if word == "#" or (not strict and (word[:1] == "#" or word == ";")):
            return f"{word!r} begins no comment here: put the comment on a line of its own"
    return ""


def _warning(option: Option, message: str) -> Problem:
    return Problem(message, option.file, option.line, option.section, option.name, "warning")


def _exec(option: Option) -> Iterator[str]:
    try:
        lines = parse_exec(option.value).lines
    except InvalidValue:
        # The compiler of the unit reports this as an error.
        return
    for pattern in (_DATE_FORMAT, _PRINTF_FORMAT):
        match = pattern.search(option.value)
        if match:
            yield f"{match[1]} is expanded as a specifier before the command runs: write %{match[1]} for {match[1]}"
    for line in lines:
        if "$" in line.program:
            yield (
                f"variables are not expanded in the program {line.program!r}: "
                "name the program, or run it with /bin/sh -c"
            )
