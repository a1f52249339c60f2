"""What an engine leaves out of a container although it was asked for: the rules, a made-up engine and a real one."""

import pytest

from tests.executors.docker_bench import Bench
from xchronos.executors.docker.protections import left_out, not_shown, protections
from xchronos.testing.executors import output

HOST = {
    "ReadonlyRootfs": True, "Memory": 64 << 20, "NanoCpus": 500_000_000, "PidsLimit": 50, "CpusetCpus": "0",
    "CpusetMems": "0", "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"],
}  # fmt: skip
BODY = {"User": "1000:1000", "HostConfig": HOST}
ALL = frozenset({"User", "no-new-privileges", *(f"HostConfig.{key}" for key in HOST if key != "SecurityOpt")})


SHOWN = {"Config": {"User": "1000:1000"}, "HostConfig": {**HOST, "NanoCpus": 499_990_000}}


def test_what_protects_is_asked_for():
    assert protections(BODY) == ALL
    assert protections({}) == protections({"HostConfig": None}) == frozenset()
    nothing = {"User": "", "HostConfig": {"Memory": 0, "PidsLimit": -1, "ReadonlyRootfs": False, "CapDrop": [],
                                          "SecurityOpt": ["no-new-privileges:false", "label=disable"]}}  # fmt: skip
    assert protections(nothing) == frozenset()
    assert protections({"HostConfig": {"CapDrop": ["CHOWN"], "Privileged": True}}) == frozenset()


def test_what_is_not_shown_was_left_out():
    assert left_out(ALL, BODY, SHOWN) == []
    assert left_out(ALL, BODY, {"Config": None, "HostConfig": None}) == sorted(ALL)
    without = {"Config": {"User": "1"}, "HostConfig": {**HOST, "PidsLimit": 0, "SecurityOpt": None}}
    assert left_out(ALL, BODY, without) == ["HostConfig.PidsLimit", "no-new-privileges"]


@pytest.mark.parametrize(
    ("host", "shown", "bounding", "missing"),
    [
        ({"CapAdd": ["NET_ADMIN"]}, {"CapAdd": ["CAP_NET_ADMIN"]}, ..., ""),
        ({"CapAdd": ["cap_net_admin", "ALL"]}, {"CapAdd": ["NET_ADMIN", "ALL"]}, ..., ""),
        ({"CapAdd": ["NET_ADMIN", "SYS_TIME"]}, {"CapAdd": ["NET_ADMIN"]}, ..., "CapAdd"),
        ({"CapAdd": ["NET_ADMIN"]}, {"CapAdd": None}, ..., "CapAdd"),
        ({"CapDrop": ["CHOWN"]}, {"CapDrop": ["CAP_CHOWN"]}, ..., ""),
        ({"CapDrop": ["CHOWN", "KILL"]}, {"CapDrop": ["CHOWN"]}, ..., "CapDrop"),
        ({"CapDrop": ["ALL"], "CapAdd": ["KILL"]}, {"CapDrop": ["ALL"], "CapAdd": ["KILL"]}, ..., ""),
        ({"CapDrop": ["ALL"], "CapAdd": ["KILL"]}, {"CapAdd": ["KILL"]}, ..., "CapDrop"),
        # Podman shows none of the two of what it gives or does not give by itself.
        ({"CapAdd": ["CHOWN"]}, {}, ["CAP_CHOWN", "CAP_KILL"], ""),
        ({"CapAdd": ["SYS_TIME"]}, {}, ["CAP_CHOWN", "CAP_KILL"], "CapAdd"),
        ({"CapAdd": ["ALL"]}, {}, ["CAP_CHOWN", "CAP_SYS_ADMIN"], ""),
        ({"CapDrop": ["SYS_TIME"]}, {}, ["CAP_CHOWN"], ""),
        ({"CapDrop": ["CHOWN"]}, {}, ["CAP_CHOWN"], "CapDrop"),
        ({"CapDrop": ["ALL"], "CapAdd": ["KILL"]}, {}, ["CAP_KILL"], ""),
        ({"CapDrop": ["ALL"], "CapAdd": ["KILL"]}, {}, ["CAP_CHOWN", "CAP_KILL"], "CapDrop"),
        ({"CapDrop": ["ALL"]}, {}, [], ""),
        ({"CapDrop": ["ALL"], "CapAdd": ["SYS_TIME"]}, {}, None, ""),
    ],
)  # fmt: skip
def test_capabilities(host, shown, bounding, missing):
    body = {"HostConfig": host}
    answer = {"HostConfig": shown} if bounding is ... else {"HostConfig": shown, "BoundingCaps": bounding}
    assert left_out(protections(body), body, answer) == ([f"HostConfig.{missing}"] if missing else [])


def mounted(target, *, writes=True):
    return {"Type": "bind", "Destination": target, "RW": writes}


@pytest.mark.parametrize(
    ("host", "mounts", "tmpfs", "missing"),
    [
        ({"Binds": ["/a:/x/", "v:/y:z"]}, [mounted("/x"), mounted("/y")], {}, []),
        ({"Binds": ["/a:/x", "v:/y:z"]}, [mounted("/x")], {}, ["HostConfig.Binds"]),
        ({"Binds": ["/a:/x:ro,z"]}, [mounted("/x", writes=False)], {}, []),
        ({"Binds": ["/a:/x:ro,z"]}, [mounted("/x")], {}, ["read-only mounts"]),
        ({"Mounts": [{"Type": "volume", "Target": "/x"}]}, [mounted("/x")], {}, []),
        ({"Mounts": [{"Type": "volume", "Target": "/x", "ReadOnly": True}]}, [mounted("/x")], {}, ["read-only mounts"]),
        ({"Mounts": [{"Type": "tmpfs", "Target": "/x"}]}, [], {"/x": ""}, []),
        ({"Mounts": [{"Type": "tmpfs", "Target": "/x"}]}, [], {}, ["HostConfig.Mounts"]),
        ({"Mounts": [{"Type": "image", "Target": "/x"}]}, None, None, []),
        ({"Tmpfs": {"/x": "size=1m"}}, [], {"/x": "size=1m,rw"}, []),
        ({"Tmpfs": {"/x": "size=1m"}}, None, None, ["HostConfig.Tmpfs"]),
    ],
)
def test_mounts(host, mounts, tmpfs, missing):
    body = {"HostConfig": host}
    assert left_out(protections(body), body, {"Mounts": mounts, "HostConfig": {"Tmpfs": tmpfs}}) == missing


@pytest.mark.parametrize(
    ("mode", "endpoints", "shown_mode", "networks", "given"),
    [
        ("none", None, "none", {"none": None}, True),
        ("none", None, "bridge", {"bridge": None}, False),
        ("host", None, "host", {}, True),
        ("host", None, "default", {}, False),
        ("mine", None, "mine", {"mine": {}}, True),
        ("mine", None, "bridge", {"mine": {"NetworkID": "mine"}}, True),
        ("mine", {"other": {}}, "mine", {"mine": {}}, False),
        ("0123456789ab", None, "x", {"mine": {"NetworkID": "0123456789abcdef"}}, True),
        ("mine", None, "mine", {"bridge": {}}, False),
        ("mine", None, "mine", None, False),
    ],
)
def test_networks(mode, endpoints, shown_mode, networks, given):
    body = {"HostConfig": {"NetworkMode": mode}, "NetworkingConfig": {"EndpointsConfig": endpoints}}
    answer = {"HostConfig": {"NetworkMode": shown_mode}, "NetworkSettings": {"Networks": networks}}
    assert left_out(protections(body), body, answer) == ([] if given else ["HostConfig.NetworkMode"])


@pytest.mark.parametrize(
    "mode", ["", "default", "bridge", "container:abc", "ns:/proc/1/ns/net", "slirp4netns:mtu=9000"]
)
def test_a_network_that_the_engine_chooses_is_not_judged(mode):
    assert protections({"HostConfig": {"NetworkMode": mode}}) == frozenset()


def test_what_is_only_not_shown():
    body = {"Hostname": "h", "HostConfig": {"Dns": ["1.1.1.1"], "Init": True, "ShmSize": 0}}
    assert not_shown(body, {"Config": {"Hostname": "h"}, "HostConfig": {"Dns": [], "Init": True}}) == ["HostConfig.Dns"]


@pytest.mark.docker
async def test_the_engine_gives_what_protects_and_is_asked_once(bench: Bench, monkeypatch):
    real, looks = bench.executor._engine.call, []

    async def call(method, path, **options):
        looks.append(f"{method} {path}")
        return await real(method, path, **options)

    monkeypatch.setattr(bench.executor._engine, "call", call)
    counts = []
    for _ in range(2):
        looks.clear()
        spec = bench.container("id -u", BODY)
        assert (await bench.executor.run(spec)).code == 0
        assert output(spec) == "1000\n"
        counts.append(sum(look.endswith("/json") for look in looks))
    podman = bench.executor._engine.podman  # whose own answer is asked for, too
    assert counts[0] == counts[1] + 1 + podman


def forgetful(monkeypatch, bench, fields):
    """Have the engine leave fields of HostConfig out of create. Returns what was started."""
    real, started = bench.executor._engine.call, []

    async def call(method, path, **options):
        if path == "/containers/create":
            body = options["body"]
            kept = {key: value for key, value in body["HostConfig"].items() if key not in fields}
            options["body"] = {**body, "HostConfig": kept}
        if path.endswith("/start"):
            started.append(path)
        return await real(method, path, **options)

    monkeypatch.setattr(bench.executor._engine, "call", call)
    return started


@pytest.mark.docker
@pytest.mark.parametrize(
    ("host", "said"),
    [
        ({"ReadonlyRootfs": True}, "ReadonlyRootfs"), ({"CapAdd": ["NET_ADMIN"]}, "CapAdd"),
        ({"CapDrop": ["CHOWN"]}, "CapDrop"), ({"Binds": ["/tmp:/data:ro"]}, "Binds"), ({"Tmpfs": {"/data": ""}}, "Tmpfs"),
        ({"Mounts": [{"Type": "bind", "Source": "/tmp", "Target": "/data"}]}, "Mounts"), ({}, "NetworkMode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_a_container_without_what_it_asks_for_is_never_started(bench: Bench, monkeypatch, host, said):
    started = forgetful(monkeypatch, bench, {said})
    spec = bench.container("true", {"HostConfig": host})
    result = await bench.executor.run(spec)
    assert (result.code, started) == (125, [])
    assert f"has left out HostConfig.{said}: the container is not started" in result.reason
    assert "has left out" in output(spec)
    assert await bench.executor._run_of(spec).find() is None


@pytest.mark.docker
async def test_what_may_have_no_effect_is_said_once(bench: Bench, monkeypatch):
    forgetful(monkeypatch, bench, {"Ulimits", "ExtraHosts"})
    logs = []
    for _ in range(2):
        limit = {"Name": "nofile", "Soft": 100, "Hard": 100}
        spec = bench.container("true", {"HostConfig": {"ExtraHosts": ["a:1.2.3.4"], "Ulimits": [limit]}})
        assert (await bench.executor.run(spec)).code == 0
        logs.append(output(spec))
    assert "does not show HostConfig.ExtraHosts, HostConfig.Ulimits: that may have no effect]" in logs[0]
    assert logs[1] == ""


@pytest.mark.docker
async def test_a_container_that_has_all_that_it_asks_for_starts_and_nothing_is_said(bench: Bench):
    host = {
        "CapAdd": ["NET_ADMIN", "CHOWN"], "CapDrop": ["KILL", "SYS_TIME"], "Binds": ["/tmp:/data:ro"],
        "Tmpfs": {"/t": "size=1m"}, "ExtraHosts": ["a:1.2.3.4"], "Dns": ["1.1.1.1"], "DnsSearch": ["x"], "DnsOptions": ["ndots:1"],
        "Mounts": [{"Type": "tmpfs", "Target": "/m"}, {"Type": "bind", "Source": "/tmp", "Target": "/n", "ReadOnly": True}],
        "ShmSize": 1 << 20, "OomScoreAdj": 5, "Sysctls": {"net.core.somaxconn": "9"}, "GroupAdd": ["5"], "CpuShares": 512,
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 100}], "MemoryReservation": 8 << 20,
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}],
    }  # fmt: skip
    more = {"Hostname": "h", "WorkingDir": "/tmp", "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9}}
    spec = bench.container("true", {"HostConfig": host, **more})
    assert (await bench.executor.run(spec)).code == 0
    assert output(spec) == ""


@pytest.mark.docker
async def test_a_line_without_its_protection_is_never_started(bench: Bench, monkeypatch):
    started = forgetful(monkeypatch, bench, {"ReadonlyRootfs"})
    spec = bench.line("run|--rm|--net|none|--read-only|IMAGE|true")
    assert (await bench.executor.run(spec)).code == 125
    assert started == []
    assert "has left out HostConfig.ReadonlyRootfs" in output(spec)
