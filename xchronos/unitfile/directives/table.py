"""Every key that systemd 252 to 262 knows in the sections of a service, with the kind of its value.

`versions` says which of them came after 252, or are gone. Source: `systemd --dump-configuration-items` of systemd 252,
254, 257 and 262, and the behaviour of `systemd-analyze verify`.
"""

from xchronos.unitfile.directives import kinds, lists, resources, sandbox, streams
from xchronos.unitfile.directives.verdict import Kind
from xchronos.unitfile.directives.versions import newer

_ACTIONS = "none reboot reboot-force reboot-immediate poweroff poweroff-force poweroff-immediate exit exit-force"
_PRINTABLE = "[ -~]*"
_JOB_MODES = "fail replace replace-irreversibly isolate flush ignore-dependencies ignore-requirements triggering"


def _action(label: str) -> Kind:
    words = "soft-reboot soft-reboot-force kexec kexec-force"
    return newer(kinds.choice(_ACTIONS, label=label), 254, words, label=label)


def _job_mode() -> Kind:
    return newer(kinds.choice(_JOB_MODES), 254, "restart-dependencies")


def _keys(kind: Kind, names: str) -> dict[str, Kind]:
    return dict.fromkeys(names.split(), kind)


def _conditions(prefix: str) -> dict[str, Kind]:
    of_paths = (
        "PathExists PathExistsGlob PathIsDirectory PathIsSymbolicLink PathIsMountPoint PathIsReadWrite PathIsEncrypted "
        "PathIsSocket DirectoryNotEmpty FileNotEmpty FileIsExecutable NeedsUpdate"
    )
    of_text = (
        "FirstBoot Architecture Virtualization Host KernelCommandLine KernelVersion Credential Security Capability "
        "ACPower Memory CPUFeature CPUs Environment User Group ControlGroupController OSRelease MemoryPressure "
        "CPUPressure IOPressure Version KernelModuleLoaded Fraction MachineTag"
    )
    if prefix == "Condition":
        of_text += " Firmware"
    path, text = lists.condition(path=True), lists.condition()
    return {prefix + name: path for name in of_paths.split()} | {prefix + name: text for name in of_text.split()}


UNIT: dict[str, Kind] = {
    "Description": kinds.description,
    "Documentation": lists.documentation,
    "SourcePath": kinds.path(label="Source Path"),
    **_keys(
        lists.units,
        "Requires Requisite Wants BindsTo BindTo Upholds Conflicts Before After OnSuccess OnFailure PropagatesReloadTo "
        "PropagateReloadTo ReloadPropagatedFrom PropagateReloadFrom PropagatesStopTo StopPropagatedFrom PartOf "
        "JoinsNamespaceOf",
    ),
    "RequiresOverridable": lists.obsolete_units("Requires"),
    "RequisiteOverridable": lists.obsolete_units("Requisite"),
    **_keys(lists.paths(label=""), "RequiresMountsFor WantsMountsFor"),
    **_keys(kinds.boolean, "StopWhenUnneeded RefuseManualStart RefuseManualStop DefaultDependencies IgnoreOnIsolate"),
    **_keys(kinds.silent_boolean, "AllowIsolate SurviveFinalKillSignal"),
    "OnSuccessJobMode": _job_mode(),
    "OnFailureJobMode": _job_mode(),
    "OnFailureIsolate": kinds.isolate,
    "JobTimeoutSec": kinds.time("Job Timeout", zero_is_infinity=True, accuracy=1),
    "JobRunningTimeoutSec": kinds.time("", zero_is_infinity=True),
    "JobTimeoutAction": _action("Job Timeout Action"),
    "JobTimeoutRebootArgument": kinds.text(label="Job Timeout Reboot Argument", pattern=_PRINTABLE),
    **_keys(kinds.time(""), "StartLimitIntervalSec StartLimitInterval"),
    "StartLimitBurst": kinds.integer(0, kinds.UINT32, "a number of starts", label=""),
    "StartLimitAction": _action(""),
    "FailureAction": _action("Failure Action"),
    "SuccessAction": _action("Success Action"),
    "FailureActionExitStatus": kinds.integer(0, 255, "an exit status", label="Failure Action Exit Status", empty=True),
    "SuccessActionExitStatus": kinds.integer(0, 255, "an exit status", label="Success Action Exit Status", empty=True),
    "RebootArgument": kinds.text(label="", pattern=_PRINTABLE),
    "CollectMode": kinds.choice("inactive inactive-or-failed", label="Garbage Collection Mode"),
    **_conditions("Condition"),
    **_conditions("Assert"),
}

_COMMANDS = _keys(
    kinds.anything,
    "ExecCondition ExecStartPre ExecStart ExecStartPost ExecReload ExecReloadPost ExecStop ExecStopPost",
)

_OWN: dict[str, Kind] = {
    "PIDFile": kinds.pid_file,
    **_keys(kinds.time(""), "RestartMaxDelaySec RestartRandomizedDelaySec"),
    "RestartSteps": kinds.integer(0, kinds.UINT32, "a number of steps", label=""),
    "RestartMode": newer(kinds.choice("normal direct", label=""), 257, "debug", label=""),
    **_keys(kinds.time(), "RestartSec RuntimeMaxSec RuntimeRandomizedExtraSec TimeoutCleanSec"),
    "TimeoutSec": kinds.time("TimeoutStartSec", "TimeoutStopSec", zero_is_infinity=True),
    "TimeoutStartSec": kinds.time(zero_is_infinity=True),
    "TimeoutStopSec": kinds.time(zero_is_infinity=True),
    "TimeoutAbortSec": kinds.time(empty=True),
    "TimeoutStartFailureMode": kinds.choice("terminate abort kill"),
    "TimeoutStopFailureMode": kinds.choice("terminate abort kill"),
    "WatchdogSec": kinds.watchdog,
    "StartLimitInterval": kinds.time(""),
    "StartLimitBurst": UNIT["StartLimitBurst"],
    "StartLimitAction": UNIT["StartLimitAction"],
    "FailureAction": UNIT["FailureAction"],
    "RebootArgument": UNIT["RebootArgument"],
    "Type": newer(kinds.service_type, 253, "notify-reload"),
    "ExitType": kinds.choice("main cgroup", label=""),
    "Restart": kinds.choice("no always on-success on-failure on-abnormal on-abort on-watchdog"),
    **_keys(kinds.boolean, "PermissionsStartOnly RootDirectoryStartOnly RemainAfterExit GuessMainPID NonBlocking"),
    **_keys(lists.exit_statuses, "RestartPreventExitStatus RestartForceExitStatus SuccessExitStatus"),
    "BusName": kinds.bus_name,
    "FileDescriptorStoreMax": kinds.descriptor_store,
    "FileDescriptorStorePreserve": kinds.choice("restart", booleans=True, label=""),
    # What is handed to a process by descriptors, or taken over at a reload, has no use here. Any value is accepted.
    **_keys(kinds.anything, "OpenFile LUOSession RefreshOnReload"),
    "NotifyAccess": kinds.choice("none main exec all"),
    "Sockets": lists.sockets,
    "USBFunctionDescriptors": kinds.path(label=""),
    "USBFunctionStrings": kinds.path(label=""),
    "OOMPolicy": kinds.choice("continue stop kill"),
}

_EXEC: dict[str, Kind] = {
    "WorkingDirectory": kinds.working_directory,
    "RootDirectory": kinds.root_directory,
    "RootImage": kinds.path("MountAPIVFS: yes", fatal=True),
    "RootVerity": kinds.path(fatal=True),
    # Disk images are not used: containers have images of their own. Any value is accepted.
    **_keys(
        kinds.anything,
        "RootImageOptions RootHash RootHashSignature ExtensionImages MountImages RootImagePolicy "
        "ExtensionImagePolicy MountImagePolicy",
    ),
    "RootMStack": kinds.path(label="", fatal=True),
    "ExtensionDirectories": lists.paths(prefixes="-+"),
    "User": kinds.user(),
    "Group": kinds.user(),
    "SupplementaryGroups": kinds.user(many=True),
    "Nice": kinds.integer(-20, 19, "a nice value", empty=True),
    "OOMScoreAdjust": kinds.integer(-1000, 1000, "an OOM score", empty=True),
    "CoredumpFilter": sandbox.coredump_filter,
    "IOSchedulingClass": kinds.io_class,
    "IOSchedulingPriority": kinds.io_priority,
    "CPUSchedulingPolicy": newer(kinds.cpu_scheduling, 260, "ext"),
    "CPUSchedulingPriority": kinds.cpu_priority,
    "CPUSchedulingResetOnFork": kinds.silent_boolean,
    "CPUAffinity": lists.cpus(special="numa"),
    "NUMAPolicy": kinds.numa_policy,
    "NUMAMask": lists.cpus(special="all", before=("NUMAPolicy: preferred",)),
    "UMask": kinds.mode,
    "Environment": lists.environment,
    "EnvironmentFile": lists.environment_file,
    "PassEnvironment": lists.variables(),
    "UnsetEnvironment": lists.variables(assignments=True),
    "DynamicUser": kinds.dynamic_user,
    "RemoveIPC": kinds.silent_boolean,
    "StandardInput": streams.input_,
    "StandardOutput": streams.output,
    "StandardError": streams.output,
    "StandardInputText": streams.input_data,
    "StandardInputData": sandbox.input_base64,
    "TTYPath": kinds.path(),
    **_keys(kinds.silent_boolean, "TTYReset TTYVHangup TTYVTDisallocate SyslogLevelPrefix"),
    **_keys(kinds.integer(0, kinds.UINT32, "a size", label="", empty=True), "TTYRows TTYColumns"),
    "SyslogIdentifier": kinds.text(label=""),
    "SyslogFacility": streams.log_facility,
    "SyslogLevel": streams.log_level(""),
    "LogLevelMax": streams.log_level("LogLevelMax"),
    "LogRateLimitIntervalSec": kinds.time(),
    "LogRateLimitBurst": kinds.integer(0, kinds.UINT32, "a number of messages"),
    "LogExtraFields": lists.log_fields,
    "LogFilterPatterns": kinds.anything,
    "LogNamespace": kinds.text(pattern="[A-Za-z0-9:_.@-]+"),
    "SecureBits": lists.secure_bits,
    "CapabilityBoundingSet": lists.capabilities(),
    "AmbientCapabilities": lists.capabilities(ambient=True),
    "TimerSlackNSec": kinds.nanoseconds,
    **_keys(
        kinds.silent_boolean,
        "NoNewPrivileges PrivateIPC RootEphemeral PrivatePIDs PrivateBPF StateDirectoryAccounting "
        "CacheDirectoryAccounting LogsDirectoryAccounting CoredumpReceive MemoryZSwapWriteback",
    ),
    "PrivateMounts": newer(kinds.silent_boolean, 254, "", empty=True),
    **_keys(kinds.silent_optional_boolean, "SetLoginEnvironment MemoryKSM BindLogSockets"),
    "MemoryTHP": kinds.choice("inherit disable madvise system", label=""),
    "DelegateNamespaces": sandbox.delegated_namespaces,
    # Sizes on disk, programs of the kernel, rules of firewalls and other daemons: accepted as they are.
    **_keys(
        kinds.anything,
        "StateDirectoryQuota CacheDirectoryQuota LogsDirectoryQuota BPFDelegateCommands BPFDelegateMaps "
        "BPFDelegatePrograms BPFDelegateAttachments NFTSet ImportCredential OOMRules BindNetworkInterface",
    ),
    "KeyringMode": kinds.choice("inherit private shared"),
    "ProtectProc": kinds.choice("noaccess invisible ptraceable default"),
    "ProcSubset": kinds.choice("all pid"),
    # System calls and file systems are named by the kernel of the machine. Any value is accepted here.
    **_keys(kinds.anything, "SystemCallFilter SystemCallLog RestrictFileSystems"),
    "SystemCallArchitectures": lists.words_of(sandbox.ARCHITECTURES, each=True),
    "SystemCallErrorNumber": sandbox.error_number,
    "RestrictAddressFamilies": sandbox.address_families,
    "RestrictNamespaces": sandbox.namespaces,
    "Personality": kinds.choice("x86 x86-64", empty=True),
    **_keys(sandbox.credential(":"), "SetCredential SetCredentialEncrypted"),
    **_keys(sandbox.credential(""), "LoadCredential LoadCredentialEncrypted"),
    **{key: sandbox.protection(dropped) for key, dropped in sandbox.PROTECTIONS.items()},
    **_keys(
        kinds.boolean,
        "MemoryDenyWriteExecute RestrictRealtime RestrictSUIDSGID LockPersonality ProtectKernelTunables PrivateNetwork "
        "IgnoreSIGPIPE",
    ),
    "PrivateTmp": newer(kinds.boolean, 257, "disconnected"),
    "ProtectControlGroups": newer(kinds.boolean, 257, "private strict"),
    "PrivateUsers": newer(newer(newer(kinds.boolean, 257, "self identity"), 258, "full"), 260, "managed"),
    "ProtectHostname": sandbox.protect_hostname,
    **dict.fromkeys(kinds.LIMIT_KEYS, kinds.rlimit),
    **{
        key: lists.paths(prefixes="-+", label=label)
        for key, label in (
            ("ReadWriteDirectories", "ReadWritePaths"),
            ("ReadOnlyDirectories", "ReadOnlyPaths"),
            ("InaccessibleDirectories", "InaccessiblePaths"),
        )
    },
    **_keys(lists.paths(prefixes="-+"), "ReadWritePaths ReadOnlyPaths InaccessiblePaths ExecPaths NoExecPaths"),
    "ExecSearchPath": kinds.anything,
    "BindPaths": lists.bind_paths,
    "BindReadOnlyPaths": lists.bind_paths,
    "TemporaryFileSystem": lists.temporary_file_systems,
    "NetworkNamespacePath": kinds.path(),
    **_keys(kinds.path(label=""), "IPCNamespacePath UserNamespacePath"),
    "ProtectSystem": kinds.choice("full strict", booleans=True),
    "ProtectHome": kinds.choice("read-only tmpfs", booleans=True),
    "MountFlags": lists.words_of("shared slave private", label="", one=True),
    "MountAPIVFS": kinds.optional_boolean,
    "RuntimeDirectoryPreserve": kinds.choice("restart", booleans=True),
    **_keys(
        kinds.mode,
        "RuntimeDirectoryMode StateDirectoryMode CacheDirectoryMode LogsDirectoryMode ConfigurationDirectoryMode",
    ),
    **_keys(lists.directories, "RuntimeDirectory StateDirectory CacheDirectory LogsDirectory ConfigurationDirectory"),
    "PAMName": kinds.text(),
    "UtmpIdentifier": kinds.text(),
    "UtmpMode": kinds.choice("init login user", label=""),
    **_keys(kinds.text(fatal=True), "SELinuxContext AppArmorProfile SmackProcessLabel"),
}

_RESOURCES: dict[str, Kind] = {
    "Slice": lists.slice_,
    **_keys(lists.cpus(), "AllowedCPUs StartupAllowedCPUs AllowedMemoryNodes StartupAllowedMemoryNodes"),
    **_keys(kinds.boolean, "CPUAccounting MemoryAccounting IOAccounting TasksAccounting IPAccounting"),
    "BlockIOAccounting": kinds.boolean,
    **_keys(resources.weight(1, 10_000, idle=True), "CPUWeight StartupCPUWeight"),
    **_keys(resources.weight(2, 262_144, successor="CPUWeight"), "CPUShares StartupCPUShares"),
    "CPUQuota": resources.cpu_quota,
    "CPUQuotaPeriodSec": kinds.time(empty=True, accuracy=1),
    **_keys(resources.memory(), "MemoryHigh MemoryMax StartupMemoryHigh StartupMemoryMax DefaultStartupMemoryLow"),
    **_keys(
        resources.memory(zero=True),
        "MemoryMin DefaultMemoryMin DefaultMemoryLow MemoryLow MemorySwapMax StartupMemoryLow "
        "StartupMemorySwapMax MemoryZSwapMax StartupMemoryZSwapMax",
    ),
    "MemoryLimit": resources.memory(successor="MemoryMax"),
    "DeviceAllow": resources.device_allow,
    "DevicePolicy": kinds.choice("auto closed strict"),
    **_keys(resources.weight(1, 10_000), "IOWeight StartupIOWeight"),
    "IODeviceWeight": resources.per_device("weight"),
    **_keys(resources.per_device("bandwidth"), "IOReadBandwidthMax IOWriteBandwidthMax IOReadIOPSMax IOWriteIOPSMax"),
    "IODeviceLatencyTargetSec": resources.per_device("latency"),
    **_keys(resources.weight(10, 1000), "BlockIOWeight StartupBlockIOWeight"),
    "BlockIODeviceWeight": resources.per_device("weight", successor="IODeviceWeight"),
    "BlockIOReadBandwidth": resources.per_device("bandwidth", successor="IOReadBandwidthMax"),
    "BlockIOWriteBandwidth": resources.per_device("bandwidth", successor="IOWriteBandwidthMax"),
    "TasksMax": resources.tasks,
    "Delegate": resources.delegate,
    "DelegateSubgroup": kinds.text(label="", pattern="[^/]*"),
    "CPUSetPartition": kinds.choice("member root isolated", empty=True, label=""),
    "DisableControllers": lists.words_of("cpu cpuacct cpuset io blkio memory devices pids"),
    "IPAddressAllow": resources.addresses,
    "IPAddressDeny": resources.addresses,
    "IPIngressFilterPath": kinds.path(),
    "IPEgressFilterPath": kinds.path(),
    "BPFProgram": kinds.text(label="", pattern="[a-z0-9_]+:/.+"),
    **_keys(kinds.choice("auto kill", empty=True), "ManagedOOMSwap ManagedOOMMemoryPressure"),
    "ManagedOOMMemoryPressureLimit": resources.pressure_limit,
    "ManagedOOMPreference": kinds.choice("none avoid omit"),
    "ManagedOOMMemoryPressureDurationSec": kinds.time("", empty=True),
    **_keys(kinds.time(""), "MemoryPressureThresholdSec CPUPressureThresholdSec IOPressureThresholdSec"),
    **_keys(
        kinds.choice("auto skip", booleans=True, label=""),
        "MemoryPressureWatch CPUPressureWatch IOPressureWatch",
    ),
    "SocketBindAllow": resources.ports,
    "SocketBindDeny": resources.ports,
    "RestrictNetworkInterfaces": resources.interfaces,
}

_KILL: dict[str, Kind] = {
    "SendSIGKILL": kinds.boolean,
    "SendSIGHUP": kinds.boolean,
    "KillMode": kinds.kill_mode,
    "KillSignal": kinds.signal("KillSignal", "RestartKillSignal"),
    "RestartKillSignal": kinds.signal(),
    "FinalKillSignal": kinds.signal(),
    **_keys(kinds.signal(""), "WatchdogSignal ReloadSignal"),
}

SERVICE: dict[str, Kind] = _COMMANDS | _OWN | _EXEC | _RESOURCES | _KILL
INSTALL: dict[str, Kind] = _keys(kinds.anything, "Alias WantedBy RequiredBy UpheldBy Also DefaultInstance")
SECTIONS: dict[str, dict[str, Kind]] = {"Unit": UNIT, "Service": SERVICE, "Install": INSTALL}
