"""`check`: how systemd judges one assignment. Lines that only repeat a default are left out of the effect."""

from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.forms import names_in
from xchronos.unitfile.directives.table import SECTIONS
from xchronos.unitfile.directives.verdict import OK, DirectiveVerdict, Scope, ignored, refused
from xchronos.unitfile.directives.versions import NEWEST, unavailable
from xchronos.unitfile.names import UnitName
from xchronos.unitfile.specifiers import HostFacts
from xchronos.unitfile.suggest import did_you_mean

_ANY_UNIT = UnitName.parse("v.service")

_NONE: frozenset[str] = frozenset()

# The lines that systemd shows for a service without any settings. A value that gives such a line has no effect.
_OFF = names_in(
    "StopWhenUnneeded RefuseManualStart RefuseManualStop IgnoreOnIsolate PermissionsStartOnly RootDirectoryStartOnly "
    "RemainAfterExit SendSIGHUP NonBlocking PrivateTmp ProtectKernelTunables ProtectControlGroups PrivateNetwork "
    "PrivateUsers ProtectHome ProtectSystem MountAPIVFS MemoryDenyWriteExecute RestrictRealtime RestrictSUIDSGID "
    "ProtectHostname RuntimeDirectoryPreserve LockPersonality CPUAccounting IOAccounting BlockIOAccounting "
    "IPAccounting Restart"
)
_ON = names_in("DefaultDependencies GuessMainPID SendSIGKILL IgnoreSIGPIPE MemoryAccounting TasksAccounting")

_DEFAULTS = frozenset(
    (
        *(f"{key}: no" for key in _OFF),
        *(f"{key}: yes" for key in _ON),
        *(f"{key}DirectoryMode: 0755" for key in ("Runtime", "State", "Cache", "Logs", "Configuration")),
        "OnSuccessJobMode: fail",
        "OnFailureJobMode: replace",
        "Type: simple",
        "NotifyAccess: none",
        "OOMPolicy: stop",
        "RestartSec: 100ms",
        "TimeoutStartSec: 1min 30s",
        "TimeoutStopSec: 1min 30s",
        "TimeoutStartFailureMode: terminate",
        "TimeoutStopFailureMode: terminate",
        "RuntimeMaxSec: infinity",
        "RuntimeRandomizedExtraSec: 0",
        "KillMode: control-group",
        "KillSignal: SIGTERM",
        "RestartKillSignal: SIGTERM",
        "FinalKillSignal: SIGKILL",
        "UMask: 0022",
        "WorkingDirectory: /",
        "KeyringMode: private",
        "ProtectProc: default",
        "ProcSubset: all",
        "TimeoutCleanSec: infinity",
        "StandardInput: null",
        "StandardOutput: inherit",
        "StandardError: inherit",
        "CPUQuotaPeriodSec: infinity",
        "DevicePolicy: auto",
        "ManagedOOMSwap: auto",
        "ManagedOOMMemoryPressure: auto",
        "ManagedOOMPreference: none",
        "ManagedOOMMemoryPressureLimit: 0.00%",
        "DefaultMemoryMin: 0",
        "DefaultMemoryLow: 0",
        "MemoryMin: 0",
        "MemoryLow: 0",
        "Slice: system.slice",
        "LogRateLimitIntervalSec: 0",
        "LogRateLimitBurst: 0",
        "Job Timeout: infinity",
        "Job Timeout Action: none",
        "Garbage Collection Mode: inactive",
        "Failure Action: none",
        "Success Action: none",
    )
)

_OF_TYPE: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "oneshot": (frozenset({"TimeoutStartSec: infinity"}), frozenset({"TimeoutStartSec: 1min 30s"})),
    "notify": (frozenset({"NotifyAccess: main"}), frozenset()),
}
"""For each Type=: the lines that are defaults as well, and the lines of `_DEFAULTS` that are no defaults then."""

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
    """Whether any version of systemd knows the key in this section of a service."""
    return key in SECTIONS.get(section, ())


def check(
    section: str,
    key: str,
    value: str,
    *,
    name: UnitName = _ANY_UNIT,
    host: HostFacts | None = None,
    service_type: str = "",
    version: int = NEWEST,
) -> DirectiveVerdict:
    """Judge one assignment in [Unit], [Service] or [Install] of a service.

    `name` is the unit's name, for specifiers. `host` is the machine, if it is known. `service_type` is the unit's
    `Type=`, if it is known: a oneshot may not be restarted after success, and the type changes some defaults. `version`
    is the version of systemd that judges. Unknown keys are *ignored*, with the nearest known key in the message, and
    so are keys that this version does not know yet or any more. Keys and sections that begin with X- belong to other
    programs and are ok.
    """
    table = SECTIONS.get(section)
    if table is None:
        return OK if section.startswith("X-") else ignored(f"unknown section [{section}]")
    kind = table.get(key)
    if kind is None:
        return OK if key.startswith("X-") else ignored(_unknown(section, key))
    message = unavailable(section, key, version)
    if message:
        return ignored(message)
    try:
        verdict = kind(key, value, Scope(name, version, host))
    except InvalidValue as problem:
        return ignored(str(problem))
    if service_type == "oneshot" and key == "Restart" and value in ("always", "on-success"):
        return refused(f"Restart={value} does not fit Type=oneshot: expected no, on-failure, on-abnormal or on-abort")
    return _without_defaults(verdict, service_type) if verdict.effect else verdict


def _without_defaults(verdict: DirectiveVerdict, service_type: str) -> DirectiveVerdict:
    added, lifted = _OF_TYPE.get(service_type, (_NONE, _NONE))
    effect = tuple(line for line in verdict.effect if line in lifted or (line not in _DEFAULTS and line not in added))
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
