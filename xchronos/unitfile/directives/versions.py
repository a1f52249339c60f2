"""Which version of systemd knows which key and value: what came after 252, and what has gone.

Keys that are not named here are known by all versions from `OLDEST` to `NEWEST`. Source: `systemd
--dump-configuration-items` of 252, 254, 257 and 262, "Added in version" in the manual of 262, and what `systemd-analyze
verify` of these versions says about the values.
"""

from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.verdict import OK, DirectiveVerdict, Kind, Scope, shown

OLDEST = 252
NEWEST = 262
"""The versions of systemd that units can be judged by."""

VIA_SHELL = 258
"""The version that brought the prefix `|` of commands."""

_NEW = {
    "Unit": {
        255: "SurviveFinalKillSignal",
        256: "WantsMountsFor",
        258: "ConditionVersion AssertVersion ConditionKernelModuleLoaded AssertKernelModuleLoaded",
        260: "ConditionPathIsSocket AssertPathIsSocket",
        261: "ConditionFraction AssertFraction ConditionMachineTag AssertMachineTag",
    },
    "Service": {
        253: "OpenFile ReloadSignal LogFilterPatterns MemoryZSwapMax",
        254: (
            "RestartSteps RestartMaxDelaySec RestartMode FileDescriptorStorePreserve RootImagePolicy RootEphemeral "
            "ExtensionImagePolicy MountImagePolicy ImportCredential MemoryKSM DefaultStartupMemoryLow StartupMemoryLow "
            "StartupMemoryHigh StartupMemoryMax StartupMemorySwapMax StartupMemoryZSwapMax DelegateSubgroup "
            "MemoryPressureThresholdSec MemoryPressureWatch"
        ),
        255: "SetLoginEnvironment NFTSet CoredumpReceive",
        256: "MemoryZSwapWriteback",
        257: "PrivatePIDs BindLogSockets ManagedOOMMemoryPressureDurationSec",
        258: (
            "PrivateBPF BPFDelegateCommands BPFDelegateMaps BPFDelegatePrograms BPFDelegateAttachments "
            "DelegateNamespaces StateDirectoryAccounting StateDirectoryQuota CacheDirectoryAccounting "
            "CacheDirectoryQuota LogsDirectoryAccounting LogsDirectoryQuota"
        ),
        259: "ExecReloadPost UserNamespacePath",
        260: "RefreshOnReload RootMStack MemoryTHP BindNetworkInterface",
        261: (
            "CPUSetPartition OOMRules CPUPressureThresholdSec CPUPressureWatch IOPressureThresholdSec IOPressureWatch"
        ),
        262: "RestartRandomizedDelaySec LUOSession",
    },
    "Install": {254: "UpheldBy"},
}
SINCE: dict[tuple[str, str], int] = {
    (section, key): version
    for section, versions in _NEW.items()
    for version, keys in versions.items()
    for key in keys.split()
}
"""The version that brought each key that 252 does not know."""

_SUCCESSORS = {
    "CPUAccounting": "",
    "CPUShares": "CPUWeight",
    "StartupCPUShares": "StartupCPUWeight",
    "DefaultMemoryMin": "MemoryMin",
    "DefaultMemoryLow": "MemoryLow",
    "DefaultStartupMemoryLow": "StartupMemoryLow",
    "MemoryLimit": "MemoryMax",
    "BlockIOAccounting": "IOAccounting",
    "BlockIOWeight": "IOWeight",
    "StartupBlockIOWeight": "StartupIOWeight",
    "BlockIODeviceWeight": "IODeviceWeight",
    "BlockIOReadBandwidth": "IOReadBandwidthMax",
    "BlockIOWriteBandwidth": "IOWriteBandwidthMax",
}
_WITHOUT_GROUPS_V1 = 258
"""The version that dropped the keys of the first kind of control groups, and what was of no use without it."""

GONE: dict[tuple[str, str], tuple[int, str]] = {
    ("Service", key): (_WITHOUT_GROUPS_V1, successor) for key, successor in _SUCCESSORS.items()
}
"""The version that dropped each key, and the key that takes its place (empty: none does)."""


def unavailable(section: str, key: str, version: int) -> str:
    """Why a key that is in the table does nothing in this version of systemd. Empty if it does."""
    since = SINCE.get((section, key), OLDEST)
    if version < since:
        return f"{key}= is known from systemd {since} on: systemd {version} ignores it"
    gone, successor = GONE.get((section, key), (NEWEST + 1, ""))
    if version >= gone:
        expected = f"{successor}= instead" if successor else "the line to go"
        return f"{key}= was dropped in systemd {gone}, which ignores it: expected {expected}"
    return ""


def newer(kind: Kind, since: int, words: str, *, empty: bool = False, label: str | None = None) -> Kind:
    """A kind that also takes these words from the version `since` of systemd on, shown under `label` (or the key).

    With `empty`, the empty value means the default from that version on.
    """
    known = frozenset(words.split())

    def judge(key: str, value: str, scope: Scope) -> DirectiveVerdict:
        if value not in known and (value or not empty):
            return kind(key, value, scope)
        if scope.version < since:
            raise InvalidValue(f"{value!r} is a value from systemd {since} on: systemd {scope.version} ignores it")
        name = key if label is None else label
        return shown(f"{name}: {value}") if name and value else OK

    return judge
