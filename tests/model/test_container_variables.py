"""Quotes and variables in `[Container]`: the command line that quadlet writes, as systemd expands it.

`quadlet.json` holds sections and the ExecStart= lines that the generator of podman 5.8.6 makes of them; that of 5.4.2
makes the same words, but for an empty Entrypoint=, and for the keys that it does not know.
"""

import json
from pathlib import Path

import pytest

from xchronos.dockercli import Create, compile_docker
from xchronos.dockercli.body import empty_body
from xchronos.errors import InvalidValue, UnitFileError
from xchronos.model.compile.container import on_machine
from xchronos.model.compile.unit import compile_unit
from xchronos.unitfile import HostFacts, UnitName, parse_exec

MEASURED = json.loads((Path(__file__).parent / "quadlet.json").read_text(encoding="utf-8"))
ENVIRONMENT = MEASURED["environment"]
NAME = UnitName.parse("a.service")
PODMANS = frozenset(("--replace", "--cgroups=split", "--sdnotify=conmon", "-d", "--rm", "--read-only-tmpfs=false"))


def unit(*lines, service="EnvironmentFile=/e"):
    return compile_unit("a.service", "\n".join(["[Service]", service, "[Container]", *lines]))


def resolved(*lines, environment=ENVIRONMENT, service="EnvironmentFile=/e"):
    return on_machine(unit(*lines, service=service).container, NAME, HostFacts(), environment)


def by_podman(line):
    """What docker would create for the command line, without the options that only podman has."""
    argv = list(parse_exec(line, NAME).lines[0].resolve(NAME, HostFacts(), ENVIRONMENT).argv)
    assert argv[:2] == ["/usr/bin/podman", "run"]
    end = argv.index("docker.io/library/img") if "docker.io/library/img" in argv else len(argv)
    words = [word for word in argv[2:end] if word not in PODMANS] + argv[end:]
    if "systemd-a" in words:
        del words[words.index("--name") : words.index("systemd-a") + 1]
    command = compile_docker(["docker", "create", *words])
    assert isinstance(command, Create)
    return command


def worth_keeping(body, bare):
    """What differs. quadlet puts capabilities into lower case, which engines do not care about."""
    kept = {}
    for key, value in body.items():
        if isinstance(value, dict) and bare.get(key):
            if inner := worth_keeping(value, bare[key]):
                kept[key] = inner
        elif value != bare.get(key):
            kept[key] = [item.upper() for item in value] if key in {"CapAdd", "CapDrop"} else value
    return kept


@pytest.mark.parametrize("row", MEASURED["rows"], ids=lambda row: " ".join(row["container"][-2:]))
def test_as_quadlet_and_systemd_have_it(row):
    wanted = by_podman(row["exec_start"])
    made = resolved(*row["container"])
    assert made.body == worth_keeping(wanted.body, empty_body(wanted.image)) | {"Image": wanted.image}
    assert (made.image, made.extras.name, made.extras.pull) == (wanted.image, wanted.name, wanted.pull)


def test_the_values_of_the_section_service_are_known_at_submit():
    made = unit("Image=img", 'Exec=echo "${V}" $V $$HOME', service="Environment=V=sval")
    assert made.container.body["Cmd"] == ["echo", "sval", "sval", "$HOME"]
    assert made.warnings == ()
    assert on_machine(made.container, NAME, HostFacts(), {"V": "other"}).body["Cmd"] == [
        "echo",
        "other",
        "other",
        "$HOME",
    ]


def test_a_value_is_not_expanded_again():
    """Neither its variables nor its specifiers."""
    body = resolved("Image=img", "Exec=echo ${A} %h", environment={"A": "$$B ${C} %n %%"}).body
    assert body["Cmd"] == ["echo", "$$B ${C} %n %%", "/root"]


def test_specifiers_in_what_a_variable_is_set_to():
    made = unit("Image=img", "Volume=${D}/x:/y", service="Environment=D=%S/%p")
    assert made.container.body["HostConfig"]["Binds"] == ["%S/a/x:/y"]
    assert on_machine(made.container, NAME, HostFacts(), {"D": "/var/lib/a"}).body["HostConfig"]["Binds"] == [
        "/var/lib/a/x:/y"
    ]


def test_the_limits_of_service_stay():
    body = resolved("Image=img", "HostName=${V}", service="EnvironmentFile=/e\nMemoryMax=64M\nCPUQuota=50%").body
    assert body["HostConfig"] == {"Memory": 64 << 20, "NanoCpus": 500_000_000}
    body = resolved("Image=img", "Memory=${M}", service="EnvironmentFile=/e\nMemoryMax=32M").body
    assert body["HostConfig"] == {"Memory": 64 << 20}


def test_a_limit_that_is_not_known_counts_for_nothing():
    made = unit("Image=img", "Memory=${M}", "CPUs=${C}")
    assert (made.memory, made.cpus) == (0, 0.0)
    assert unit("Image=img", "Memory=${M}", service="Environment=M=64m").memory == 64 << 20


def test_a_file_that_is_not_known_is_not_named():
    made = unit("Image=img", "EnvironmentFile=${D}/e", "SeccompProfile=/s")
    assert (made.container.extras.env_files, made.container.extras.seccomp_profile) == ((), "")
    assert on_machine(made.container, NAME, HostFacts(), {"D": "/d"}).extras.env_files == ("/d/e",)
    assert unit("Image=img", "EnvironmentFile=/e", "HostName=${H}").container.extras.env_files == ("/e",)


def problems_of(*lines, service="EnvironmentFile=/e"):
    try:
        return [(p.line, p.key, p.severity, p.message) for p in unit(*lines, service=service).warnings]
    except UnitFileError as error:
        return [(p.line, p.key, p.severity, p.message) for p in error.problems]


@pytest.mark.parametrize(
    "line",
    ["Image=${I}", "PublishPort=${P}:80", "Volume=${D}:/data", "Memory=${M}", "User=$U", "DNS=${D}", "Timezone=${TZ}",
     "Exec=run ${A} $B", "HealthInterval=${S}", "Label=a=${XCHRONOS_UNIT}", "Pull=${P}", "PodmanArgs=$ARGS"],
)  # fmt: skip
def test_nothing_is_said_against_what_only_the_machine_can_judge(line):
    lines = [line] if line.startswith("Image") else ["Image=img", line]
    assert [found for found in problems_of(*lines) if found[2] == "error"] == []
    unchecked = [found for found in problems_of(*lines) if "cannot be checked" not in found[3]]
    assert unchecked == []


def test_what_only_the_machine_can_judge_does_not_contradict_the_rest():
    (found,) = problems_of("Image=img", "IP=10.0.0.2", "Network=${N}", "NetworkAlias=x", "Network=host")
    assert found[2] == "warning"
    assert "conflicting options" in found[3]


@pytest.mark.parametrize(
    ("line", "service", "severity", "message"),
    [
        ("HostName=${NOPE}", "", "warning", "${NOPE} expands to nothing"),
        ("Exec=echo $NOPE", "Environment=A=1", "warning", "${NOPE} expands to nothing"),
        ("Exec=echo ${A}", "Environment=A=1\nUnsetEnvironment=A", "warning", "${A} expands to nothing"),
        ("PublishPort=${P}:80", "Environment=P=http", "error", "($P comes from [Service])"),
        ("Volume=$D:/data", "EnvironmentFile=/e", "error", "expected ${D}:/data"),
        ("HostName=$H", "Environment='H=a b'", "error", "$H is 2 words"),
        ("Memory=${M}x", "EnvironmentFile=/e", "warning", "cannot be checked before $M is known: invalid size: '1x'"),
        ("Volume=./${D}:/x", "EnvironmentFile=/e", "warning", "cannot be checked before $D is known: './1:/x'"),
        ("ReadOnly=${RO}", "EnvironmentFile=/e", "error", "is not a boolean"),
        ("Volume=/x/$V:/data", "Environment=V=1", "warning", "$V stays as it is within a word: expected ${V}"),
        ("AppArmor=$V", "Environment=V=1", "warning", "$V stays as it is within a word: expected ${V}"),
        ('Volume="/a:/b"', "", "warning", "the quotes are part of the value, as in podman: expected /a:/b"),
    ],
)
def test_what_is_said_at_submit(line, service, severity, message):
    assert any(
        message in text and found == severity for _, _, found, text in problems_of("Image=img", line, service=service)
    ), problems_of("Image=img", line, service=service)


def test_what_is_wrong_on_the_machine_is_named():
    with pytest.raises(
        InvalidValue, match=r"a\.service:5: \[Container\] PublishPort: .*\(\$P comes from \[Service\]\)"
    ):
        resolved("Image=img", "PublishPort=${P}:80", environment={"P": "x"})
    with pytest.raises(InvalidValue, match=r"\[Container\] Image: invalid image ''"):
        resolved("Image=${I}", environment={})


def test_a_section_becomes_only_so_large():
    """Each line may be short, and become a megabyte."""
    lines = [f"Label=a{number}={'${V}' * 1000}" for number in range(10)]
    found = problems_of("Image=img", *lines, service=f"Environment=V={'x' * 999}")
    assert found[0][3].startswith("the section has more than 1048576 characters")
    with pytest.raises(InvalidValue, match="more than 1048576 characters"):
        resolved("Image=img", *lines, environment={"V": "x" * 999})


def test_a_word_that_systemd_drops_is_warned_of():
    def said(line):
        return [p.message for p in compile_unit("a.service", f"[Service]\nExecStart=/bin/e {line}").warnings]

    (message,) = said("-v $DATA:/data $HOME ${A}:x")
    assert message.endswith("so the word is dropped: expected ${DATA}:/data")
    assert compile_unit("a.service", "[Service]\nExecStart=:/bin/e $DATA:/data").warnings == ()
