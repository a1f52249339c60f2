"""What is accepted is acted upon: every option of `docker run`, and every field that a docker line is compiled into.

An option changes what is sent to the engine, or what is done before and after, or it warns, or it is refused.
"""

import ast
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from xchronos.dockercli import commands
from xchronos.dockercli.compiler import compile_docker
from xchronos.dockercli.quadlet.container import ContainerExtras
from xchronos.dockercli.runflags import CREATE, RUN
from xchronos.errors import InvalidValue
from xchronos.executors.contract import StepSpec
from xchronos.executors.docker.body import command_body
from xchronos.hostfiles import HostFiles
from xchronos.model.unit import Container

SAMPLE_VALUES = {
    "attach": "stdout", "add-host": "a:1.2.3.4", "blkio-weight": "10", "blkio-weight-device": "/dev/a:10",
    "cgroupns": "host", "cpus": "1.5", "device-cgroup-rule": "c 1:3 r", "dns": "8.8.8.8", "dns-search": "a.b",
    "gpus": "all", "health-retries": "1", "link": "a:b", "mac-address": "92:d0:c6:0a:29:33", "memory-swap": "-1",
    "memory-swappiness": "10", "mount": "dst=/d", "network": "n", "pid": "host", "platform": "linux/amd64",
    "pull": "never", "restart": "always", "storage-opt": "a=b", "sysctl": "net.a=b", "ulimit": "nofile=1",
    "userns": "host", "uts": "host", "device": "/dev/a", "security-opt": "a=b", "volume": "/a:/b", "expose": "1",
    "publish": "1", "device-read-bps": "/dev/a:1", "device-write-bps": "/dev/a:1", "device-read-iops": "/dev/a:1",
    "device-write-iops": "/dev/a:1", "health-interval": "1s", "health-timeout": "1s", "health-start-period": "1s",
    "health-start-interval": "1s",
}  # fmt: skip

WHAT_HAPPENS_ANYWAY = {
    "sig-proxy": "a signal to the step reaches the container, as with the client's default",
}
"""Options that change nothing and warn of nothing when they are given their sample, and why."""

BESIDE_THE_BODY = ("name", "platform", "pull", "quiet", "networks", "cidfile", "detach", "remove")
"""The fields of `Run` that the executor acts upon by itself. `test_every_field_is_read` looks that it reads them."""


async def sent(words: list[str], where: Path) -> tuple[Any, ...]:
    """What the executor makes of `docker run`."""
    command = compile_docker(["docker", "run", *words, "img"])
    assert isinstance(command, commands.Run)
    spec = StepSpec("u.service", "e", 1, "start-0", (), "", {"A": "1"}, str(where), str(where / "log"))
    body = await command_body(spec, command, {}, HostFiles(), detached=command.detach)
    return (body, *(getattr(command, field) for field in BESIDE_THE_BODY))


@pytest.mark.parametrize("name", sorted(RUN.long))
async def test_every_option_acts_or_says_that_it_does_not(name, tmp_path):
    option = RUN.long[name]
    for file in ("env", "labels"):
        (tmp_path / file).write_text("X=1\n")
    files = {"env-file": "env", "label-file": "labels"}
    value = files.get(option.name, SAMPLE_VALUES.get(option.name, "1"))
    words = [f"--{name}"] if option.kind == "bool" else [f"--{name}", value]
    if option.refuse:
        with pytest.raises(InvalidValue, match=f"--{name} is not supported: "):
            compile_docker(["docker", "run", *words, "img"])
        return
    acts = await sent(words, tmp_path) != await sent([], tmp_path)
    warns = any(f"--{option.name}" in warning for warning in compile_docker(["docker", "run", *words, "img"]).warnings)
    assert acts or warns or option.name in WHAT_HAPPENS_ANYWAY
    assert (name in CREATE.long) == (name not in {"detach", "sig-proxy", "detach-keys"})


FACTS_ABOUT_THE_LINE = {
    ("Run", "interactive"): "a step has no standard input, and the option warns",
    ("Start", "interactive"): "a step has no standard input; `attach` is set with it",
}
"""Fields that nobody has to read, and why."""


def read_attributes() -> set[str]:
    """The names of all attributes that are read outside of the rooms that compile."""
    package = Path(commands.__file__).parents[1]
    found: set[str] = set()
    for path in package.rglob("*.py"):
        if path.relative_to(package).parts[0] not in ("dockercli", "testing"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    found.add(node.attr)
    return found


def test_every_field_is_read():
    read = read_attributes()
    kinds = [*get_args(commands.DockerCommand), ContainerExtras, Container]
    unread = {
        (kind.__name__, field.name)
        for kind in kinds
        for field in msgspec.structs.fields(kind)
        if field.name not in read
    }
    assert unread == FACTS_ABOUT_THE_LINE.keys()
