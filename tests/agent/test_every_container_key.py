"""What is accepted is acted upon: every key of `[Container]` changes what the machine asks its engine for, or warns."""

from pathlib import Path

import pytest

from tests.agent.test_step_specs import given
from xchronos.dockercli.quadlet.keys import ERRORS, KEY_RULES, WARNINGS
from xchronos.errors import UnitFileError
from xchronos.executors.docker.body import step_body
from xchronos.executors.docker.executor import DockerExecutor
from xchronos.model.compile.unit import compile_unit

SAMPLES = {
    "AddCapability": "NET_ADMIN", "AddDevice": "/dev/null", "AddHost": "a:1.2.3.4", "Annotation": "a=b", "AppArmor": "p",
    "CPUs": "1.5", "ContainerName": "named", "DNS": "8.8.8.8", "DNSOption": "ndots:1", "DNSSearch": "a.b",
    "DropCapability": "all", "Entrypoint": "/bin/e", "Environment": "A=1", "EnvironmentFile": "FILES/e",
    "EnvironmentHost": "no", "Exec": "a b", "ExposeHostPort": "80", "GPUs": "all", "Group": "g", "GroupAdd": "g",
    "HealthCmd": "x", "HealthInterval": "5s", "HealthOnFailure": "kill", "HealthRetries": "3",
    "HealthStartPeriod": "1s", "HealthTimeout": "1s", "HostName": "h", "IP": "10.0.0.2", "IP6": "fd00::2", "Image": "img",
    "Label": "a=b", "LogDriver": "journald", "LogOpt": "tag=x", "Mask": "/proc/a", "Memory": "64m", "MemorySwap": "-1",
    "Mount": "type=tmpfs,dst=/t", "Network": "n", "NetworkAlias": "a", "NoNewPrivileges": "yes", "PidsLimit": "10",
    "Platform": "arm64", "PodmanArgs": "--init=false", "Privileged": "yes", "PublishPort": "80:81", "Pull": "never",
    "ReadOnly": "yes", "ReadOnlyTmpfs": "no", "RunInit": "no", "SeccompProfile": "FILES/s.json", "Secret": "token",
    "SecurityLabelDisable": "yes", "SecurityLabelFileType": "t", "SecurityLabelLevel": "l", "SecurityLabelNested": "yes",
    "SecurityLabelType": "t", "ShmSize": "64m", "StopSignal": "SIGINT", "StopTimeout": "5", "Sysctl": "net.a=1",
    "Timezone": "Asia/Tokyo", "Tmpfs": "/t", "Ulimit": "nofile=1", "Unmask": "ALL", "User": "u", "UserNS": "host",
    "VolatileTmp": "yes", "Volume": "/a:/b", "WorkingDir": "/w",
}  # fmt: skip

BESIDE = {
    "Group": ("User=u",), "IP": ("Network=n",), "IP6": ("Network=n",), "NetworkAlias": ("Network=n",),
    "ReadOnlyTmpfs": ("ReadOnly=yes",), "MemorySwap": ("Memory=64m",),
}  # fmt: skip
"""What a key needs beside itself."""

WHAT_IS_SO_ANYWAY = {
    "EnvironmentHost": "only `no` is accepted, which is what happens without it",
}
"""Keys that change nothing, and why they need not."""


async def asked(where: Path, *lines: str) -> object:
    """What a machine asks its engine for, apart from the step's own directory."""
    text = "\n".join(("[Container]", "Image=box", *lines)).replace("FILES", str(where))
    spec, exit_ = await given(text, where)
    assert spec is not None, exit_.reason
    assert spec.body is not None
    name = DockerExecutor()._name_of(spec)
    return step_body(spec, {}), name, spec.pull, spec.platform, spec.networks, spec.secrets


@pytest.mark.parametrize("key", sorted(KEY_RULES))
async def test_every_key_acts_or_says_that_it_does_not(key: str, tmp_path: Path) -> None:
    for name, content in (("e", "FROM=file\n"), ("s.json", "{}"), ("secrets/token", "t0p")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    beside = BESIDE.get(key, ())
    line = f"{key}={SAMPLES[key]}"
    acts = await asked(tmp_path, *beside, line) != await asked(tmp_path, *beside)
    warnings = compile_unit("a.service", "\n".join(("[Container]", "Image=box", *beside, line))).warnings
    assert acts or any(problem.key == key for problem in warnings) or key in WHAT_IS_SO_ANYWAY


@pytest.mark.parametrize("key", sorted(WARNINGS))
def test_a_key_without_effect_says_so(key: str) -> None:
    (problem,) = compile_unit("a.service", f"[Container]\nImage=box\n{key}=1").warnings
    assert (problem.key, problem.line) == (key, 3)
    assert problem.message.startswith("no effect: ")


@pytest.mark.parametrize("key", sorted(ERRORS))
def test_a_key_that_cannot_be_honoured_is_refused(key: str) -> None:
    with pytest.raises(UnitFileError, match=f"{key}: not supported: "):
        compile_unit("a.service", f"[Container]\nImage=box\n{key}=1")
