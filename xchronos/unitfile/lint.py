"""What is legal in a unit file and still probably not what its author meant. Every finding is a warning.

What an error or the reading of docker command lines says anyway is not repeated here.
"""

import re
from collections.abc import Iterator

from xchronos.errors import InvalidValue, Problem
from xchronos.unitfile.document import Option, UnitFile
from xchronos.unitfile.execline import parse_exec
from xchronos.unitfile.words import Escapes, split_words

EXEC_KEYS = frozenset(
    {"ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"}
)
"""The keys of `[Service]` that hold command lines."""

_FREE_TEXT = frozenset({"Description", "Documentation", "Payload"})
# Bounded, so that a line of a thousand dates is not searched a thousand times.
_DATE_FORMAT = re.compile(r"\bdate\b[^|;&]{0,100}?\+[^\s|;&]{0,100}?(?<!%)(?:%%)*(%[A-Za-z0-9])")
_PRINTF_FORMAT = re.compile(r"\bprintf\b[^|;&]{0,200}?(?<!%)(?:%%)*(%[sdixuc])")


def lint(unit: UnitFile, *, comments: bool = True) -> list[Problem]:
    """Warnings about a parsed unit file, in the order of its options; `comments=False` leaves stray comments out."""
    found: list[Problem] = []
    for option in unit.options:
        if comments and (hint := stray_comment(option)):
            found.append(_warning(option, f"{hint}; all of {option.value!r} is the value"))
        if option.name in EXEC_KEYS and option.section == "Service" and ("%" in option.value or "$" in option.value):
            found += (_warning(option, message) for message in _exec(option))
    return found


def stray_comment(option: Option) -> str:
    """The hint for a value that seems to end in a comment (`no # never`); empty when none is needed.

    A command may well take `#1` or end in `;`, and prose may speak of issue #7: there only a lone `#` counts.
    """
    value = option.value
    strict = option.name in _FREE_TEXT or (option.section == "Service" and option.name in EXEC_KEYS)
    if "#" not in value and (strict or ";" not in value):
        return ""
    try:
        words = split_words(value, Escapes.KEEP_UNKNOWN)
    except InvalidValue:
        # Quotes mean nothing to most keys, so an open one is no reason not to look.
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
        # Whoever compiles the unit reports this as the error that it is.
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
