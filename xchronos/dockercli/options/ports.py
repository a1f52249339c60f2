"""`--publish` and `--expose`: ports, read as docker's library go-connections reads them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from xchronos.dockercli.values import parse_digits, parse_ip
from xchronos.errors import InvalidValue, quoted
from xchronos.limits import PORTS, STORED_PORTS

_PROTOCOLS = frozenset(("tcp", "udp", "sctp"))
_PORT_MAX = 65535
_most: ContextVar[int] = ContextVar("most ports", default=PORTS)


@contextmanager
def ports_accepted_before() -> Iterator[None]:
    """Inside, up to STORED_PORTS ports are read: for the text of a unit that was accepted before there was a bound."""
    token = _most.set(STORED_PORTS)
    try:
        yield
    finally:
        _most.reset(token)


class Published(NamedTuple):
    """One value of `--publish`: as many ports of the container as of the host, or one that a host range leads to."""

    address: str
    """The address of the host; empty: every one."""
    host: tuple[int, int] | None
    """The first and the last port of the host. None: the engine picks them."""
    container: tuple[int, int]
    """The first and the last port of the container."""
    protocol: str
    """`tcp`, `udp` or `sctp`."""

    @property
    def ports(self) -> int:
        """How many ports of the container it publishes."""
        return self.container[1] - self.container[0] + 1


def publish(specs: Iterable[str]) -> tuple[dict[str, dict[str, str]], dict[str, list[dict[str, str]]]]:
    """(ExposedPorts, PortBindings) for the values of `--publish`. Raises InvalidValue as `published` does.

    So it does when there are too many ports: nothing is expanded before all are counted.
    """
    values = [published(spec) for spec in specs]
    _count(sum(value.ports for value in values), "published")
    exposed: dict[str, dict[str, str]] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for address, host, (first, last), protocol in values:
        for offset in range(last - first + 1):
            port = f"{first + offset}/{protocol}"
            bound = str(host[0] + offset) if host is not None else ""
            if host is not None and first == last and host[0] != host[1]:
                bound = f"{bound}-{host[1]}"  # one container port: the engine picks a free host port of the range
            exposed[port] = {}
            bindings.setdefault(port, []).append({"HostIp": address, "HostPort": bound})
    return exposed, bindings


def published(written: str) -> Published:
    """Read one value of `--publish`. Raises InvalidValue.

    A value is `[[ip:][host]:]container[/protocol]`. Ports may be ranges, and an IPv6 address may be in brackets.
    A value may also have the long form `target=80,published=8080,protocol=udp`.
    """
    try:
        found = _published(_long_form(written) if "=" in written else written)
        _count(found.ports, "published")
    except InvalidValue as error:
        raise InvalidValue(
            f"invalid port {quoted(written)}: {error}, expected [[ip:][host port]:]container port[/protocol]"
        ) from None
    return found


def _count(ports: int, done: str) -> None:
    most = _most.get()
    if ports > most:
        raise InvalidValue(f"{ports} ports are {done}: {most} are the most; the host network needs none")


def _published(spec: str) -> Published:
    parts = spec.rsplit(":", 2)
    host = parts[-2] if len(parts) > 1 else ""
    address = _address(parts[0]) if len(parts) > 2 else ""
    protocol, container = _split_protocol(parts[-1])
    if not container:
        raise InvalidValue("no container port is given")
    first, last = _range(container, "container port")
    host_range = None
    if host:
        host_range = _range(host, "host port")
        if last != first and last - first != host_range[1] - host_range[0]:
            raise InvalidValue(f"the ranges {host} and {container} differ in length")
    protocol = protocol.lower()
    if protocol not in _PROTOCOLS:
        raise InvalidValue(f"unknown protocol {quoted(protocol)}, expected tcp, udp or sctp")
    return Published(address, host_range, (first, last), protocol)


def _long_form(spec: str) -> str:
    fields = {"published": "", "target": "", "protocol": "tcp"}
    for field in spec.split(","):
        name, equals, value = field.partition("=")
        if not equals:
            raise InvalidValue(f"invalid port {spec!r}: the field {field!r} is not name=value")
        fields[name] = value.partition("=")[0]
    return f"{fields['published']}:{fields['target']}/{fields['protocol']}"


def _address(text: str) -> str:
    inner = text
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1]
    if inner and parse_ip(inner) is None:
        raise InvalidValue(f"{inner!r} is not an IP address")
    return inner


def _split_protocol(text: str) -> tuple[str, str]:
    """(protocol, port or range) of `80/udp`. The default is tcp. Text after a second slash is not read."""
    port, _, rest = text.partition("/")
    return (rest.partition("/")[0] or "tcp", port) if port else ("", "")


def _range(text: str, what: str) -> tuple[int, int]:
    parts = text.split("-")
    try:
        first = parse_digits(parts[0], _PORT_MAX)
        last = parse_digits(parts[1], _PORT_MAX) if len(parts) > 1 else first
    except InvalidValue as error:
        raise InvalidValue(f"the {what} {error}") from None
    if last < first:
        raise InvalidValue(f"the {what} range {text} ends before it begins")
    return first, last


def expose(specs: Iterable[str], exposed: dict[str, dict[str, str]]) -> None:
    """Add the ports of the values of `--expose`, `port[-port][/protocol]`, to `exposed`. Raises InvalidValue.

    So it does when there are too many ports: nothing is expanded before all are counted.
    """
    values = [exposed_range(spec) for spec in specs]
    _count(sum(last - first + 1 for first, last, _ in values), "exposed")
    for first, last, protocol in values:
        for port in range(first, last + 1):
            exposed.setdefault(f"{port}/{protocol}", {})


def exposed_range(spec: str) -> tuple[int, int, str]:
    """The first port, the last port and the protocol of one value of `--expose`. Raises InvalidValue."""
    if ":" in spec:
        raise InvalidValue(f"invalid port {quoted(spec)} for --expose: a container port alone is expected")
    protocol, ports = _split_protocol(spec)
    try:
        first, last = _range(ports, "port")
        _count(last - first + 1, "exposed")
    except InvalidValue as error:
        raise InvalidValue(f"invalid port {quoted(spec)} for --expose: {error}") from None
    return first, last, protocol
