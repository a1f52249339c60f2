"""Go templates of `--format`, as far as people use them with `docker inspect`, `docker info` and `docker version`.

Fields (`{{.State.Running}}`), some functions, and the blocks `range`, `if`, `else` and `end`, with `-` to trim blanks.
Everything else is refused when the line is compiled. The rules of rendering are those of Go's text/template on the
engine's JSON: `tests/dockercli/test_templates.py` has lines and what the docker client printed.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from xchronos.errors import InvalidValue

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|[^\s"`]+')
_PATH = re.compile(r"\.|(?:\.[A-Za-z_][A-Za-z0-9_]*)+")
_FUNCTIONS = {"json": 1, "len": 1, "upper": 1, "lower": 1, "join": 2, "index": 0, "print": 0, "println": 0}
"""The functions, and how many arguments each takes. 0: one or more."""
_KNOWN = f"fields, {', '.join(_FUNCTIONS)}, and the blocks range, if, else and end are read here"
_DEEPEST = 16


class Call(NamedTuple):
    """One value: a function and its arguments. A function without a name gives its only argument."""

    function: str
    arguments: tuple[Any, ...]
    """Paths (`Path`), and texts and numbers as they are."""


class Path(NamedTuple):
    """A field of the value at hand, by its keys. Without any it is the value itself."""

    keys: tuple[str, ...]


class Block(NamedTuple):
    """`range` or `if`, with what follows and what is there otherwise."""

    kind: str
    over: Call
    body: tuple[Any, ...]
    otherwise: tuple[Any, ...]


Template = tuple[Any, ...]
"""Text, `Call` and `Block`, in their order."""


def parse_template(text: str) -> Template:
    """Read a template. Raises InvalidValue for what is not read here."""
    nodes, end = _nodes(_pieces(text), 0)
    if end:
        raise InvalidValue(f"{{{{{end}}}}} without a block that it belongs to")
    return nodes


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """(text, action) in their order; one of the two is empty."""
    position, trims = 0, False
    while True:
        begin = text.find("{{", position)
        plain = text[position : begin if begin >= 0 else len(text)]
        plain = plain.lstrip() if trims else plain
        if begin < 0:
            yield plain, ""
            return
        end = text.find("}}", begin)
        if end < 0:
            raise InvalidValue("an action is not closed: expected }}")
        action = text[begin + 2 : end]
        if action.startswith("- "):
            action, plain = action[2:], plain.rstrip()
        trims = action.endswith(" -")
        yield plain, ""
        yield "", action.removesuffix(" -").strip() or " "
        position = end + 2


def _nodes(pieces: Iterator[tuple[str, str]], depth: int) -> tuple[Template, str]:
    """The nodes up to an `else` or `end`, which is returned as well; "" at the end of the text."""
    if depth > _DEEPEST:
        raise InvalidValue(f"blocks within blocks: {_DEEPEST} are the most")
    nodes: list[Any] = []
    for text, action in pieces:
        if text:
            nodes.append(text)
        if not action or action.startswith("/*"):
            continue
        words = _WORD.findall(action)
        if not words or _WORD.sub("", action).strip():
            raise InvalidValue(f"{{{{{action}}}}}: {_KNOWN}")
        if words in (["else"], ["end"]):
            return tuple(nodes), words[0]
        if words[0] in {"range", "if"}:
            body, stop = _nodes(pieces, depth + 1)
            otherwise: Template = ()
            if stop == "else":
                otherwise, stop = _nodes(pieces, depth + 1)
            if stop != "end":
                raise InvalidValue(f"{{{{{action}}}}} is not closed: expected {{{{end}}}}")
            nodes.append(Block(words[0], _call(words[1:], action), body, otherwise))
        else:
            nodes.append(_call(words, action))
    return tuple(nodes), ""


def _call(words: list[str], action: str) -> Call:
    function = words[0] if words and words[0] in _FUNCTIONS else ""
    given = words[1:] if function else words
    wanted = _FUNCTIONS.get(function, 1)
    if not given or (wanted and len(given) != wanted):
        raise InvalidValue(f"{{{{{action}}}}}: {_KNOWN}")
    return Call(function, tuple(_argument(word, action) for word in given))


def _argument(word: str, action: str) -> Any:
    if _PATH.fullmatch(word) is not None:
        return Path(tuple(key for key in word.split(".") if key))
    if word[0] == "`":
        return word[1:-1]
    try:
        if word[0] == '"':
            return json.loads(word)
        return int(word)
    except ValueError:
        raise InvalidValue(f"{{{{{action}}}}}: {_KNOWN}") from None


def render(template: Template, value: Any) -> str:
    """The template filled in with the engine's answer. Raises InvalidValue where the client fails: a missing field."""
    pieces: list[str] = []
    for node in template:
        if isinstance(node, str):
            pieces.append(node)
        elif isinstance(node, Call):
            pieces.append(shown(_value(node, value)))
        else:
            pieces.append(_rendered(node, value))
    return "".join(pieces)


def _rendered(block: Block, value: Any) -> str:
    over = _value(block.over, value)
    if block.kind == "if":
        return render(block.body if over else block.otherwise, value)
    if isinstance(over, dict):
        over = [over[key] for key in sorted(over)]
    if over and not isinstance(over, list):
        raise InvalidValue(f"range can't iterate over {shown(over)}")
    return "".join(render(block.body, item) for item in over) if over else render(block.otherwise, value)


def _value(call: Call, value: Any) -> Any:
    given = [_at(argument, value) if isinstance(argument, Path) else argument for argument in call.arguments]
    match call.function:
        case "json":
            return json.dumps(given[0], separators=(",", ":"), ensure_ascii=False)
        case "len":
            if not isinstance(given[0], str | list | dict):
                raise InvalidValue(f"len of {shown(given[0])}")
            return len(given[0])
        case "index":
            return _indexed(given[0], given[1:])
        case "upper" | "lower" as case:
            return shown(given[0]).upper() if case == "upper" else shown(given[0]).lower()
        case "join":
            if not isinstance(given[0], list):
                raise InvalidValue(f"join of {shown(given[0])}")
            return str(given[1]).join(map(shown, given[0]))
        case "println":
            return " ".join(map(shown, given)) + "\n"
        case "print":
            return _printed(given)
        case _:
            return given[0]


def _printed(given: list[Any]) -> str:
    """Go's Print: a blank between two values of which neither is a text."""
    pieces: list[str] = []
    for number, item in enumerate(given):
        if number and not isinstance(item, str) and not isinstance(given[number - 1], str):
            pieces.append(" ")
        pieces.append(shown(item))
    return "".join(pieces)


def _at(path: Path, value: Any) -> Any:
    for key in path.keys:
        if not isinstance(value, dict) or key not in value:
            raise InvalidValue(f"no field {key!r} in the engine's answer at .{'.'.join(path.keys)}")
        value = value[key]
    return value


def _indexed(value: Any, keys: list[Any]) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(str(key), "")  # the zero value, as for a map of texts
        elif isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            raise InvalidValue(f"index {key!r} is out of range, or of no list")
    return value


def shown(value: Any) -> str:
    """A value as Go prints it."""
    match value:
        case None:
            return "<no value>"
        case bool():
            return str(value).lower()
        case list():
            return f"[{' '.join(map(shown, value))}]"
        case dict():
            return f"map[{' '.join(f'{key}:{shown(value[key])}' for key in sorted(value))}]"
        case _:
            return str(value)
