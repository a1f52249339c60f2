"""The create bodies that the docker client 20.10.24 sends, recorded from the client itself."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from xchronos.dockercli import Run, compile_docker
from xchronos.errors import InvalidValue

DIRECTORY = Path(os.environ.get("XCHRONOS_CONFORMANCE") or Path(__file__).parents[1] / "conformance")
DATA = json.loads((DIRECTORY / "docker_run.json").read_text())


def expected_body(differs: dict[str, Any]) -> dict[str, Any]:
    body = {**DATA["baseline"], **differs}
    body["HostConfig"] = {**DATA["baseline"]["HostConfig"], **differs.get("HostConfig", {})}
    return body


def sorted_binds(body: dict[str, Any]) -> dict[str, Any]:
    """The client walks a map, so the order of its binds is that of a coin."""
    host = {**body["HostConfig"], "Binds": sorted(body["HostConfig"]["Binds"] or ())}
    return {**body, "HostConfig": host}


@pytest.mark.parametrize("case", DATA["cases"], ids=lambda case: case["id"])
def test_case(case):
    if case.get("expect_error"):
        with pytest.raises(InvalidValue):
            compile_docker(case["argv"], env=case.get("env", {}))
        return
    expect = case["expect"]
    argv = case["argv"]
    if "-d" in argv and "-d" in argv[argv.index(expect["body"]["Image"]) :]:
        # Recorded through `docker create`, which has no -d, after every -d had been taken out of the line: also the
        # one that belongs to the command in the container. Units mean what the client does with `docker run`.
        pytest.skip("the sample lost a -d of the container's own command")
    command = compile_docker(argv, env=case.get("env", {}))
    assert isinstance(command, Run)
    assert command.name == expect["name"]
    assert sorted_binds(command.body) == sorted_binds(expected_body(expect["body"]))
    if case.get("old_single_dash"):
        assert any("single-dash form" in warning for warning in command.warnings)
        modern = compile_docker(case["modern_argv"])
        assert isinstance(modern, Run)
        assert modern.body == command.body
        assert not any("single-dash" in warning for warning in modern.warnings)
    else:
        assert not any("single-dash" in warning for warning in command.warnings)
