"""`$NAME`, `${NAME}` and `$$` in the values of `[Container]`.

quadlet copies the values into the ExecStart= line of a podman command, and there systemd expands them. So they are
expanded here as in an Exec line, value by value. At submit some variables may still be unknown: those of a file that
only the machine has. A value that names one is then judged with several stand-ins, and expanded on the machine.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from xchronos.errors import InvalidValue
from xchronos.limits import EXPANDED_CHARACTERS
from xchronos.unitfile.environment import is_valid_variable
from xchronos.unitfile.execline import expand_variables, misread_variable, variable_names

STAND_INS = ("1", "/x", "y1", "10.0.0.1", "64m", "1s")
"""A number, a path, a name, an address, a size and a time: a value that is refused with each of them is doubtful."""

_WITHIN = re.compile(r"(?<!\$)(?:\$\$)*(\$[A-Za-z_][A-Za-z0-9_]*)")

_GIVEN = frozenset(("PATH", "LANG", "INVOCATION_ID", "SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS"))
"""The variables, beside those that begin with XCHRONOS_, that every step gets from the machine."""


class Variables(msgspec.Struct, frozen=True):
    """The variables of `[Service]`, as far as they are known."""

    values: Mapping[str, str] = {}
    final: bool = True
    """Whether every variable is known. It is so on the machine, when a step runs."""
    more: bool = False
    """Whether `[Service]` names a file, or variables of the daemon, that set others than `values`."""

    def is_open(self, name: str) -> bool:
        """Whether the machine may set this variable, of which nothing is known yet."""
        if self.final or name in self.values or not is_valid_variable(name):
            return False
        return self.more or name in _GIVEN or name.startswith("XCHRONOS_")

    def candidates(self, names: frozenset[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
        """(stand-in, variables) to judge with: one without a stand-in, or several if one of `names` is open."""
        unknown = [name for name in names if self.is_open(name)]
        if not unknown:
            yield "", self.values
            return
        for stand_in in STAND_INS:
            yield stand_in, {**self.values, **dict.fromkeys(unknown, stand_in)}


class ExpansionBudget:
    """What one section may still become. Each of its values may be short, and become as much as one may."""

    def __init__(self) -> None:
        self._left = EXPANDED_CHARACTERS

    def take(self, words: Iterable[str]) -> None:
        """Count words that were filled in. Raises InvalidValue when there is no room left."""
        self._left -= sum(map(len, words))
        self.check()

    def check(self) -> None:
        """Raise InvalidValue when there is no room left."""
        if self._left < 0:
            raise InvalidValue(
                f"the section has more than {EXPANDED_CHARACTERS} characters with its variables filled in"
            )


def names_of(words: list[str], *, joined: bool) -> frozenset[str]:
    """The variables that these words name."""
    return frozenset(name for word in words for name in variable_names(_placed(word, joined=joined)))


def expand_line(words: list[str], env: Mapping[str, str]) -> list[str]:
    """Words of the command line: an unquoted `$NAME` may become several, or none."""
    return list(expand_variables(tuple(words), env))


def expand_value(word: str, env: Mapping[str, str], *, joined: bool) -> str:
    """One value. Raises InvalidValue if not exactly one word comes out: podman would misread the words after it."""
    placed = _placed(word, joined=joined)
    expanded = expand_variables((placed,), env)
    if len(expanded) == 1:
        return expanded[0][len(placed) - len(word) :]
    if better := misread_variable(word):
        raise InvalidValue(f"{word} is read as the name of one variable: expected {better}")
    raise InvalidValue(
        f"{word} is {len(expanded)} words, as systemd splits the variable: expected ${{{word[1:]}}}, which is one word"
    )


def literal(word: str, *, joined: bool) -> str:
    """The first `$NAME` that stays as it is, because it stands within a word; "" if there is none."""
    if not joined and variable_names(word) == (word[1:],):
        return ""
    match = _WITHIN.search(word)
    return match[1] if match else ""


def _placed(word: str, *, joined: bool) -> str:
    return f"={word}" if joined else word
