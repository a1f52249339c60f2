"""What an engine has left out of a container that it was asked for: it may take a field and do nothing about it."""

import re
from collections.abc import Callable, Collection, Mapping
from posixpath import normpath
from typing import Any, NamedTuple

from xchronos.executors.docker.client import DockerClient, EngineRefusal

_NO_NEW = "no-new-privileges"
_MUST_BE_SHOWN = (
    "User", "HostConfig.Memory", "HostConfig.NanoCpus", "HostConfig.PidsLimit", "HostConfig.CpusetCpus",
    "HostConfig.CpusetMems", "HostConfig.ReadonlyRootfs",
)  # fmt: skip
"""Fields that protect the machine or the container, and that every engine shows if they are set (Docker 20.10, 26.1,
Podman 5.4). How it shows them may differ: it may round a limit."""

CAPABILITIES = frozenset(("HostConfig.CapAdd", "HostConfig.CapDrop"))
"""The protections that Podman's answer does not tell of: it has only what differs from what Podman gives by itself."""

BOUNDING = "BoundingCaps"
"""The part of Podman's own answer that tells the capabilities of a container; None: nobody knows them."""

_MOUNTS = ("HostConfig.Binds", "HostConfig.Mounts", "HostConfig.Tmpfs")
_READ_ONLY = "read-only mounts"
_NETWORK = "HostConfig.NetworkMode"
_ANY_NETWORK = re.compile(r"(|default|bridge|private|pasta|slirp4netns)(:.*)?|(container|ns):.*")

MAY_BE_SHOWN = (
    "Hostname", "Domainname", "WorkingDir", "Healthcheck", "HostConfig.CpuShares", "HostConfig.Devices",
    "HostConfig.Dns", "HostConfig.DnsOptions", "HostConfig.DnsSearch", "HostConfig.ExtraHosts", "HostConfig.GroupAdd",
    "HostConfig.Init", "HostConfig.MemoryReservation", "HostConfig.OomScoreAdj", "HostConfig.PortBindings",
    "HostConfig.ShmSize", "HostConfig.Ulimits",
)  # fmt: skip
"""Fields without which a container is only another than it was meant to be, and that every engine shows if they are set
(Docker 20.10, Podman 5.4; Podman gives `Sysctls` and does not show them)."""


class _Mount(NamedTuple):
    """A mount that a create body asks for: the field that has it, where it is to be, whether it is read-only."""

    field: str
    target: str
    read_only: bool


def _mounts(host: Mapping[str, Any]) -> list[_Mount]:
    """The binds, volumes and tmpfs of a create body. Other kinds are not shown by every engine."""
    found = []
    for bind in host.get("Binds") or ():
        _, _, rest = bind.partition(":")
        target, _, options = rest.partition(":")
        found.append(_Mount("HostConfig.Binds", target, "ro" in options.split(",")))
    found += [
        _Mount("HostConfig.Mounts", mount["Target"], bool(mount.get("ReadOnly")))
        for mount in host.get("Mounts") or ()
        if mount.get("Type") in ("bind", "volume", "tmpfs")
    ]
    found.extend(_Mount("HostConfig.Tmpfs", target, read_only=False) for target in host.get("Tmpfs") or ())
    return found


def _networks(body: Mapping[str, Any]) -> set[str]:
    """The networks that a create body names: `none` and `host` too, but not the engine's own choice."""
    mode = (body.get("HostConfig") or {}).get("NetworkMode") or ""
    endpoints = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    return {network for network in (mode, *endpoints) if not _ANY_NETWORK.fullmatch(network)}


def protections(body: Mapping[str, Any]) -> frozenset[str]:
    """What a create body asks for that protects or that a unit relies on, and whose absence can be seen afterwards."""
    host = body.get("HostConfig") or {}
    asked = {name for name in _MUST_BE_SHOWN if _sets(body, name)}
    if not host.get("Privileged"):
        asked |= {name for name in CAPABILITIES if _sets(body, name)}
    if any(option.removesuffix(":true") == _NO_NEW for option in host.get("SecurityOpt") or ()):
        asked.add(_NO_NEW)
    mounts = _mounts(host)
    asked |= {mount.field for mount in mounts}
    if any(mount.read_only for mount in mounts):
        asked.add(_READ_ONLY)
    if _networks(body):
        asked.add(_NETWORK)
    return frozenset(asked)


def left_out(asked: Collection[str], body: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
    """Which of these `protections` of a create body a container has not; sorted.

    `answer` is the engine's `GET /containers/<id>/json`, with BOUNDING if the engine is Podman.
    """
    whole = {**(answer.get("Config") or {}), "HostConfig": answer.get("HostConfig") or {}}
    has = {name for name in _MUST_BE_SHOWN if _sets(whole, name)}
    if any(option.startswith(_NO_NEW) for option in whole["HostConfig"].get("SecurityOpt") or ()):
        has.add(_NO_NEW)
    has |= _given_capabilities(body.get("HostConfig") or {}, whole["HostConfig"], answer)
    has |= _given_mounts(body.get("HostConfig") or {}, whole["HostConfig"], answer)
    if all(_is_in(network, whole["HostConfig"], answer) for network in _networks(body)):
        has.add(_NETWORK)
    return sorted(set(asked) - has)


def not_shown(body: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
    """Which of MAY_BE_SHOWN a create body sets and the engine's answer does not."""
    whole = {**(answer.get("Config") or {}), "HostConfig": answer.get("HostConfig") or {}}
    return [name for name in MAY_BE_SHOWN if _sets(body, name) and not _sets(whole, name)]


def _given_capabilities(
    wanted: Mapping[str, Any], shown: Mapping[str, Any], answer: Mapping[str, Any]
) -> frozenset[str]:
    add, drop = _names(wanted.get("CapAdd")), _names(wanted.get("CapDrop"))
    if BOUNDING not in answer:
        has_add, has_drop = add <= _names(shown.get("CapAdd")), drop <= _names(shown.get("CapDrop"))
    elif answer[BOUNDING] is None:
        return CAPABILITIES
    else:
        bounding = _names(answer[BOUNDING])
        has_add = add <= bounding or ("ALL" in add and "SYS_ADMIN" in bounding)
        has_drop = bounding <= add if "ALL" in drop and "ALL" not in add else not (drop - add) & bounding
    given = (("HostConfig.CapAdd", has_add), ("HostConfig.CapDrop", has_drop))
    return frozenset(name for name, has in given if has)


def _names(capabilities: Collection[str] | None) -> set[str]:
    """Capabilities in one spelling: `CAP_CHOWN` and `chown` are `CHOWN`."""
    return {capability.upper().removeprefix("CAP_") for capability in capabilities or ()}


def _given_mounts(wanted: Mapping[str, Any], shown: Mapping[str, Any], answer: Mapping[str, Any]) -> set[str]:
    writable = {mount["Destination"]: mount.get("RW", True) for mount in answer.get("Mounts") or ()}
    there = {*map(normpath, writable), *map(normpath, shown.get("Tmpfs") or ())}
    open_to_writes = {normpath(target) for target, writes in writable.items() if writes}
    mounts = _mounts(wanted)
    has = {field for field in _MOUNTS if all(normpath(each.target) in there for each in mounts if each.field == field)}
    if not any(each.read_only and normpath(each.target) in open_to_writes for each in mounts):
        has.add(_READ_ONLY)
    return has


def _is_in(network: str, shown: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether a container is in a network, by the network's name or by the beginning of its id."""
    if network in ("none", "host"):
        return bool(shown.get("NetworkMode") == network)
    networks = (answer.get("NetworkSettings") or {}).get("Networks") or {}
    return network in networks or any(
        (each or {}).get("NetworkID", "").startswith(network) for each in networks.values()
    )


def _sets(body: Mapping[str, Any], name: str) -> bool:
    """Whether a body has a field (`HostConfig.Dns`) that sets anything."""
    return _asks(_field(body, name))


def _field(body: Mapping[str, Any], name: str) -> Any:
    part, dot, key = name.rpartition(".")
    return ((body.get(part) or {}) if dot else body).get(key)


def _asks(value: Any) -> bool:
    """Whether a field sets anything. A limit of 0 or -1 is none."""
    return value > 0 if isinstance(value, int) else bool(value)


class ProtectionCheck:
    """Looks at what an engine has made of create bodies.

    One look for each field is enough for an engine: what it has honoured once it goes on honouring.
    """

    def __init__(self, engine: DockerClient) -> None:
        self._engine = engine
        self._honoured: dict[tuple[bool, tuple[int, int]], set[str]] = {}
        """The fields that an engine (whether Podman, API version) was seen to give, or not to show."""

    async def missing(self, container: str, body: Mapping[str, Any], say: Callable[[str], None]) -> str:
        """What a created container has not although it must, in words for a person; "": it has all.

        `say` is called with a line about what the engine does not show and is no protection. Raises as
        `DockerClient.call`.
        """
        engine = self._engine
        known = self._honoured.setdefault((engine.podman, engine.version), set())
        asked = protections(body) - known
        others = {name for name in MAY_BE_SHOWN if _sets(body, name)} - known
        if not asked and not others:
            return ""
        answer = await engine.ask("GET", f"/containers/{container}/json")
        if engine.podman and asked & CAPABILITIES:
            answer = {**answer, BOUNDING: await self._bounding(container)}
        name = "Podman" if engine.podman else "the Docker engine"
        if missing := left_out(asked, body, answer):
            return f"{name} at {engine.named} has left out {', '.join(missing)}"
        if silent := [field for field in not_shown(body, answer) if field in others]:
            say(f"{name} does not show {', '.join(silent)}: that may have no effect")
        known |= asked | others
        return ""

    async def _bounding(self, container: str) -> list[str] | None:
        try:
            answer = await self._engine.ask("GET", f"/libpod/containers/{container}/json")
        except EngineRefusal:
            return None
        return list(answer[BOUNDING] or ()) if BOUNDING in answer else None
