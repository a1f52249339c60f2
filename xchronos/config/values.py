"""Readers of one setting each. A value is text from the environment or the command line, or what TOML made of it.

Every reader raises InvalidValue, which says what was expected.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from xchronos.clock import Micros
from xchronos.errors import InvalidValue, quoted
from xchronos.model.metadata import check_metadata, check_number
from xchronos.registry.keys import Keys
from xchronos.unitfile.directives.scalars import parse_bool
from xchronos.unitfile.suggest import did_you_mean
from xchronos.unitfile.timespan import parse_timespan
from xchronos.urls import shown

Role: TypeAlias = Literal["scheduler", "agent", "api", "intake"]
"""What a daemon may do: schedule, run what is placed here, answer requests, take in directories of unit files."""

ROLES: tuple[Role, ...] = ("scheduler", "agent", "api", "intake")
"""All of them, which is what a daemon does unless told otherwise."""

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGT])(?:i?B)?|B)?")
_MACHINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def read_text(value: object) -> str:
    """Text, without the blanks around it."""
    if isinstance(value, str):
        return value.strip()
    raise InvalidValue(f"{value!r}: expected text")


def _parts(value: object, separator: str) -> list[str]:
    """The parts of a list, of text with separators, or of a list of such texts (an option that is given repeatedly)."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)):
        raise InvalidValue(f"{value!r}: expected a list, or text separated by {separator!r}")
    return [part for text in texts for part in (piece.strip() for piece in read_text(text).split(separator)) if part]


def read_path(value: object) -> Path:
    """A path, made absolute."""
    if isinstance(value, Path):
        return value.absolute()
    text = read_text(value)
    if not text or "\0" in text:
        raise InvalidValue(f"{text!r}: expected a path")
    return Path(text).absolute()


def read_file(value: object) -> Path | None:
    """The path of a file, made absolute; None for an empty one."""
    return read_path(value) if value != "" else None


def read_paths(value: object) -> tuple[Path, ...]:
    """A list of paths, or paths that are separated as in PATH. Each counts once."""
    if isinstance(value, (list, tuple)):
        return tuple(dict.fromkeys(read_path(item) for item in value))
    return tuple(dict.fromkeys(read_path(part) for part in _parts(value, os.pathsep)))


def read_roots(value: object) -> tuple[Path, ...]:
    """As `read_paths`; `*` stands for every directory, which is `/`."""
    if value == "*" or (isinstance(value, (list, tuple)) and "*" in value):
        return (Path("/"),)
    return read_paths(value)


def read_names(value: object) -> tuple[str, ...]:
    """A list of names, or names that are separated by commas. Each counts once."""
    return tuple(dict.fromkeys(_parts(value, ",")))


def read_roles(value: object) -> tuple[Role, ...]:
    """At least one of ROLES, in the order of ROLES."""
    given = read_names(value)
    for name in given:
        if name not in ROLES:
            raise InvalidValue(f"{name!r} is no role{did_you_mean(name, ROLES)}: expected some of {', '.join(ROLES)}")
    if not given:
        raise InvalidValue(f"no role: expected some of {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in given)


def read_metadata(value: object) -> dict[str, str]:
    """A table, or pairs `key=value` that are separated by commas."""
    if isinstance(value, Mapping):
        pairs = [(key, _scalar(item)) for key, item in value.items()]
    else:
        pairs = []
        for part in _parts(value, ","):
            key, equals, text = part.partition("=")
            if not equals:
                raise InvalidValue(f"{quoted(part)}: expected key=value, like region=us-east-1,diskType=SSD")
            pairs.append((key.strip(), text.strip()))
    check_metadata(pairs)
    made = dict(pairs)
    check_number(made)
    return made


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else read_text(value)


def read_switch(value: object) -> bool:
    """A yes or no, in the words that unit files take."""
    if isinstance(value, bool):
        return value
    return parse_bool(read_text(value))


def _number(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return read_text(value)


def read_whole(value: object) -> int:
    """A whole number, 0 or more."""
    text = _number(value)
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InvalidValue(f"{text!r}: expected a whole number, 0 or more")
    return int(text)


def read_operations(value: object) -> int:
    """How many operations a transaction may have. With fewer than 64, the larger decisions do not fit into one."""
    number = read_whole(value)
    if not 64 <= number <= 100_000:
        raise InvalidValue(f"{number}: expected 64 to 100000")
    return number


def read_cpus(value: object) -> float:
    """A number of CPUs, 0 or more, with up to nine decimal places."""
    text = _number(value)
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise InvalidValue(f"{text!r}: expected a number, 0 or more, like 2 or 0.5")
    return float(text)


def read_size(value: object) -> int:
    """A number of bytes. K, M, G and T count by 1024."""
    text = _number(value)
    match = _SIZE.fullmatch(text)
    if match is None or len(match[1]) > 18:
        raise InvalidValue(f"{text!r}: expected a size in bytes, like 512M or 2G (K, M, G and T count by 1024)")
    factor = 1024 ** " KMGT".index(match[2] or " ")
    # A whole number stays exact, however big it is: it is never a float.
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def read_length(value: object) -> Micros:
    """A length of time, in microseconds. A number alone counts seconds."""
    length = parse_timespan(_number(value))
    if length is None:
        raise InvalidValue("infinity: expected an end")
    return length


def read_positive(value: object) -> Micros:
    """A length of time above 0, in microseconds."""
    length = read_length(value)
    if not length:
        raise InvalidValue(f"{value!r}: expected more than nothing")
    return length


def read_choice(*choices: str) -> Callable[[object], str]:
    """A reader that takes one of these words, in upper or lower case."""

    def read(value: object) -> str:
        text = read_text(value).lower()
        if text not in choices:
            raise InvalidValue(f"{value!r}: expected {' or '.join((', '.join(choices[:-1]), choices[-1]))}")
        return text

    return read


def read_address(value: object) -> str:
    """Where to listen: `host:port` (port 0: any free one), or `unix://` and the path of a socket."""
    text = read_text(value)
    if text.startswith("unix:///"):
        return text
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:\s/]*):([0-9]{1,5})", text)
    if match is None or int(match[2]) > 65_535:
        raise InvalidValue(
            f"{shown(text)!r}: expected host:port, like 127.0.0.1:7480, [::1]:7480 or :7480 (every address), or unix:///a/path"
        )
    return f"{match[1] or '0.0.0.0'}:{int(match[2])}"  # noqa: S104 - only where it was asked for


def _no_server(url: str, rest: str) -> str:
    if rest == "//" or rest.startswith("//") != rest.startswith("///"):
        raise InvalidValue(f"{shown(url)!r}: expected sqlite:/a/file, without a host")
    return url


def _nothing(url: str, rest: str) -> str:
    if rest:
        raise InvalidValue(f"{shown(url)!r}: expected memory: alone")
    return url


def _etcd_members(url: str, rest: str) -> str:
    return _servers(url, rest, 2379)


def _consul_agents(url: str, rest: str) -> str:
    return _servers(url, rest, 8501 if url.startswith("consuls:") else 8500)


def _servers(url: str, rest: str, port: int) -> str:
    """The URL of one or more servers, with the port of each filled in."""
    scheme = url.partition(":")[0]
    form = f"{scheme}://host:{port}, or several hosts separated by ','"
    if "@" in rest:
        raise InvalidValue(f"the store's URL has a user or a password in it, where logs tell it: expected {form}")
    members = [member for member in rest.removeprefix("//").rstrip("/").split(",") if member]
    if not rest.startswith("//") or not members:
        raise InvalidValue(f"{shown(url)!r}: expected {form}")
    return f"{scheme}://{','.join(_member(member, port, form) for member in members)}"


def _member(text: str, usual_port: int, form: str) -> str:
    """One server as `host:port`. The port may be left out of the text."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:\s/]+)(?::([0-9]{1,5}))?", text)
    if match is None or not 0 < int(match[2] or usual_port) <= 65_535:
        raise InvalidValue(f"{text!r}: expected {form}")
    return f"{match[1]}:{int(match[2] or usual_port)}"


STORES: dict[str, Callable[[str, str], str]] = {
    "sqlite": _no_server,
    "memory": _nothing,
    "etcd": _etcd_members,
    "etcds": _etcd_members,
    "consul": _consul_agents,
    "consuls": _consul_agents,
}
"""The kinds of store that a URL may name. Each reader takes the whole URL, and what follows its first colon."""


def read_store(value: object) -> str:
    """The URL of a job store, with everything filled in that was left out."""
    text = read_text(value)
    kind, colon, rest = text.partition(":")
    if not colon or kind not in STORES:
        forms = (
            "sqlite: (in the state directory), sqlite:/a/file, memory:, etcd://host:2379,host:2379 (TLS: etcds://) "
            "or consul://host:8500,host:8500 (TLS: consuls://)"
        )
        raise InvalidValue(f"{shown(text)!r}: expected {forms}")
    return STORES[kind](text, rest)


def read_namespace(value: object) -> str:
    """The name of a tenant; empty: the default one."""
    return Keys(read_text(value)).namespace


def read_machine(value: object) -> str:
    """The id of a machine; empty: the machine's own."""
    text = read_text(value)
    if text and not _MACHINE.fullmatch(text):
        raise InvalidValue(f"{text!r}: expected 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit")
    return text
