"""Kinds of sandboxing: what a service may see and do."""

import errno
import re
from base64 import b64decode

from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.capabilities import CAPABILITY_NAMES
from xchronos.unitfile.directives.forms import names_in
from xchronos.unitfile.directives.scalars import parse_bool, parse_integer
from xchronos.unitfile.directives.verdict import OK, DirectiveVerdict, Kind, Scope, shown

ARCHITECTURES = (
    "native x86 x86-64 x32 arm arm64 loongarch64 mips mips64 mips64-n32 mips-le mips64-le mips64-le-n32 "
    "parisc parisc64 ppc ppc64 ppc64-le riscv64 s390 s390x"
)

PROTECTIONS: dict[str, tuple[str, ...]] = {
    "PrivateDevices": ("sys_rawio", "mknod"),
    "ProtectKernelModules": ("sys_module",),
    "ProtectKernelLogs": ("syslog",),
    "ProtectClock": ("sys_time", "wake_alarm"),
}
"""Boolean keys that also remove capabilities: for each key, the names of those capabilities."""

_PRIVATE_HOSTNAME = 258
_NAMESPACES = ("cgroup", "ipc", "net", "mnt", "pid", "user", "uts")
_FAMILIES = frozenset(
    f"AF_{name}"
    for name in names_in(
        "ALG APPLETALK ASH ATMPVC ATMSVC AX25 BLUETOOTH BRIDGE CAIF CAN DECnet ECONET FILE IB IEEE802154 INET INET6 "
        "IPX IRDA ISDN IUCV KCM KEY LLC LOCAL MCTP MPLS NETBEUI NETLINK NETROM NFC PACKET PHONET PPPOX QIPCRTR RDS "
        "ROSE ROUTE RXRPC SECURITY SMC SNA TIPC UNIX VSOCK WANPIPE X25 XDP"
    )
)
_CREDENTIAL = re.compile(r"(?!\.{1,2}(?::|$))[^/:]{1,255}")
_MASK = re.compile(r"(?:0[xX])?[0-9a-fA-F]+")
_DUMPS = (
    "private-anonymous", "shared-anonymous", "private-file-backed", "shared-file-backed", "elf-headers", "private-huge",
    "shared-huge", "private-dax", "shared-dax",
)  # fmt: skip


def protection(dropped: tuple[str, ...]) -> Kind:
    """A boolean that also removes the capabilities `dropped` from the bounding set."""
    kept = " ".join(f"cap_{name}" for name in CAPABILITY_NAMES if name not in dropped)

    def judge(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
        if not parse_bool(value):
            return OK
        policy = ("DevicePolicy: closed",) if key == "PrivateDevices" else ()
        return shown(f"{key}: yes", f"CapabilityBoundingSet: {kept}", *policy)

    return judge


def namespaces(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`RestrictNamespaces=`: a boolean, or the kinds that stay allowed, or after `~` the kinds that do not."""
    if not value:
        return OK
    try:
        return shown(f"{key}: n/a") if parse_bool(value) else OK
    except InvalidValue:
        listed = value.removeprefix("~").split()
    for word in listed:
        if word not in _NAMESPACES:
            raise InvalidValue(f"{word!r} is no namespace: expected yes, no or some of {', '.join(_NAMESPACES)}")
    inverted = value.startswith("~")
    names = sorted(name for name in _NAMESPACES if (name in listed) != inverted)
    return shown(f"{key}: {' '.join(names)}") if len(names) < len(_NAMESPACES) else OK


def delegated_namespaces(_key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`DelegateNamespaces=`: as `RestrictNamespaces=`, without user namespaces. It is not shown."""
    try:
        parse_bool(value or "no")
    except InvalidValue:
        known = tuple(name for name in _NAMESPACES if name != "user")
        for word in value.removeprefix("~").split():
            if word not in known:
                raise InvalidValue(
                    f"{word!r} is no namespace: expected yes, no or some of {', '.join(known)}"
                ) from None
    return OK


def protect_hostname(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`ProtectHostname=`: a boolean; from systemd 258 on also `private`, and a host name after a colon."""
    wanted, colon, _ = value.partition(":")
    if wanted != "private" and (not colon or not parse_bool(wanted)) and value:
        return shown(f"{key}: yes" if parse_bool(value) else f"{key}: no")
    if scope.version < _PRIVATE_HOSTNAME:
        raise InvalidValue(
            f"{value!r} is a value from systemd {_PRIVATE_HOSTNAME} on: systemd {scope.version} ignores it"
        )
    return shown(f"{key}: {value}") if value else OK


def address_families(_key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`RestrictAddressFamilies=`: names of address families, or the word none."""
    for word in value.removeprefix("~").split() if value != "none" else ():
        if word not in _FAMILIES:
            raise InvalidValue(f"{word!r} is no address family: expected a name such as AF_INET, or none")
    return OK


def error_number(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`SystemCallErrorNumber=`: the name or the number of an error, or the word kill."""
    if value in ("", "kill"):
        return OK
    name = value
    if not (value.startswith("E") and hasattr(errno, value)):
        number = parse_integer(value, 1, 4095, "an error number or its name, such as EPERM")
        name = errno.errorcode.get(number, str(number))
    return shown(f"{key}: {name}")


def credential(needs: str) -> Kind:
    """`SetCredential=name:data` or `LoadCredential=name[:path]`. `needs` is text that the value has to contain."""

    def judge(_key: str, value: str, scope: Scope) -> DirectiveVerdict:
        if value and (needs not in value or not _CREDENTIAL.fullmatch(scope.expand(value.partition(":")[0]))):
            raise InvalidValue(f"{value!r} is no credential: expected a name without /, a colon and the rest")
        return OK

    return judge


def coredump_filter(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`CoredumpFilter=`: kinds of memory by name or number, ranges of them, or a mask in hexadecimal."""
    if not value:
        return OK
    mask = 0
    for word in value.split():
        if word == "all":
            mask = 2**32 - 1
        elif word == "default":
            mask |= 0x33
        elif word in _DUMPS:
            mask |= 1 << _DUMPS.index(word)
        elif _MASK.fullmatch(word):
            mask |= int(word, 16)
        else:
            raise InvalidValue(f"{word!r} is no kind of memory: expected {', '.join(_DUMPS)}, default or all")
    if mask >= 2**64 - 1:
        raise InvalidValue(f"{value!r} is out of range: expected a mask of 64 bits")
    return shown(f"{key}: {mask:#x}")


def input_base64(_key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`StandardInputData=`: data in base64. Blanks within it do not count."""
    if not value:
        return OK
    try:
        b64decode("".join(value.split()), validate=True)
    except ValueError:
        raise InvalidValue(f"{value!r} is not base64: expected data such as aGVsbG8=") from None
    return shown("StandardInput: data")
