"""What an engine would refuse of a unit's container, told at the assignment that is to blame."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from xchronos.dockercli.refusals import SEEN_ON, CreateRefusal, refusals
from xchronos.unitfile import Option, UnitFile

_KEYS: dict[str, tuple[str, ...]] = {
    "add-host": ("AddHost",),
    "cap-add": ("AddCapability", "CapabilityBoundingSet"),
    "cap-drop": ("DropCapability", "CapabilityBoundingSet"),
    "cpu-quota": ("CPUQuota",),
    "cpus": ("CPUs", "CPUQuota"),
    "cpuset-cpus": ("AllowedCPUs", "CPUAffinity"),
    "cpuset-mems": ("AllowedMemoryNodes",),
    "dns": ("DNS",),
    "entrypoint": ("Entrypoint",),
    "expose": ("ExposeHostPort",),
    "health-interval": ("HealthInterval",),
    "health-start-period": ("HealthStartPeriod",),
    "health-timeout": ("HealthTimeout",),
    "hostname": ("HostName",),
    "log-driver": ("LogDriver",),
    "log-opt": ("LogOpt",),
    "memory": ("Memory", "MemoryMax", "MemoryLimit"),
    "memory-reservation": ("MemoryHigh",),
    "memory-swap": ("MemorySwap", "MemorySwapMax"),
    "mount": ("Mount",),
    "network": ("Network",),
    "publish": ("PublishPort",),
    "security-opt": ("AppArmor", "SecurityLabelType", "SecurityLabelLevel", "SecurityLabelFileType"),
    "stop-signal": ("StopSignal", "KillSignal"),
    "tmpfs": ("Tmpfs", "TemporaryFileSystem"),
    "volume": ("Volume", "BindPaths", "BindReadOnlyPaths", "ReadWritePaths"),
    "workdir": ("WorkingDir", "WorkingDirectory"),
}
"""The keys of [Container] and [Service] that set the same as an option of `docker run`. PodmanArgs= sets any."""

_QUOTED = re.compile(r"'([^']+)'")


def refused(file: UnitFile, body: Mapping[str, Any], open_keys: Collection[str]) -> Iterator[tuple[Option, str]]:
    """(assignment to blame, warning) for each reason for which an engine would refuse to create the container.

    `open_keys` are the keys of [Container] whose values are not known yet: nothing is said about them.
    """
    if "PodmanArgs" in open_keys:
        return
    for refusal in refusals(body):
        if any(key in open_keys for option in refusal.options for key in _KEYS.get(option, ())):
            continue
        if refusal.options[0] == "entrypoint" and file.values("Service", "ExecStart"):
            continue  # that is the command
        yield _to_blame(file, refusal), f"{refusal.message}: {SEEN_ON} refuses to create such a container"


def _to_blame(file: UnitFile, refusal: CreateRefusal) -> Option:
    """The assignment that a refusal is about: the last one whose value the message quotes, or the last one at all.

    There is always one: without Image= there is no container to create.
    """
    wanted = frozenset(key for option in refusal.options for key in _KEYS.get(option, ())) | {"PodmanArgs", "Image"}
    said = [option for section in ("Service", "Container") for option in file.section(section) if option.name in wanted]
    first = frozenset(_KEYS.get(refusal.options[0], ()))
    quoted = _QUOTED.findall(refusal.message)
    return max(
        said,
        key=lambda option: (
            any(text in option.value for text in quoted),
            option.name in first,
            option.name in wanted - {"Image"},
        ),
    )
