"""Devices, GPUs, limits and other small structured values of `docker run`.

Every `parse_*` function reads one value and raises InvalidValue.
"""

import posixpath
import re
from typing import Any

from xchronos.dockercli.values import (
    csv_fields,
    key_values,
    parse_decimal_int,
    parse_digits,
    parse_ip,
    parse_size,
)
from xchronos.errors import InvalidValue

_ULIMITS = frozenset(
    (
        "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
        "rttime", "sigpending", "stack",
    )
)  # fmt: skip
_CGROUP_RULE = re.compile(r"[acb] (?:[0-9]+|\*):(?:[0-9]+|\*) [rwm]{1,3}")
_CDI = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?=[A-Za-z0-9][^:/]*")
_SYSCTLS = frozenset(
    "kernel." + name for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
_SYSCTL_PREFIXES = ("net.", "fs.mqueue.")
_UINT64_MAX = (1 << 64) - 1


def is_cdi(device: str) -> bool:
    """Whether a `--device` value names a CDI device, `vendor.com/class=name`."""
    return _CDI.fullmatch(device) is not None


def cdi_request(names: list[str]) -> dict[str, Any]:
    """The entry of `HostConfig.DeviceRequests` for the CDI devices `names`."""
    return {"Driver": "cdi", "Count": 0, "DeviceIDs": names, "Capabilities": None, "Options": None}


def parse_device(text: str) -> dict[str, str]:
    """One entry of `HostConfig.Devices`: `host[:container][:rwm]`."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise InvalidValue(f"invalid device {text!r}, expected host path[:container path][:rwm]")
    host, inside, mode = parts[0], parts[0], "rwm"
    if len(parts) == 1:
        host = inside = _clean(host)
    elif len(parts) == 2 and _is_mode(parts[1]):
        host = inside = _clean(host)
        mode = parts[1]
    elif len(parts) == 2:
        inside = _clean(parts[1])
    else:
        inside, mode = parts[1], parts[2]
        if not _is_mode(mode):
            raise InvalidValue(f"invalid device {text!r}: bad mode {mode!r}, expected letters of rwm")
    if not inside.startswith("/"):
        raise InvalidValue(f"invalid device {text!r}: {inside!r} is not an absolute path")
    return {"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": mode}


def _clean(path: str) -> str:
    path = posixpath.normpath(path) if path else ""
    return path[1:] if path.startswith("//") else path


def _is_mode(text: str) -> bool:
    return bool(text) and not text.strip("rwm") and len(set(text)) == len(text)


def parse_cgroup_rule(text: str) -> str:
    """A value of `--device-cgroup-rule`, such as `c 1:3 mr`."""
    if _CGROUP_RULE.fullmatch(text) is None:
        raise InvalidValue(f"invalid device cgroup format {text!r}, expected for example 'c 1:3 mr'")
    return text


def _device_value(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon:
        raise InvalidValue(f"bad format: {text!r}, expected <device path>:<number>")
    if not path.startswith("/dev/"):
        raise InvalidValue(f"bad format for device path: {text!r}, expected a path below /dev/")
    return path, value


def parse_bps(text: str) -> dict[str, Any]:
    """A device and a rate in bytes per second, such as `/dev/sda:1mb`."""
    path, value = _device_value(text)
    return {"Path": path, "Rate": parse_size(value)}


def parse_iops(text: str) -> dict[str, Any]:
    """A device and a rate in operations per second, such as `/dev/sda:1000`."""
    path, value = _device_value(text)
    return {"Path": path, "Rate": parse_digits(value, _UINT64_MAX)}


def parse_weight(text: str) -> dict[str, Any]:
    """A block device and its weight, 0 or from 10 to 1000, such as `/dev/sda:200`."""
    path, value = _device_value(text)
    weight = parse_digits(value, 1000)
    if 0 < weight < 10:
        raise InvalidValue(f"invalid weight for device: {text!r}, expected 0 or 10 to 1000")
    return {"Path": path, "Weight": weight}


def parse_ulimit(text: str) -> dict[str, Any]:
    """One entry of `HostConfig.Ulimits`: `name=soft[:hard]`. -1 means no limit."""
    name, equals, value = text.partition("=")
    limits = value.split(":")
    if not equals or len(limits) > 2:
        raise InvalidValue(f"invalid ulimit {text!r}, expected name=soft[:hard]")
    if name not in _ULIMITS:
        raise InvalidValue(f"invalid ulimit type {name!r}, expected one of {', '.join(sorted(_ULIMITS))}")
    soft = parse_decimal_int(limits[0])
    hard = parse_decimal_int(limits[-1])
    if hard != -1 and len(limits) > 1 and (soft == -1 or soft > hard):
        raise InvalidValue(f"the soft limit of {text!r} is above the hard limit")
    return {"Name": name, "Hard": hard, "Soft": soft}


def parse_sysctl(text: str) -> tuple[str, str]:
    """A kernel parameter that each container has for itself: `net.*`, `fs.mqueue.*` or the IPC part of `kernel.*`."""
    name, equals, value = text.partition("=")
    if not equals or (name not in _SYSCTLS and not text.startswith(_SYSCTL_PREFIXES)):
        raise InvalidValue(f"sysctl {text!r} is not allowed in a container, expected net.*, fs.mqueue.* or kernel IPC")
    return name, value


def parse_gpus(text: str) -> dict[str, Any]:
    """One entry of `HostConfig.DeviceRequests`: `all`, a count, or `device=,driver=,capabilities=,options=,count=`."""
    count: int | None = None
    devices: list[str] | None = None
    driver, options = "", {}
    capabilities = [["gpu"]]
    seen: set[str] = set()
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        if key in seen:
            raise InvalidValue(f"the gpu request key {key!r} can be given only once")
        seen.add(key)
        if not equals:
            seen.add("count")
            count = _gpu_count(key)
        elif key == "count":
            count = _gpu_count(value)
        elif key == "driver":
            driver = value
        elif key == "device":
            devices = value.split(",")
        elif key == "capabilities":
            capabilities = [[*value.split(","), "gpu"]]
        elif key == "options":
            options = key_values(csv_fields(value)) if value else {}
        else:
            raise InvalidValue(
                f"unexpected key {key!r} in {field!r}, expected count, driver, device, capabilities or options"
            )
    if count is None:
        count = 0 if devices is not None else 1
    return {"Driver": driver, "Count": count, "DeviceIDs": devices, "Capabilities": capabilities, "Options": options}


def _gpu_count(text: str) -> int:
    if text == "all":
        return -1
    try:
        return parse_decimal_int(text)
    except InvalidValue as error:
        raise InvalidValue(f"the number of gpus must be an integer or all: {error}") from None


def parse_extra_host(text: str) -> str:
    """A line for /etc/hosts: `name:ip` or `name=ip`. The address may be `host-gateway`, or be in brackets."""
    equals, colon = text.find("="), text.find(":")
    at = equals if 0 <= equals < (colon if colon >= 0 else len(text)) else colon
    if at <= 0:
        raise InvalidValue(f"bad format for add-host: {text!r}, expected name:ip")
    name, address = text[:at], text[at + 1 :]
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if bare != "host-gateway" and parse_ip(bare.strip()) is None:
        raise InvalidValue(f"invalid IP address in add-host: {address!r}")
    return f"{name}:{bare}"


def parse_link(text: str) -> str:
    """A link to another container: `name[:alias]`."""
    if not text or text.count(":") > 1:
        raise InvalidValue(f"bad format for links: {text!r}, expected name[:alias]")
    return text


def parse_restart(text: str) -> dict[str, Any]:
    """`HostConfig.RestartPolicy` for `no`, `always`, `unless-stopped` or `on-failure[:max-retries]`."""
    name, _, retries = text.partition(":")
    if ":" in retries:
        raise InvalidValue(f"invalid restart policy {text!r}, expected for example on-failure:5")
    try:
        count = parse_decimal_int(retries) if retries else 0
    except InvalidValue:
        raise InvalidValue(f"invalid restart policy {text!r}: the maximum retry count must be an integer") from None
    return {"Name": name, "MaximumRetryCount": count}


def parse_stream(text: str) -> str:
    """A stream of `--attach`, in any case."""
    stream = text.lower()
    if stream not in {"stdin", "stdout", "stderr"}:
        raise InvalidValue(f"{text!r} is no stream, expected STDIN, STDOUT or STDERR")
    return stream
