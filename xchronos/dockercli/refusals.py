"""What an engine refuses when a container is created: the rules that can be told from the create body alone.

The docker client sends such a body without a word, so its author learns of it when the step runs. Each rule was seen on
the engines that `SEEN_ON` names: `tests/dockercli/test_refusals.py` has a line for each of them.
Other engines may allow more (Podman has no least memory), so a broken rule is a warning and no error.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.capabilities import CAPABILITY_NAMES
from xchronos.unitfile.directives.signals import parse_signal

SEEN_ON = "Docker 20.10"
"""The engines on which the rules were seen."""

_LEAST_MEMORY = 6 << 20
_MILLISECOND = 1_000_000
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_CPU_SET = re.compile(r"[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*")
_MODES = (
    frozenset(("ro", "rw")),
    frozenset(("z", "Z")),
    frozenset(("shared", "rshared", "slave", "rslave", "private", "rprivate")),
    frozenset(("consistent", "cached", "delegated", "default")),
    frozenset(("nocopy",)),
)
_PROPAGATIONS = _MODES[2]
_SECURITY = frozenset(
    ("label", "apparmor", "seccomp", "no-new-privileges", "credentialspec", "systempaths", "writable-cgroups")
)
_JSON_FILE = re.compile(
    r"max-size|max-file|compress|labels|labels-regex|env|env-regex|tag|mode|max-buffer-size|cache-.+"
)
_RESTARTS = frozenset(("", "no", "always", "unless-stopped", "on-failure"))


class CreateRefusal(NamedTuple):
    """Why an engine refuses a body, and the options of `docker run` that it is about; the first one is to blame."""

    options: tuple[str, ...]
    message: str


Rule = Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[CreateRefusal]]
"""Given a create body and its HostConfig. Fields may be missing: they have the engine's defaults."""


def refusals(body: Mapping[str, Any], *, resolves: bool = False) -> list[CreateRefusal]:
    """Every reason for which an engine refuses to create this container.

    `resolves`: the sources of binds that begin with a dot become absolute before they are sent.
    """
    host = body.get("HostConfig") or {}
    found = [refusal for rule in _RULES for refusal in rule(body, host)]
    return [one for one in found if not (resolves and one.message.startswith(_RELATIVE))]


def _memory(_body: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[CreateRefusal]:
    memory, swap = host.get("Memory") or 0, host.get("MemorySwap") or 0
    reserved = host.get("MemoryReservation") or 0
    if 0 < memory < _LEAST_MEMORY:
        yield CreateRefusal(("memory",), "less than 6 MB of memory")
    if 0 < reserved < _LEAST_MEMORY:
        yield CreateRefusal(("memory-reservation",), "a reservation of less than 6 MB of memory")
    if swap > 0 and not memory:
        yield CreateRefusal(("memory-swap", "memory"), "a limit of memory and swap without one of memory")
    elif 0 < swap < memory:
        yield CreateRefusal(("memory-swap", "memory"), "memory and swap together are less than the memory alone")
    if 0 < memory < reserved:
        yield CreateRefusal(("memory-reservation", "memory"), "more memory is reserved than there may be")


def _cpu(_body: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[CreateRefusal]:
    period, quota = host.get("CpuPeriod") or 0, host.get("CpuQuota") or 0
    for option, given in (("cpu-quota", quota), ("cpu-period", period)):
        if host.get("NanoCpus") and given:
            yield CreateRefusal((option, "cpus"), f"--cpus and --{option} together")
    if (host.get("NanoCpus") or 0) < 0:
        yield CreateRefusal(("cpus",), "a negative number of CPUs")
    if period and not 1_000 <= period <= 1_000_000:
        yield CreateRefusal(("cpu-period",), "a period that is not from 1,000 to 1,000,000 microseconds")
    if 0 < quota < 1_000:
        yield CreateRefusal(("cpu-quota",), "a quota of less than 1,000 microseconds")
    for option, key in (("cpuset-cpus", "CpusetCpus"), ("cpuset-mems", "CpusetMems")):
        text = host.get(key) or ""
        if text and not _is_set(text):
            yield CreateRefusal((option,), f"{text!r} is no list of numbers and ranges")
    if not -1000 <= (host.get("OomScoreAdj") or 0) <= 1000:
        yield CreateRefusal(("oom-score-adj",), "a score that is not from -1000 to 1000")


def _is_set(text: str) -> bool:
    if _CPU_SET.fullmatch(text) is None:
        return False
    ranges = (part.split("-") for part in text.split(","))
    return all(int(part[0]) <= int(part[-1]) for part in ranges)


def _restart(_body: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[CreateRefusal]:
    policy = host.get("RestartPolicy") or {}
    name, count = policy.get("Name", ""), policy.get("MaximumRetryCount", 0)
    if name not in _RESTARTS:
        yield CreateRefusal(("restart",), f"{name!r} is no restart policy")
    elif count and name != "on-failure":
        yield CreateRefusal(("restart",), f"a number of retries for the policy {name!r}")
    elif count < 0:
        yield CreateRefusal(("restart",), "a negative number of retries")


def _process(body: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[CreateRefusal]:
    directory = body.get("WorkingDir") or ""
    if directory and not directory.startswith("/"):
        yield CreateRefusal(("workdir",), f"the working directory {directory!r} is not absolute")
    for option, key in (("cap-add", "CapAdd"), ("cap-drop", "CapDrop")):
        for name in host.get(key) or ():
            if not _is_capability(name):
                yield CreateRefusal((option,), f"{name!r} is no capability")
    if not _is_signal(body.get("StopSignal") or "SIGTERM"):
        yield CreateRefusal(("stop-signal",), f"{body['StopSignal']!r} is no signal")
    for option in host.get("SecurityOpt") or ():
        if re.split("[=:]", option)[0] not in _SECURITY:
            yield CreateRefusal(("security-opt",), f"{option!r} is no security option")
    isolation = host.get("Isolation") or "default"
    if isolation != "default":
        yield CreateRefusal(("isolation",), f"the isolation {isolation!r}, which is Windows' alone")
    if list(body.get("Entrypoint") or ()) == [""] and not body.get("Cmd"):
        yield CreateRefusal(("entrypoint",), "neither an entry point nor a command")
    for key, value in (body.get("Healthcheck") or {}).items():
        if key in {"Interval", "Timeout", "StartPeriod"} and 0 < value < _MILLISECOND:
            option = {"Interval": "interval", "Timeout": "timeout", "StartPeriod": "start-period"}[key]
            yield CreateRefusal((f"health-{option}",), "a time of less than a millisecond")


def _is_capability(name: str) -> bool:
    lower = name.lower()
    return lower == "all" or lower.removeprefix("cap_") in CAPABILITY_NAMES


def _is_signal(text: str) -> bool:
    try:
        parse_signal(text.upper())
    except InvalidValue:
        return text.isdecimal() and int(text) > 0
    return True


def _logging(_body: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[CreateRefusal]:
    config = host.get("LogConfig") or {}
    if config.get("Type", "") not in {"", "json-file"}:
        return
    for name in config.get("Config") or ():
        if _JSON_FILE.fullmatch(name) is None:
            yield CreateRefusal(("log-opt", "log-driver"), f"the log driver json-file has no option {name!r}")


_RELATIVE = "a source that is a relative path: "


def _mounts(body: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[CreateRefusal]:
    targets: list[tuple[str, str]] = []
    for bind in host.get("Binds") or ():
        source, target, mode = (*bind.split(":", 2), "", "")[:3]
        targets.append(("volume", target))
        yield from _source("volume", source)
        if mode:
            yield from _mode("volume", mode, bind, named=not source.startswith(("/", ".")))
    for mount in host.get("Mounts") or ():
        targets.append(("mount", mount["Target"]))
        yield from _mount(mount)
    targets += (("volume", path) for path in body.get("Volumes") or ())
    for option, target in targets:
        yield from _target(option, target)
    temporary = host.get("Tmpfs") or {}
    for path in temporary:
        yield from _target("tmpfs", path)
    seen: set[str] = set()
    for option, target in targets:
        if target in seen or target in temporary:
            yield CreateRefusal((option, "tmpfs"), f"two mounts at {target}")
        seen.add(target)
    for word in host.get("VolumesFrom") or ():
        _, _, mode = word.partition(":")
        if mode:
            yield from _mode("volumes-from", mode, word, named=False)


def _source(option: str, source: str) -> Iterator[CreateRefusal]:
    if source.startswith(("/", "~")):
        return  # the option itself warns of a ~
    if _is_relative(source):
        yield CreateRefusal((option,), f"{_RELATIVE}{source}")
    elif _VOLUME_NAME.fullmatch(source) is None:
        yield CreateRefusal((option,), f"{source!r} is neither an absolute path nor the name of a volume")


def _is_relative(source: str) -> bool:
    return source.split("/", 1)[0] in (".", "..")


def _target(option: str, target: str) -> Iterator[CreateRefusal]:
    if target == "/":
        yield CreateRefusal((option,), "a mount at /, the root directory")
    elif not target.startswith("/"):
        yield CreateRefusal((option,), f"{target!r} is not an absolute path in the container")


def _mode(option: str, mode: str, whole: str, *, named: bool) -> Iterator[CreateRefusal]:
    words = mode.split(",")
    kinds = [next((number for number, words_of in enumerate(_MODES) if word in words_of), None) for word in words]
    if None in kinds or len(set(kinds)) < len(kinds):
        yield CreateRefusal((option,), f"{mode!r} is no mode, or contradicts itself: {whole}")
    elif named and 2 in kinds:
        yield CreateRefusal((option,), f"a propagation for a volume: {whole}")
    elif not named and 4 in kinds:
        yield CreateRefusal((option,), f"nocopy for a path of the machine: {whole}")


def _mount(mount: Mapping[str, Any]) -> Iterator[CreateRefusal]:
    kind, source = mount["Type"], mount.get("Source", "")
    if kind not in {"bind", "volume", "tmpfs", "npipe", "cluster", "image"}:
        yield CreateRefusal(("mount",), f"{kind!r} is no type of mount")
    elif kind == "tmpfs" and source:
        yield CreateRefusal(("mount",), "a source for a mount in memory")
    elif kind == "bind" and not source:
        yield CreateRefusal(("mount",), "a bind without a source")
    elif kind == "bind" and not source.startswith("/"):
        yield CreateRefusal(("mount",), f"{_RELATIVE if _is_relative(source) else 'the source '}{source}")
    elif kind == "volume" and source and _VOLUME_NAME.fullmatch(source) is None:
        yield CreateRefusal(("mount",), f"{source!r} is not the name of a volume")
    propagation = (mount.get("BindOptions") or {}).get("Propagation", "")
    if propagation and propagation not in _PROPAGATIONS:
        yield CreateRefusal(("mount",), f"{propagation!r} is no propagation")


def _network(body: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[CreateRefusal]:
    mode = host.get("NetworkMode") or ""
    named = bool(body.get("Hostname"))
    if mode.startswith("container:"):
        facts = (
            ("publish", host.get("PortBindings"), "published ports"),
            ("expose", body.get("ExposedPorts") if not host.get("PortBindings") else None, "exposed ports"),
            ("hostname", named, "a host name"),
            ("dns", host.get("Dns"), "name servers"),
            ("add-host", host.get("ExtraHosts"), "more hosts"),
        )
        for option, given, what in facts:
            if given:
                yield CreateRefusal((option, "network"), f"{what} in the network of another container")
    if host.get("UTSMode") == "host" and named:
        yield CreateRefusal(("hostname", "uts"), "a host name with --uts host")


_RULES: tuple[Rule, ...] = (_memory, _cpu, _restart, _process, _logging, _mounts, _network)
