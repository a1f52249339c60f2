"""Which of systemd's keys mean something to xchronos, and which are only understood.

A key is *used* when the scheduler or an agent acts on it whatever runs the steps, *container* when it becomes a setting
of the step's container (and a host process does without it), and *ignored* when it is accepted, with a warning,
because a file written for systemd may hold it.
"""

from typing import Literal, TypeAlias

Meaning: TypeAlias = Literal["used", "container", "ignored"]

_CONDITIONS = (
    "PathExists PathExistsGlob PathIsDirectory PathIsSymbolicLink PathIsMountPoint PathIsReadWrite DirectoryNotEmpty "
    "FileNotEmpty FileIsExecutable Host"
)
"""Of Condition*= and Assert*=: what a machine can judge by its files and its name."""

_USED = {
    "Unit": " ".join(
        (
            "Description Documentation After Requires Wants OnSuccess OnFailure StartLimitBurst StartLimitIntervalSec",
            "StartLimitInterval",
            *(f"Condition{name} Assert{name}" for name in _CONDITIONS.split()),
        )
    ),
    "Service": (
        "Type ExecCondition ExecStartPre ExecStart ExecStartPost ExecStop ExecStopPost Environment EnvironmentFile "
        "UnsetEnvironment PassEnvironment RemainAfterExit WorkingDirectory User Group TimeoutSec TimeoutStartSec "
        "TimeoutStopSec RuntimeMaxSec KillSignal KillMode SendSIGKILL FinalKillSignal SuccessExitStatus "
        "RestartPreventExitStatus RestartForceExitStatus Restart RestartSec StartLimitBurst StartLimitInterval"
    ),
    "Install": "",
}
_CONTAINER = {
    "Service": (
        "SupplementaryGroups MemoryMax MemoryLimit MemorySwapMax MemoryHigh CPUQuota CPUWeight CPUShares AllowedCPUs "
        "CPUAffinity TasksMax OOMScoreAdjust IOWeight NoNewPrivileges CapabilityBoundingSet PrivateNetwork "
        "ProtectSystem ReadOnlyPaths ReadWritePaths InaccessiblePaths ReadOnlyDirectories ReadWriteDirectories "
        "InaccessibleDirectories BindPaths BindReadOnlyPaths TemporaryFileSystem PrivateTmp DeviceAllow "
        "LimitCPU LimitFSIZE LimitDATA LimitSTACK LimitCORE LimitRSS LimitNOFILE LimitAS LimitNPROC LimitMEMLOCK "
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
    """What becomes of a key of [Unit], [Service] or [Install]: used, container or ignored."""
    return _TABLE.get((section, key), "ignored")
