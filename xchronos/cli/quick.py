"""The quick way to a list: `list-units`, `list-executions` and `list-machines`, for a program, from a daemon at hand.

Scripts ask for lists often, and most of what they waited for was Python's imports: of click, `http.client` and msgspec.
Here a socket and `json` are enough. Whatever this module does not know for certain - another option, a terminal, JSON,
an address elsewhere, an answer that is not of the shape - it leaves to the whole way (`cli/program.py`), before it has
printed anything; the request is then made again. So it never prints an error of its own, and what it prints is what the
whole way would print (tests/cli/test_quick.py compares them).
"""

import json
import os
import re
import socket
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

from xchronos.cli import lists
from xchronos.cli.plain import table_lines, texts
from xchronos.cli.shapes import SHAPES
from xchronos.limits import MOST_LISTED, UNITS_PER_PAGE
from xchronos.wire.address import ADDRESS, ADDRESS_VARIABLE, token_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

LISTS = ("list-executions", "list-machines", "list-units")

COMPLETING = "_XCHRONOSCTL_COMPLETE"
"""The environment variable by which a shell asks for completions."""

SECONDS = 30.0
"""How long the daemon may be silent: what `Client` gives it."""

READ_BYTES = 1 << 16

_LOOPBACK = re.compile(r"(?:http://)?(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|\[::1\]):(\d{1,5})")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")
_SAFE = re.compile(r"[A-Za-z0-9_.~-]+")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class UnknownHereError(Exception):
    """This is for the whole way."""


class _Asked:
    """A command line of a list."""

    terminal = False
    wide = True

    def __init__(self, arguments: "Sequence[str]") -> None:
        self.command, *rest = arguments
        self.api = ""
        self.no_legend = self.everything = self.failed = False
        self.limit = 0
        self.names: list[str] = []
        words = iter(rest)
        for word in words:
            name, equals, value = word.partition("=")
            if word == "--no-legend":
                self.no_legend = True
            elif word == "--no-color":
                pass  # what a program gets has no colours
            elif self.command == "list-executions" and word == "--all":
                self.everything = True
            elif self.command == "list-executions" and word == "--failed":
                self.failed = True
            elif name in ("--api", "--output", "--limit") or word == "-o":
                self._set(name, value if equals else next(words, ""))
            elif word.startswith("-") or not word:
                raise UnknownHereError
            else:
                self.names.append(word)

    def _set(self, option: str, value: str) -> None:
        if option == "--api" and value and not value.startswith("-"):
            self.api = value
        elif option in ("--output", "-o") and value in ("table", "wide"):
            pass  # a program gets everything either way
        elif option == "--limit" and self.command != "list-machines" and _NUMBER.fullmatch(value):
            self.limit = int(value)
        else:
            raise UnknownHereError

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)


def listed(arguments: "Sequence[str]") -> bool:
    """Print the list that a command line asks for, and return True; or print nothing and return False.

    Raises:
        OSError: the list cannot be written.
        SystemExit: the daemon did not answer in time, which has been said, or somebody has interrupted it.
    """
    try:
        try:
            text, note = _found(arguments)
        except (OSError, UnknownHereError, RecursionError, ValueError):
            return False
        sys.stdout.write(text)
        sys.stdout.flush()
        if note and sys.stderr is not None:
            sys.stderr.write(f"{note}\n")
    except KeyboardInterrupt:
        from xchronos.cli.failures import INTERRUPTED

        sys.exit(INTERRUPTED)
    return True


def _found(arguments: "Sequence[str]") -> tuple[str, str]:
    """What goes to standard output, and what to standard error."""
    if (
        arguments[0] not in LISTS
        or COMPLETING in os.environ
        or sys.stdout.isatty()
        or sys.stdout.encoding.lower().replace("-", "") != "utf8"
    ):
        raise UnknownHereError
    asked = _Asked(arguments)
    ask = _Daemon(asked.api or os.environ.get(ADDRESS_VARIABLE) or ADDRESS)
    note = ""
    titles: tuple[str, ...]
    if asked.command == "list-units":
        titles, cells = lists.UNITS, lists.units(asked, _units(asked, ask))
    elif asked.command == "list-executions":
        found = ask("Executions", "/v1/executions", _executions_query(asked))
        titles, cells, note = lists.EXECUTIONS, lists.executions(asked, found), lists.MORE if found.more else ""
    elif asked.names:
        raise UnknownHereError
    else:
        titles, cells = lists.MACHINES, lists.machines(asked, ask("Machines", "/v1/machines", []))
    text = "".join(f"{line}\n" for line in table_lines(() if asked.no_legend else titles, texts(cells)))
    text.encode()  # half a surrogate pair is no text
    return text, note


def _units(asked: _Asked, ask: "_Daemon") -> "list[Any]":
    """The units, page by page, as `Client.units` fetches them."""
    if asked.names:
        from xchronos.cli.patterns import matches
    else:
        matches = None  # type: ignore[assignment]
    units: list[Any] = []
    limit = 0 if asked.names else asked.limit
    left, after = limit, ""
    while True:
        query = [f"limit={min(left, UNITS_PER_PAGE) if limit else UNITS_PER_PAGE}"]
        page = ask("UnitPage", "/v1/units", query + ([f"after={_plain(after)}"] if after else []))
        units += (
            unit
            for unit in page.units
            if not asked.names or any(matches(unit.name, pattern) for pattern in asked.names)
        )
        left -= len(page.units)
        after = page.after
        if not after or (limit and left <= 0) or (asked.limit and len(units) >= asked.limit):
            return units[: asked.limit or None]


def _executions_query(asked: _Asked) -> list[str]:
    if len(asked.names) > 1 or asked.limit > MOST_LISTED:
        raise UnknownHereError
    limit = asked.limit or (MOST_LISTED if asked.everything else lists.EXECUTIONS_SHOWN)
    query = [f"limit={limit}", *(f"state={state}" for state in (lists.FAILURES if asked.failed else ()))]
    if asked.names:
        (unit,) = asked.names
        if not unit.endswith(".service") or any(sign in unit for sign in "*?["):
            raise UnknownHereError  # its name is to be completed, or is a pattern, which is refused
        query.append(f"unit={_plain(unit)}")
    return query


def _plain(text: str) -> str:
    """A text that means itself in a query."""
    if not _SAFE.fullmatch(text):
        from urllib.parse import quote_plus

        return quote_plus(text)
    return text


class _Daemon:
    """The API at an address of this machine."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._path = address.removeprefix("unix://") if address.startswith("unix://") else ""
        self._host, self._port = "localhost", 0
        if not self._path:
            where = _LOOPBACK.fullmatch(address)
            if where is None:
                raise UnknownHereError
            self._host, self._port = where[1], int(where[2])
        token = token_in(os.environ)
        if not (token.isascii() and token.isprintable()):
            raise UnknownHereError
        shown = self._host if self._port in (0, 80) else f"{self._host}:{self._port}"
        self._head = f"HTTP/1.1\r\nHost: {shown}\r\nAccept-Encoding: identity\r\naccept: */*\r\nconnection: close\r\n"
        if token:
            self._head += f"authorization: Bearer {token}\r\n"

    def __call__(self, shape: str, path: str, query: "Sequence[str]") -> "Any":
        """One answer, as a record of that shape."""
        target = path + ("?" + "&".join(query) if query else "")
        text = self._exchange(f"GET {target} {self._head}\r\n".encode()).decode()
        return _record(shape, json.loads(text, parse_constant=_refuse))

    def _exchange(self, request: bytes) -> bytes:
        begun = False
        try:
            with self._connected() as connection:
                connection.sendall(request)
                head, body = b"", b""
                while not begun:
                    head += _received(connection)
                    head, end, body = head.partition(b"\r\n\r\n")
                    begun = bool(end)
                parts, left = [body], _length(head) - len(body)
                while left > 0:
                    parts.append(_received(connection))
                    left -= len(parts[-1])
        except TimeoutError as error:
            self._give_up(error, begun=begun)
        if left:
            raise UnknownHereError
        return b"".join(parts)

    def _connected(self) -> socket.socket:
        if self._path:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(SECONDS)
                connection.connect(self._path)
            except OSError:
                connection.close()
                raise
            return connection
        return socket.create_connection((self._host.strip("[]"), self._port), SECONDS)

    def _give_up(self, error: TimeoutError, *, begun: bool) -> "NoReturn":
        """Say that it did not answer in time: the whole way would wait for as long again."""
        from xchronos.cli.failures import exit_code, report
        from xchronos.client.transport import broken_off, unreachable
        from xchronos.errors import ApiError

        failure = ApiError((broken_off if begun else unreachable)(self._address, error))
        report(failure)
        sys.exit(exit_code(failure))


def _received(connection: socket.socket) -> bytes:
    part = connection.recv(READ_BYTES)
    if not part:
        raise UnknownHereError  # it has broken off
    return part


def _length(head: bytes) -> int:
    """The bytes of the body that follows the head of an answer. One that is no plain success is for the whole way."""
    status, *lines = head.split(b"\r\n")
    if not status.startswith(b"HTTP/1.1 200"):
        raise UnknownHereError
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or b"transfer-encoding" in headers or b"content-encoding" in headers:
        raise UnknownHereError
    return int(length)


def _refuse(constant: str) -> "NoReturn":
    raise ValueError(constant)  # NaN and its like are no JSON


def _record(shape: str, value: object) -> SimpleNamespace:
    """An object of an answer with the fields of its shape; others are passed over, as the API's clients do."""
    if not isinstance(value, dict):
        raise UnknownHereError
    fields = {}
    for name, (kind, *default) in SHAPES[shape].items():
        if name not in value and not default:
            raise UnknownHereError
        fields[name] = _value(str(kind), value[name] if name in value else default[0])
    return SimpleNamespace(**fields)


def _value(kind: str, value: object) -> object:
    """A value of an answer, if it is of that kind."""
    if kind.endswith("?"):
        if value is None:
            return None
        kind = kind[:-1]
    if isinstance(value, str):
        if kind == "str" or ("|" in kind and value in kind.split("|")):
            return value
        if kind == "time" and _TIME.fullmatch(value):
            return datetime.fromisoformat(value)
    elif isinstance(value, bool):
        if kind == "bool":
            return value
    elif isinstance(value, int):
        if kind in ("int", "float") and abs(value) < 1 << 63:
            return value
    elif isinstance(value, float):
        if kind == "float":
            return value
    elif isinstance(value, list):
        if kind.startswith("["):
            return tuple(_value(kind[1:-1], each) for each in value)
    elif isinstance(value, dict):
        if kind.startswith("{"):
            return {name: _value(kind[1:-1], each) for name, each in value.items()}
        if kind in SHAPES:
            return _record(kind, value)
    raise UnknownHereError
