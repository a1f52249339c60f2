"""`%` specifiers (systemd.unit(5), "Specifiers").

Some speak of the unit's name, the others of the machine that runs the step. A unit is checked and stored long before
anybody knows that machine, so there are two stages:

1. `expand(text, name, None)` checks every specifier and fills in those of the name. Its outcome is *specifier text
   again*: the machine's specifiers and every `%%` stay as written, and a `%` that comes out of the name is doubled.
2. `expand(text, name, host)` fills in everything; `%%` becomes `%`.

Therefore `expand(expand(t, name, None), name, host) == expand(t, name, host)`: nothing is ever expanded twice.
"""

import re

import msgspec

from xchronos.errors import InvalidValue
from xchronos.unitfile.names import UnitName, unescape

_PERCENT = re.compile(r"%(.?)", re.DOTALL)
_MEANINGLESS = {
    "c": "the unit's control group",
    "r": "the control group of the unit's slice",
    "R": "the root control group",
    "d": "the credentials directory",
    "y": "the path of the unit file",
    "Y": "the directory of the unit file",
}


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine's specifiers expand to. The user is the one who runs the daemon, root as a rule."""

    hostname: str = ""
    """`%H`; `%l` is its part before the first dot."""
    pretty_hostname: str = ""
    """`%q`; the hostname where there is none."""
    machine_id: str = ""
    """`%m`, 32 hex digits."""
    boot_id: str = ""
    """`%b`, 32 hex digits."""
    kernel: str = ""
    """`%v`, as `uname -r`."""
    architecture: str = ""
    """`%a`, systemd's word: `x86-64`, `arm64` ..."""
    os_id: str = ""
    """`%o`, and so on down to `%W`: ID, VERSION_ID, IMAGE_ID, IMAGE_VERSION, BUILD_ID, VARIANT_ID of os-release."""
    os_version_id: str = ""
    os_image_id: str = ""
    os_image_version: str = ""
    os_build_id: str = ""
    os_variant_id: str = ""
    user: str = "root"
    uid: str = "0"
    group: str = "root"
    gid: str = "0"
    home: str = "/root"
    shell: str = "/bin/sh"
    runtime_directory: str = "/run"
    state_directory: str = "/var/lib"
    cache_directory: str = "/var/cache"
    log_directory: str = "/var/log"
    configuration_directory: str = "/etc"
    temporary_directory: str = "/tmp"  # noqa: S108 - systemd's default for %T
    persistent_temporary_directory: str = "/var/tmp"  # noqa: S108 - systemd's default for %V


_HOST_FIELDS = {
    "H": "hostname",
    "l": "hostname",
    "q": "pretty_hostname",
    "m": "machine_id",
    "b": "boot_id",
    "v": "kernel",
    "a": "architecture",
    "o": "os_id",
    "w": "os_version_id",
    "M": "os_image_id",
    "A": "os_image_version",
    "B": "os_build_id",
    "W": "os_variant_id",
    "u": "user",
    "U": "uid",
    "g": "group",
    "G": "gid",
    "h": "home",
    "s": "shell",
    "t": "runtime_directory",
    "S": "state_directory",
    "C": "cache_directory",
    "L": "log_directory",
    "E": "configuration_directory",
    "T": "temporary_directory",
    "V": "persistent_temporary_directory",
}
_MACHINE = re.compile(f"%(?:%|([{''.join(_HOST_FIELDS)}]))")


def expand(text: str, name: UnitName, host: HostFacts | None = None) -> str:
    """Expand the specifiers of `text`; without `host`, those of the name only (see the module's text on stages).

    Raises InvalidValue, naming the specifier, for an unknown letter or digit and for one that makes no sense for this
    name. A `%` before anything else, or at the end, is itself.
    """
    if "%" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        letter = match[1]
        if letter == "%":
            return "%" if host is not None else "%%"
        if not (letter.isascii() and letter.isalnum()):
            return match[0]
        if letter in _HOST_FIELDS:
            return match[0] if host is None else _of_host(letter, host)
        value = _of_name(letter, name, text)
        return value if host is not None else value.replace("%", "%%")

    return _PERCENT.sub(replace, text)


def needs_host(text: str) -> bool:
    """Whether specifier text speaks of the machine."""
    return any(match[1] for match in _MACHINE.finditer(text))


def expand_fleet(text: str, name: UnitName) -> str:
    """Replace as fleet does in `[X-Fleet]` values: `%n %N %p %i`, wherever they stand, nothing else, no errors."""
    if "%" not in text:
        return text
    pairs = (("%n", name.full), ("%N", name.stem), ("%p", name.prefix), ("%i", name.instance or ""))
    for specifier, value in pairs:
        text = text.replace(specifier, value)
    return text


def _of_host(letter: str, host: HostFacts) -> str:
    value: str = getattr(host, _HOST_FIELDS[letter])
    if letter == "l":
        return value.partition(".")[0]
    if letter == "q":
        return value or host.hostname
    return value


def _of_name(letter: str, name: UnitName, text: str) -> str:
    instance = name.instance or ""
    try:
        match letter:
            case "n":
                return name.full
            case "N":
                return name.stem
            case "p":
                return name.prefix
            case "P":
                return unescape(name.prefix)
            case "i":
                return instance
            case "I":
                return unescape(instance)
            case "j":
                return name.prefix.rpartition("-")[2]
            case "J":
                return unescape(name.prefix.rpartition("-")[2])
            case "f":
                return unescape(instance or name.prefix, path=True)
    except InvalidValue as error:
        raise InvalidValue(f"specifier %{letter} in {text!r}: {error}") from error
    if letter in _MEANINGLESS:
        raise InvalidValue(f"specifier %{letter} in {text!r} has no meaning here ({_MEANINGLESS[letter]})")
    raise InvalidValue(f"unknown specifier %{letter} in {text!r}: write %%{letter} for a literal %{letter}")
