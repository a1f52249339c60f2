"""The values of `--network`, and the endpoint settings that they become."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from xchronos.dockercli.values import csv_fields, parse_int, parse_mac
from xchronos.errors import InvalidValue

_LONG_FORM = re.compile(r"[0-9A-Za-z_]=[0-9A-Za-z_]")
_BUILT_IN = frozenset(("default", "bridge", "host", "none"))


class Attachment(msgspec.Struct):
    """One network of a container, as given by `--network`, `--network-alias`, `--link`, `--ip` and the like."""

    target: str
    """The name of the network, or `container:<name>` for another container's."""
    aliases: list[str] = []
    """More names of the container in this network."""
    links: list[str] = []
    """Other containers as `name[:alias]`."""
    ipv4: str = ""
    """The wanted address; empty: the engine chooses."""
    ipv6: str = ""
    """The wanted address; empty: the engine chooses."""
    link_local: list[str] = []
    """Link-local addresses."""
    mac: str = ""
    """The wanted hardware address; empty: the engine chooses."""
    driver_options: dict[str, str] | None = None
    """Options for the network's driver. None if no option is given."""
    gateway_priority: int = 0
    """The network with the highest number provides the default gateway."""

    @property
    def is_user_defined(self) -> bool:
        """Whether somebody created the network. It is then neither built in nor another container's."""
        return self.target not in _BUILT_IN and self.target.partition(":")[0] != "container"

    @property
    def is_plain(self) -> bool:
        """Whether only the name is given."""
        return not (
            self.aliases or self.links or self.ipv4 or self.ipv6 or self.link_local or self.mac
            or self.driver_options or self.gateway_priority
        )  # fmt: skip


def parse_network(text: str) -> Attachment:
    """One value of `--network`: a name, or `name=...,alias=...,ip=...,ip6=...,driver-opt=key=value` and the like.

    In the long form, the docker client puts keys and values into lower case. A name with capitals needs the short form.
    """
    if _LONG_FORM.search(text) is None:
        return Attachment(text)
    network = Attachment("", aliases=[], link_local=[])
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        key, value = key.strip().lower(), value.strip().lower()
        if not equals:
            raise InvalidValue(f"invalid field {field!r}, expected key=value")
        if key == "name":
            network.target = value
        elif key == "alias":
            network.aliases.append(value)
        elif key == "ip":
            network.ipv4 = value
        elif key == "ip6":
            network.ipv6 = value
        elif key == "link-local-ip":
            network.link_local.append(value)
        elif key == "mac-address":
            network.mac = parse_mac(value)
        elif key == "gw-priority":
            network.gateway_priority = parse_int(value)
        elif key == "driver-opt":
            option, has_value, setting = value.partition("=")
            if not has_value:
                raise InvalidValue(f"invalid driver-opt {value!r}, expected key=value")
            network.driver_options = {**(network.driver_options or {}), option: setting}
        else:
            raise InvalidValue(
                f"invalid field {key!r}, expected name, alias, ip, ip6, link-local-ip, mac-address, driver-opt "
                "or gw-priority"
            )
    if not network.target:
        raise InvalidValue("the network has no name, expected name=...")
    return network


def endpoint(network: Attachment) -> dict[str, Any]:
    """`EndpointSettings` of one network, exactly as the docker client sends them."""
    addresses: dict[str, Any] = {}
    if network.ipv4:
        addresses["IPv4Address"] = network.ipv4
    if network.ipv6:
        addresses["IPv6Address"] = network.ipv6
    if network.link_local:
        addresses["LinkLocalIPs"] = network.link_local
    settings: dict[str, Any] = {
        "IPAMConfig": addresses or None,
        "Links": network.links or None,
        "Aliases": network.aliases or None,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": network.mac,
        "DriverOpts": network.driver_options,
    }
    if network.gateway_priority:
        settings["GwPriority"] = network.gateway_priority
    return settings


def endpoints(networks: Sequence[Attachment]) -> dict[str, Any]:
    """`EndpointsConfig` for all networks of a container. It is empty for a single network with nothing but a name.

    Raises InvalidValue for a network without a name or given twice, for a mix of built-in and user-defined networks,
    and for aliases and links in a network that nobody created.
    """
    settings: dict[str, Any] = {}
    for network in networks:
        name = network.target
        if not name.strip():
            raise InvalidValue("no name set for network")
        if name in settings:
            raise InvalidValue(f"network {name!r} is specified multiple times")
        if not network.is_user_defined and (network.aliases or network.links):
            what = "aliases" if network.aliases else "links"
            raise InvalidValue(f"network-scoped {what} are only supported for user-defined networks, not for {name!r}")
        settings[name] = endpoint(network)
    if len({network.is_user_defined for network in networks}) > 1:
        raise InvalidValue("conflicting options: cannot attach both user-defined and built-in networks")
    return settings if len(networks) > 1 or (networks and not networks[0].is_plain) else {}
