"""The options of `docker run` and `docker create`: those of the client 20.10 and all that later clients added.

The test `test_every_option_acts_or_says_that_it_does_not` pins that each option acts, warns or is refused.
"""

from xchronos.dockercli.flags import Flag, table
from xchronos.dockercli.options.devices import (
    parse_bps,
    parse_cgroup_rule,
    parse_extra_host,
    parse_gpus,
    parse_iops,
    parse_link,
    parse_restart,
    parse_stream,
    parse_sysctl,
    parse_ulimit,
    parse_weight,
)
from xchronos.dockercli.options.mounts import parse_mount
from xchronos.dockercli.options.network import parse_network
from xchronos.dockercli.references import parse_platform
from xchronos.dockercli.values import (
    parse_cpus,
    parse_dns,
    parse_domain,
    parse_duration,
    parse_env,
    parse_int,
    parse_label,
    parse_mac,
    parse_size,
    parse_swap,
    parse_uint16,
)
from xchronos.errors import InvalidValue

_WINDOWS = "it exists only on Windows engines; remove it"
_LXC = "Docker's LXC driver is gone since 1.10; use the option of docker run that sets the same limit"


def _pid(text: str) -> str:
    if text in {"", "host"} or (text.startswith("container:") and text.count(":") == 1 and text[10:]):
        return text
    raise InvalidValue(f"invalid PID mode {text!r}, expected host or container:<name>")


def _host_only(text: str) -> str:
    if text in {"", "host"}:
        return text
    raise InvalidValue(f"invalid mode {text!r}, expected host")


def _cgroupns(text: str) -> str:
    if text in {"", "host", "private"}:
        return text
    raise InvalidValue(f"invalid mode {text!r}, expected host or private")


def _swappiness(text: str) -> int:
    value = parse_int(text)
    if not -1 <= value <= 100:
        raise InvalidValue(f"invalid value: {value}, the valid range is 0 to 100")
    return value


def _not_negative_duration(text: str) -> int:
    value = parse_duration(text)
    if value < 0:
        raise InvalidValue(f"{text!r} is negative")
    return value


def _not_negative(text: str) -> int:
    value = parse_int(text)
    if value < 0:
        raise InvalidValue(f"{text!r} is negative")
    return value


def _pull(text: str) -> str:
    if text not in {"always", "missing", "never", ""}:
        raise InvalidValue(f"invalid pull option {text!r}, expected always, missing or never")
    return text or "missing"


def _storage(text: str) -> str:
    if "=" not in text:
        raise InvalidValue(f"invalid storage option {text!r}, expected key=value")
    return text


NO_INPUT = "no effect: a step has no standard input"
NO_KEYS = "no effect: nobody types at a step"
NO_SIGNATURES = "no effect: signatures of images are never verified here"
_ALL_OUTPUT = "no effect: the step's log has all output"
_OLD_KERNEL_MEMORY = "engines from 23.0 on ignore it; write --memory"

_FLAGS = ("rm", "privileged", "read-only", "oom-kill-disable", "init", "no-healthcheck")
_TEXTS = (
    "name", "domainname", "entrypoint", "stop-signal", "ip", "ip6", "log-driver", "volume-driver", "cpuset-cpus",
    "cpuset-mems", "cgroup-parent", "ipc", "isolation", "runtime", "health-cmd",
)  # fmt: skip
_LISTS = (
    "env-file", "label-file", "device", "group-add", "cap-add", "cap-drop", "security-opt", "dns-option", "expose",
    "link-local-ip", "network-alias", "log-opt", "tmpfs", "volumes-from", "annotation",
)  # fmt: skip
_INTS = ("cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime", "oom-score-adj", "pids-limit", "stop-timeout")
_SIZES = ("memory-reservation", "shm-size")

_COMMON = (
    *(Flag(name, kind="bool") for name in _FLAGS),
    *(Flag(name) for name in _TEXTS),
    *(Flag(name, kind="many") for name in _LISTS),
    *(Flag(name, parse=parse_int) for name in _INTS),
    *(Flag(name, parse=parse_size) for name in _SIZES),
    *(Flag(f"device-{way}-bps", kind="many", parse=parse_bps) for way in ("read", "write")),
    *(Flag(f"device-{way}-iops", kind="many", parse=parse_iops) for way in ("read", "write")),
    *(
        Flag(name, parse=_not_negative_duration)
        for name in ("health-interval", "health-timeout", "health-start-period", "health-start-interval")
    ),
    *(Flag(name, refuse=_WINDOWS) for name in ("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops")),
    Flag("lxc-conf", refuse=_LXC),
    Flag(
        "use-api-socket",
        kind="bool",
        refuse="it hands over credentials; use -v /var/run/docker.sock:/var/run/docker.sock",
    ),
    Flag("disable-content-trust", kind="bool", note=NO_SIGNATURES),
    Flag("kernel-memory", parse=parse_size, note=_OLD_KERNEL_MEMORY),
    Flag("interactive", "i", "bool", note=NO_INPUT),
    Flag("tty", "t", "bool"),
    Flag("quiet", "q", "bool"),
    Flag("publish-all", "P", "bool"),
    Flag("hostname", "h"),
    Flag("user", "u"),
    Flag("workdir", "w"),
    Flag("memory", "m", parse=parse_size),
    Flag("cpu-shares", "c", parse=parse_int),
    Flag("attach", "a", "many", parse_stream, note=_ALL_OUTPUT),
    Flag("env", "e", "many", parse_env),
    Flag("label", "l", "many", parse_label),
    Flag("publish", "p", "many"),
    Flag("volume", "v", "many"),
    Flag("add-host", "", "many", parse_extra_host),
    Flag("blkio-weight", parse=parse_uint16),
    Flag("blkio-weight-device", "", "many", parse_weight),
    Flag("cgroupns", parse=_cgroupns),
    Flag("cidfile"),
    Flag("cpus", parse=parse_cpus),
    Flag("device-cgroup-rule", "", "many", parse_cgroup_rule),
    Flag("dns", "", "many", parse_dns),
    Flag("dns-search", "", "many", parse_domain),
    Flag("gpus", "", "many", parse_gpus),
    Flag("health-retries", parse=_not_negative),
    Flag("link", "", "many", parse_link),
    Flag("mac-address", parse=parse_mac),
    Flag("memory-swap", parse=parse_swap),
    Flag("memory-swappiness", parse=_swappiness),
    Flag("mount", "", "many", parse_mount),
    Flag("network", "", "many", parse_network),
    Flag("pid", parse=_pid),
    Flag("platform", parse=parse_platform),
    Flag("pull", parse=_pull),
    Flag("restart", parse=parse_restart),
    Flag("storage-opt", "", "many", _storage),
    Flag("sysctl", "", "many", parse_sysctl),
    Flag("ulimit", "", "many", parse_ulimit),
    Flag("userns", parse=_host_only),
    Flag("uts", parse=_host_only),
)
_SYNONYMS = {"net": "network", "net-alias": "network-alias", "dns-opt": "dns-option"}

CREATE = table("create", _COMMON, _SYNONYMS, interspersed=False)
"""The options of `docker create`."""

RUN = table(
    "run",
    (*_COMMON, Flag("detach", "d", "bool"), Flag("sig-proxy", kind="bool"), Flag("detach-keys", note=NO_KEYS)),
    _SYNONYMS,
    interspersed=False,
)
"""The options of `docker run`: those of `docker create`, and the options of attaching to the container."""
