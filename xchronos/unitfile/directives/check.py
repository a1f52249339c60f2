"""`check`: how systemd 252 judges one assignment. Lines that only repeat a default are left out of the effect."""

from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.defaults import DEFAULTS, OF_TYPE
from xchronos.unitfile.directives.table import SECTIONS
from xchronos.unitfile.directives.verdict import OK, DirectiveVerdict, Scope, ignored, refused
from xchronos.unitfile.names import UnitName
from xchronos.unitfile.specifiers import HostFacts
from xchronos.unitfile.suggest import did_you_mean

_ANY_UNIT = UnitName.parse("v.service")

_NONE: frozenset[str] = frozenset()

# Keys that systemd still knows, but only to warn that they do nothing.
_REMOVED = frozenset(
    (
        ("Unit", "IgnoreOnSnapshot"),
        ("Service", "SysVStartPriority"),
        ("Service", "Capabilities"),
        ("Service", "NetClass"),
    )
)


def is_known(section: str, key: str) -> bool:
    """Whether systemd 252 knows the key in this section of a service."""
    return key in SECTIONS.get(section, ())


def check(
    section: str,
    key: str,
    value: str,
    *,
    name: UnitName = _ANY_UNIT,
    host: HostFacts | None = None,
    service_type: str = "",
) -> DirectiveVerdict:
    """Judge one assignment in [Unit], [Service] or [Install] of a service.

    `name` is the unit's name, for specifiers. `host` is the machine, if it is known. `service_type` is the unit's
    `Type=`, if it is known: a oneshot may not be restarted after success, and the type changes some defaults. Unknown
    keys are *ignored*, with the nearest known key in the message. Keys and sections that begin with X- belong to other
    programs and are ok.
    """
    table = SECTIONS.get(section)
    if table is None:
        return OK if section.startswith("X-") else ignored(f"unknown section [{section}]")
    kind = table.get(key)
    if kind is None:
        return OK if key.startswith("X-") else ignored(_unknown(section, key))
    try:
        verdict = kind(key, value, Scope(name, host))
    except InvalidValue as problem:
        return ignored(str(problem))
    if service_type == "oneshot" and key == "Restart" and value in ("always", "on-success"):
        return refused(f"Restart={value} does not fit Type=oneshot: expected no, on-failure, on-abnormal or on-abort")
    return _without_defaults(verdict, service_type) if verdict.effect else verdict


def _without_defaults(verdict: DirectiveVerdict, service_type: str) -> DirectiveVerdict:
    added, lifted = OF_TYPE.get(service_type, (_NONE, _NONE))
    effect = tuple(line for line in verdict.effect if line in lifted or (line not in DEFAULTS and line not in added))
    if service_type:
        # BusName= makes a service Type=dbus only if no other type is given.
        effect = tuple(line for line in effect if line != "Type: dbus")
    return verdict if len(effect) == len(verdict.effect) else DirectiveVerdict(verdict.outcome, verdict.message, effect)


def _unknown(section: str, key: str) -> str:
    if (section, key) in _REMOVED:
        return f"{key}= has been removed from systemd and does nothing: expected the line to go"
    home = next((other for other, table in SECTIONS.items() if key in table), "")
    if home:
        return f"unknown key {key!r} in [{section}]: expected it in [{home}]"
    return f"unknown key {key!r} in [{section}]{did_you_mean(key, SECTIONS[section])}"
