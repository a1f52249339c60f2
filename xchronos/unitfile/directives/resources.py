"""Kinds of resource control: memory, tasks, CPU time, weights, devices, addresses.

A share of the machine, such as `50%` of its memory, stays a share here. It becomes an amount on the machine.
"""

import ipaddress
import re

import msgspec

from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.forms import format_bytes, systemd_timespan
from xchronos.unitfile.directives.scalars import (
    INFINITY,
    parse_bool,
    parse_integer,
    parse_percent,
    parse_size,
)
from xchronos.unitfile.directives.verdict import OK, DirectiveVerdict, Kind, Scope, ignored, shown, warned
from xchronos.unitfile.timespan import parse_timespan
from xchronos.unitfile.words import Escapes, leading_words, split_words

_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids")
_DEVICE = re.compile(r"/dev/.+|/run/systemd/inaccessible/.+|(?:char|block)-.+")
_RIGHTS = re.compile(r"[rwm]*")
_ADDRESSES = {
    "any": ("0.0.0.0/0", "::/0"),
    "localhost": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/64"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
}
_INTERFACE = re.compile(r"(?!\d+$)(?!0[xX])(?!\.{1,2}$)[!-$&-.0-9;-~]{1,15}")
_PORTS = re.compile(r"(?:(ipv4|ipv6)(?::|$))?(?:(tcp|udp)(?::|$))?(any|[^:]+)?")


class Amount(msgspec.Struct, frozen=True):
    """An absolute amount or a share of what the machine has. Exactly one of the two fields is set."""

    absolute: int | None = None
    """Bytes or a number of tasks, depending on the key."""
    share: int | None = None
    """Hundredths of a percent."""

    def __str__(self) -> str:
        return str(self.absolute) if self.share is None else f"{self.share / 100:g}%"


def parse_memory(value: str, *, zero: bool = False) -> Amount | None:
    """`MemoryMax=` and the like: bytes, a share of the machine's memory, or None for no limit.

    Raises InvalidValue, also for zero unless `zero` is set.
    """
    if value in ("", "infinity"):
        return None
    amount = _share(value) if value.endswith("%") else Amount(parse_size(value))
    if amount.absolute == INFINITY or (not zero and not (amount.absolute or amount.share)):
        raise InvalidValue(f"{value!r} is out of range: expected more than zero, or infinity for no limit")
    return amount


def _share(value: str) -> Amount:
    share = parse_percent(value)
    return Amount(share=share) if share else Amount(0)


def parse_tasks(value: str) -> Amount | None:
    """`TasksMax=`: a number of tasks, a share of the machine's limit, or None for no limit. Raises InvalidValue."""
    if value in ("", "infinity"):
        return None
    if value.endswith("%"):
        return _share(value)
    return Amount(parse_integer(value, 1, INFINITY - 1, "a number of tasks (or a percentage, or infinity)"))


def parse_cpu_quota(value: str) -> int | None:
    """`CPUQuota=`: microseconds of CPU time in each second, summed over all CPUs. None for no limit.

    Raises InvalidValue.
    """
    if not value:
        return None
    share = parse_percent(value, None)
    if share == 0:
        raise InvalidValue(f"{value!r} allows no CPU time at all: expected more than 0%, such as 150%")
    return share * 100


def memory(*, zero: bool = False, successor: str = "") -> Kind:
    """A memory limit; zero is allowed if `zero`. If the key is obsolete, `successor` is the key that replaces it."""

    def judge(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
        amount = parse_memory(value, zero=zero)
        lines = () if amount is None else (f"{key}: {amount}",)
        return warned(_obsolete(key, successor), *lines) if successor else shown(*lines)

    return judge


def _obsolete(key: str, successor: str) -> str:
    return f"{key}= is obsolete: expected {successor}= instead"


def tasks(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`TasksMax=`: a number of tasks, a percentage or infinity."""
    amount = parse_tasks(value)
    return OK if amount is None else shown(f"{key}: {amount}")


def cpu_quota(_key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`CPUQuota=`: a percentage of one CPU, which may exceed 100 %."""
    micros = parse_cpu_quota(value)
    return OK if micros is None else shown(f"CPUQuotaPerSecSec: {systemd_timespan(micros, 1)}")


def weight(low: int, high: int, *, idle: bool = False, successor: str = "") -> Kind:
    """A weight from `low` to `high`. The empty value means the default. With `idle`, the word idle means 0.

    If the key is obsolete, `successor` is the key that replaces it.
    """

    def judge(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
        if not value:
            return warned(_obsolete(key, successor)) if successor else OK
        number = 0 if idle and value == "idle" else parse_integer(value, low, high, "a weight")
        line = f"{key}: {number}"
        return warned(_obsolete(key, successor), line) if successor else shown(line)

    return judge


def delegate(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`Delegate=`: a boolean, or the names of the controllers to delegate."""
    try:
        wanted = parse_bool(value)
    except InvalidValue:
        listed = value.split()
        bad = [word for word in listed if word not in _CONTROLLERS]
        names = " ".join(name for name in _CONTROLLERS if name in listed)
        lines = ("OOMPolicy: continue", f"{key}: yes", f"DelegateControllers: {names}".rstrip())
        return (
            ignored(f"{bad[0]!r} is no controller: expected {', '.join(_CONTROLLERS)}", *lines)
            if bad
            else shown(*lines)
        )
    controllers = "DelegateControllers: cpu cpuset io memory pids"
    return shown("OOMPolicy: continue", f"{key}: yes", controllers) if wanted else OK


def pressure_limit(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`ManagedOOMMemoryPressureLimit=`: a percentage."""
    if not value:
        return OK
    share = parse_percent(value)
    return shown(f"{key}: {share // 100}.{share % 100:02d}%")


def device_allow(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`DeviceAllow=`: a device and the rights to it, such as `/dev/x rwm`."""
    if not value:
        return OK
    device, _, rights = value.partition(" ")
    device, rights = scope.expand(device), rights.strip()
    if not _DEVICE.fullmatch(device):
        raise InvalidValue(f"{device!r} is no device: expected a path below /dev, char-NAME or block-NAME")
    if not _RIGHTS.fullmatch(rights):
        raise InvalidValue(f"{rights!r} are no rights: expected some of r, w and m")
    return shown(f"{key}: {device} {rights or 'rwm'}")


def per_device(form: str, *, successor: str = "") -> Kind:
    """A device and an amount. `form` says what the amount is: `weight`, `bandwidth` (K is 1000) or `latency`.

    If the key is obsolete, `successor` is the key that replaces it.
    """

    def amount_of(text: str) -> str | None:
        if form == "weight":
            return str(parse_integer(text, 10 if successor else 1, 1000 if successor else 10_000, "a weight"))
        if form == "latency":
            return systemd_timespan(parse_timespan(text))
        if text == "infinity" and not successor:
            return None
        return format_bytes(parse_size(text, 1000))

    def judge(key: str, value: str, scope: Scope) -> DirectiveVerdict:
        lines: tuple[str, ...] = ()
        if value:
            device, *rest = split_words(value, Escapes.DROP)
            if len(rest) != 1:
                raise InvalidValue(f"{value!r} names no device or no amount: expected such as /dev/sda 100")
            amount = amount_of(rest[0])
            lines = () if amount is None else (f"{key}: {scope.expand(device)} {amount}",)
        return warned(_obsolete(key, successor), *lines) if successor else shown(*lines)

    return judge


def addresses(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`IPAddressAllow=` and `IPAddressDeny=`: addresses, networks, or any, localhost, link-local, multicast."""
    lines: list[str] = []
    bad = ""
    for word in value.split():
        if word in _ADDRESSES:
            lines.extend(f"{key}: {network}" for network in _ADDRESSES[word])
            continue
        try:
            lines.append(f"{key}: {ipaddress.ip_network(word, strict=False)}")
        except ValueError:
            bad = bad or f"{word!r} is no network: expected an address, perhaps with /prefix, or any"
    return ignored(bad, *lines) if bad else shown(*lines)


def interfaces(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`RestrictNetworkInterfaces=`: names of network interfaces, with an optional `~` before them."""
    names, broken = leading_words(value.removeprefix("~"), Escapes.DROP)
    good = [name for name in names if _INTERFACE.fullmatch(name)]
    bad = [f"{name!r} is no interface: expected a name of at most 15 characters" for name in names if name not in good]
    lines = tuple(f"{key}: {name}" for name in good)
    return ignored((*bad, broken)[0], *lines) if bad or broken else shown(*lines)


def ports(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`SocketBindAllow=[family:][protocol:]ports`."""
    if not value:
        return OK
    found = _PORTS.fullmatch(value)
    if not found:
        raise InvalidValue(f"{value!r} is no socket rule: expected such as ipv4:tcp:80-90")
    family, protocol, text = found.groups()
    shape = "any"
    if text and text != "any":
        low, dash, high = text.partition("-")
        first = parse_integer(low, 1, 65535, "a port")
        last = parse_integer(high, first, 65535, "the end of a range of ports") if dash else first
        shape = f"{first}-{last}" if dash else str(first)
    return shown(f"{key}: " + ":".join(part for part in (family, protocol, shape) if part))
