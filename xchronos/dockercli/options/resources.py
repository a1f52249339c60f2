"""systemd's resource and sandbox keys of `[Service]`, as parts of a container's create body (UNITS.md 8).

`Restart=`, timeouts and the Exec lines are not here: those are the orchestrator's to do, not the engine's.
"""

import re
from collections.abc import Mapping
from typing import Any

from xchronos.dockercli.options.sandbox import SANDBOX_KEYS, Handler, Parts, ResourceProblem
from xchronos.dockercli.values import INT64_MAX
from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.resources import parse_cpu_quota
from xchronos.unitfile.directives.scalars import parse_integer, parse_rlimit, parse_size

_LIMITS = {
    "LimitCPU": "cpu", "LimitFSIZE": "fsize", "LimitDATA": "data", "LimitSTACK": "stack", "LimitCORE": "core",
    "LimitRSS": "rss", "LimitNOFILE": "nofile", "LimitNPROC": "nproc", "LimitMEMLOCK": "memlock",
    "LimitLOCKS": "locks", "LimitSIGPENDING": "sigpending", "LimitMSGQUEUE": "msgqueue", "LimitNICE": "nice",
    "LimitRTPRIO": "rtprio", "LimitRTTIME": "rttime",
}  # fmt: skip
_UNAVAILABLE = {
    **dict.fromkeys(
        ("Nice", "UMask", "IOSchedulingClass", "IOSchedulingPriority", "CPUSchedulingPolicy", "CPUSchedulingPriority",
         "CPUSchedulingResetOnFork", "NUMAPolicy", "NUMAMask", "LimitAS", "RLimitAS"),
        "a container cannot set it",
    ),
    **dict.fromkeys(
        ("ProtectHome", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups",
         "ProtectClock", "ProtectHostname", "ProtectProc", "ProcSubset", "PrivateDevices", "PrivateUsers", "PrivateIPC",
         "RestrictNamespaces", "RestrictAddressFamilies", "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality",
         "MemoryDenyWriteExecute", "SystemCallFilter", "SystemCallArchitectures", "DynamicUser", "RemoveIPC",
         "MountFlags", "PrivateMounts", "KeyringMode"),
        "the container's own isolation takes its place",
    ),
    **dict.fromkeys(
        ("CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting", "IPAccounting", "BlockIOAccounting"),
        "the engine always accounts for it",
    ),
    **dict.fromkeys(
        ("MemoryMin", "MemoryLow", "MemoryZSwapMax", "StartupCPUWeight", "StartupIOWeight", "IPAddressAllow",
         "IPAddressDeny", "IODeviceWeight", "IODeviceLatencyTargetSec", "CPUQuotaPeriodSec", "Delegate", "Slice",
         "RootDirectory", "RootImage", "MountAPIVFS", "ExecPaths", "NoExecPaths", "AmbientCapabilities", "SecureBits",
         "StateDirectory", "CacheDirectory", "LogsDirectory", "RuntimeDirectory", "ConfigurationDirectory",
         "NetworkNamespacePath"),
        "the engine has nothing like it",
    ),
}  # fmt: skip


def host_config_from_service(
    options: Mapping[str, list[str]],
) -> tuple[dict[str, Any], list[ResourceProblem]]:
    """(body parts, problems) of the resource and sandbox keys of `[Service]`.

    `options` holds the values of every key in file order, after resets by empty assignments were left in: an empty
    string forgets what came before it, as in systemd. The parts are fields of the create body, with those of the host
    below `HostConfig`. Keys that are not about resources are ignored. A value that does not parse is an error; systemd
    would warn and run without the limit, which nobody wants of a limit.
    """
    mapping = Parts(options)
    for key, values in options.items():
        handler = _KEYS.get(key)
        if handler is None:
            if key in _UNAVAILABLE:
                mapping.warn(key, f"no effect in a container: {_UNAVAILABLE[key]}")
            continue
        kept = values if key == "CapabilityBoundingSet" else _since_reset(values)
        if not kept:
            continue
        try:
            handler(mapping, key, kept)
        except InvalidValue as error:
            mapping.problems.append(ResourceProblem(key, str(error), "error"))
    _swap(mapping)
    _group(mapping)
    body = dict(mapping.config)
    if mapping.host:
        body["HostConfig"] = mapping.host
    return body, mapping.problems


def _since_reset(values: list[str]) -> list[str]:
    if "" not in values:
        return values
    last = len(values) - 1 - values[::-1].index("")
    return values[last + 1 :]


def _bytes(text: str, base: int = 1024) -> int | None:
    """Bytes of a systemd size (K M G T are powers of `base`); None for infinity."""
    if text == "infinity":
        return None
    if text.endswith("%"):
        raise InvalidValue(f"{text!r}: a share of the machine is not known at submit, give bytes")
    size = parse_size(text, base)
    if size > INT64_MAX:
        raise InvalidValue(f"{text!r} is beyond 8 EiB")
    return size


def _positive_bytes(text: str) -> int | None:
    size = _bytes(text)
    if size == 0:
        raise InvalidValue(f"{text!r} is no limit that a process could live with; expected a size or infinity")
    return size


def _number(text: str, low: int, high: int) -> int:
    return parse_integer(text, low, high, "a number that fits")


def _memory(mapping: Parts, key: str, values: list[str]) -> None:
    size = _positive_bytes(values[-1])
    name = "MemoryReservation" if key == "MemoryHigh" else "Memory"
    if key == "MemoryLimit":
        mapping.warn(key, "deprecated, use MemoryMax")
        if "MemoryMax" in mapping.options:
            return
    if size is not None:
        mapping.host[name] = size


def _swap_limit(mapping: Parts, _key: str, values: list[str]) -> None:
    size = _bytes(values[-1])
    mapping.host["MemorySwap"] = -1 if size is None else size


def _swap(mapping: Parts) -> None:
    """The engine counts memory and swap together; without a memory limit a swap limit means nothing to it."""
    swap = mapping.host.get("MemorySwap", -1)
    if swap < 0:
        return
    if "Memory" in mapping.host:
        mapping.host["MemorySwap"] = mapping.host["Memory"] + swap
    else:
        del mapping.host["MemorySwap"]
        mapping.warn("MemorySwapMax", "no effect without MemoryMax: the engine limits both together")


def _cpu_quota(mapping: Parts, _key: str, values: list[str]) -> None:
    micros = parse_cpu_quota(values[-1])
    assert micros is not None, "an empty value has reset the key"
    mapping.host["NanoCpus"] = micros * 1_000


def _cpu_weight(mapping: Parts, _key: str, values: list[str]) -> None:
    if values[-1] == "idle":
        mapping.host["CpuShares"] = 2
        return
    weight = _number(values[-1], 1, 10000)
    mapping.host["CpuShares"] = 2 + (weight - 1) * 262142 // 9999


def _cpu_shares(mapping: Parts, key: str, values: list[str]) -> None:
    shares = _number(values[-1], 2, 262144)
    mapping.warn(key, "deprecated, use CPUWeight")
    mapping.host.setdefault("CpuShares", shares)


def _cpus(mapping: Parts, key: str, values: list[str]) -> None:
    text = ",".join(word for value in values for word in value.replace(",", " ").split())
    if re.fullmatch(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*", text) is None:
        raise InvalidValue(f"{' '.join(values)!r} is not a list of CPUs, expected for example 0-3 5")
    name = "CpusetMems" if key == "AllowedMemoryNodes" else "CpusetCpus"
    if key == "AllowedCPUs" or name not in mapping.host:
        mapping.host[name] = text


def _tasks(mapping: Parts, _key: str, values: list[str]) -> None:
    text = values[-1]
    if text.endswith("%"):
        raise InvalidValue(f"{text!r}: a share of the machine is not known at submit, give a number")
    mapping.host["PidsLimit"] = -1 if text == "infinity" else _number(text, 1, INT64_MAX)


def _limit(mapping: Parts, key: str, values: list[str]) -> None:
    limit = parse_rlimit(key.removeprefix("Limit"), values[-1])
    soft, hard = (-1 if bound is None else bound for bound in limit)
    if max(soft, hard) > INT64_MAX:
        raise InvalidValue(f"{values[-1]!r} is more than a container can have: expected infinity for no limit")
    mapping.append("Ulimits", {"Name": _LIMITS[key], "Soft": soft, "Hard": hard})


def _oom(mapping: Parts, _key: str, values: list[str]) -> None:
    mapping.host["OomScoreAdj"] = _number(values[-1], -1000, 1000)


def _io_weight(mapping: Parts, key: str, values: list[str]) -> None:
    if key == "BlockIOWeight":
        mapping.host.setdefault("BlkioWeight", _number(values[-1], 10, 1000))
        mapping.warn(key, "deprecated, use IOWeight")
        return
    weight = _number(values[-1], 1, 10000)
    # 100 is the default of systemd, 500 that of the engine's cgroup: piecewise linear through both and the two ends.
    mapping.host["BlkioWeight"] = 10 + (weight - 1) * 490 // 99 if weight <= 100 else 500 + (weight - 100) * 500 // 9900


_IO_RATES = {
    "IOReadBandwidthMax": "BlkioDeviceReadBps",
    "IOWriteBandwidthMax": "BlkioDeviceWriteBps",
    "IOReadIOPSMax": "BlkioDeviceReadIOps",
    "IOWriteIOPSMax": "BlkioDeviceWriteIOps",
}


def _io_rate(mapping: Parts, key: str, values: list[str]) -> None:
    for value in values:
        path, _, rate = value.partition(" ")
        if not path.startswith("/dev/") or not rate.strip():
            raise InvalidValue(f"{value!r}: expected a device and a rate, for example /dev/sda 5M")
        number = _bytes(rate.strip(), 1000)  # systemd.resource-control(5): rates count by the thousand
        if number is not None:
            mapping.append(_IO_RATES[key], {"Path": path, "Rate": number})


def _user(mapping: Parts, _key: str, values: list[str]) -> None:
    mapping.config["User"] = values[-1]


def _group(mapping: Parts) -> None:
    """`Group=` is the second half of the engine's one user setting; without a user it is root's."""
    groups = _since_reset(mapping.options.get("Group", []))
    if groups:
        mapping.config["User"] = f"{mapping.config.get('User') or '0'}:{groups[-1]}"


def _supplementary(mapping: Parts, _key: str, values: list[str]) -> None:
    mapping.append("GroupAdd", *(word for value in values for word in value.split()))


def _working_directory(mapping: Parts, key: str, values: list[str]) -> None:
    path = values[-1].removeprefix("-")
    if path == "~":
        mapping.warn(key, "'~' is not known to the engine; the image's own directory is used")
    elif path.startswith("/"):
        mapping.config["WorkingDir"] = path
    else:
        raise InvalidValue(f"{values[-1]!r} is not an absolute path")


def _kill_signal(mapping: Parts, _key: str, values: list[str]) -> None:
    mapping.config["StopSignal"] = values[-1]


def _ignore_group(_mapping: Parts, _key: str, _values: list[str]) -> None:
    """`Group=` is joined with the user at the end."""


_KEYS: dict[str, Handler] = {
    "MemoryMax": _memory,
    "MemoryLimit": _memory,
    "MemoryHigh": _memory,
    "MemorySwapMax": _swap_limit,
    "CPUQuota": _cpu_quota,
    "CPUWeight": _cpu_weight,
    "CPUShares": _cpu_shares,
    "AllowedCPUs": _cpus,
    "CPUAffinity": _cpus,
    "AllowedMemoryNodes": _cpus,
    "TasksMax": _tasks,
    **dict.fromkeys(_LIMITS, _limit),
    "OOMScoreAdjust": _oom,
    "IOWeight": _io_weight,
    "BlockIOWeight": _io_weight,
    **dict.fromkeys(_IO_RATES, _io_rate),
    **SANDBOX_KEYS,
    "User": _user,
    "Group": _ignore_group,
    "SupplementaryGroups": _supplementary,
    "WorkingDirectory": _working_directory,
    "KillSignal": _kill_signal,
}

KNOWN_KEYS = frozenset(_KEYS) | frozenset(_UNAVAILABLE)
"""Every `[Service]` key this module speaks about, mapped or answered with a warning."""
