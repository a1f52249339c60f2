"""`docker run` and `docker create`: how options are read, the old one-dash spellings, and what later clients added."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.dockercli import Create, Run, check_image, compile_docker, ports_accepted_before, split_image
from xchronos.dockercli.body import empty_body
from xchronos.dockercli.references import parse_platform
from xchronos.dockercli.runflags import RUN
from xchronos.errors import InvalidValue


def run(*words, env=None) -> Run:
    command = compile_docker(["docker", "run", *words], env=env)
    assert isinstance(command, Run)
    return command


def host(*words):
    return run(*words, "img").body["HostConfig"]


def test_defaults():
    assert run("img") == Run(image="img", body=empty_body("img"))


def test_facts_beside_the_body():
    command = run(
        "-dit", "--rm", "-q", "--name", "job", "--pull", "always", "--platform", "arm64", "--sig-proxy=false",
        "--detach-keys", "ctrl-a", "--env-file", "/a", "--env-file=b", "--label-file", "/l", "--network", "n",
        "--disable-content-trust", "--security-opt", "seccomp=/p.json", "img",
    )  # fmt: skip
    assert (command.name, command.pull, command.platform) == ("job", "always", "linux/arm64")
    assert (command.detach, command.remove, command.interactive, command.tty, command.quiet) == (True,) * 5
    assert command.env_files == ("/a", "b")
    assert command.label_files == ("/l",)
    assert command.networks == ("n",)
    assert command.seccomp_profile == "/p.json"
    assert command.body["HostConfig"]["SecurityOpt"] == []


@pytest.mark.parametrize("program", ["docker", "/usr/bin/docker", "/opt/x/docker"])
@pytest.mark.parametrize("verb", [["run"], ["container", "run"], ["-D", "container", "run"]])
def test_spellings_of_the_verb(program, verb):
    assert compile_docker([program, *verb, "--rm", "img"]) == run("--rm", "img")


@pytest.mark.parametrize(
    ("old", "modern"),
    [
        ("-rm", "--rm"),
        ("-rm=false", "--rm=false"),
        ("-name x1", "--name x1"),
        ("-name=x1", "--name=x1"),
        ("-net host", "--net host"),
        ("-privileged", "--privileged"),
        ("-link a:b", "--link a:b"),
        ("-volumes-from x", "--volumes-from x"),
        ("-entrypoint /bin/sh", "--entrypoint /bin/sh"),
        ("-hostname h", "--hostname h"),
        ("-dns 8.8.8.8", "--dns 8.8.8.8"),
        ("-env A=1", "--env A=1"),
        ("-expose 80", "--expose 80"),
        ("-memory 1g", "--memory 1g"),
        ("-cap-add X", "--cap-add X"),
        ("-detach", "--detach"),
        ("-init", "--init"),
        ("-pid host", "--pid host"),
        ("-uts host", "--uts host"),
        ("-ipc host", "--ipc host"),
        ("-tty", "--tty"),
        ("-publish 80", "--publish 80"),
        ("-label a=b", "--label a=b"),
        ("-volume /a", "--volume /a"),
        ("-user u", "--user u"),
        ("-workdir /w", "--workdir /w"),
        ("-sig-proxy=false", "--sig-proxy=false"),
    ],
)
def test_old_spelling(old, modern):
    before, after = run(*old.split(), "img", "-rm"), run(*modern.split(), "img", "-rm")
    assert before.body == after.body
    assert (before.name, before.detach) == (after.name, after.detach)
    (warning,) = set(before.warnings) - set(after.warnings)
    shown = old.split()[0].partition("=")[0]
    assert warning == f"{shown}: single-dash form, read as -{shown}"


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("-it", "-i -t"),
        ("-dit", "-d -i -t"),
        ("-ti=false", "-t -i=false"),
        ("-p80:80", "-p 80:80"),
        ("-eA=1", "-e A=1"),
        ("-e=A=1", "-e A=1"),
        ("-itp 80:80", "-i -t -p 80:80"),
        ("-itp=80:80", "-i -t -p 80:80"),
        ("-ip 80:80", "-i -p 80:80"),
        ("-ip6", "-i -p 6"),
        ("-v/a:/b", "-v /a:/b"),
        ("-m1g", "-m 1g"),
        ("-uroot", "-u root"),
        ("-name", "--name"),
    ],
)
def test_clusters_are_clusters(words, same):
    if words == "-name":
        with pytest.raises(InvalidValue, match="flag needs an argument: --name"):
            run(words)
        return
    command = run(*words.split(), "img")
    assert all("no effect: a step has no standard input" in warning for warning in command.warnings)
    assert command == run(*same.split(), "img")


def test_options_end_at_the_image():
    assert run("--rm", "img", "--rm", "-d", "--nonsense").body["Cmd"] == ["--rm", "-d", "--nonsense"]
    assert run("--", "img", "x").body["Cmd"] == ["x"]


def test_a_value_is_never_an_option():
    assert run("--name", "-rm", "--hostname", "--rm", "img").body["Hostname"] == "--rm"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no image is given"),
        (["--nonsense", "img"], "unknown flag: --nonsense"),
        (["-n=false", "img"], "unknown shorthand flag: 'n' in -n=false"),
        (["--name"], "flag needs an argument: --name"),
        (["-e"], "flag needs an argument: 'e' in -e"),
        (["---rm", "img"], "bad flag syntax: ---rm"),
        (["--ulimit", "nofile=9999999999999999999", "img"], "is out of range"),
        (["--rm=maybe", "img"], 'invalid argument "maybe" for "--rm" flag'),
        (["-m", "lots", "img"], 'invalid argument "lots" for "-m, --memory" flag'),
        (["--help"], "--help only prints text"),
        (["-help"], "--help only prints text"),
        (["-lxc-conf", "x=y", "img"], "--lxc-conf is not supported: Docker's LXC driver is gone"),
        (["--use-api-socket", "img"], "--use-api-socket is not supported"),
        (["--cpu-count", "1", "img"], "--cpu-count is not supported: it exists only on Windows"),
        (["--rm", "--restart", "always", "img"], "conflicting options: --restart and --rm"),
        (["-d", "-a", "stdout", "img"], "conflicting options: -a and -d"),
        (["--disable-content-trust=false", "img"], "signatures are not verified"),
        (["--security-opt", "seccomp=", "img"], "expected the path of a profile"),
        (["--network", "name=n,link-local-ip=1.2.3.4", "--link-local-ip", "1.2.3.5", "img"], "--link-local-ip and the"),
    ],
)
def test_refused(words, message):
    with pytest.raises(InvalidValue) as caught:
        run(*words)
    assert message in str(caught.value)
    assert str(caught.value).startswith("docker run: ")


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (["--name", "x"], "--name x: the engine will refuse this name"),
        (["--name", "a b"], "--name a b: the engine will refuse this name"),
        (["--ip", "1.2.3.4"], "--ip: no effect without --network"),
        (["--network-alias", "a"], "--network-alias: no effect without --network"),
        (["-v", "~/a:/b"], "--volume ~/a:/b: no shell expands the ~"),
        (["--mount", "dst=/d", "--volume-driver", "v"], "--volume-driver: ignored for --mount"),
        (["-l", "xchronos.keep=always", "--label=xchronos.x"], "--label xchronos.keep, xchronos.x: left out"),
        (["-i", "-i"], "--interactive: no effect: a step has no standard input"),
        (["--restart", "always"], "--restart always: no effect in the foreground"),
        (["-a", "stderr", "-a", "stdout"], "--attach: no effect: the step's log has all output"),
        (["--health-cmd", "CMD-SHELL x || y"], "--health-cmd CMD-SHELL ...: docker hands the whole line to a shell"),
        (["--sig-proxy=false"], "--sig-proxy=false: no effect"),
        (["--detach-keys", "ctrl-p"], "--detach-keys: no effect"),
        (["--disable-content-trust"], "--disable-content-trust: no effect"),
        (["--kernel-memory", "64m"], "--kernel-memory: engines from 23.0 on ignore it"),
    ],
)
def test_warned(words, warning):
    (only,) = run(*words, "img").warnings
    assert warning in only


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--annotation", "a=b", "--annotation", "c"], "Annotations", {"a": "b", "c": ""}),
        (["--add-host", "a=1.2.3.4", "--add-host", "b=[::1]"], "ExtraHosts", ["a:1.2.3.4", "b:::1"]),
        (["--add-host", "b:[::1]"], "ExtraHosts", ["b:::1"]),
        (["--security-opt", "seccomp=builtin"], "SecurityOpt", ["seccomp=builtin"]),
        (["--security-opt", 'seccomp={"a":1}'], "SecurityOpt", ['seccomp={"a":1}']),
        (["--pull", ""], "Memory", 0),
    ],
)
def test_later_clients_host(words, key, value):
    assert host(*words)[key] == value


def test_cdi_devices_join_the_device_requests():
    made = host("--device", "vendor.com/class=name", "--device", "/dev/sda", "--gpus", "all")
    assert [device["PathOnHost"] for device in made["Devices"]] == ["/dev/sda"]
    gpus, cdi = made["DeviceRequests"]
    assert gpus["Count"] == -1
    assert cdi == {
        "Driver": "cdi", "Count": 0, "DeviceIDs": ["vendor.com/class=name"], "Capabilities": None, "Options": None,
    }  # fmt: skip
    assert host("--device", "vendor.com/class=name")["DeviceRequests"] == [cdi]


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ("bind-recursive=disabled", {"NonRecursive": True}),
        ("bind-recursive=enabled", {}),
        ("bind-recursive=writable,ro", {"ReadOnlyNonRecursive": True}),
        (
            "bind-recursive=readonly,ro,bind-propagation=rprivate",
            {"Propagation": "rprivate", "ReadOnlyForceRecursive": True},
        ),
    ],
)
def test_recursive_binds(fields, options):
    (mount,) = host("--mount", f"type=bind,src=/a,dst=/b,{fields}")["Mounts"]
    assert mount["BindOptions"] == options


@pytest.mark.parametrize(
    "mount",
    [
        "type=bind,src=/a,dst=/b,bind-recursive=readonly",
        "type=bind,src=/a,dst=/b,bind-recursive=readonly,ro",
        "type=bind,src=/a,dst=/b,bind-recursive=maybe",
        "type=volume,dst=/b,bind-recursive=disabled",
        "type=volume,dst=/b,image-subpath=x",
        'dst=/b,"src=x',
        'dst=/b,"src=x"y',
        'dst=/b,a"b',
        "",
        "\n",
    ],
)
def test_bad_mounts(mount):
    with pytest.raises(InvalidValue):
        host("--mount", mount)


def test_subpaths():
    volume, image, plain = host(
        "--mount", "type=volume,src=v,dst=/d,volume-subpath=a", "--mount", "type=image,src=i,dst=/b,image-subpath=x",
        "--mount", "type=image,src=i,dst=/c,image-subpath=",
    )["Mounts"]  # fmt: skip
    assert volume["VolumeOptions"] == {"Subpath": "a", "DriverConfig": {}}
    assert image["ImageOptions"] == {"Subpath": "x"}
    assert plain["ImageOptions"] == {}


def test_health_start_interval():
    command = run("--health-start-interval", "5s", "--health-cmd", "x", "img")
    assert command.body["Healthcheck"] == {"Test": ["CMD-SHELL", "x"], "StartInterval": 5_000_000_000}


def test_network_settings_of_later_clients():
    command = run("--network", "name=n,link-local-ip=169.254.1.1,mac-address=92:d0:c6:0a:29:33,gw-priority=2", "img")
    endpoint = command.body["NetworkingConfig"]["EndpointsConfig"]["n"]
    assert endpoint["IPAMConfig"] == {"LinkLocalIPs": ["169.254.1.1"]}
    assert endpoint["MacAddress"] == "92:d0:c6:0a:29:33"
    assert endpoint["GwPriority"] == 2


def test_env_is_taken_from_the_caller():
    command = run("-e", "A", "-e", "B", "-e", "C=1", "img", env={"A": "x=y"})
    assert command.body["Env"] == ["A=x=y", "B", "C=1"]


def test_create_knows_no_detach():
    assert isinstance(compile_docker(["docker", "create", "img"]), Create)
    with pytest.raises(InvalidValue, match="docker create: unknown shorthand flag: 'd' in -d"):
        compile_docker(["docker", "create", "-d", "img"])


def test_bodies_share_nothing():
    first, second = run("img").body, run("img").body
    first["HostConfig"]["Dns"].append("x")
    first["Labels"]["a"] = "b"
    assert second == empty_body("img")


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("a", ("a", "latest")),
        ("a:b", ("a", "b")),
        ("docker.io/library/a", ("a", "latest")),
        ("docker.io/x/a", ("x/a", "latest")),
        ("index.docker.io/x/y/a:b", ("x/y/a", "b")),
        ("x/a", ("x/a", "latest")),
        ("localhost/a", ("localhost/a", "latest")),
        ("h:5000/a:b", ("h:5000/a", "b")),
        ("a:b@sha256:" + "a" * 64, ("a", "sha256:" + "a" * 64)),
        ("a@sha512:" + "a" * 128, ("a", "sha512:" + "a" * 128)),
    ],
)
def test_split_image(image, parts):
    assert check_image(image) == image
    assert split_image(image) == parts


@pytest.mark.parametrize("image", ["a" * 64, "sha256:" + "b" * 64])
def test_ids_are_images_but_cannot_be_pulled(image):
    assert check_image(image) == image
    with pytest.raises(InvalidValue, match="ids cannot be pulled"):
        split_image(image)


@pytest.mark.parametrize(
    "image", ["", "A", "x/A", "h.io/A", "a@sha256:" + "a" * 63, "a@md5:" + "a" * 32, "h.io/" + "a" * 255]
)
def test_no_images(image):
    with pytest.raises(InvalidValue, match="invalid image"):
        check_image(image)


@pytest.mark.parametrize("text", ["a/b/c/d", "linux/", "no such", "amiga"])
def test_no_platforms(text):
    with pytest.raises(InvalidValue, match="invalid platform"):
        parse_platform(text)


def test_what_works_is_not_warned_of():
    words = ["--restart", "no", "-v", "./a:/b", "--mount", "type=bind,src=./a,dst=/c", "--cidfile", "c", "--sig-proxy"]
    assert run(*words, "--interactive=false", "img").warnings == ()
    assert run("-d", "--restart", "always", "img").warnings == ()


WORDS = st.one_of(
    st.sampled_from([*(f"--{name}" for name in RUN.long), *(f"-{letter}" for letter in RUN.letters)]),
    st.sampled_from([*(f"-{name}" for name in RUN.long), "--", "-", "", "img", "-it", "-rm", "-p80"]),
    st.builds("--{}={}".format, st.sampled_from(sorted(RUN.long)), st.text(max_size=12)),
    st.builds(
        "--{}={}".format, st.sampled_from(sorted(RUN.long)), st.text("0123456789abgkmnstx/:=,.-+_[]\"' %", max_size=12)
    ),
    st.text(max_size=10),
)


@given(st.lists(WORDS, max_size=6), st.booleans())
def test_any_line_compiles_or_is_refused(words, ends):
    try:
        command = run(*words, *(["img"] if ends else []))
    except InvalidValue:
        return
    assert check_image(command.image)


@given(st.text(alphabet='ab",\n=', max_size=12))
def test_csv_never_loses_the_way(text):
    try:
        mounts = host("--mount", text)["Mounts"]
    except InvalidValue:
        return
    assert mounts[0]["Target"]


LONG = 20_000


@pytest.mark.parametrize(
    "piece", ["a", "a-", "a.", "1", "1_", "1.", "a=", "a=1,", '"', "a:", "1-", "0", "1s", ":", "/", "\n"]
)
@pytest.mark.parametrize("option", ["--network", "--mount", "--gpus", "-p", "-m", "--cpus", "-c", "--health-interval",
                                    "--dns-search", "--mac-address", "--device", "--ulimit", "--platform", ""])  # fmt: skip
@pytest.mark.timeout(2)
def test_a_long_word_is_answered_at_once(option, piece):
    for word in (piece * LONG, piece * LONG + "!"):
        try:
            command = run(*([option] if option else []), word, "img")
        except InvalidValue:
            continue
        assert command.image in {"img", word}


def test_a_container_has_as_many_ports_as_its_unit_was_accepted_with():
    for words, key in (("-p", "published"), ("--expose", "exposed")):
        with pytest.raises(InvalidValue, match=f"4097 ports are {key}: 4096 are the most"):
            run(words, "1-4097", "img")
        with ports_accepted_before():
            assert len(run(words, "1-65535", "img").body["ExposedPorts"]) == 65_535
            with pytest.raises(InvalidValue, match=f"65537 ports are {key}: 65536 are the most"):
                run(words, "1-65535", words, "1-2/udp", "img")
