"""The body of the Engine API's request that creates a container, exactly as the docker client 20.10 sends it."""

import re
from collections.abc import Mapping
from typing import Any

from xchronos.dockercli.flags import Parsed
from xchronos.dockercli.options.devices import cdi_request, is_cdi, parse_device
from xchronos.dockercli.options.mounts import parse_tmpfs, split_volumes
from xchronos.dockercli.options.network import Attachment, endpoints
from xchronos.dockercli.options.ports import expose, publish
from xchronos.dockercli.references import check_image
from xchronos.dockercli.values import key_values
from xchronos.errors import InvalidValue

_CONFIG_KEYS = {
    "hostname": "Hostname",
    "domainname": "Domainname",
    "user": "User",
    "workdir": "WorkingDir",
    "tty": "Tty",
    "interactive": "OpenStdin",
    "stop-timeout": "StopTimeout",
}
_CONFIG_KEYS_IF_SET = {"stop-signal": "StopSignal", "mac-address": "MacAddress"}
_HOST_KEYS = {
    "rm": "AutoRemove",
    "privileged": "Privileged",
    "publish-all": "PublishAllPorts",
    "read-only": "ReadonlyRootfs",
    "oom-kill-disable": "OomKillDisable",
    "init": "Init",
    "cidfile": "ContainerIDFile",
    "volume-driver": "VolumeDriver",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "cgroup-parent": "CgroupParent",
    "ipc": "IpcMode",
    "pid": "PidMode",
    "uts": "UTSMode",
    "userns": "UsernsMode",
    "cgroupns": "CgroupnsMode",
    "isolation": "Isolation",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "memory-swappiness": "MemorySwappiness",
    "kernel-memory": "KernelMemory",
    "shm-size": "ShmSize",
    "cpus": "NanoCpus",
    "cpu-shares": "CpuShares",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "oom-score-adj": "OomScoreAdj",
    "pids-limit": "PidsLimit",
    "blkio-weight": "BlkioWeight",
    "blkio-weight-device": "BlkioWeightDevice",
    "device-read-bps": "BlkioDeviceReadBps",
    "device-write-bps": "BlkioDeviceWriteBps",
    "device-read-iops": "BlkioDeviceReadIOps",
    "device-write-iops": "BlkioDeviceWriteIOps",
    "device-cgroup-rule": "DeviceCgroupRules",
    "gpus": "DeviceRequests",
    "mount": "Mounts",
    "link": "Links",
    "volumes-from": "VolumesFrom",
    "cap-add": "CapAdd",
    "cap-drop": "CapDrop",
    "group-add": "GroupAdd",
    "add-host": "ExtraHosts",
    "dns": "Dns",
    "dns-option": "DnsOptions",
    "dns-search": "DnsSearch",
    "restart": "RestartPolicy",
}
_HEALTH_KEYS = {
    "health-interval": "Interval",
    "health-timeout": "Timeout",
    "health-start-period": "StartPeriod",
    "health-start-interval": "StartInterval",
    "health-retries": "Retries",
}
RESERVED = "xchronos."
"""Labels that begin so tell whose a container is: what a unit or a label file says of them is left out."""

_ENGINE_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")


def empty_body(image: str) -> dict[str, Any]:
    """The body that `docker create <image>` sends. Every call makes new dicts and lists, so that bodies share nothing.

    The test `test_bodies_share_nothing` pins that.
    """
    return {
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": None,
        "Cmd": None,
        "Image": image,
        "Volumes": {},
        "WorkingDir": "",
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": {},
        "HostConfig": {
            "Binds": None,
            "ContainerIDFile": "",
            "LogConfig": {"Type": "", "Config": {}},
            "NetworkMode": "default",
            "PortBindings": {},
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "AutoRemove": False,
            "VolumeDriver": "",
            "VolumesFrom": None,
            "CapAdd": None,
            "CapDrop": None,
            "CgroupnsMode": "",
            "Dns": [],
            "DnsOptions": [],
            "DnsSearch": [],
            "ExtraHosts": None,
            "GroupAdd": None,
            "IpcMode": "",
            "Cgroup": "",
            "Links": None,
            "OomScoreAdj": 0,
            "PidMode": "",
            "Privileged": False,
            "PublishAllPorts": False,
            "ReadonlyRootfs": False,
            "SecurityOpt": None,
            "UTSMode": "",
            "UsernsMode": "",
            "ShmSize": 0,
            "ConsoleSize": [0, 0],
            "Isolation": "",
            "CpuShares": 0,
            "Memory": 0,
            "NanoCpus": 0,
            "CgroupParent": "",
            "BlkioWeight": 0,
            "BlkioWeightDevice": [],
            "BlkioDeviceReadBps": None,
            "BlkioDeviceWriteBps": None,
            "BlkioDeviceReadIOps": None,
            "BlkioDeviceWriteIOps": None,
            "CpuPeriod": 0,
            "CpuQuota": 0,
            "CpuRealtimePeriod": 0,
            "CpuRealtimeRuntime": 0,
            "CpusetCpus": "",
            "CpusetMems": "",
            "Devices": [],
            "DeviceCgroupRules": None,
            "DeviceRequests": None,
            "KernelMemory": 0,
            "KernelMemoryTCP": 0,
            "MemoryReservation": 0,
            "MemorySwap": 0,
            "MemorySwappiness": -1,
            "OomKillDisable": False,
            "PidsLimit": 0,
            "Ulimits": None,
            "CpuCount": 0,
            "CpuPercent": 0,
            "IOMaximumIOps": 0,
            "IOMaximumBandwidth": 0,
            "MaskedPaths": None,
            "ReadonlyPaths": None,
        },
        "NetworkingConfig": {"EndpointsConfig": {}},
    }


def container_parts(parsed: Parsed, env: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `Create` for the parsed options and words of `run` or `create`: body, name, image, files ...

    `env` holds the values for `-e NAME`. Raises InvalidValue for options that contradict each other and for an image
    that is no reference.
    """
    if not parsed.words:
        raise InvalidValue("no image is given, expected [options] image [command] [argument...]")
    image = check_image(parsed.words[0])
    body = empty_body(image)
    host: dict[str, Any] = body["HostConfig"]
    if len(parsed.words) > 1:
        body["Cmd"] = parsed.words[1:]
    for option, value in parsed.values.items():
        if option in _HOST_KEYS:
            host[_HOST_KEYS[option]] = value
        elif option in _CONFIG_KEYS:
            body[_CONFIG_KEYS[option]] = value
        elif option in _CONFIG_KEYS_IF_SET and value:
            body[_CONFIG_KEYS_IF_SET[option]] = value
    _streams(parsed, body)
    _process(parsed, body, env)
    _storage(parsed, body, host)
    _ports(parsed, body, host)
    _limits(parsed, host)
    _health(parsed, body)
    profile = _security(parsed, host)
    networks = _networks(parsed, body, host)
    if host["AutoRemove"] and host["RestartPolicy"]["Name"] not in {"", "no"}:
        raise InvalidValue("conflicting options: --restart and --rm")
    if parsed.get("disable-content-trust") is False:
        raise InvalidValue("--disable-content-trust=false: signatures are not verified here; pin a digest instead")
    name = parsed.get("name") or None
    if name is not None and _ENGINE_NAME.fullmatch(name) is None:
        parsed.warnings.append(
            f"--name {name}: the engine will refuse this name, expected two or more of letters, digits, '_', '.', '-'"
        )
    return {
        "name": name,
        "image": image,
        "body": body,
        "platform": parsed.get("platform", ""),
        "pull": parsed.get("pull", "missing"),
        "quiet": parsed.get("quiet", False),
        "networks": networks,
        "env_files": tuple(parsed.many("env-file")),
        "label_files": tuple(parsed.many("label-file")),
        "seccomp_profile": profile,
        "cidfile": parsed.get("cidfile", ""),
    }


def environment(words: list[str], env: Mapping[str, str]) -> list[str] | None:
    """`Env` for the words of `--env`. A later word for the same variable wins.

    `NAME` alone takes its value from `env`. If `env` has none, the word stays as it is.
    """
    by_name: dict[str, str] = {}
    for word in words:
        name, equals, _ = word.partition("=")
        by_name[name] = word if equals or name not in env else f"{name}={env[name]}"
    return list(by_name.values()) or None


def _streams(parsed: Parsed, body: dict[str, Any]) -> None:
    streams = parsed.get("attach")
    if streams is not None:
        if parsed.get("detach"):
            raise InvalidValue("conflicting options: -a and -d")
        body["AttachStdout"] = "stdout" in streams
        body["AttachStderr"] = "stderr" in streams
        body["AttachStdin"] = "stdin" in streams
    if body["OpenStdin"]:
        body["AttachStdin"] = body["StdinOnce"] = True


def _process(parsed: Parsed, body: dict[str, Any], env: Mapping[str, str]) -> None:
    entrypoint = parsed.get("entrypoint")
    if entrypoint is not None:
        body["Entrypoint"] = [entrypoint]
    body["Env"] = environment(parsed.many("env"), env)
    body["Labels"] = key_values(parsed.many("label"))
    reserved = [name for name in body["Labels"] or () if name.startswith(RESERVED)]
    if reserved:
        parsed.warnings.append(f"--label {', '.join(reserved)}: left out, labels that begin with {RESERVED} are ours")


def _storage(parsed: Parsed, body: dict[str, Any], host: dict[str, Any]) -> None:
    binds, body["Volumes"] = split_volumes(parsed.many("volume"))
    host["Binds"] = binds or None
    for bind in binds:
        if bind[0] == "~":
            parsed.warnings.append(f"--volume {bind}: no shell expands the ~, expected an absolute host path")
    if "tmpfs" in parsed.values:
        host["Tmpfs"] = parse_tmpfs(parsed.values["tmpfs"])
    if "mount" in parsed.values and host["VolumeDriver"]:
        parsed.warnings.append("--volume-driver: ignored for --mount; write volume-driver=... into the mount")
    if "storage-opt" in parsed.values:
        host["StorageOpt"] = key_values(parsed.values["storage-opt"])


def _ports(parsed: Parsed, body: dict[str, Any], host: dict[str, Any]) -> None:
    exposed, host["PortBindings"] = publish(parsed.many("publish"))
    expose(parsed.many("expose"), exposed)
    if exposed:
        body["ExposedPorts"] = exposed


def _limits(parsed: Parsed, host: dict[str, Any]) -> None:
    devices = parsed.many("device")
    if devices:
        host["Devices"] = [parse_device(device) for device in devices if not is_cdi(device)]
        named = [device for device in devices if is_cdi(device)]
        if named:
            host["DeviceRequests"] = [*(host["DeviceRequests"] or ()), cdi_request(named)]
    ulimits = parsed.many("ulimit")
    if ulimits:
        by_name = {limit["Name"]: limit for limit in ulimits}
        host["Ulimits"] = [by_name[name] for name in sorted(by_name)]
    if "sysctl" in parsed.values:
        host["Sysctls"] = dict(parsed.values["sysctl"])
    if "annotation" in parsed.values:
        host["Annotations"] = key_values(parsed.values["annotation"])
    if parsed.get("runtime"):
        host["Runtime"] = parsed.values["runtime"]
    if "log-driver" in parsed.values or "log-opt" in parsed.values:
        driver = parsed.get("log-driver", "")
        if driver == "none" and "log-opt" in parsed.values:
            raise InvalidValue("invalid logging opts for driver none: it takes none")
        host["LogConfig"] = {"Type": driver, "Config": key_values(parsed.many("log-opt"))}


def _health(parsed: Parsed, body: dict[str, Any]) -> None:
    settings = {key: parsed.values[option] for option, key in _HEALTH_KEYS.items() if parsed.get(option)}
    command = parsed.get("health-cmd")
    if command:
        keyword = command.partition(" ")[0]
        if keyword in {"CMD", "CMD-SHELL"}:
            parsed.warnings.append(
                f"--health-cmd {keyword} ...: docker hands the whole line to a shell: leave {keyword} out"
            )
        settings = {"Test": ["CMD-SHELL", command], **settings}
    if parsed.get("no-healthcheck"):
        if settings:
            raise InvalidValue("--no-healthcheck conflicts with --health-* options")
        settings = {"Test": ["NONE"]}
    if settings:
        body["Healthcheck"] = settings


def _security(parsed: Parsed, host: dict[str, Any]) -> str:
    """Set SecurityOpt and the system paths. Returns the path of a seccomp profile on the machine, or ""."""
    options = parsed.get("security-opt")
    if options is None:
        return ""
    profile = ""
    kept: list[str] = []
    for option in options:
        name, equals, value = option.partition("=")
        if not equals and option != "no-new-privileges":
            name, colon, value = option.partition(":")
            if not colon:
                raise InvalidValue(f'invalid --security-opt: "{option}", expected for example no-new-privileges')
        if option == "systempaths=unconfined":
            host["MaskedPaths"], host["ReadonlyPaths"] = [], []
        elif name != "seccomp" or value in {"unconfined", "builtin"} or value.startswith("{"):
            kept.append(option)
        elif value:
            profile = value
        else:
            raise InvalidValue("--security-opt seccomp=: expected the path of a profile, unconfined or builtin")
    host["SecurityOpt"] = kept
    return profile


def _networks(parsed: Parsed, body: dict[str, Any], host: dict[str, Any]) -> tuple[str, ...]:
    networks: list[Attachment] = parsed.many("network")
    if networks:
        first = networks[0]
        _complete(parsed, first)
        body["NetworkingConfig"]["EndpointsConfig"] = endpoints(networks)
        host["NetworkMode"] = first.target
        return tuple(network.target for network in networks)
    for option in ("ip", "ip6", "link-local-ip", "network-alias"):
        if option in parsed.values:
            parsed.warnings.append(f"--{option}: no effect without --network")
    return ()


def _complete(parsed: Parsed, network: Attachment) -> None:
    """Set on `network`, the first one, what `--network-alias`, `--link`, `--ip`, `--ip6` and `--link-local-ip` say."""
    aliases, links, local = parsed.many("network-alias"), parsed.many("link"), parsed.many("link-local-ip")
    ipv4, ipv6 = parsed.get("ip", ""), parsed.get("ip6", "")
    for option, given, own in (
        ("network-alias", aliases, network.aliases),
        ("ip", ipv4, network.ipv4),
        ("ip6", ipv6, network.ipv6),
        ("link-local-ip", local, network.link_local),
    ):
        if given and own:
            raise InvalidValue(f"conflicting options: --{option} and the network's own in --network")
    network.aliases = aliases or network.aliases
    network.ipv4 = ipv4 or network.ipv4
    network.ipv6 = ipv6 or network.ipv6
    network.link_local = local or network.link_local
    network.links = list(links)
