"""`docker create` lines and what the docker client 20.10.24 made of them, recorded at a socket that only listened.

Lines that only later clients take, or that read a file, are in `test_docker_run`.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from xchronos.dockercli import Create, compile_docker
from xchronos.errors import InvalidValue

BASELINE = json.loads((Path(__file__).parents[1] / "conformance" / "docker_run.json").read_text())["baseline"]
CASES = json.loads((Path(__file__).parent / "docker_client.json").read_text())["cases"]

WE_ARE_STRICTER = (
    # The client lets these numbers overflow, or reads bases and exponents nobody writes.
    ["-m", "99999999999p", "img"], ["-m", "8388608t", "img"], ["--cpus", "99999999999999", "img"],
    ["--cpus", "9223372037", "img"], ["--cpus", "1e400", "img"], ["--cpus", "1p3", "img"],
    ["--cpus", "0x1p-2", "img"], ["--cpus", "0x.8", "img"], ["--cpus", "0b1.1", "img"],
    # Later clients refuse it as well.
    ["--pull", "foo", "img"],
    # Whatever the value: it prints help or does nothing.
    ["--help=false", "img"],
)  # fmt: skip
LATER_CLIENTS: dict[str, dict[str, Any]] = {
    "-m .5g": {"Memory": 512 << 20},
    "-m 1e3": {"Memory": 1000},
    "-m 1e4k": {"Memory": 10_240_000},
    "-m 5.g": {"Memory": 5 << 30},
    "-m 1.g": {"Memory": 1 << 30},
    "-m +1g": {"Memory": 1 << 30},
    "-p ::1:80:80": {"PortBindings": {"80/tcp": [{"HostIp": "::1", "HostPort": "80"}]}},
    "-p ::1::80": {"PortBindings": {"80/tcp": [{"HostIp": "::1", "HostPort": ""}]}},
    "-p fe80::1:80:80": {"PortBindings": {"80/tcp": [{"HostIp": "fe80::1", "HostPort": "80"}]}},
    "--restart on-failure:": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 0}},
}
"""What 20.10.24 refuses and 28.2.2 takes, and what it sends: seen in the engine's inspect."""

ENGINE_KNOWS_BEST = ("linux", "darwin", "macos")


def sorted_binds(body):
    return {**body, "HostConfig": {**body["HostConfig"], "Binds": sorted(body["HostConfig"]["Binds"] or ())}}


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case["argv"])[:60])
def test_create(case):
    argv = ["docker", "create", *case["argv"]]
    env = {"HOME": "/tmp/home"}
    if " ".join(case["argv"][:-1]) in LATER_CLIENTS:
        return
    if "error" in case or case["argv"] in WE_ARE_STRICTER:
        with pytest.raises(InvalidValue, match=r"^docker create: "):
            compile_docker(argv, env=env)
        return
    command = compile_docker(argv, env=env)
    assert isinstance(command, Create)
    body = {**BASELINE, **case["body"]}
    body["HostConfig"] = {**BASELINE["HostConfig"], **case["body"].get("HostConfig", {})}
    assert sorted_binds(command.body) == sorted_binds(body)
    assert command.name == case.get("name")
    if case["argv"][:1] != ["--platform"] or case["argv"][1] not in ENGINE_KNOWS_BEST:
        assert command.platform == case.get("platform", "")


@pytest.mark.parametrize("words", LATER_CLIENTS)
def test_what_later_clients_take(words):
    command = compile_docker(["docker", "create", *words.split(), "img"])
    assert isinstance(command, Create)
    expected = LATER_CLIENTS[words]
    assert {key: command.body["HostConfig"][key] for key in expected} == expected
