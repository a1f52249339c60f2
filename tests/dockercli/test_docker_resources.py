"""`[Service]` limits and sandbox keys as parts of a create body."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.dockercli.options.resources import RESOURCE_KEYS, host_config_from_service
from xchronos.dockercli.options.sandbox import MASKED_PATHS, READONLY_PATHS


def parts(**options):
    body, problems = host_config_from_service(
        {key: [value] if isinstance(value, str) else value for key, value in options.items()}
    )
    return body, problems


def host(**options):
    body, problems = parts(**options)
    assert problems == []
    return body.get("HostConfig", {})


def ulimit(name, soft, hard):
    return {"Ulimits": [{"Name": name, "Soft": soft, "Hard": hard}]}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("MemoryMax", "1G", {"Memory": 1 << 30}),
        ("MemoryMax", "1.5G", {"Memory": 3 << 29}),
        ("MemoryMax", "512", {"Memory": 512}),
        ("MemoryMax", "infinity", {}),
        ("MemoryMax", ["1G", "", "2K"], {"Memory": 2048}),
        ("MemoryMax", ["1G", ""], {}),
        ("MemoryHigh", "64M", {"MemoryReservation": 64 << 20}),
        ("MemorySwapMax", "infinity", {"MemorySwap": -1}),
        ("CPUQuota", "150%", {"NanoCpus": 1_500_000_000}),
        ("CPUQuota", "1%", {"NanoCpus": 10_000_000}),
        ("CPUQuota", "0.99%", {"CpuPeriod": 1_000_000, "CpuQuota": 9_900}),
        ("CPUQuota", "0.5%", {"CpuPeriod": 1_000_000, "CpuQuota": 5_000}),
        ("CPUWeight", "1", {"CpuShares": 2}),
        ("CPUWeight", "10000", {"CpuShares": 262144}),
        ("CPUWeight", "100", {"CpuShares": 2597}),
        ("CPUWeight", "idle", {"CpuShares": 2}),
        ("AllowedCPUs", "0-3 5", {"CpusetCpus": "0-3,5"}),
        ("CPUAffinity", ["0", "1,2"], {"CpusetCpus": "0,1,2"}),
        ("AllowedMemoryNodes", "0", {"CpusetMems": "0"}),
        ("TasksMax", "10", {"PidsLimit": 10}),
        ("TasksMax", "infinity", {"PidsLimit": -1}),
        ("LimitNOFILE", "1024", ulimit("nofile", 1024, 1024)),
        ("LimitNOFILE", "1024:infinity", ulimit("nofile", 1024, -1)),
        ("LimitNPROC", "infinity", ulimit("nproc", -1, -1)),
        ("LimitCORE", "1M:2M", ulimit("core", 1 << 20, 2 << 20)),
        ("MemoryMax", "1G 512M", {"Memory": 3 << 29}),
        ("TasksMax", "0x10", {"PidsLimit": 16}),
        ("LimitNOFILE", "0x400", ulimit("nofile", 1024, 1024)),
        ("LimitCPU", "1min 1ms:2h", ulimit("cpu", 61, 7200)),
        ("LimitRTTIME", "2s", ulimit("rttime", 2_000_000, 2_000_000)),
        ("LimitNICE", "-10", ulimit("nice", 30, 30)),
        ("LimitNICE", "+1", ulimit("nice", 19, 19)),
        ("LimitNICE", "30", ulimit("nice", 30, 30)),
        ("OOMScoreAdjust", "-1000", {"OomScoreAdj": -1000}),
        ("IOWeight", "1", {"BlkioWeight": 10}),
        ("IOWeight", "100", {"BlkioWeight": 500}),
        ("IOWeight", "10000", {"BlkioWeight": 1000}),
        ("IOReadBandwidthMax", "/dev/sda 5M", {"BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 5_000_000}]}),
        ("IOWriteIOPSMax", "/dev/sda infinity", {}),
        ("NoNewPrivileges", "yes", {"SecurityOpt": ["no-new-privileges"]}),
        ("NoNewPrivileges", "off", {}),
        ("CapabilityBoundingSet", "CAP_CHOWN CAP_KILL", {"CapDrop": ["ALL"], "CapAdd": ["CAP_CHOWN", "CAP_KILL"]}),
        ("CapabilityBoundingSet", ["CAP_CHOWN", "CAP_KILL"], {"CapDrop": ["ALL"], "CapAdd": ["CAP_CHOWN", "CAP_KILL"]}),
        ("CapabilityBoundingSet", ["CAP_CHOWN CAP_KILL", "~CAP_KILL"], {"CapDrop": ["ALL"], "CapAdd": ["CAP_CHOWN"]}),
        ("CapabilityBoundingSet", "~CAP_CHOWN", {"CapDrop": ["CAP_CHOWN"]}),
        ("CapabilityBoundingSet", ["~CAP_CHOWN", "~CAP_KILL"], {"CapDrop": ["CAP_CHOWN", "CAP_KILL"]}),
        ("CapabilityBoundingSet", ["~CAP_CHOWN CAP_KILL", "CAP_KILL"], {"CapDrop": ["CAP_CHOWN"]}),
        ("CapabilityBoundingSet", "~cap_chown 5 'CAP_CHOWN'", {"CapDrop": ["CAP_CHOWN", "CAP_KILL"]}),
        ("CapabilityBoundingSet", "", {"CapDrop": ["ALL"]}),
        ("CapabilityBoundingSet", ["CAP_CHOWN", ""], {"CapDrop": ["ALL"]}),
        ("CapabilityBoundingSet", ["CAP_CHOWN", "~"], {}),
        ("PrivateNetwork", "yes", {"NetworkMode": "none"}),
        ("PrivateNetwork", "no", {}),
        ("ProtectSystem", "strict", {"ReadonlyRootfs": True}),
        ("ProtectSystem", "no", {}),
        ("ReadOnlyPaths", "/", {"ReadonlyRootfs": True}),
        ("ReadOnlyPaths", "-/a / +/b", {"ReadonlyRootfs": True, "ReadonlyPaths": [*READONLY_PATHS, "/a", "/b"]}),
        ("InaccessiblePaths", ["/a", "/b"], {"MaskedPaths": [*MASKED_PATHS, "/a", "/b"]}),
        ("ReadOnlyPaths", "'/a b' -+//c/./d/", {"ReadonlyPaths": [*READONLY_PATHS, "/a b", "/c/d"]}),
        ("BindPaths", "/a:/b:rbind /c", {"Binds": ["/a:/b", "/c:/c"]}),
        ("BindPaths", '"/a b:/c d/"', {"Binds": ["/a b:/c d"]}),
        ("TemporaryFileSystem", '"/a b:size=1M"', {"Tmpfs": {"/a b": "size=1M"}}),
        ("BindReadOnlyPaths", "/a", {"Binds": ["/a:/a:ro"]}),
        ("TemporaryFileSystem", "/a:size=1M /b", {"Tmpfs": {"/a": "size=1M", "/b": ""}}),
        ("PrivateTmp", "yes", {"Tmpfs": {"/tmp": "", "/var/tmp": ""}}),
        ("PrivateTmp", "disconnected", {"Tmpfs": {"/tmp": "", "/var/tmp": ""}}),
        ("PrivateTmp", "no", {}),
        (
            "DeviceAllow",
            "/dev/fuse rw",
            {"Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rw"}]},
        ),
        ("SupplementaryGroups", ["a b", "c"], {"GroupAdd": ["a", "b", "c"]}),
    ],
)
def test_host_key(key, value, expected):
    assert host(**{key: value}) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"User": "u"}, {"User": "u"}),
        ({"User": "u", "Group": "g"}, {"User": "u:g"}),
        ({"Group": "g"}, {"User": "0:g"}),
        ({"Group": ["g", ""]}, {}),
        ({"WorkingDirectory": "/w"}, {"WorkingDir": "/w"}),
        ({"WorkingDirectory": "-/w"}, {"WorkingDir": "/w"}),
        ({"KillSignal": "SIGINT"}, {"StopSignal": "SIGINT"}),
        ({"ReadWritePaths": "/d /e"}, {"Volumes": {"/d": {}, "/e": {}}}),
        ({"Restart": "always", "ExecStart": "x"}, {}),
    ],
)
def test_config_key(options, expected):
    assert parts(**options) == (expected, [])


def test_swap_is_counted_with_memory():
    assert host(MemorySwapMax="1G", MemoryMax="1G") == {"Memory": 1 << 30, "MemorySwap": 2 << 30}
    assert host(MemorySwapMax="0", MemoryMax="1G") == {"Memory": 1 << 30, "MemorySwap": 1 << 30}


def test_old_and_new_names_add_up():
    made = host(InaccessiblePaths="/a", InaccessibleDirectories="/b")
    assert made == {"MaskedPaths": [*MASKED_PATHS, "/a", "/b"]}


def test_the_better_of_two_keys_wins_in_any_order():
    assert host(CPUAffinity="7", AllowedCPUs="1")["CpusetCpus"] == "1"
    assert host(AllowedCPUs="1", CPUAffinity="7")["CpusetCpus"] == "1"
    assert parts(MemoryLimit="1G", MemoryMax="2G")[0]["HostConfig"] == {"Memory": 2 << 30}
    assert parts(MemoryMax="2G", MemoryLimit="1G")[0]["HostConfig"] == {"Memory": 2 << 30}


@pytest.mark.parametrize(
    ("key", "value", "mapped", "message"),
    [
        ("Nice", "5", {}, "no effect in a container"),
        ("MemoryLimit", "1G", {"Memory": 1 << 30}, "deprecated, use MemoryMax"),
        ("CPUShares", "512", {"CpuShares": 512}, "deprecated, use CPUWeight"),
        ("BlockIOWeight", "100", {"BlkioWeight": 100}, "deprecated, use IOWeight"),
        ("MemorySwapMax", "1G", {}, "no effect without MemoryMax"),
        ("ProtectSystem", "full", {}, "only strict"),
        ("ProtectSystem", "yes", {}, "only strict"),
        ("BindPaths", "-/a:/b", {"Binds": ["/a:/b"]}, "creates a missing source"),
        ("BindPaths", "/a:/b:norbind", {"Binds": ["/a:/b"]}, "below the source as well"),
        ("DeviceAllow", "char-tty rw", {}, "only devices below /dev/"),
        ("WorkingDirectory", "~", {}, "is not known to the engine"),
    ],
)
def test_warned(key, value, mapped, message):
    body, ((named, text, severity),) = parts(**{key: value})
    assert body.get("HostConfig", {}) == mapped
    assert (named, severity) == (key, "warning")
    assert message in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MemoryMax", "0"), ("MemoryMax", "1g"), ("MemoryMax", "50%"), ("MemoryMax", "lots"), ("MemoryMax", "9999E"), ("MemoryMax", "1" * 5000),
        ("CPUQuota", "0%"), ("CPUQuota", "1"), ("CPUQuota", "9999999999%"), ("CPUWeight", "0"), ("CPUWeight", "10001"),
        ("CPUShares", "1"), ("AllowedCPUs", "a"), ("AllowedCPUs", "3-"), ("TasksMax", "0"), ("TasksMax", "10%"),
        ("LimitNOFILE", "9223372036854775808"), ("MemoryMax", "8E"), ("LimitNOFILE", "5:4"), ("LimitNOFILE", "infinity:4"), ("LimitNOFILE", "1:2:3"), ("LimitNOFILE", "x"),
        ("LimitNICE", "-21"), ("OOMScoreAdjust", "1001"), ("OOMScoreAdjust", "--5"), ("IOWeight", "0"),
        ("IOReadBandwidthMax", "/dev/sda"), ("IOReadBandwidthMax", "/x 5"), ("NoNewPrivileges", "maybe"),
        ("CapabilityBoundingSet", "chown"), ("CapabilityBoundingSet", "CAP_FOO"), ("CapabilityBoundingSet", "62"),
        ("ReadOnlyPaths", "+-/a"), ("ReadOnlyPaths", '"/a'), ("BindPaths", "/a:/b:x"), ("DeviceAllow", "'' r"), ("ReadOnlyPaths", "a"), ("BindPaths", "a:/b"), ("BindPaths", "/a:/b:/c:d"),
        ("TemporaryFileSystem", "a"), ("DeviceAllow", "/dev/a rx"), ("WorkingDirectory", "w"), ("ProtectSystem", "x"),
    ],
)  # fmt: skip
def test_refused(key, value):
    body, ((named, text, severity),) = parts(**{key: value})
    assert body == {}
    assert (named, severity) == (key, "error")
    assert text


@given(st.dictionaries(st.sampled_from(sorted(RESOURCE_KEYS)), st.lists(st.text(max_size=8), max_size=3)))
def test_any_value_is_mapped_or_answered(options):
    _, problems = host_config_from_service(options)
    assert {problem.key for problem in problems} <= set(options)


@given(st.sampled_from(sorted(RESOURCE_KEYS)), st.text("0123456789KMG%:-/. ~", max_size=8))
def test_values_that_nearly_parse(key, value):
    _, problems = host_config_from_service({key: [value]})
    assert all(problem.message for problem in problems)
