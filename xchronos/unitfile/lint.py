"""What is legal in a unit file and still probably not what its author meant. Every finding is a warning."""

import re
from collections.abc import Iterator, Sequence

from xchronos.errors import InvalidValue, Problem
from xchronos.unitfile.document import Option, UnitFile
from xchronos.unitfile.execline import ExecLine, parse_exec
from xchronos.unitfile.words import Escapes, split_words

EXEC_KEYS = frozenset(
    {"ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"}
)
"""The keys of `[Service]` that hold command lines."""

_FREE_TEXT = frozenset({"Description", "Documentation", "Payload"})
# Bounded, so that a line of a thousand dates is not searched a thousand times.
_DATE_FORMAT = re.compile(r"\bdate\b[^|;&]{0,100}?\+[^\s|;&]{0,100}?(?<!%)(?:%%)*(%[A-Za-z0-9])")
_PRINTF_FORMAT = re.compile(r"\bprintf\b[^|;&]{0,200}?(?<!%)(?:%%)*(%[sdixuc])")
# docker's long flags as its clients before 1.0 spelt them. `-link` is the dangerous kind: today it means `-l ink`.
_SINGLE_DASH = re.compile(
    r"-(cidfile|dns|entrypoint|expose|hostname|link|lxc-conf|name|net|network|notrunc|privileged|rm|sig-proxy"
    r"|volumes-from)(=.*)?"
)
_DETACH = re.compile(r"--detach(?:=(?:true|t|1))?|-[itqP]*d[ditqP]*", re.IGNORECASE)
_BARE_SHORT_FLAGS = re.compile(r"-[ditqP]+")
_BARE_LONG_FLAGS = frozenset(
    {
        "--detach", "--disable-content-trust", "--help", "--init", "--interactive", "--no-healthcheck",
        "--oom-kill-disable", "--privileged", "--publish-all", "--quiet", "--read-only", "--rm", "--sig-proxy", "--tty",
        "--use-api-socket", "-privileged", "-rm", "-sig-proxy",
    }
)  # fmt: skip


def lint(unit: UnitFile) -> list[Problem]:
    """Warnings about a parsed unit file, in the order of its options."""
    found: list[Problem] = []
    for option in unit.options:
        is_exec = option.section == "Service" and option.name in EXEC_KEYS
        messages = list(_inline_comment(option, is_exec))
        if is_exec:
            messages += _exec(option, _type_of(unit))
        found += (_warning(option, message) for message in messages)
    found += _several_starts(unit)
    return found


def _type_of(unit: UnitFile) -> str:
    option = unit.last("Service", "Type")
    return option.value if option else ""


def _warning(option: Option, message: str) -> Problem:
    return Problem(message, option.file, option.line, option.section, option.name, "warning")


def _inline_comment(option: Option, is_exec: bool) -> Iterator[str]:
    value = option.value
    if "#" not in value and (is_exec or ";" not in value):
        return
    try:
        words = split_words(value, Escapes.KEEP_UNKNOWN)
    except InvalidValue:
        # Quotes mean nothing to most keys, so an open one is no reason not to look.
        words = value.split()
    for word in words[1:]:
        # A command may well take `#1` or end in `;`, and prose may speak of issue #7.
        strict = is_exec or option.name in _FREE_TEXT
        if word == "#" or (not strict and (word[:1] == "#" or word == ";")):
            yield f"{word!r} begins no comment here: all of {value!r} is the value; put the comment on its own line"
            return


def _exec(option: Option, service_type: str) -> Iterator[str]:
    for pattern in (_DATE_FORMAT, _PRINTF_FORMAT):
        match = pattern.search(option.value)
        if match:
            yield f"{match[1]} is expanded as a specifier before the command runs: write %{match[1]} for {match[1]}"
    try:
        lines = parse_exec(option.value).lines
    except InvalidValue:
        # Whoever compiles the unit reports this as the error that it is.
        return
    for line in lines:
        if "$" in line.program:
            yield (
                f"variables are not expanded in the program {line.program!r}: "
                "name the program, or run it with /bin/sh -c"
            )
        if line.program.rpartition("/")[2] == "docker":
            yield from _docker(line, option.name, service_type)


def _docker(line: ExecLine, key: str, service_type: str) -> Iterator[str]:
    flags = _docker_flags(line.words[1:])
    for flag in flags:
        match = _SINGLE_DASH.fullmatch(flag)
        if match:
            yield f"docker does not know {match[0]} (any more): write -{match[0]}"
    if key == "ExecStart" and "run" in line.words[1:2] and service_type in {"", "simple", "exec"}:
        detach = next((flag for flag in flags if _DETACH.fullmatch(flag)), None)
        if detach:
            yield f"docker run {detach} returns at once, and with it the attempt ends: leave {detach} out"


def _docker_flags(words: Sequence[str]) -> list[str]:
    """The flags of a docker command line: those before the image's (or container's) name."""
    flags: list[str] = []
    takes_value = False
    for word in words[1:]:
        if takes_value:
            takes_value = False
        elif word[:1] == "-" and word not in {"-", "--"}:
            flags.append(word)
            attached = word[:2] != "--" and len(word) > 2 and not _SINGLE_DASH.fullmatch(word)
            bare = word in _BARE_LONG_FLAGS or _BARE_SHORT_FLAGS.fullmatch(word)
            takes_value = not (bare or attached or "=" in word)
        else:
            break
    return flags


def _several_starts(unit: UnitFile) -> Iterator[Problem]:
    starts = unit.values("Service", "ExecStart")
    if len(starts) > 1 and not _type_of(unit):
        yield _warning(starts[1], "several ExecStart lines need Type=oneshot; without Type a service has exactly one")
