"""Shell syntax in a command line that no shell reads: there `|` is an argument like any other, and `A=1` a program."""

import posixpath
import re

from xchronos.errors import InvalidValue
from xchronos.unitfile.words import Escapes, next_word

_SHELLS = frozenset(("sh", "ash", "bash", "dash", "fish", "ksh", "mksh", "zsh"))
_REMOTE = frozenset(("ssh",))
"""Programs that give their arguments to a shell somewhere else."""

_RUN_TEXT = re.compile(r"-[A-Za-z]*c")
_PREFIXES = "-@:+!|"
_BUILTINS = {
    "cd": "WorkingDirectory= says where a command starts",
    "export": "Environment= sets variables",
    "source": "EnvironmentFile= reads variables",
    ".": "EnvironmentFile= reads variables",
    "ulimit": "LimitNOFILE= and the like set limits",
    "umask": "a shell has to set it",
    "exec": "every command replaces the process that starts it",
    "eval": "there is nothing that could evaluate it",
    "set": "there is no shell to set it in",
    "if": "conditions are ExecCondition=",
    "for": "there are no loops",
    "while": "there are no loops",
}
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_OPERATOR = re.compile(
    r"""
      \|\|? | &&? | \|&                 # pipes, lists, the background
    | [0-9]?(?:>>?|>\|)(?!=).*          # output to a file
    | [0-9]?>&[0-9-] | &>>?.*           # one output to another
    | <<?<?-? | <[^<>=\s(]+             # input from a file or from text; `<tag>` is neither
    """,
    re.VERBOSE,
)
_JOINED = re.compile(r"[^|&\s](?:&&|\|\|)[^|&\s]")
_FIRST = "|".join(map(re.escape, _BUILTINS))
_MAY_BE = re.compile(rf"[|&<>;`]|\$\(|^[{re.escape(_PREFIXES)}]*(?:[A-Za-z_][A-Za-z0-9_]*=|(?:{_FIRST})(?:\s|$))")
_TOLD = 4
"""The most that is told of one line."""


def shell_syntax(value: str) -> str:
    """What a value of an `Exec*=` key says that only a shell would understand, as a warning. Empty: nothing.

    What is in quotes, or has a backslash, is meant as it stands. Lines that a shell is given (`sh -c`, the prefix `|`)
    are not looked at.
    """
    if not _MAY_BE.search(value):
        return ""
    told: dict[str, None] = {}
    for words in _commands(value):
        told.update(dict.fromkeys(_of_command(words)))
    if not told:
        return ""
    shown = ", ".join(list(told)[:_TOLD])
    return f"no shell reads this line, so {shown}: write it in quotes after /bin/sh -c if a shell shall"


def _commands(value: str) -> list[list[tuple[str, str]]]:
    """The words of each command of a value: as they are, and as they are written. Up to an open quote."""
    found: list[list[tuple[str, str]]] = [[]]
    position = 0
    while True:
        try:
            word, after = next_word(value, position, Escapes.KEEP_UNKNOWN)
        except InvalidValue:
            return found
        if word is None:
            return found
        written = value[position:after].strip()
        position = after
        if written == ";":
            found.append([])
        else:
            found[-1].append((word, written))


def _of_command(words: list[tuple[str, str]]) -> list[str]:
    if not words:
        return []
    first, written = words[0]
    program = first.lstrip(_PREFIXES)
    if "|" in first[: len(first) - len(program)] or _for_a_shell([program, *(word for word, _ in words[1:])]):
        return []
    told: list[str] = []
    if _ASSIGNMENT.match(written.lstrip(_PREFIXES)):
        told.append(f"{program} is the program, and no variable (Environment= sets one)")
    elif program in _BUILTINS:
        told.append(f"{program} is no program ({_BUILTINS[program]})")
    for number, (word, raw) in enumerate(words[1:], 2):
        if '"' in raw or "'" in raw or "\\" in raw:
            continue
        last = number == len(words)
        if _OPERATOR.fullmatch(word) or _JOINED.search(word):
            told.append(f"{word} is an argument")
        elif "$(" in word or "`" in word:
            told.append(f"{word} is not replaced by the output of a command")
        elif word.endswith(";") or (last and word.endswith("&") and "://" not in word):
            told.append(f"{word} is one word, whose last character separates nothing")
    return told


def _for_a_shell(words: list[str]) -> bool:
    """Whether a command gives its words to a shell, here (`sh -c`, `env bash -ec`) or elsewhere."""
    names = [posixpath.basename(word) for word in words]
    if names[0] in _REMOTE:
        return True
    first = next((at for at, name in enumerate(names) if name in _SHELLS), len(names))
    return any(_RUN_TEXT.fullmatch(word) for word in words[first + 1 :])
