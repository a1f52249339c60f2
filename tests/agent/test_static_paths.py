"""Which files a unit names, before a step of it runs."""

import pytest

from xchronos.agent.steps.static_paths import MAY_NAME, static_paths
from xchronos.model.compile.unit import compile_unit
from xchronos.unitfile import HostFacts

FACTS = HostFacts(hostname="box")


def named(text: str) -> list[tuple[str, str]]:
    return [(what, str(path)) for what, path in static_paths(compile_unit("a@b.service", text), FACTS)]


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("[Service]\nExecStart=/bin/true\n", []),
        (
            "[Service]\nEnvironmentFile=/e/%H\nEnvironmentFile=-/f/*.env\nEnvironmentFile=/g[a]/x/*\nExecStart=/bin/x\n",
            [("EnvironmentFile", "/e/box"), ("EnvironmentFile", "/f"), ("EnvironmentFile", "/")],
        ),
        (
            (
                "[Service]\nExecStart=/bin/x\n[Container]\nImage=i\nEnvironmentFile=/e/%i\nSeccompProfile=/s.json\n"
                "PodmanArgs=--label-file /l\n"
            ),
            [("[Container] EnvironmentFile", "/e/b"), ("label file", "/l"), ("SeccompProfile", "/s.json")],
        ),
        (
            "[Service]\nExecStart=/bin/x\n[X-Chronos]\nArtifact=file:///a%%20b/x\n",
            [("Artifact", "/a b/x")],
        ),
        ("[Service]\nExecStart=/bin/x\n[X-Chronos]\nArtifact=http://h/x\n", []),
        (
            (
                "[Service]\nType=oneshot\n"
                "ExecStart=docker run --env-file /e --env-file own --label-file /l --security-opt seccomp=/s i\n"
                "ExecStart=docker exec --env-file /x c true\nExecStart=docker ps\nExecStart=docker $WHAT\n"
            ),
            [("--env-file", "/e"), ("--label-file", "/l"), ("--security-opt seccomp", "/s"), ("--env-file", "/x")],
        ),
    ],
)
def test_what_a_unit_names(text: str, files: list[tuple[str, str]]) -> None:
    assert named(text) == files
    assert bool(MAY_NAME.search(text)) is bool(files)
