"""`Environment=`, `EnvironmentFile=` contents, `PassEnvironment=` and `UnsetEnvironment=` (systemd.exec(5)).

An assignment that cannot be used never refuses the unit: systemd drops it and warns. The functions here drop it as
well, and return what was dropped, so that the caller can warn. Only `parse_env_file` may refuse a file.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto

import msgspec

from xchronos.errors import InvalidValue
from xchronos.unitfile.names import UnitName
from xchronos.unitfile.specifiers import HostFacts, expand
from xchronos.unitfile.words import BLANKS, Escapes, is_character, next_word

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Environment(msgspec.Struct, frozen=True):
    """Variables in the order in which they were first set. `dropped` holds the words that are no valid assignment."""

    values: dict[str, str]
    dropped: tuple[str, ...] = ()


def is_valid_variable(name: str) -> bool:
    """Whether systemd accepts the name of an environment variable: letters, digits and `_`, no digit first."""
    return _NAME.fullmatch(name) is not None


def _is_valid_value(value: str) -> bool:
    # An environment cannot hold NUL. What else is valid is what systemd takes for UTF-8.
    return (value.isascii() and "\0" not in value) or all(char != "\0" and is_character(ord(char)) for char in value)


def parse_environment(lines: Iterable[str], name: UnitName | None = None, host: HostFacts | None = None) -> Environment:
    """The variables set by a unit's `Environment=` assignments; `lines` are their values in order.

    A later assignment to a variable wins. An empty line drops all variables set before it. A bad escape or quote drops
    the rest of its line. A bad variable name drops only that assignment. With `name`, specifiers of the unit's name are
    filled in. With `host` as well, those of the machine are too. The module `specifiers` explains the two stages.
    """
    values: dict[str, str] = {}
    dropped: list[str] = []
    for assignment in _words(lines, Escapes.C, dropped, name, host):
        if assignment is None:
            values.clear()
            continue
        variable, equals, value = assignment.partition("=")
        if equals and is_valid_variable(variable) and _is_valid_value(value):
            values[variable] = value
        else:
            dropped.append(assignment)
    return Environment(values, tuple(dropped))


def _words(
    lines: Iterable[str], escapes: Escapes, dropped: list[str], name: UnitName | None, host: HostFacts | None
) -> Iterator[str | None]:
    """Yield the words of all lines, and None for an empty line, which resets.

    From the first word that cannot be read, the rest of its line goes to `dropped`. A word with a specifier that does
    not exist goes there alone.
    """
    for line in lines:
        if not line:
            yield None
            continue
        position = 0
        while True:
            start = position
            try:
                word, position = next_word(line, position, escapes)
            except InvalidValue:
                dropped.append(line[start:])
                break
            if word is None:
                break
            try:
                yield word if name is None else expand(word, name, host)
            except InvalidValue:
                dropped.append(word)


def parse_env_file(text: str | bytes) -> Environment:
    """The variables of an `EnvironmentFile=`'s contents.

    Raises InvalidValue, which refuses the file as a whole, for a NUL byte and for a value that is not UTF-8.
    """
    decoded = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    if "\0" in decoded:
        raise InvalidValue("an environment file cannot hold NUL bytes")
    values: dict[str, str] = {}
    dropped: list[str] = []
    for name, value in _assignments(decoded):
        if not (_is_valid_value(name) and _is_valid_value(value)):
            raise InvalidValue(f"not valid UTF-8 in the assignment of {name!r}")
        if is_valid_variable(name):
            values[name] = value
        else:
            dropped.append(f"{name}={value}")
    return Environment(values, tuple(dropped))


class _State(Enum):
    BEFORE_KEY = auto()
    KEY = auto()
    BEFORE_VALUE = auto()
    VALUE = auto()
    VALUE_ESCAPE = auto()
    SINGLE_QUOTED = auto()
    DOUBLE_QUOTED = auto()
    DOUBLE_QUOTED_ESCAPE = auto()
    COMMENT = auto()
    COMMENT_ESCAPE = auto()


_NO_ASSIGNMENT = frozenset({_State.BEFORE_KEY, _State.KEY, _State.COMMENT, _State.COMMENT_ESCAPE})
_BEFORE_KEY = {"#": _State.COMMENT, ";": _State.COMMENT} | dict.fromkeys(BLANKS, _State.BEFORE_KEY)
_COMMENT = {"\\": _State.COMMENT_ESCAPE, "\n": _State.BEFORE_KEY, "\r": _State.BEFORE_KEY}


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """Read an environment file one character at a time, with the states of systemd's own reader.

    After a closing quote the state is BEFORE_VALUE again: blanks are skipped, and another quote may open. Within an
    unquoted value, quotes are plain characters. The test `test_env_file` pins both.
    """
    state = _State.BEFORE_KEY
    key: list[str] = []
    value: list[str] = []
    kept = 0  # trailing blanks of an unquoted value are removed, but never those before this index
    for char in text:
        match state:
            case _State.BEFORE_KEY:
                state = _BEFORE_KEY.get(char, _State.KEY)
                key, value, kept = [char], [], 0
            case _State.KEY:
                if char in "\n\r":
                    state = _State.BEFORE_KEY
                elif char == "=":
                    state = _State.BEFORE_VALUE
                else:
                    key.append(char)
            case _State.BEFORE_VALUE:
                if char in "\n\r":
                    state = _State.BEFORE_KEY
                    yield _finish(key, value, len(value))
                elif char == "'":
                    state = _State.SINGLE_QUOTED
                elif char == '"':
                    state = _State.DOUBLE_QUOTED
                elif char == "\\":
                    state = _State.VALUE_ESCAPE
                elif char not in BLANKS:
                    state = _State.VALUE
                    kept = len(value)
                    value.append(char)
            case _State.VALUE:
                if char in "\n\r":
                    state = _State.BEFORE_KEY
                    yield _finish(key, value, kept)
                elif char == "\\":
                    state = _State.VALUE_ESCAPE
                else:
                    value.append(char)
            case _State.VALUE_ESCAPE:
                state = _State.VALUE
                if char not in "\n\r":
                    value.append(char)
                kept = len(value)
            case _State.SINGLE_QUOTED:
                if char == "'":
                    state = _State.BEFORE_VALUE
                else:
                    value.append(char)
            case _State.DOUBLE_QUOTED:
                if char == '"':
                    state = _State.BEFORE_VALUE
                elif char == "\\":
                    state = _State.DOUBLE_QUOTED_ESCAPE
                else:
                    value.append(char)
            case _State.DOUBLE_QUOTED_ESCAPE:
                state = _State.DOUBLE_QUOTED
                value += _escaped(char)
            case _State.COMMENT:
                state = _COMMENT.get(char, state)
            case _:  # COMMENT_ESCAPE
                # A backslash joins the comment with the next line. systemd 252 does so here, though not in unit files.
                state = _State.COMMENT
    if state not in _NO_ASSIGNMENT:
        yield _finish(key, value, kept if state is _State.VALUE else len(value))


def _escaped(char: str) -> str:
    """What a backslash and this character stand for in double quotes."""
    if char == "\n":
        return ""
    return char if char in '"\\`$' else f"\\{char}"


def _finish(key: list[str], value: list[str], kept: int) -> tuple[str, str]:
    return "".join(key).rstrip(BLANKS), "".join(value[:kept]) + "".join(value[kept:]).rstrip(BLANKS)


def parse_variable_names(
    lines: Iterable[str], name: UnitName | None = None, host: HostFacts | None = None, *, assignments: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names listed by `PassEnvironment=`, and the words that were dropped; `lines` are the values in order.

    With `assignments`, the values are those of `UnsetEnvironment=`. A word is then `NAME`, or `NAME=value` for "only if
    it has this value". An empty line drops all names before it. An open quote drops the rest of its line. A bad name
    drops only itself. C escapes are decoded for `UnsetEnvironment=` only, as in systemd. Specifiers are filled in as
    `parse_environment` does.
    """
    escapes = Escapes.C if assignments else Escapes.DROP
    names: dict[str, None] = {}
    dropped: list[str] = []
    for word in _words(lines, escapes, dropped, name, host):
        if word is None:
            names.clear()
            continue
        variable, equals, value = word.partition("=")
        if is_valid_variable(variable) and (assignments or not equals) and _is_valid_value(value):
            names[word] = None
        else:
            dropped.append(word)
    return tuple(names), tuple(dropped)


def unset_variables(env: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """`env` without the variables that `UnsetEnvironment=` lists. `NAME=value` removes NAME if it has that value."""
    unset = frozenset(patterns)
    return {name: value for name, value in env.items() if name not in unset and f"{name}={value}" not in unset}
