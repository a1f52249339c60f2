"""systemd's sandbox keys, as parts of a container's create body; the limits are in `resources`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from xchronos.errors import InvalidValue, Severity
from xchronos.unitfile.directives.capabilities import NAMES, capability_number
from xchronos.unitfile.directives.forms import plain_path
from xchronos.unitfile.directives.scalars import parse_bool
from xchronos.unitfile.words import Escapes, next_word, split_words

MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
)  # fmt: skip
"""What the engine hides by default; setting MaskedPaths replaces the list, so it is repeated."""

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What the engine makes read-only by default."""


class ResourceProblem(NamedTuple):
    """One value that could not be mapped as it stands."""

    key: str
    message: str
    severity: Severity


class Parts:
    """The parts of a create body being gathered from `options`, and what was wrong on the way."""

    def __init__(self, options: Mapping[str, list[str]]) -> None:
        self.options = options
        self.config: dict[str, Any] = {}
        self.host: dict[str, Any] = {}
        self.problems: list[ResourceProblem] = []

    def warn(self, key: str, message: str) -> None:
        """Note something that has no effect, or not quite the effect one would expect."""
        self.problems.append(ResourceProblem(key, message, "warning"))

    def append(self, key: str, *items: Any) -> None:
        """Add to a list of the host part."""
        self.host.setdefault(key, []).extend(items)


def _no_new_privileges(mapping: Parts, _key: str, values: list[str]) -> None:
    if parse_bool(values[-1]):
        mapping.append("SecurityOpt", "no-new-privileges")


def _words(values: list[str]) -> list[str]:
    """The words of a list, which may be in quotes."""
    return [word for value in values for word in split_words(value, Escapes.DROP)]


def _capability(word: str) -> str:
    """The engine's name of a capability: systemd takes any case, and numbers."""
    try:
        return f"CAP_{NAMES[capability_number(word)].upper()}"
    except (InvalidValue, IndexError):
        raise InvalidValue(f"{word!r} is not a capability, expected for example CAP_NET_ADMIN") from None


def _capabilities(mapping: Parts, _key: str, values: list[str]) -> None:
    """`values` with their empty ones: here those do not forget, they say "none"."""
    full, names = True, dict[str, None]()  # every capability but the names; or nothing but the names
    for value in values:
        inverted = value.startswith("~")
        words = dict.fromkeys(map(_capability, _words([value.removeprefix("~")])))
        if not words or (full and not names):
            full, names = inverted, words
        elif inverted == full:
            names |= words
        else:
            names = {name: None for name in names if name not in words}
    if not full:
        mapping.host["CapDrop"] = ["ALL"]
    if names:
        mapping.host["CapDrop" if full else "CapAdd"] = list(names)


def _private_network(mapping: Parts, _key: str, values: list[str]) -> None:
    if parse_bool(values[-1]):
        mapping.host["NetworkMode"] = "none"


def _protect_system(mapping: Parts, key: str, values: list[str]) -> None:
    if values[-1] == "strict":
        mapping.host["ReadonlyRootfs"] = True
    elif values[-1] == "full" or parse_bool(values[-1]):
        mapping.warn(key, "no effect in a container: only strict makes its root file system read-only")


def _paths(values: list[str]) -> list[str]:
    return [plain_path(word.removeprefix("-").removeprefix("+")) for word in _words(values)]


def _hidden_paths(mapping: Parts, key: str, values: list[str]) -> None:
    inaccessible = key.startswith("Inaccessible")
    name, defaults = ("MaskedPaths", MASKED_PATHS) if inaccessible else ("ReadonlyPaths", READONLY_PATHS)
    paths = _paths(values)
    if name == "ReadonlyPaths" and "/" in paths:
        mapping.host["ReadonlyRootfs"] = True
        paths = [path for path in paths if path != "/"]
    if paths:
        if name not in mapping.host:
            mapping.host[name] = list(defaults)
        mapping.host[name].extend(paths)


def _read_write_paths(mapping: Parts, _key: str, values: list[str]) -> None:
    for path in _paths(values):
        mapping.config.setdefault("Volumes", {})[path] = {}


def _binds(mapping: Parts, key: str, values: list[str]) -> None:
    for word in _words(values):
        source, *rest = word.removeprefix("-").split(":", 2)
        target = rest[0] if rest else source
        option = rest[1] if len(rest) > 1 else "rbind"
        if option not in ("rbind", "norbind") or not source.startswith("/") or not target.startswith("/"):
            raise InvalidValue(f"{word!r}: expected source[:destination[:rbind|norbind]] with absolute paths")
        source, target = plain_path(source), plain_path(target)
        if word.startswith("-"):
            mapping.warn(key, f"{word}: the engine creates a missing source, '-' has no effect")
        if option == "norbind":
            mapping.warn(key, f"{word}: the engine binds what is mounted below the source as well")
        mode = ":ro" if key == "BindReadOnlyPaths" else ""
        mapping.append("Binds", f"{source}:{target}{mode}")


def _temporary(mapping: Parts, _key: str, values: list[str]) -> None:
    for word in _words(values):
        text, _, settings = word.partition(":")
        path = plain_path(text)
        mapping.host.setdefault("Tmpfs", {})[path] = settings


def _private_tmp(mapping: Parts, _key: str, values: list[str]) -> None:
    if values[-1] == "disconnected" or parse_bool(values[-1]):
        mapping.host.setdefault("Tmpfs", {}).update({"/tmp": "", "/var/tmp": ""})  # noqa: S108 - paths in the container


def _devices(mapping: Parts, key: str, values: list[str]) -> None:
    for value in values:
        path, position = next_word(value, 0, Escapes.DROP)
        mode = value[position:] or "rwm"
        if not path or mode.strip("rwm"):
            raise InvalidValue(f"{value!r}: expected a device and letters of rwm, for example /dev/fuse rw")
        if not path.startswith("/dev/"):
            mapping.warn(key, f"{path}: only devices below /dev/ can be given to a container")
            continue
        mapping.append(
            "Devices", {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "".join(dict.fromkeys(mode))}
        )


Handler: TypeAlias = Callable[[Parts, str, list[str]], None]
"""(the parts so far, the key, its values since the last reset); raises InvalidValue for a value that does not parse."""

SANDBOX_KEYS: dict[str, Handler] = {
    "NoNewPrivileges": _no_new_privileges,
    "CapabilityBoundingSet": _capabilities,
    "PrivateNetwork": _private_network,
    "ProtectSystem": _protect_system,
    "ReadOnlyPaths": _hidden_paths,
    "ReadOnlyDirectories": _hidden_paths,
    "InaccessiblePaths": _hidden_paths,
    "InaccessibleDirectories": _hidden_paths,
    "ReadWritePaths": _read_write_paths,
    "BindPaths": _binds,
    "BindReadOnlyPaths": _binds,
    "TemporaryFileSystem": _temporary,
    "PrivateTmp": _private_tmp,
    "DeviceAllow": _devices,
}
"""Who answers for which sandbox key."""
