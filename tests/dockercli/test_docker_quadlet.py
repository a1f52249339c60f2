"""`[Container]` in quadlet's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.dockercli.body import empty_body
from xchronos.dockercli.options.sandbox import MASKED_PATHS, READONLY_PATHS
from xchronos.dockercli.quadlet.container import CONTAINER_KEYS, ContainerExtras, Secret, container_body


def compiled(*options):
    """The options behind Image=img, as (key, value); lines count from 1."""
    numbered = [(key, value, line) for line, (key, value) in enumerate([("Image", "img"), *options], start=1)]
    return container_body(numbered)


def changes(*options):
    body, _, problems = compiled(*options)
    assert problems == []
    empty = empty_body("img")
    host = {key: value for key, value in body["HostConfig"].items() if value != empty["HostConfig"].get(key)}
    config = {key: value for key, value in body.items() if key != "HostConfig" and value != empty.get(key)}
    return config | ({"HostConfig": host} if host else {})


def host(**parts):
    return {"HostConfig": parts}


def env(*words):
    return {"Env": list(words)}


def test_nothing_but_an_image():
    assert container_body([("Image", "img", 3)]) == (empty_body("img"), ContainerExtras(image="img"), [])


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("AddCapability", "NET_ADMIN SYS_TIME", host(CapAdd=["NET_ADMIN", "SYS_TIME"])),
        ("DropCapability", "all", host(CapDrop=["all"])),
        ("AddHost", "a:1.2.3.4", host(ExtraHosts=["a:1.2.3.4"])),
        ("Annotation", 'a=b "c=d e"', host(Annotations={"a": "b", "c": "d e"})),
        ("AppArmor", "p", host(SecurityOpt=["apparmor=p"])),
        ("CPUs", "1.5", host(NanoCpus=1_500_000_000)),
        ("DNS", "8.8.8.8", host(Dns=["8.8.8.8"])),
        ("DNSOption", "ndots:1", host(DnsOptions=["ndots:1"])),
        ("DNSSearch", "a.b", host(DnsSearch=["a.b"])),
        ("GPUs", '"device=0,1"', host(DeviceRequests=[{"Driver": "", "Count": 0, "DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]], "Options": {}}])),
        ("Entrypoint", "/bin/a b", {"Entrypoint": ["/bin/a b"]}),
        ("Entrypoint", '["/bin/a", "b"]', {"Entrypoint": ["/bin/a", "b"]}),
        ("Environment", 'A=1 "B=x y" A=2', env("A=2", "B=x y")),
        ("EnvironmentHost", "no", {}),
        ("Exec", "sh -c 'echo \"$A\"'", {"Cmd": ["sh", "-c", 'echo "$A"']}),
        ("ExposeHostPort", "80", {"ExposedPorts": {"80/tcp": {}}}),
        ("GroupAdd", "g", host(GroupAdd=["g"])),
        ("HealthCmd", "curl x", {"Healthcheck": {"Test": ["CMD-SHELL", "curl x"]}}),
        ("HealthCmd", '["curl", "x"]', {"Healthcheck": {"Test": ["CMD", "curl", "x"]}}),
        ("HealthCmd", '["curl x"]', {"Healthcheck": {"Test": ["CMD-SHELL", "curl x"]}}),
        ("HealthCmd", "CMD-SHELL pg_isready -U x || exit 1", {"Healthcheck": {"Test": ["CMD-SHELL", "pg_isready -U x || exit 1"]}}),
        ("HealthCmd", '"cmd-shell  a b"', {"Healthcheck": {"Test": ["CMD-SHELL", "a b"]}}),
        ("HealthCmd", '["CMD-SHELL", "a b"]', {"Healthcheck": {"Test": ["CMD-SHELL", "a b"]}}),
        ("HealthCmd", "CMD x  y", {"Healthcheck": {"Test": ["CMD", "x", "y"]}}),
        ("HealthCmd", '["CMD", "x", "y z"]', {"Healthcheck": {"Test": ["CMD", "x", "y z"]}}),
        ("HealthCmd", '["none"]', {"Healthcheck": {"Test": ["NONE"]}}),
        ("HealthCmd", "none", {"Healthcheck": {"Test": ["NONE"]}}),
        ("HealthInterval", "5s", {"Healthcheck": {"Interval": 5_000_000_000}}),
        ("HealthOnFailure", "none", {}),
        ("HostName", "h", {"Hostname": "h"}),
        ("Label", 'a=b "c=d e"', {"Labels": {"a": "b", "c": "d e"}}),
        ("LogDriver", "journald", host(LogConfig={"Type": "journald", "Config": {}})),
        ("LogOpt", "tag=x", host(LogConfig={"Type": "", "Config": {"tag": "x"}})),
        ("Mask", "/proc/a:/proc/b:/proc/keys", host(MaskedPaths=[*MASKED_PATHS, "/proc/a", "/proc/b"])),
        ("Unmask", "all", host(MaskedPaths=[], ReadonlyPaths=[])),
        ("Unmask", "ALL", host(MaskedPaths=[], ReadonlyPaths=[])),
        ("Unmask", "/proc/sys", host(MaskedPaths=list(MASKED_PATHS), ReadonlyPaths=[*READONLY_PATHS[:3], READONLY_PATHS[4]])),
        ("Memory", "1g", host(Memory=1 << 30)),
        ("Mount", "type=tmpfs,dst=/t", host(Mounts=[{"Type": "tmpfs", "Target": "/t"}])),
        ("Network", "host", host(NetworkMode="host")),
        ("Network", "container:x", host(NetworkMode="container:x")),
        ("NoNewPrivileges", "true", host(SecurityOpt=["no-new-privileges"])),
        ("NoNewPrivileges", "false", {}),
        ("PidsLimit", "10", host(PidsLimit=10)),
        ("Privileged", "yes", host(Privileged=True)),
        ("PodmanArgs", "--cap-add X --memory 1g --init", host(CapAdd=["X"], Memory=1 << 30, Init=True)),
        ("PublishPort", "80:81", {"ExposedPorts": {"81/tcp": {}}, **host(PortBindings={"81/tcp": [{"HostIp": "", "HostPort": "80"}]})}),
        ("ReadOnly", "yes", host(ReadonlyRootfs=True, Tmpfs={"/run": "", "/tmp": "", "/var/tmp": ""})),
        ("RunInit", "yes", host(Init=True)),
        ("SeccompProfile", "unconfined", host(SecurityOpt=["seccomp=unconfined"])),
        ("SecurityLabelDisable", "yes", host(SecurityOpt=["label=disable"])),
        ("SecurityLabelNested", "yes", host(SecurityOpt=["label=nested"])),
        ("SecurityLabelType", "t", host(SecurityOpt=["label=type:t"])),
        ("SecurityLabelLevel", "l", host(SecurityOpt=["label=level:l"])),
        ("SecurityLabelFileType", "f", host(SecurityOpt=["label=filetype:f"])),
        ("ShmSize", "64m", host(ShmSize=64 << 20)),
        ("StopSignal", "SIGINT", {"StopSignal": "SIGINT"}),
        ("StopTimeout", "5", {"StopTimeout": 5}),
        ("Sysctl", "net.a=1 net.b=2", host(Sysctls={"net.a": "1", "net.b": "2"})),
        ("Timezone", "Europe/Berlin", env("TZ=Europe/Berlin")),
        ("Tmpfs", "/t:size=1m", host(Tmpfs={"/t": "size=1m"})),
        ("Ulimit", "nofile=1:2", host(Ulimits=[{"Name": "nofile", "Hard": 2, "Soft": 1}])),
        ("User", "1000", {"User": "1000"}),
        ("UserNS", "host", host(UsernsMode="host")),
        ("VolatileTmp", "yes", host(Tmpfs={"/tmp": "rw,size=512M,mode=1777"})),
        ("VolatileTmp", "no", {}),
        ("Volume", "/a:/b:ro", host(Binds=["/a:/b:ro"])),
        ("Volume", "/a", {"Volumes": {"/a": {}}}),
        ("WorkingDir", "/w", {"WorkingDir": "/w"}),
    ],
)  # fmt: skip
def test_key(key, value, expected):
    assert changes((key, value)) == expected


def test_user_and_group():
    assert changes(("User", "u"), ("Group", "g")) == {"User": "u:g"}


def test_an_empty_value_forgets():
    assert changes(("Environment", "A=1"), ("Environment", ""), ("Environment", "B=2"), ("HostName", "")) == env("B=2")


def test_an_empty_entry_point_is_none_at_all():
    assert changes(("Entrypoint", "/a"), ("Entrypoint", "")) == {"Entrypoint": [""]}
    assert changes(("Entrypoint", ""), ("Entrypoint", "/a")) == {"Entrypoint": ["/a"]}


def test_a_value_of_nothing_but_quotes_is_none():
    assert changes(("HostName", "h"), ("HostName", '""'), ("Memory", '""')) == {}


def test_the_last_one_wins():
    assert changes(("HostName", "a"), ("HostName", "b"), ("Exec", "a"), ("Exec", "b")) == {
        "Hostname": "b",
        "Cmd": ["b"],
    }


def test_networks():
    body, extras, problems = compiled(
        ("Network", "n:ip=10.0.0.2,ip6=fd00::2,mac=92:d0:c6:0a:29:33,alias=a,alias=b"), ("Network", "m")
    )
    assert problems == []
    assert extras.networks == ("n", "m")
    endpoint = body["NetworkingConfig"]["EndpointsConfig"]["n"]
    assert endpoint["IPAMConfig"] == {"IPv4Address": "10.0.0.2", "IPv6Address": "fd00::2"}
    assert (endpoint["Aliases"], endpoint["MacAddress"]) == (["a", "b"], "92:d0:c6:0a:29:33")
    body, _, _ = compiled(("Network", "n"), ("IP", "10.0.0.2"), ("IP6", "fd00::2"), ("NetworkAlias", "a"))
    assert body["NetworkingConfig"]["EndpointsConfig"]["n"]["Aliases"] == ["a"]


def test_a_read_only_root_leaves_what_is_mounted_alone():
    made = changes(
        ("ReadOnly", "yes"), ("Volume", "/a:/run"), ("Volume", "/var/tmp"), ("Tmpfs", "/tmp:size=1m"),
        ("Mount", "type=tmpfs,dst=/x"),
    )["HostConfig"]  # fmt: skip
    assert made["Tmpfs"] == {"/tmp": "size=1m"}
    assert changes(("ReadOnly", "yes"), ("ReadOnlyTmpfs", "no")) == host(ReadonlyRootfs=True)


def test_masks_add_up():
    made = changes(("Mask", "/a"), ("Mask", "/b"), ("Unmask", "/a"))["HostConfig"]
    assert made["MaskedPaths"] == [*MASKED_PATHS, "/b"]


def test_cdi_device():
    assert changes(("AddDevice", "vendor.com/class=x"))["HostConfig"]["DeviceRequests"][0]["Driver"] == "cdi"


def test_health():
    options = [("HealthCmd", "x"), ("HealthRetries", "3"), ("HealthTimeout", "1s"), ("HealthStartPeriod", "2s")]
    assert changes(*options) == {
        "Healthcheck": {"Test": ["CMD-SHELL", "x"], "Retries": 3, "Timeout": 10**9, "StartPeriod": 2 * 10**9}
    }


def test_extras():
    _, extras, problems = compiled(
        ("ContainerName", "job"), ("EnvironmentFile", "/e"), ("EnvironmentFile", "/f"), ("Pull", "never"),
        ("Platform", "arm64"), ("SeccompProfile", "/p.json"), ("AddDevice", "-/dev/fuse"), ("AddDevice", "/dev/null"),
        ("Secret", "a"), ("Secret", "b,target=c"), ("Secret", "d,target=/e"), ("Secret", "f,type=env"),
        ("Secret", "g,type=env,target=H"), ("GPUs", "all"), ("MemorySwap", "-1"),
    )  # fmt: skip
    assert problems == []
    assert extras == ContainerExtras(
        image="img",
        name="job",
        pull="never",
        platform="linux/arm64",
        env_files=("/e", "/f"),
        seccomp_profile="/p.json",
        optional_devices=({"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"},),
        secrets=(
            Secret("a", "mount", "/run/secrets/a"),
            Secret("b", "mount", "/run/secrets/c"),
            Secret("d", "mount", "/e"),
            Secret("f", "env", "f"),
            Secret("g", "env", "H"),
        ),
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("AutoUpdate", "registry", "no effect: use Pull=always"),
        ("Notify", "yes", "no effect: readiness"),
        ("HealthStartupCmd", "x", "no effect: the engine has only"),
        ("HealthInterval", "disable", "use HealthCmd=none"),
        ("HealthOnFailure", "kill", "nothing is done about it"),
        ("LogDriver", "k8s-file", "read as json-file"),
        ("Pull", "newer", "read as always"),
        ("Secret", "a,uid=5", "keeps the owner"),
        ("Timezone", "local", "machines may differ"),
        ("PodmanArgs", "-privileged", "single-dash form"),
        ("Environment", "MY VAR=x", "'MY' is no assignment: expected NAME=value, quoted if it holds blanks"),
        ("Environment", "A-B=x", "'A-B' is no name that a shell reads"),
        ("PodmanArgs", "--restart=always --rm=false", "--restart: no effect: Restart= of [Service]"),
        ("PodmanArgs", "--rm --restart=no", "--rm: no effect: the container is removed"),
        ("PodmanArgs", "-d", "--detach: no effect"),
        ("PodmanArgs", "-q", "--quiet: no effect"),
        ("PodmanArgs", "--cidfile=/x", "--cidfile: no effect"),
        ("PodmanArgs", "-a stdout", "--attach: no effect"),
        ("PodmanArgs", "-i", "--interactive: no effect"),
    ],
)
def test_warned(key, value, message):
    _, _, (problem,) = compiled((key, value))
    assert (problem.key, problem.severity, problem.line) == (key, "warning", 2)
    assert message in problem.message


def test_warned_about_the_whole():
    _, _, (problem,) = compiled(("ContainerName", "x"))
    assert (problem.key, problem.severity, problem.line) == ("", "warning", 1)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("Imge", "x", "unknown key"),
        ("image", "x", "unknown key"),
        ("Rootfs", "/x", "not supported: the engine runs images only"),
        ("Pod", "x.pod", "not supported: there are no pods"),
        ("UIDMap", "0:1:2", "not supported: user namespaces"),
        ("GlobalArgs", "--log-level=debug", "not supported"),
        ("Image", "x.image", "there are no .image units here"),
        ("Image", "X", "must be lowercase"),
        ("Network", "x.network", "there are no .network units here"),
        ("Network", "pasta", "podman's alone"),
        ("Network", "slirp4netns:mtu=1", "podman's alone"),
        ("Network", "n:mode=x", "expected ip=, ip6=, mac= or alias="),
        ("Volume", "x.volume:/a", "there are no .volume units here"),
        ("Volume", "./a:/b", "relative host path"),
        ("Mount", "type=bind,src=x.volume,dst=/a", "there are no .volume units here"),
        ("Mount", "type=glob,src=/x,dst=/a", "podman's alone"),
        ("Mount", "type=bind", "target is required"),
        ("AddDevice", "fuse", "is not an absolute path"),
        ("AddDevice", "-fuse", "is not an absolute path"),
        ("PublishPort", "80:", "no container port is given"),
        ("ExposeHostPort", "x", "invalid port 'x' for --expose"),
        ("UserNS", "keep-id", "user namespaces are a setting of the engine"),
        ("GroupAdd", "keep-groups", "podman's alone"),
        ("LogDriver", "passthrough", "podman's alone"),
        ("EnvironmentHost", "yes", "name what is needed in Environment="),
        ("Entrypoint", "[x", "is not a JSON list"),
        ("Entrypoint", "[1]", "expected a JSON list of strings"),
        ("HealthCmd", "CMD-SHELL", "CMD-SHELL without a command"),
        ("HealthCmd", '["CMD"]', "CMD without a command"),
        ("Mount", "type=image,dst=/a", "a mount of type image has no source"),
        ("Mount", "type=bind,dst=/a", "a mount of type bind has no source"),
        ("HealthCmd", "[]", "expected a JSON list of strings"),
        ("HealthOnFailure", "x", "expected none, kill, restart or stop"),
        ("Secret", "a/b", "is not the name of a secret"),
        ("Secret", ",type=env", "is not the name of a secret"),
        ("Secret", "a,type=file", "expected type=mount"),
        ("ReadOnly", "maybe", "is not a boolean"),
        ("Memory", "lots", "invalid size"),
        ("Exec", "'x", "unbalanced"),
        ("PodmanArgs", "--rm img", "'img' is no option"),
        ("PodmanArgs", "--nonsense", "unknown flag: --nonsense"),
    ],
)
def test_refused(key, value, message):
    _, _, problems = compiled((key, value))
    assert (problems[0].key, problems[0].severity, problems[0].line) == (key, "error", 2)
    assert message in problems[0].message


def test_refused_as_a_whole():
    _, extras, (problem,) = container_body([("Exec", "x", 7)])
    assert extras == ContainerExtras()
    assert (problem.key, problem.line) == ("", 7)
    assert "Image= is missing" in problem.message
    _, _, (problem,) = compiled(("Group", "g"))
    assert "Group= without User=" in problem.message
    _, _, (problem,) = container_body([])
    assert problem.line == 0


def test_all_problems_at_once():
    _, _, problems = compiled(("Foo", "1"), ("Memory", "x"), ("DNS", "y"), ("Group", "g"))
    assert [problem.key for problem in problems] == ["Foo", "Memory", "DNS", ""]


def test_known_keys():
    assert {"Image", "AutoUpdate", "Rootfs", "CPUs"} <= CONTAINER_KEYS


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(CONTAINER_KEYS)),
            st.one_of(
                st.text(max_size=10), st.text("abc0123:=,/.-[]\"' ", max_size=10), st.sampled_from(["yes", "", "1"])
            ),
        ),
        max_size=5,
    )
)
def test_anything_compiles_or_is_answered(options):
    body, extras, problems = compiled(*options)
    if not any(problem.severity == "error" for problem in problems):
        assert body
        assert extras.image if any(key == "Image" for key, _ in options) else extras.image == "img"
