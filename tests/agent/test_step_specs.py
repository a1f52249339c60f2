"""What a step is given: environment, directories, the create body; all that speaks of this machine is filled in here."""

import pwd
import re
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from tests.agent.worlds import FACTS, FIRE
from xchronos.agent.steps import host_facts
from xchronos.agent.steps.host_inputs import user_environment
from xchronos.agent.steps.resolved_unit import HostContext, ResolvedUnit
from xchronos.agent.steps.spec import AttemptSteps
from xchronos.dockercli import Run
from xchronos.executors.contract import Leftover, StepExit, StepSpec
from xchronos.model.compile.unit import compile_unit
from xchronos.model.records import Attempt, Execution


class Recorder:
    """An executor that runs nothing and remembers what it was given."""

    recoverable = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.given: list[StepSpec] = []

    async def probe(self) -> str:
        return ""

    async def run(self, spec: StepSpec) -> StepExit:
        self.given.append(spec)
        return StepExit(0, started_at=FIRE)

    async def stop(self, spec: StepSpec, signal: str) -> None: ...
    async def kill(self, spec: StepSpec) -> None: ...
    async def release(self, execution: str, attempt: int) -> None: ...
    async def leftovers(self) -> list[Leftover]:
        return []

    async def remove(self, leftovers: object) -> None: ...
    async def close(self) -> None: ...


async def given(text: str, where: Path, *, payload: str = "", stored: bool = False) -> tuple[StepSpec | None, StepExit]:
    """What the first step of a unit is given, and its end."""
    unit = compile_unit("job.service", text, stored=stored)
    execution = Execution("job.service", FIRE, current=Attempt(2, "m1"), payload=payload)
    executors = {"docker": Recorder("docker"), "process": Recorder("process")}
    facts = msgspec.structs.replace(FACTS, hostname="box", home="/home/of", shell="/bin/ash")
    steps = AttemptSteps(
        ResolvedUnit(
            unit,
            HostContext("m1", facts, {"GIVEN": "1", "XCHRONOS_API_TOKEN": "t0p"}, where / "secrets", 99),
            executors,
        ),
        execution,
        str(where),
    )
    step = unit.service.steps[0]
    await steps.stop(step, "SIGTERM")  # before it was begun: nothing to signal
    await steps.kill(step)
    exit_ = await steps.run(step, {})
    assert not await steps.left_behind()
    assert await steps.started(step) is None
    await steps.stop(step, "SIGTERM")
    await steps.kill(step)
    await steps.release()
    found = [spec for executor in executors.values() for spec in executor.given]
    return (found[0] if found else None), exit_


async def test_a_host_process(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("B=file\n")
    text = (
        "[Service]\nType=oneshot\nUser=0\nPassEnvironment=GIVEN NOT\nEnvironment=A=%H B=line C=%H\n"
        "UnsetEnvironment=PATH C=%H B=%H\n"
        f"EnvironmentFile={tmp_path}/*.env\nEnvironmentFile=-{tmp_path}/none\nEnvironmentFile=-{tmp_path}/*.none\n"
        "WorkingDirectory=~\nExecStart=/bin/echo %H $A\n"
    )
    spec, _ = await given(text, tmp_path, payload="p")
    assert spec is not None
    assert spec.argv == ("/bin/echo", "box", "box")
    assert spec.working_directory == "/home/of"
    assert (spec.env["A"], spec.env["B"], spec.env["GIVEN"], spec.env["USER"]) == ("box", "file", "1", "root")
    assert not {"PATH", "C"} & set(spec.env)
    assert "NOT" not in spec.env
    assert (spec.env["XCHRONOS_ATTEMPT"], spec.env["XCHRONOS_PAYLOAD"]) == ("2", "p")
    assert spec.env["XCHRONOS_FIRE_TIME"] == "2030-03-17T17:46:40Z"
    assert spec.log == tmp_path / "start-0.log"


@pytest.mark.parametrize(
    ("prefix", "identity"),
    [("", ("4", "5")), ("-", ("4", "5")), ("!!", ("4", "5")), ("-+", ("", "")), ("!", ("", "")), (":!", ("", ""))],
)
async def test_who_a_process_runs_as(prefix: str, identity: tuple[str, str], tmp_path: Path) -> None:
    spec, _ = await given(f"[Service]\nUser=4\nGroup=5\nExecStart={prefix}/bin/true", tmp_path)
    assert spec is not None
    assert (spec.user, spec.group) == identity


async def test_working_directories(tmp_path: Path) -> None:
    for line, expected in (
        ("", tmp_path / "scratch"), ("WorkingDirectory=-/nonexistent", tmp_path / "scratch"),
        ("WorkingDirectory=-/etc", "/etc"), ("WorkingDirectory=/nonexistent", "/nonexistent"),
    ):  # fmt: skip
        spec, _ = await given(f"[Service]\n{line}\nExecStart=/bin/true", tmp_path)
        assert spec is not None
        assert spec.working_directory == str(expected)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("EnvironmentFile=/nonexistent/x", "EnvironmentFile=/nonexistent/x: No such file or directory"),
        ("EnvironmentFile=/nonexistent/*", "EnvironmentFile=/nonexistent/*: no file matches"),
    ],
)
async def test_what_keeps_a_step_from_being_run(tmp_path: Path, lines: str, reason: str) -> None:
    spec, exit_ = await given(f"[Service]\n{lines}\nExecStart=/bin/true", tmp_path)
    assert (spec, exit_.reason, exit_.code) == (None, reason, None)


async def test_an_executor_that_is_not_here(tmp_path: Path) -> None:
    spec, exit_ = await given("[Service]\nExecStart=/bin/true\n[X-Chronos]\nExecutor=python", tmp_path)
    assert (spec, exit_.reason) == (None, "this machine does not run the python executor")


async def test_a_container(tmp_path: Path) -> None:
    for name, content in (("e", "FROM=file\n"), ("l", "x=file\n"), ("s.json", "{}"), ("secrets/token", "t0p")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    text = (
        "[Service]\nType=oneshot\nExecStart=/bin/echo %H\n[Container]\nImage=box\n"
        f"EnvironmentFile={tmp_path}/e\nLabel=on=%H\nLabel=at.%H=x\nTmpfs=/run/%H\nSeccompProfile={tmp_path}/s.json\n"
        "Secret=token\nSecret=token,type=env,target=TOKEN\nAddDevice=-/dev/null\nAddDevice=-/dev/nonexistent\n"
    )
    spec, _ = await given(text, tmp_path)
    assert spec is not None
    assert spec.body is not None
    body = dict(spec.body)
    assert (body["Entrypoint"], body["Cmd"], body["WorkingDir"]) == (["/bin/echo"], ["box"], "/xchronos")
    assert f"{tmp_path}/scratch:/xchronos" in body["HostConfig"]["Binds"]
    assert {"FROM=file", "TOKEN=t0p"} <= set(body["Env"])
    assert "seccomp={}" in body["HostConfig"]["SecurityOpt"]
    assert [device["PathOnHost"] for device in body["HostConfig"]["Devices"]] == ["/dev/null"]
    assert (body["Labels"]["on"], body["Labels"]["at.box"]) == ("box", "x")
    assert list(body["HostConfig"]["Tmpfs"]) == ["/run/box"]
    assert dict(spec.secrets) == {"/run/secrets/token": "t0p"}
    assert "PATH" not in spec.env
    assert spec.env["XCHRONOS_SCRATCH"] == "/xchronos"


async def test_the_variables_of_a_container(tmp_path: Path) -> None:
    """Those of a file are known when the step runs, and those of every step too."""
    (tmp_path / "e").write_text("DATA=/srv/%h\nPORT=8080\n")
    text = (
        f"[Service]\nEnvironment=V=sval\nEnvironmentFile={tmp_path}/e\n[Container]\nImage=box:${{V}}\nVolume=${{DATA}}:/data\n"
        'PublishPort=${PORT}:80\nExec=echo "${V}" $V $$HOME ${XCHRONOS_UNIT} ${PATH}\n'
    )
    spec, _ = await given(text, tmp_path)
    assert spec is not None
    assert spec.body is not None
    assert spec.body["Image"] == "box:sval"
    assert spec.body["HostConfig"]["Binds"][0] == "/srv/%h:/data"
    assert spec.body["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    assert spec.body["Cmd"][:5] == ["echo", "sval", "sval", "$HOME", "job.service"]
    assert "/usr/bin" in spec.body["Cmd"][5]


async def test_a_variable_that_makes_no_sense_ends_the_attempt(tmp_path: Path) -> None:
    (tmp_path / "e").write_text("PORT=http\n")
    text = f"[Service]\nEnvironmentFile={tmp_path}/e\n[Container]\nImage=box\nPublishPort=${{PORT}}:80\n"
    spec, exit_ = await given(text, tmp_path)
    assert spec is None
    assert exit_.reason.startswith("job.service:5: [Container] PublishPort: invalid port 'http:80'")
    assert "($PORT comes from [Service])" in exit_.reason


async def test_the_images_own_command_and_entry_point(tmp_path: Path) -> None:
    spec, _ = await given("[Container]\nImage=box\n", tmp_path)
    assert spec is not None
    assert spec.body is not None
    assert not spec.body.get("Cmd")
    spec, _ = await given("[Service]\nExecStart=echo a\n[Container]\nImage=box\nEntrypoint=/bin/e\n", tmp_path)
    assert spec is not None
    assert spec.body is not None
    assert spec.body["Cmd"] == ["echo", "a"]


@pytest.mark.parametrize("name", ["none", ".x"])
async def test_a_secret_that_is_not_there(tmp_path: Path, name: str) -> None:
    spec, exit_ = await given(f"[Container]\nImage=box\nSecret={name}\n", tmp_path)
    assert spec is None
    assert repr(name) in exit_.reason


async def test_a_docker_line_with_more_ports_than_are_accepted_now_runs_where_it_was_accepted_before(
    tmp_path: Path,
) -> None:
    line = "[Service]\nExecStart=/usr/bin/docker run --rm -p 10000-20000:10000-20000 box true"
    spec, _ = await given(line, tmp_path, stored=True)
    assert spec is not None
    assert isinstance(spec.docker, Run)
    assert len(spec.docker.body["ExposedPorts"]) == 10_001
    line = "[Service]\nEnvironment=P=10000-20000\nExecStart=/usr/bin/docker run --rm -p ${P}:${P} box true"
    spec, end = await given(line, tmp_path, stored=True)
    assert spec is None
    assert "10001 ports are published: 4096 are the most" in end.reason


async def test_a_docker_line(tmp_path: Path) -> None:
    spec, _ = await given(
        "[Service]\nEnvironment=IMAGE=box\nExecStart=/usr/bin/docker run --rm ${IMAGE} true", tmp_path
    )
    assert spec is not None
    assert spec.docker is not None
    assert spec.argv == ("/usr/bin/docker", "run", "--rm", "box", "true")


def test_the_machine_knows_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = host_facts.host_facts("m1")
    assert facts.machine_id == "m1"
    assert facts.hostname
    assert facts.boot_id
    assert host_facts.total_memory() > 1 << 20
    monkeypatch.setattr(host_facts, "_first_line", lambda path: "")
    drawn = host_facts.default_machine_id(tmp_path)
    assert len(drawn) == 32
    assert host_facts.default_machine_id(tmp_path) == drawn
    (tmp_path / "machine-id").write_text("")  # what a full disk may leave
    assert len(host_facts.default_machine_id(tmp_path)) == 32


@pytest.mark.parametrize(
    ("user", "entry", "expected"),
    [
        ("web", ("/srv/web", "/bin/bash"), {"HOME": "/srv/web", "SHELL": "/bin/bash"}),
        ("web", ("/nonexistent", "/usr/sbin/nologin"), {"HOME": "/nonexistent"}),
        ("web", ("/srv/web", "/bin/false"), {"HOME": "/srv/web"}),
        ("web", ("/", ""), {}),
        ("web", ("", "sh"), {}),
        # systemd has an entry of its own for this one, with neither.
        ("nobody", ("/nonexistent", "/bin/sh"), {}),
        ("65534", ("/nonexistent", "/bin/sh"), {}),
    ],
)
def test_who_has_a_home_and_a_shell_is_told_so(user, entry, expected, monkeypatch) -> None:
    found = SimpleNamespace(pw_name="web", pw_dir=entry[0], pw_shell=entry[1])
    monkeypatch.setattr("xchronos.agent.steps.host_inputs.pwd.getpwnam", lambda _: found)
    monkeypatch.setattr("xchronos.agent.steps.host_inputs.pwd.getpwuid", lambda _: found)
    assert user_environment(user) == {"USER": "web", "LOGNAME": "web", **expected}


async def test_a_process_sees_what_systemd_sets(tmp_path: Path) -> None:
    spec, _ = await given("[Service]\nExecStart=/bin/true", tmp_path)
    assert spec is not None
    assert spec.env["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert not {"USER", "LOGNAME", "HOME", "SHELL"} & spec.env.keys()
    assert re.fullmatch("[0-9a-f]{32}", spec.env["INVOCATION_ID"])
    again, _ = await given("[Service]\nExecStart=/bin/true", tmp_path)
    assert again is not None
    assert again.env["INVOCATION_ID"] == spec.env["INVOCATION_ID"]
    user, _ = await given("[Service]\nUser=root\nExecStart=/bin/true", tmp_path)
    assert user is not None
    assert (user.env["USER"], user.env["HOME"]) == ("root", "/root")


async def test_the_daemons_own_settings_are_passed_to_nobody(tmp_path: Path) -> None:
    passed = "PassEnvironment=GIVEN XCHRONOS_API_TOKEN\n"
    for more in ("", "[Container]\nImage=box\n"):
        spec, _ = await given(f"[Service]\n{passed}ExecStart=/bin/true\n{more}", tmp_path)
        assert spec is not None
        assert spec.env["GIVEN"] == "1"
        assert "XCHRONOS_API_TOKEN" not in spec.env


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("ExecStart=|echo $GIVEN | cat", ("{shell}", "-c", "echo 1 | cat")),
        ("ExecStart=@|echo", ("-{shell}", "-c", "echo")),
        ("ExecStart=|", ("{shell}",)),
        ("User=0\nExecStart=|echo", ("{root}", "-c", "echo")),
        # Who has no shell of this kind gets /bin/sh.
        ("User=nobody\nExecStart=|echo", ("/bin/sh", "-c", "echo")),
        ("ExecStart=|echo\n[Container]\nImage=box", ("/bin/sh", "-c", "echo")),
    ],
)
async def test_the_users_shell_runs_a_line(lines: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    spec, _ = await given(f"[Service]\nPassEnvironment=GIVEN\n{lines}\n", tmp_path)
    assert spec is not None
    root = pwd.getpwuid(0).pw_shell
    words = tuple(word.format(shell="/bin/ash", root=root) for word in expected)
    assert (spec.argv, spec.program) == (words, words[0].removeprefix("-"))
