"""`--publish` and `--expose`: ports, read as docker's library go-connections reads them."""

from collections.abc import Iterable
from typing import Any

from xchronos.dockercli.values import parse_digits, parse_ip
from xchronos.errors import InvalidValue

_PROTOCOLS = frozenset(("tcp", "udp", "sctp"))
_PORT_MAX = 65535


def publish(specs: Iterable[str]) -> tuple[dict[str, dict[str, str]], dict[str, list[dict[str, str]]]]:
    """(ExposedPorts, PortBindings) for the values of `--publish`.

    A value is `[[ip:][host]:]container[/protocol]`. Ports may be ranges, and an IPv6 address is in brackets. A value
    may also have the long form `target=80,published=8080,protocol=udp`. Raises InvalidValue.
    """
    exposed: dict[str, dict[str, str]] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for written in specs:
        spec = _long_form(written) if "=" in written else written
        try:
            _publish_one(spec, exposed, bindings)
        except InvalidValue as error:
            raise InvalidValue(
                f"invalid port {written!r}: {error}, expected [[ip:][host port]:]container port[/protocol]"
            ) from None
    return exposed, bindings


def _publish_one(spec: str, exposed: dict[str, Any], bindings: dict[str, list[dict[str, str]]]) -> None:
    parts = spec.rsplit(":", 2)
    host = parts[-2] if len(parts) > 1 else ""
    address = _address(parts[0]) if len(parts) > 2 else ""
    protocol, container = _split_protocol(parts[-1])
    if not container:
        raise InvalidValue("no container port is given")
    first, last = _range(container, "container port")
    host_first = host_last = 0
    if host:
        host_first, host_last = _range(host, "host port")
        if last != first and last - first != host_last - host_first:
            raise InvalidValue(f"the ranges {host} and {container} differ in length")
    protocol = protocol.lower()
    if protocol not in _PROTOCOLS:
        raise InvalidValue(f"unknown protocol {protocol!r}, expected tcp, udp or sctp")
    for offset in range(last - first + 1):
        port = f"{first + offset}/{protocol}"
        bound = str(host_first + offset) if host else ""
        if first == last and host_first != host_last:
            bound = f"{bound}-{host_last}"  # one container port: the engine picks a free host port of the range
        exposed[port] = {}
        bindings.setdefault(port, []).append({"HostIp": address, "HostPort": bound})


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
    elif ":" in text:
        raise InvalidValue(f"an IPv6 address stands in brackets, [{text}]")
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
    """Add the ports of the values of `--expose`, `port[-port][/protocol]`, to `exposed`. Raises InvalidValue."""
    for spec in specs:
        if ":" in spec:
            raise InvalidValue(f"invalid port {spec!r} for --expose: a container port alone is expected")
        protocol, ports = _split_protocol(spec)
        try:
            first, last = _range(ports, "port")
        except InvalidValue as error:
            raise InvalidValue(f"invalid port {spec!r} for --expose: {error}") from None
        for port in range(first, last + 1):
            exposed.setdefault(f"{port}/{protocol}", {})
