"""What an engine leaves out of a container although it was asked for: the rules, a made-up engine and a real one."""

import pytest

from tests.executors.docker_bench import Bench
from xchronos.executors.docker.inspected import left_out, protections
from xchronos.testing.executors import output

HOST = {
    "ReadonlyRootfs": True, "Memory": 64 << 20, "NanoCpus": 500_000_000, "PidsLimit": 50, "CpusetCpus": "0",
    "CpusetMems": "0", "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"],
}  # fmt: skip
BODY = {"User": "1000:1000", "HostConfig": HOST}
ALL = frozenset({"User", "no-new-privileges", *(f"HostConfig.{key}" for key in HOST if key != "SecurityOpt")})


def test_what_protects_is_asked_for():
    assert protections(BODY) == ALL
    assert protections({}) == protections({"HostConfig": None}) == frozenset()
    nothing = {"User": "", "HostConfig": {"Memory": 0, "PidsLimit": -1, "ReadonlyRootfs": False, "CapDrop": ["CHOWN"],
                                          "SecurityOpt": ["no-new-privileges:false", "label=disable"]}}  # fmt: skip
    assert protections(nothing) == frozenset()
    assert protections({"HostConfig": {"CapDrop": ["ALL"], "CapAdd": ["CHOWN"]}}) == frozenset()


def test_what_is_not_shown_was_left_out():
    podman = {**HOST, "CapDrop": ["CHOWN", "KILL"], "NanoCpus": 499_990_000, "SecurityOpt": ["no-new-privileges:true"]}
    assert left_out(ALL, {"Config": {"User": "1000:1000"}, "HostConfig": podman}) == []
    assert left_out(ALL, {"Config": None, "HostConfig": None}) == sorted(ALL)
    assert left_out(ALL, {"Config": {"User": "1"}, "HostConfig": {**podman, "PidsLimit": 0}}) == [
        "HostConfig.PidsLimit"
    ]


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
    assert counts[0] == counts[1] + 1


@pytest.mark.docker
@pytest.mark.parametrize("line", [False, True])
async def test_a_container_without_its_protection_is_never_started(bench: Bench, monkeypatch, line):
    real, started = bench.executor._engine.call, []

    async def call(method, path, **options):
        if path == "/containers/create":
            body = options["body"]
            options["body"] = {**body, "HostConfig": {**body["HostConfig"], "ReadonlyRootfs": False}}
        if path.endswith("/start"):
            started.append(path)
        return await real(method, path, **options)

    monkeypatch.setattr(bench.executor._engine, "call", call)
    spec = (
        bench.line("run|--rm|--net|none|--read-only|IMAGE|true") if line
        else bench.container("true", {"HostConfig": {"ReadonlyRootfs": True}})
    )  # fmt: skip
    result = await bench.executor.run(spec)
    assert (result.code, started) == (125, [])
    assert "has left out HostConfig.ReadonlyRootfs: the container is not started" in result.reason
    assert "has left out" in output(spec)
    assert await bench.executor._run_of(spec).find() is None
