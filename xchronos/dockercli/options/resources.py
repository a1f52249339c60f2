"""systemd's resource keys of `[Service]`, as parts of the body that creates a container.

The module `sandbox` has the functions for the sandbox keys. `Restart=`, the timeouts and the Exec lines are not read
here, because agents carry them out themselves. The rules (`test_host_key` and `test_config_key` pin them):

- `MemoryMax=` is `Memory`. `MemoryHigh=` is `MemoryReservation`, which is only similar: a soft floor.
- The engine counts memory and swap together: `MemorySwap` is the sum of `MemoryMax=` and `MemorySwapMax=`.
- `CPUQuota=150%` is `NanoCpus` of 1.5 billion. Less than 1 % is a `CpuQuota` in a `CpuPeriod` of a second.
- `CPUWeight=` 1 to 10,000 becomes `CpuShares` 2 to 262,144, linearly.
- `TasksMax=` is `PidsLimit`, and each `LimitX=` is an entry of `Ulimits`. In both, infinity is -1.
- `IOWeight=` becomes `BlkioWeight`, on another scale.
- A key that the engine has nothing for gives a warning. So does an old name of a key.
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
    """(body parts, problems) for the resource and sandbox keys of `[Service]`.

    `options` holds the values of every key, in the order of the file. An empty value resets the key: the values before
    it do not count. The parts are fields of the create body, those of the host below `HostConfig`. Other keys are
    ignored.

    A value that cannot be read is an error. systemd would warn and run the service without the limit. Here nobody
    watches the machine's log, and a job without its limit harms other jobs.
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


_LEAST_CPU = 10_000
"""The least CPU time, in microseconds of each second, that engines take as a number of CPUs (20.10 to 28)."""


def _bytes(text: str, base: int = 1024) -> int | None:
    """A systemd size in bytes; K, M, G and T are powers of `base`. None for infinity."""
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
    """Add the memory limit to the swap limit, because the engine counts both together.

    Without a memory limit the engine has no use for a swap limit.
    """
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
    if micros < _LEAST_CPU:
        # The engine refuses less than a hundredth of a CPU, but takes what it means: so much of each second.
        mapping.host |= {"CpuPeriod": 1_000_000, "CpuQuota": micros}
    else:
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
    # The default weight is 100 in systemd and 500 in the engine's cgroup. The scale has two straight parts, which meet
    # at the defaults and end at the ends of both ranges.
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
        number = _bytes(rate.strip(), 1000)  # systemd.resource-control(5): in rates, K is 1000
        if number is not None:
            mapping.append(_IO_RATES[key], {"Path": path, "Rate": number})


def _user(mapping: Parts, _key: str, values: list[str]) -> None:
    mapping.config["User"] = values[-1]


def _group(mapping: Parts) -> None:
    """Add `Group=` to the user: the engine has one setting `user:group`. Without `User=` the user is root."""
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
    """Do nothing: `_group` adds `Group=` to the user after all keys are read."""


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

RESOURCE_KEYS = frozenset(_KEYS) | frozenset(_UNAVAILABLE)
"""Every key of `[Service]` that this module maps to the engine or warns about."""
