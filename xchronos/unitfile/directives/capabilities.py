"""Linux capabilities, as `CapabilityBoundingSet=` and `AmbientCapabilities=` take them."""

from xchronos.unitfile.directives.forms import names_in
from xchronos.unitfile.directives.scalars import parse_integer

CAPABILITY_NAMES = names_in(
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service "
    "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin "
    "sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override "
    "mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
)
_NUMBERS = {f"cap_{name}": number for number, name in enumerate(CAPABILITY_NAMES)}
_LAST = 62
"""The highest number that systemd accepts as a capability without a name."""


def capability_number(text: str) -> int:
    """The number of a capability given as `CAP_KILL` (any case) or as a number. Raises InvalidValue for other text."""
    number = _NUMBERS.get(text.lower())
    if number is None:
        number = parse_integer(text, 0, _LAST, "a capability, such as CAP_NET_ADMIN")
    return number


def capability_name(number: int) -> str:
    """`cap_kill`, or the number in hexadecimal if the capability has no name."""
    return f"cap_{CAPABILITY_NAMES[number]}" if number < len(CAPABILITY_NAMES) else hex(number)


def parse_capabilities(text: str) -> frozenset[str]:
    """The capabilities that a process keeps: those listed, or with a leading `~` all except those listed.

    Names are in lower case with `cap_`. An empty list keeps none, and `~` alone keeps all. Raises InvalidValue for a
    name that is no capability.
    """
    inverted = text.startswith("~")
    listed = {capability_name(capability_number(word)) for word in text.removeprefix("~").split()}
    return frozenset(set(_NUMBERS) - listed if inverted else listed)
