"""Which of systemd's keys xchronos acts on.

- *used*: the scheduler or an agent acts on the key, whether containers or host processes run the steps.
- *container*: the key becomes a setting of the step's container. It has no effect on a host process.
- *ignored*: the key is accepted with a warning, because files written for systemd may hold it.
"""

from typing import Literal, TypeAlias

Meaning: TypeAlias = Literal["used", "container", "ignored"]

_CONDITIONS = (
    "PathExists PathExistsGlob PathIsDirectory PathIsSymbolicLink PathIsMountPoint PathIsReadWrite PathIsSocket "
    "DirectoryNotEmpty FileNotEmpty FileIsExecutable Host Architecture CPUs Memory KernelCommandLine KernelModuleLoaded"
)
"""The names after Condition and Assert that a machine can judge by its files, its kernel and its size."""

_USED = {
    "Unit": " ".join(
        (
            "Description Documentation After Requires OnSuccess OnFailure StartLimitBurst StartLimitIntervalSec",
            "StartLimitInterval",
            *(f"Condition{name} Assert{name}" for name in _CONDITIONS.split()),
        )
    ),
    "Service": (
        "Type ExecCondition ExecStartPre ExecStart ExecStartPost ExecStop ExecStopPost Environment EnvironmentFile "
        "UnsetEnvironment PassEnvironment RemainAfterExit WorkingDirectory User Group TimeoutSec TimeoutStartSec "
        "TimeoutStopSec RuntimeMaxSec KillSignal KillMode SendSIGKILL SuccessExitStatus "
        "RestartPreventExitStatus RestartForceExitStatus Restart RestartSec RestartSteps RestartMaxDelaySec "
        "StartLimitBurst StartLimitInterval"
    ),
    "Install": "",
}
_CONTAINER = {
    "Service": (
        "SupplementaryGroups MemoryMax MemoryLimit MemorySwapMax MemoryHigh CPUQuota CPUWeight CPUShares AllowedCPUs "
        "CPUAffinity TasksMax OOMScoreAdjust IOWeight NoNewPrivileges CapabilityBoundingSet PrivateNetwork "
        "ProtectSystem ReadOnlyPaths ReadWritePaths InaccessiblePaths ReadOnlyDirectories ReadWriteDirectories "
        "InaccessibleDirectories BindPaths BindReadOnlyPaths TemporaryFileSystem PrivateTmp DeviceAllow "
        "LimitCPU LimitFSIZE LimitDATA LimitSTACK LimitCORE LimitRSS LimitNOFILE LimitNPROC LimitMEMLOCK "
        "LimitLOCKS LimitSIGPENDING LimitMSGQUEUE LimitNICE LimitRTPRIO LimitRTTIME"
    )
}


def _table() -> dict[tuple[str, str], Meaning]:
    table: dict[tuple[str, str], Meaning] = {}
    for section, names in _USED.items():
        table.update(dict.fromkeys(((section, name) for name in names.split()), "used"))
    for section, names in _CONTAINER.items():
        table.update(dict.fromkeys(((section, name) for name in names.split()), "container"))
    return table


_TABLE = _table()


def meaning(section: str, key: str) -> Meaning:
    """Whether xchronos acts on a key of [Unit], [Service] or [Install]: used, container or ignored."""
    return _TABLE.get((section, key), "ignored")
