"""systemd's sandbox keys, as parts of the body that creates a container. The limits are in `resources`.

- `CapabilityBoundingSet=A B` drops ALL and adds A and B; `~A` drops A; an empty value drops ALL.
- `ReadOnlyPaths=` and `InaccessiblePaths=` are `ReadonlyPaths` and `MaskedPaths`, added to the engine's own lists.
- `ProtectSystem=strict` and `ReadOnlyPaths=/` make the root file system read-only; `ReadWritePaths=` are volumes.
- `BindPaths=` are `Binds`, and `TemporaryFileSystem=` and `PrivateTmp=` are `Tmpfs`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from xchronos.errors import InvalidValue, Severity
from xchronos.unitfile.directives.capabilities import CAPABILITY_NAMES, capability_number
from xchronos.unitfile.directives.forms import plain_path
from xchronos.unitfile.directives.scalars import parse_bool
from xchronos.unitfile.words import Escapes, next_word, split_words

MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
)  # fmt: skip
"""The paths that the engine hides by default. They are repeated here because a MaskedPaths setting replaces them."""

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""The paths that the engine makes read-only by default. A ReadonlyPaths setting replaces them."""


class ResourceProblem(NamedTuple):
    """One value that the engine cannot honour as it is written."""

    key: str
    message: str
    severity: Severity


class Parts:
    """The parts of a create body, which the handlers of the keys fill in from `options`, and the problems found."""

    def __init__(self, options: Mapping[str, list[str]]) -> None:
        self.options = options
        """The values of every key, empty ones included. They do not change."""
        self.config: dict[str, Any] = {}
        """The fields of the body, except for HostConfig."""
        self.host: dict[str, Any] = {}
        """The fields of HostConfig."""
        self.problems: list[ResourceProblem] = []
        """In the order in which they were found."""

    def warn(self, key: str, message: str) -> None:
        """Add a warning about a value without effect, or with an effect that its author may not expect."""
        self.problems.append(ResourceProblem(key, message, "warning"))

    def append(self, key: str, *items: Any) -> None:
        """Append items to a list in HostConfig."""
        self.host.setdefault(key, []).extend(items)


def _no_new_privileges(mapping: Parts, _key: str, values: list[str]) -> None:
    if parse_bool(values[-1]):
        mapping.append("SecurityOpt", "no-new-privileges")


def _words(values: list[str]) -> list[str]:
    """The words of all values. They may be in quotes."""
    return [word for value in values for word in split_words(value, Escapes.DROP)]


def _capability(word: str) -> str:
    """The engine's name of a capability. The word may be in any case, or be a number, as in systemd."""
    try:
        return f"CAP_{CAPABILITY_NAMES[capability_number(word)].upper()}"
    except (InvalidValue, IndexError):
        raise InvalidValue(f"{word!r} is not a capability, expected for example CAP_NET_ADMIN") from None


def _capabilities(mapping: Parts, _key: str, values: list[str]) -> None:
    """Set CapDrop and CapAdd. An empty value does not reset this key: it means no capability at all."""
    full, names = True, dict[str, None]()  # `full`: all capabilities except `names`; otherwise only `names`
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
"""Fills in the parts, given the key and its values since the last reset. Raises InvalidValue for a bad value."""

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
    "ReadWriteDirectories": _read_write_paths,
    "BindPaths": _binds,
    "BindReadOnlyPaths": _binds,
    "TemporaryFileSystem": _temporary,
    "PrivateTmp": _private_tmp,
    "DeviceAllow": _devices,
}
"""The handler of each sandbox key."""
