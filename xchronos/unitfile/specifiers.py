"""`%` specifiers (systemd.unit(5), "Specifiers").

Some specifiers stand for parts of the unit's name, the others for facts of the machine that runs the step. A unit is
checked and stored long before that machine is known. Specifiers are therefore expanded in two stages:

1. `expand(text, name, None)` checks every specifier and fills in those of the name. Its result is specifier text again:
   the machine's specifiers and every `%%` stay as written, and a `%` within the name is doubled.
2. `expand(text, name, host)` fills in every specifier, and `%%` becomes `%`.

Therefore `expand(expand(t, name, None), name, host) == expand(t, name, host)`: no text is expanded twice. The test
`test_two_stages_never_expand_twice` pins this equation.
"""

import re

import msgspec

from xchronos.errors import InvalidValue, quoted
from xchronos.limits import EXPANDED_CHARACTERS
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
    """What the machine's specifiers expand to; they are read once, when the daemon starts.

    The user is the one that runs the daemon, usually root.
    """

    hostname: str = ""
    """`%H`; `%l` is its part before the first dot."""
    pretty_hostname: str = ""
    """`%q`; if it is empty, `%q` is the hostname."""
    machine_id: str = ""
    """`%m`, 32 hex digits."""
    boot_id: str = ""
    """`%b`, 32 hex digits."""
    kernel: str = ""
    """`%v`, as `uname -r`."""
    architecture: str = ""
    """`%a`, in systemd's spelling: `x86-64`, `arm64` ..."""
    os_id: str = ""
    """`%o`: ID of os-release."""
    os_version_id: str = ""
    """`%w`: VERSION_ID of os-release."""
    os_image_id: str = ""
    """`%M`: IMAGE_ID of os-release."""
    os_image_version: str = ""
    """`%A`: IMAGE_VERSION of os-release."""
    os_build_id: str = ""
    """`%B`: BUILD_ID of os-release."""
    os_variant_id: str = ""
    """`%W`: VARIANT_ID of os-release."""
    user: str = "root"
    """`%u`, the user's name."""
    uid: str = "0"
    """`%U`, in decimal."""
    group: str = "root"
    """`%g`, the name of the user's group."""
    gid: str = "0"
    """`%G`, in decimal."""
    home: str = "/root"
    """`%h`, the user's home directory."""
    shell: str = "/bin/sh"
    """`%s`, the user's shell."""
    runtime_directory: str = "/run"
    """`%t`."""
    state_directory: str = "/var/lib"
    """`%S`."""
    cache_directory: str = "/var/cache"
    """`%C`."""
    log_directory: str = "/var/log"
    """`%L`."""
    configuration_directory: str = "/etc"
    """`%E`."""
    temporary_directory: str = "/tmp"  # noqa: S108 - systemd's default for %T
    """`%T`."""
    persistent_temporary_directory: str = "/var/tmp"  # noqa: S108 - systemd's default for %V
    """`%V`."""


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
    """Expand the specifiers of `text`; without `host`, those of the name only (the module explains the two stages).

    A `%` that is followed by no ASCII letter, digit or `%` stays as it is.

    Raises InvalidValue, which names the specifier, for an unknown letter or digit and for one that this name does not
    allow, and when there are more than EXPANDED_CHARACTERS then.
    """
    if "%" not in text:
        return text
    room = EXPANDED_CHARACTERS - len(text)

    def replace(match: re.Match[str]) -> str:
        letter = match[1]
        if letter == "%":
            return "%" if host is not None else "%%"
        if not (letter.isascii() and letter.isalnum()):
            return match[0]
        if letter in _HOST_FIELDS:
            value = match[0] if host is None else _of_host(letter, host)
        else:
            value = _of_name(letter, name, text)
            value = value if host is not None else value.replace("%", "%%")
        nonlocal room
        room -= len(value)
        if room < 0:
            raise InvalidValue(
                f"{quoted(text)} is longer than {EXPANDED_CHARACTERS} characters when its specifiers are filled in"
            )
        return value

    return _PERCENT.sub(replace, text)


def needs_host(text: str) -> bool:
    """Whether the text has a specifier of the machine."""
    return any(match[1] for match in _MACHINE.finditer(text))


def expand_fleet(text: str, name: UnitName) -> str:
    """Replace `%n %N %p %i`, wherever they stand, as fleet does in `[X-Fleet]` values.

    Nothing else is replaced or escaped, and there are no errors.
    """
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
        raise InvalidValue(f"specifier %{letter} in {quoted(text)}: {error}") from error
    if letter in _MEANINGLESS:
        raise InvalidValue(f"specifier %{letter} in {quoted(text)} has no meaning here ({_MEANINGLESS[letter]})")
    raise InvalidValue(f"unknown specifier %{letter} in {quoted(text)}: write %%{letter} for a literal %{letter}")
