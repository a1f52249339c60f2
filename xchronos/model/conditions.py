"""Condition*= and Assert*= of [Unit]: those that a machine can judge by its files, its kernel and its size."""

import msgspec

from xchronos.unitfile import UnitFile

PATH_CONDITIONS = (
    "PathExists", "PathExistsGlob", "PathIsDirectory", "PathIsSymbolicLink", "PathIsMountPoint", "PathIsReadWrite",
    "PathIsSocket", "DirectoryNotEmpty", "FileNotEmpty", "FileIsExecutable",
)  # fmt: skip
"""The conditions about a path that agents judge."""

HOST_CONDITIONS = (
    *PATH_CONDITIONS, "Host", "Architecture", "CPUs", "Memory", "KernelCommandLine", "KernelModuleLoaded",
)  # fmt: skip
"""The conditions that agents judge. systemd's others are accepted with a warning, and the unit runs as if they held."""

_KEYS = {
    f"{prefix}{kind}": (kind, prefix == "Assert") for prefix in ("Condition", "Assert") for kind in HOST_CONDITIONS
}


class HostCondition(msgspec.Struct, frozen=True):
    """One condition or assertion."""

    kind: str
    """One of `HOST_CONDITIONS`."""
    value: str
    """The path, the host name, the number ..., without prefixes. It may have specifiers of the machine."""
    text: str
    """The assignment as written, `ConditionPathExists=|!/x`."""
    asserted: bool = False
    """Whether it is an Assert, which fails the attempt. A Condition skips it."""
    negated: bool = False
    """The prefix `!`: the value must not hold."""
    alternative: bool = False
    """The prefix `|`: one of the alternatives must hold."""


def read_conditions(file: UnitFile) -> tuple[HostCondition, ...]:
    """The conditions and assertions that count, in file order.

    An empty assignment to any Condition drops all conditions before it. One to any Assert drops all assertions.
    """
    found: list[HostCondition] = []
    for option in file.options:
        if option.section != "Unit" or not option.name.startswith(("Condition", "Assert")):
            continue
        if not option.value:
            asserted = option.name.startswith("Assert")
            found = [condition for condition in found if condition.asserted != asserted]
            continue
        kind, asserted = _KEYS.get(option.name, ("", False))
        if kind:
            alternative = option.value.startswith("|")
            value = option.value.removeprefix("|").lstrip()
            negated = value.startswith("!")
            value = value.removeprefix("!").lstrip()
            if kind not in PATH_CONDITIONS or value.startswith(
                ("/", "%")
            ):  # systemd ignores a path that is not absolute
                text = f"{option.name}={option.value}"
                found.append(HostCondition(kind, value, text, asserted, negated, alternative))
    return tuple(found)
