"""The verbs for networks: create, rm, connect, disconnect. The listings are in `objects`."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from xchronos.dockercli import commands
from xchronos.dockercli.containers import Verb, names
from xchronos.dockercli.flags import Flag, Parsed, parse_flags, table
from xchronos.dockercli.options.devices import parse_link
from xchronos.dockercli.options.network import Attachment, endpoint
from xchronos.dockercli.values import csv_fields, key_values, parse_int, parse_label
from xchronos.errors import InvalidValue

_Net: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_FORCE = Flag("force", "f", "bool")


def option_pair(text: str) -> str:
    """The word as it is. Raises InvalidValue if it is not `key=value`."""
    if "=" not in text:
        raise InvalidValue(f"invalid option {text!r}, expected key=value")
    return text


_NETWORK_CREATE = table(
    "network create",
    (
        Flag("attachable", kind="bool"),
        Flag("aux-address", "", "many", option_pair),
        Flag("config-from"),
        Flag("config-only", kind="bool"),
        Flag("driver", "d"),
        Flag("gateway", "", "many", csv_fields),
        Flag("ingress", "", "bool"),
        Flag("internal", "", "bool"),
        Flag("ip-range", "", "many", csv_fields),
        Flag("ipam-driver"),
        Flag("ipam-opt", "", "many", option_pair),
        Flag("ipv4", "", "bool"),
        Flag("ipv6", "", "bool"),
        Flag("label", "", "many", parse_label),
        Flag("opt", "o", "many", option_pair),
        Flag("scope"),
        Flag("subnet", "", "many", csv_fields),
    ),
)
_NETWORK_CONNECT = table(
    "network connect",
    (
        Flag("alias", "", "many", csv_fields),
        Flag("driver-opt", "", "many", csv_fields),
        Flag("gw-priority", parse=parse_int),
        Flag("ip"),
        Flag("ip6"),
        Flag("link", "", "many", parse_link),
        Flag("link-local-ip", "", "many", csv_fields),
    ),
)
_NETWORK_RM = table("network rm", (_FORCE,))
_NETWORK_DISCONNECT = table("network disconnect", (_FORCE,))


def _flat(parsed: Parsed, option: str) -> list[str]:
    return [item for items in parsed.many(option) for item in items]


def _network_create(words: Sequence[str], _env: Mapping[str, str]) -> commands.NetworkCreate:
    parsed = parse_flags(_NETWORK_CREATE, words)
    (name,) = names(parsed, "network create", 1, 1)
    body: dict[str, Any] = {
        "CheckDuplicate": True,
        "Driver": parsed.get("driver", "bridge"),
        "Scope": parsed.get("scope", ""),
        "EnableIPv6": parsed.get("ipv6", False),
        "IPAM": {
            "Driver": parsed.get("ipam-driver", "default"),
            "Options": key_values(parsed.many("ipam-opt")),
            "Config": _pools(parsed),
        },
        "Internal": parsed.get("internal", False),
        "Attachable": parsed.get("attachable", False),
        "Ingress": parsed.get("ingress", False),
        "ConfigOnly": parsed.get("config-only", False),
        "ConfigFrom": {"Network": parsed.values["config-from"]} if parsed.get("config-from") else None,
        "Options": key_values(parsed.many("opt")),
        "Labels": key_values(parsed.many("label")),
        "Name": name,
    }
    if "ipv4" in parsed.values:
        body["EnableIPv4"] = parsed.values["ipv4"]
    return commands.NetworkCreate(name=name, body=body, warnings=tuple(parsed.warnings))


def _pools(parsed: Parsed) -> list[dict[str, Any]]:
    """IPAM.Config. Each range, gateway and auxiliary address is put into the subnet that contains it."""
    pools: dict[str, dict[str, Any]] = {}
    nets: list[tuple[str, _Net]] = []
    for subnet in _flat(parsed, "subnet"):
        net = _net(subnet)
        if any(net.version == other.version and net.overlaps(other) for _, other in nets):
            raise InvalidValue(f"docker network create: the subnet {subnet} overlaps another one")
        nets.append((subnet, net))
        pools[subnet] = {"Subnet": subnet}
    extras = [
        *(("IPRange", "--ip-range", text, text) for text in _flat(parsed, "ip-range")),
        *(("Gateway", "--gateway", text, text) for text in _flat(parsed, "gateway")),
        *(("AuxiliaryAddresses", "--aux-address", pair, pair.partition("=")[2]) for pair in parsed.many("aux-address")),
    ]
    for key, option, text, address in extras:
        inside = _net(address)
        pool = next((pools[name] for name, net in nets if _contains(net, inside)), None)
        if pool is None:
            raise InvalidValue(f"docker network create: no --subnet contains the {option} {text}")
        if key == "AuxiliaryAddresses":
            pool.setdefault(key, {})[text.partition("=")[0]] = address
        elif key in pool:
            raise InvalidValue(f"docker network create: a second {option} for the subnet {pool['Subnet']}")
        else:
            pool[key] = text
    return list(pools.values())


def _net(text: str) -> _Net:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidValue(f"docker network create: {text!r} is no address or subnet") from None


def _contains(net: _Net, inside: _Net) -> bool:
    return net.version == inside.version and inside.network_address in net and inside.broadcast_address in net


def _network_rm(words: Sequence[str], _env: Mapping[str, str]) -> commands.NetworkRm:
    parsed = parse_flags(_NETWORK_RM, words)
    return commands.NetworkRm(
        networks=names(parsed, "network rm"), force=parsed.get("force", False), warnings=tuple(parsed.warnings)
    )


def _network_connect(words: Sequence[str], _env: Mapping[str, str]) -> commands.NetworkConnect:
    parsed = parse_flags(_NETWORK_CONNECT, words)
    network, container = names(parsed, "network connect", 2, 2)
    options = _flat(parsed, "driver-opt")
    for option in options:
        option_pair(option)
    settings = endpoint(
        Attachment(
            network,
            aliases=_flat(parsed, "alias"),
            links=parsed.many("link"),
            ipv4=parsed.get("ip", ""),
            ipv6=parsed.get("ip6", ""),
            link_local=_flat(parsed, "link-local-ip"),
            driver_options=key_values(options) or None,
            gateway_priority=parsed.get("gw-priority", 0),
        )
    )
    settings["IPAMConfig"] = settings["IPAMConfig"] or {}
    body = {"Container": container, "EndpointConfig": settings}
    return commands.NetworkConnect(network=network, container=container, body=body, warnings=tuple(parsed.warnings))


def _network_disconnect(words: Sequence[str], _env: Mapping[str, str]) -> commands.NetworkDisconnect:
    parsed = parse_flags(_NETWORK_DISCONNECT, words)
    network, container = names(parsed, "network disconnect", 2, 2)
    return commands.NetworkDisconnect(
        network=network, container=container, force=parsed.get("force", False), warnings=tuple(parsed.warnings)
    )


NETWORK_VERBS: dict[str, Verb] = {
    "create": _network_create,
    "rm": _network_rm,
    "remove": _network_rm,
    "connect": _network_connect,
    "disconnect": _network_disconnect,
}
"""The verbs of `docker network <verb>`."""
