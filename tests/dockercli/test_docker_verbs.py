"""The verbs besides `run`: what they ask of the engine, and what is refused. Requests as the 20.10 client sends them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.dockercli import (
    Exec,
    ImageRm,
    Inspect,
    Kill,
    Logs,
    NetworkConnect,
    NetworkCreate,
    NetworkDisconnect,
    NetworkRm,
    Pause,
    Prune,
    Pull,
    Query,
    Rename,
    Restart,
    Rm,
    Start,
    Stop,
    Tag,
    Unpause,
    VolumeCreate,
    VolumeRm,
    Wait,
    compile_docker,
    is_docker,
)
from xchronos.errors import InvalidValue


def docker(line, **options):
    return compile_docker(["docker", *(line.split() if isinstance(line, str) else line)], **options)


NO_INPUT = "--interactive: no effect: a step has no standard input; read as --attach"


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("kill x y", Kill(containers=("x", "y"))),
        ("kill -s 9 x", Kill(containers=("x",), signal="9")),
        ("kill x --signal=HUP", Kill(containers=("x",), signal="HUP")),
        ("rm x", Rm(containers=("x",))),
        ("rm -fv x y", Rm(containers=("x", "y"), force=True, volumes=True)),
        ("rm --link a/b", Rm(containers=("a/b",), link=True)),
        ("container remove -f x", Rm(containers=("x",), force=True)),
        ("stop x", Stop(containers=("x",))),
        ("stop -t 5 x", Stop(containers=("x",), timeout=5)),
        ("stop --time=-1 x", Stop(containers=("x",), timeout=-1)),
        ("stop --timeout 0 -s INT x", Stop(containers=("x",), timeout=0, signal="INT")),
        ("restart x", Restart(containers=("x",))),
        ("container restart -t 3 x", Restart(containers=("x",), timeout=3)),
        ("start x y", Start(containers=("x", "y"))),
        ("start -a x", Start(containers=("x",), attach=True)),
        ("start -ai x", Start(containers=("x",), attach=True, interactive=True, warnings=(NO_INPUT,))),
        ("start -i x", Start(containers=("x",), attach=True, interactive=True, warnings=(NO_INPUT,))),
        ("wait x y", Wait(containers=("x", "y"))),
        ("pause x", Pause(containers=("x",))),
        ("unpause x", Unpause(containers=("x",))),
        ("rename a b", Rename(container="a", name="b")),
        ("logs x", Logs(container="x", params={"stdout": "1", "stderr": "1"})),
        (
            "logs -ft --tail 5 --since 1h x",
            Logs(
                container="x",
                params={"stdout": "1", "stderr": "1", "follow": "1", "timestamps": "1", "since": "1h", "tail": "5"},
            ),
        ),
        ("inspect x y", Inspect(names=("x", "y"))),
        ("inspect --type image -s x", Inspect(names=("x",), kind="image", size=True)),
        ("container inspect x", Inspect(names=("x",), kind="container")),
        ("network inspect x", Inspect(names=("x",), kind="network")),
        ("ps", Query(path="/containers/json")),
        ("ps -aq", Query(path="/containers/json", params={"all": "1"}, quiet="Id")),
        ("ps -l", Query(path="/containers/json", params={"limit": "1"})),
        ("container ls -s -n 3", Query(path="/containers/json", params={"size": "1", "limit": "3"})),
        (
            "ps -f name=x --filter NAME=y -f status=exited",
            Query(path="/containers/json", params={"filters": '{"name":["x","y"],"status":["exited"]}'}),
        ),
        ("images", Query(path="/images/json")),
        ("images -q a", Query(path="/images/json", params={"filters": '{"reference":["a"]}'}, quiet="Id")),
        ("network ls -q", Query(path="/networks", quiet="Id")),
        ("volume ls -q", Query(path="/volumes", quiet="Name")),
        ("version", Query(path="/version")),
        ("info", Query(path="/info")),
        ("system df", Query(path="/system/df")),
        ("network rm a b", NetworkRm(networks=("a", "b"))),
        ("network remove -f a", NetworkRm(networks=("a",), force=True)),
        ("network disconnect -f n c", NetworkDisconnect(network="n", container="c", force=True)),
        ("volume rm -f v w", VolumeRm(volumes=("v", "w"), force=True)),
        ("rmi a", ImageRm(images=("a",))),
        ("image rm -f --no-prune a b", ImageRm(images=("a", "b"), force=True, prune=False)),
        ("tag a b:c", Tag(source="a", repository="b", tag="c")),
        ("image tag a host:5000/b", Tag(source="a", repository="host:5000/b", tag="latest")),
        ("pull a", Pull(image="a", name="a", tag="latest")),
        ("image pull h:5000/a:b", Pull(image="h:5000/a:b", name="h:5000/a", tag="b")),
        ("pull -a a", Pull(image="a", name="a", tag="", all_tags=True)),
        (
            "pull -q --platform linux/aarch64 docker.io/library/a:b",
            Pull(image="docker.io/library/a:b", name="a", tag="b", platform="linux/arm64", quiet=True),
        ),
        ("container prune -f", Prune(kinds=("containers",), filters={"containers": ""})),
        ("volume prune -fa", Prune(kinds=("volumes",), filters={"volumes": '{"all":["1"]}'})),
        (
            "image prune -f --filter until=24h",
            Prune(kinds=("images",), filters={"images": '{"dangling":["true"],"until":["24h"]}'}),
        ),
        (
            "system prune -af --volumes --filter until=24h",
            Prune(
                kinds=("containers", "networks", "images", "volumes"),
                filters={
                    "containers": '{"until":["24h"]}',
                    "networks": '{"until":["24h"]}',
                    "images": '{"dangling":["false"],"until":["24h"]}',
                    "volumes": "",
                },
            ),
        ),
        ("-H unix:///var/run/docker.sock --context default -l debug rm x", Rm(containers=("x",))),
    ],
)
def test_verb(line, command):
    assert docker(line) == command


def test_exec():
    command = docker("exec x ls -l")
    assert command == Exec(
        container="x",
        body={
            "User": "", "Privileged": False, "Tty": False, "AttachStdin": False, "AttachStderr": True,
            "AttachStdout": True, "Detach": False, "DetachKeys": "", "Env": None, "WorkingDir": "", "Cmd": ["ls", "-l"],
        },
    )  # fmt: skip
    command = docker("exec -dit -e A=1 -e B --env-file /f -u root -w /tmp --privileged x ls", env={"B": "2"})
    assert command.detach
    assert command.env_files == ("/f",)
    assert command.body == {
        "User": "root", "Privileged": True, "Tty": True, "AttachStdin": False, "AttachStderr": False,
        "AttachStdout": False, "Detach": True, "DetachKeys": "", "Env": ["A=1", "B=2"], "WorkingDir": "/tmp",
        "Cmd": ["ls"],
    }  # fmt: skip
    assert docker("exec -i x sh").body["AttachStdin"] is True


def test_network_create():
    assert docker("network create n") == NetworkCreate(
        name="n",
        body={
            "CheckDuplicate": True, "Driver": "bridge", "Scope": "", "EnableIPv6": False,
            "IPAM": {"Driver": "default", "Options": {}, "Config": []}, "Internal": False, "Attachable": False,
            "Ingress": False, "ConfigOnly": False, "ConfigFrom": None, "Options": {}, "Labels": {}, "Name": "n",
        },
    )  # fmt: skip
    body = docker(
        "network create -d macvlan --subnet 10.0.0.0/24,fd00::/64 --gateway 10.0.0.1 --gateway fd00::1 --ip-range "
        "10.0.0.128/25 --aux-address a=10.0.0.2 --aux-address b=10.0.0.3 -o k=v --label l --internal --attachable "
        "--ipv6 --ipv4=false --ipam-opt x=y --ipam-driver z --config-from c --scope local n"
    ).body
    assert body["IPAM"] == {
        "Driver": "z",
        "Options": {"x": "y"},
        "Config": [
            {
                "Subnet": "10.0.0.0/24",
                "IPRange": "10.0.0.128/25",
                "Gateway": "10.0.0.1",
                "AuxiliaryAddresses": {"a": "10.0.0.2", "b": "10.0.0.3"},
            },
            {"Subnet": "fd00::/64", "Gateway": "fd00::1"},
        ],
    }
    assert body["ConfigFrom"] == {"Network": "c"}
    assert (body["Driver"], body["Scope"], body["Options"], body["Labels"]) == (
        "macvlan",
        "local",
        {"k": "v"},
        {"l": ""},
    )
    assert (body["Internal"], body["Attachable"], body["EnableIPv6"], body["EnableIPv4"]) == (True, True, True, False)


def test_network_connect():
    command = docker(
        "network connect --ip 10.0.0.5 --alias z,y --link a:b --link-local-ip 169.254.1.1 --driver-opt a=b n c"
    )
    assert isinstance(command, NetworkConnect)
    assert (command.network, command.container) == ("n", "c")
    settings = command.body["EndpointConfig"]
    assert command.body["Container"] == "c"
    assert settings["IPAMConfig"] == {"IPv4Address": "10.0.0.5", "LinkLocalIPs": ["169.254.1.1"]}
    assert (settings["Links"], settings["Aliases"], settings["DriverOpts"]) == (["a:b"], ["z", "y"], {"a": "b"})
    assert docker("network connect n c").body["EndpointConfig"]["IPAMConfig"] == {}


@pytest.mark.parametrize(
    ("line", "name", "driver"),
    [("volume create", "", "local"), ("volume create v", "v", "local"), ("volume create --name v -d x", "v", "x")],
)
def test_volume_create(line, name, driver):
    body = {"Driver": driver, "DriverOpts": {}, "Labels": {}, "Name": name}
    assert docker(line) == VolumeCreate(name=name, body=body)
    assert docker("volume create -o type=nfs --label a=b v").body["DriverOpts"] == {"type": "nfs"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no verb is given"),
        ("container", "docker container: no verb is given, expected one of"),
        ("pul a", "docker pul: unknown verb; did you mean pull?"),
        ("xyzzy", "docker xyzzy: unknown verb; expected one of"),
        ("network crate n", "docker network crate: unknown verb; did you mean create?"),
        ("build .", "docker build is not supported: it needs the docker program"),
        ("login", "docker login is not supported: registry credentials"),
        ("swarm init", "docker swarm is not supported: swarm is another orchestrator"),
        ("stats", "docker stats is not supported"),
        ("image push a", "docker image push is not supported"),
        ("-H tcp://x:1 ps", "the engine of the machine it is placed on"),
        ("--context other ps", "the engine of the machine it is placed on"),
        ("--tls ps", "--tls is not supported"),
        ("-v", "docker: --version is not supported"),
        ("kill", "docker kill: at least 1 name expected, got 0"),
        ("rename a", "docker rename: exactly 2 names expected, got 1"),
        ("volume create a b", "docker volume create: at most 1 name expected, got 2"),
        ("volume create --name a b", "docker volume create: conflicting options"),
        ("volume create --type mount v", "--type is not supported: cluster volumes"),
        (["rm", ""], "docker rm: an empty name"),
        (["exec", "", "ls"], "docker exec: an empty name"),
        ("exec x", "docker exec: a container and a command are expected"),
        ("start -a x y", "multiple containers"),
        ("start --checkpoint c x", "--checkpoint is not supported"),
        ("stop -t soon x", 'invalid argument "soon" for "-t, --timeout" flag'),
        ("images --format {{.Id}} x", "--format is not supported: templates of listings"),
        ("inspect --type thing x", "unknown type 'thing'"),
        ("image inspect -s x", "unknown shorthand flag"),
        ("ps -f name", "invalid filter 'name', expected name=value"),
        ("container prune", "would ask for confirmation"),
        ("container prune -f x", "docker container prune: exactly 0 names expected, got 1"),
        ("pull", "docker pull: exactly 1 name expected"),
        ("pull A", "docker pull: invalid image 'A'"),
        ("pull -a a:b", "a tag cannot be used with --all-tags"),
        ("pull --disable-content-trust=false a", "signatures are not verified"),
        ("tag a A", "docker tag: invalid image"),
        (f"tag a b@sha256:{'0' * 64}", "is a digest"),
        ("network create --subnet x n", "'x' is no address or subnet"),
        ("network create --gateway 10.0.0.1 n", "no --subnet contains the --gateway 10.0.0.1"),
        ("network create --subnet 10.0.0.0/24 --subnet 10.0.0.0/8 n", "overlaps"),
        ("network create --subnet 10.0.0.0/24 --gateway 10.0.0.1 --gateway 10.0.0.2 n", "a second --gateway"),
        ("network create --opt k n", "expected key=value"),
        ("network connect --driver-opt k n c", "expected key=value"),
    ],
)
def test_refused(line, message):
    with pytest.raises(InvalidValue) as caught:
        docker(line)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "shown"), [("stop -time 3 x", "-time"), ("rm -force x", "-force"), ("kill -signal=9 x", "-signal")]
)
def test_old_spellings(line, shown):
    modern = docker(line.replace(shown, "-" + shown))
    assert modern.warnings == ()
    assert docker(line).warnings == (f"{shown}: single-dash form, read as -{shown}",)
    assert docker(line).containers == modern.containers


def test_config_is_ignored_with_a_warning():
    command = docker("--config /etc/docker -D kill x")
    assert command == Kill(
        containers=("x",), warnings=("--config: ignored: registry credentials are a setting of the machine",)
    )


def test_programs():
    assert is_docker("/usr/bin/docker")
    assert is_docker("podman")
    assert not is_docker("/usr/bin/docker/")
    with pytest.raises(InvalidValue, match="podman: write docker"):
        compile_docker(["/usr/bin/podman", "run", "img"])
    for argv in ([], ["sh", "-c", "docker"]):
        with pytest.raises(InvalidValue, match="not a docker command line"):
            compile_docker(argv)


VERBS = (
    "kill", "rm", "stop", "start", "restart", "exec", "wait", "logs", "rename", "inspect", "ps", "images", "pull", "rmi",
    "tag", "network create", "network connect", "network rm", "volume create", "volume rm", "image prune",
    "system prune", "container", "network",
)  # fmt: skip


@given(
    st.sampled_from(VERBS),
    st.lists(
        st.one_of(
            st.sampled_from(["x", "-f", "--force", "-t", "5", "-a", "--subnet", "10.0.0.0/8", "--gateway", "--", "-q"]),
            st.text(max_size=8),
        ),
        max_size=5,
    ),
)
def test_any_line_compiles_or_is_refused(verb, words):
    try:
        command = docker([*verb.split(), *words])
    except InvalidValue:
        return
    assert isinstance(command.warnings, tuple)
