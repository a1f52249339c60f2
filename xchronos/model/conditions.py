"""Condition*= and Assert*= of [Unit], as far as a machine can judge them by its files and its name."""

import msgspec

from xchronos.unitfile import UnitFile

HOST_CONDITIONS = (
    "PathExists", "PathExistsGlob", "PathIsDirectory", "PathIsSymbolicLink", "PathIsMountPoint", "PathIsReadWrite",
    "DirectoryNotEmpty", "FileNotEmpty", "FileIsExecutable", "Host",
)  # fmt: skip
"""The conditions that are acted upon; the others of systemd are accepted, warned about and ignored."""

_KEYS = {
    f"{prefix}{kind}": (kind, prefix == "Assert") for prefix in ("Condition", "Assert") for kind in HOST_CONDITIONS
}


class HostCondition(msgspec.Struct, frozen=True):
    """One of them: `text` is the assignment; `alternative` (`|`) and `negated` (`!`) its value's prefixes."""

    kind: str
    value: str
    text: str
    asserted: bool = False
    negated: bool = False
    alternative: bool = False


def read_conditions(file: UnitFile) -> tuple[HostCondition, ...]:
    """The conditions that count. An empty assignment to any Condition (or Assert) drops all conditions (assertions)."""
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
            if kind == "Host" or value.startswith(("/", "%")):  # systemd ignores a path that is not absolute
                text = f"{option.name}={option.value}"
                found.append(HostCondition(kind, value, text, asserted, negated, alternative))
    return tuple(found)
