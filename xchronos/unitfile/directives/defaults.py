"""The lines that systemd shows for a service without any settings. A value that gives such a line has no effect."""

from xchronos.unitfile.directives.forms import names_in

_OFF = names_in(
    "StopWhenUnneeded RefuseManualStart RefuseManualStop IgnoreOnIsolate PermissionsStartOnly RootDirectoryStartOnly "
    "RemainAfterExit SendSIGHUP NonBlocking PrivateTmp ProtectKernelTunables ProtectControlGroups PrivateNetwork "
    "PrivateUsers ProtectHome ProtectSystem MountAPIVFS MemoryDenyWriteExecute RestrictRealtime RestrictSUIDSGID "
    "ProtectHostname RuntimeDirectoryPreserve LockPersonality CPUAccounting IOAccounting BlockIOAccounting "
    "IPAccounting Restart"
)
_ON = names_in("DefaultDependencies GuessMainPID SendSIGKILL IgnoreSIGPIPE MemoryAccounting TasksAccounting")

DEFAULTS = frozenset(
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

OF_TYPE: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "oneshot": (frozenset({"TimeoutStartSec: infinity"}), frozenset({"TimeoutStartSec: 1min 30s"})),
    "notify": (frozenset({"NotifyAccess: main"}), frozenset()),
}
"""For each Type=: the lines that are defaults as well, and the lines of DEFAULTS that are no defaults then."""
