"""All problems at once: in file order, each once, with its place, and with what was expected."""

from hashlib import sha256

import pytest

from tests.model.compile_helpers import EXAMPLE, RUN, refused, service, warnings
from xchronos.clock import SECOND
from xchronos.errors import UnitFileError
from xchronos.model.compile.unit import compile_unit
from xchronos.model.policies import MisfirePolicy, Retry
from xchronos.unitfile import UnitName, parse


class TestTheOldExample:
    """The example file of the original project's documents, byte for byte."""

    def test_is_the_original(self):
        assert sha256(EXAMPLE.encode()).hexdigest().startswith("e62156756c3dce98")

    def test_compiles_with_four_kinds_of_warnings(self):
        assert warnings(compile_unit("statement_generation.service", EXAMPLE, path="s")) == [
            "s:11: [Service] ExecStart: warning: -rm: single-dash form, read as --rm",
            (
                "s:18: [X-Chronos] JobStore: warning: expects the etcd store; a daemon with another one runs the unit all "
                "the same"
            ),
            "s:18: [X-Chronos] JobStore: warning: the footnote mark (*) is not part of the value: dropped",
            "s:22: [X-Chronos] TriggerRepeatCount: warning: the footnote mark (*) is not part of the value: dropped",
            (
                "s:23: [X-Chronos] TriggerCron: warning: second '*': six fields begin with the seconds, so this fires 60 "
                "times a minute; others read a year last (Nomad, supercronic) or the seconds last (croniter, aiocron)"
            ),
        ]

    def test_means_what_it_says(self):
        unit = compile_unit("statement_generation.service", EXAMPLE)
        assert [(spec.key, spec.text) for spec in unit.triggers] == [
            ("TriggerRepeatInterval", "2000"), ("TriggerCron", "* * 1 * * *")
        ]  # fmt: skip
        assert (unit.start_delay, unit.availability, unit.retry) == (10 * SECOND, 2, Retry(3, 10 * SECOND))
        assert unit.misfire.policy is MisfirePolicy.NEXT_WITH_REMAINING
        assert unit.requirements.metadata == {"region": ("us-east-1",), "diskType": ("SSD",)}
        assert unit.needs_docker
        assert all(step.docker for step in unit.service.steps)
        assert (unit.service.timeout_start, unit.job_store) == (None, "etcd")
        assert unit.revision == sha256(EXAMPLE.encode()).hexdigest()


def test_everything_is_said_at_once_in_file_order():
    text = (
        "stray\n[Unit]\nAfter=x\n[X-Chronos]\nMaxAttempts=0\nTriggerCrn=1\nTriggerCron=x\n[X-Fleet]\n"
        "MachineMetadata=a=1 b=2\n[Service]\nExecStart=docker frob\nUser=%Q\n[Contianer]\n"
    )
    found = refused(text)
    assert [place.split(": ")[0] for place in found] == [f"a.service:{line}" for line in (1, 3, 5, 6, 7, 9, 11, 12, 13)]
    assert sum("warning: " in problem for problem in found) == 2


@pytest.mark.parametrize(
    ("header", "part", "error"),
    [
        ("X-Chronoss", "unknown section [X-Chronoss]: did you mean [X-Chronos]?", True),
        ("x-chronos", "did you mean [X-Chronos]?", True),
        ("Contianer", "did you mean [Container]?", True),
        ("X-Flet", "did you mean [X-Fleet]?", True),
        ("X-Other", "the sections of xchronos are [X-Chronos], [X-Fleet], [Container]", True),
        ("Servce", "unknown section [Servce]: it is not read, did you mean [Service]?", False),
        ("Timer", "unknown section [Timer]: it is not read", False),
    ],
)
def test_unknown_sections(header, part, error):
    text = f"{RUN}[{header}]\n"
    found = refused(text) if error else warnings(compile_unit("a.service", text))
    assert len(found) == 1
    assert part in found[0]
    assert found[0].startswith("a.service:3: ")


@pytest.mark.parametrize(
    ("section", "line", "expected"),
    [
        (
            "X-Chronos", "MaxAttempts=3 # three",
            ("'3 # three' is not a whole number: expected 1 to 1000000; '#' begins no comment here: put the comment on "
            "a line of its own"),
        ),
        (
            "X-Chronos", "Concurrency=forbid ; no two",
            ("'forbid ; no two': expected one of allow, forbid, replace, queue; ';' begins no comment here: put the "
            "comment on a line of its own"),
        ),
        (
            "Service", "Restart=no # never",
            ("warning: 'no # never' is none of its values: expected no, always, on-success, on-failure, on-abnormal, "
            "on-abort, on-watchdog; '#' begins no comment here: put the comment on a line of its own"),
        ),
        (
            "Service", "ExecStop=docker stop -time 3 a # b",
            ("warning: '#' begins no comment here: put the comment on a line of its own; all of 'docker stop -time 3 a "
            "# b' is the value"),
        ),
    ],
)  # fmt: skip
def test_a_comment_behind_a_value_is_a_hint_for_what_it_breaks(section, line, expected):
    text = f"{RUN}[{section}]\n{line}\n"
    try:
        found = warnings(compile_unit("a.service", text))
    except UnitFileError as error:
        found = [str(problem) for problem in error.problems]
    assert f"a.service:4: [{section}] {line.partition('=')[0]}: {expected}" in found
    assert sum("begins no comment" in problem for problem in found) == 1


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("a.timer", "a .timer unit: xchronos runs .service units only"),
        ("a.socket", "a .socket unit"),
        ("a.container", "is a file of podman's: call it a.service: its [Container] is read there"),
        ("a.pod", "there are no pods here"),
        ("a.wrong", "has no known suffix"),
        (".volume", "has no known suffix"),
        ("a b.service", "has bad characters"),
        (".service", "has nothing before its suffix"),
        ("a" * 250 + "@.service", "longer than 255 bytes"),
    ],
)
def test_names(name, part):
    found = refused(RUN, name=name)
    assert len(found) == 1
    assert part in found[0]


class TestDropIns:
    def test_problems_carry_their_own_file(self):
        found = refused(f"{RUN}[X-Chronos]\nMaxRuns=0\n", ("10-x.conf", "[X-Chronos]\nNope=1\n[Container]\nImge=a\n"))
        assert [problem.split(" ")[0] for problem in found] == [
            "a.service:4:", "10-x.conf:2:", "10-x.conf:3:", "10-x.conf:4:"
        ]  # fmt: skip

    def test_lines_of_different_files_are_not_mixed_up(self):
        found = refused("[Container]\nImage=a\nMemory=x\n", ("x.conf", "[Container]\n\nMemory=y\n"))
        assert [problem.split(" ")[0] for problem in found] == ["x.conf:3:"]

    def test_bad_syntax_is_told_of_every_file(self):
        found = refused("[Unit\n", ("x.conf", "[Service\n"), ("y.conf", "[Service]\n"), ("z.conf", b"[U]\na=\xff\n"))
        assert [problem.split(": ")[0] for problem in found] == ["a.service:1", "x.conf:1", "z.conf:2"]

    def test_they_count_and_the_revision_covers_them(self):
        plain, changed = (
            compile_unit("a.service", RUN),
            compile_unit("a.service", RUN, [("x.conf", "[Service]\nUser=u")]),
        )
        assert (plain.service.user, changed.service.user) == ("", "u")
        assert plain.revision != changed.revision
        assert compile_unit("a.service", RUN, [("y.conf", "[Service]\nUser=u")]).revision == changed.revision

    def test_a_command_is_replaced_by_a_reset(self):
        unit = compile_unit("a.service", RUN, [("x.conf", "[Service]\nExecStart=\nExecStart=/b\n")])
        assert [step.text for step in unit.service.steps] == ["/b"]


class TestMaskedAndTemplates:
    def test_an_empty_file_is_masked(self):
        unit = compile_unit("a.service", b"", path="/etc/a.service")
        assert unit.masked
        assert warnings(unit) == [
            "/etc/a.service: warning: the file is empty: the unit is masked, it cannot be started"
        ]

    def test_a_template_is_judged_as_an_instance(self):
        text = "[Service]\nUser=%i\nExecStart=/bin/x %i\n[X-Chronos]\nPayload=%i\nTriggerCron=@daily\n"
        unit = compile_unit("a@.service", text)
        assert (unit.name, unit.template, unit.service.user) == ("a@.service", True, "%i")
        instance = compile_unit("a@eu.service", text)
        assert (instance.template, instance.payload, instance.service.steps[0].text) == (False, "eu", "/bin/x eu")

    def test_specifiers_of_an_instance_stand_everywhere(self):
        text = (
            "[Unit]\nOnFailure=mail@%i.service\n[Service]\nExecStart=/bin/x\n[X-Fleet]\nMachineMetadata=region=%i\n"
            "Conflicts=a@*.service\n"
        )
        unit = compile_unit("a@eu.service", text)
        assert (unit.on_failure, unit.requirements.metadata) == (("mail@eu.service",), {"region": ("eu",)})


def test_the_path_names_the_file():
    with pytest.raises(UnitFileError) as caught:
        compile_unit("a.service", "[Service]\n", path="/etc/xchronos/a.service")
    assert str(caught.value).startswith("/etc/xchronos/a.service: nothing to run")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[Container]\nImage="Busybox"\n', "a.service:2: [Container] Image: "),
        ("[Container]\nImage=Busybox\n", "a.service:2: [Container] Image: "),
        ("[Container]\nImage=%Q\n", "a.service:2: [Container] Image: unknown specifier %Q"),
        (f"{RUN}[Container]\nImage=box\nGroup=5\nUser=%Q\n", "a.service:6: [Container] User: unknown specifier %Q"),
        (f"{RUN}[X-Chronos]\nMaxAttempts=x\nTimeBetweenAttempts=5\n", "a.service:4: [X-Chronos] MaxAttempts: "),
        (f"{RUN}RestartSec=3\n[X-Chronos]\nMaxAttempts=0\n", "a.service:5: [X-Chronos] MaxAttempts: "),
        (f"{RUN}[X-Chronos]\nArtifact=x\nArtifactSHA256={'0' * 64}\n", "a.service:4: [X-Chronos] Artifact: "),
        (f"{RUN}[X-Chronos]\nTriggerRepeatInterval=x\nTriggerRepeatCount=5\n", "a.service:4: [X-Chronos] "),
        ("[Service]\nExecStart=/a/\n", "a.service:2: [Service] ExecStart: "),
    ],
)
def test_a_value_that_is_refused_is_not_missing(text, expected):
    errors = [problem for problem in refused(text) if "warning: " not in problem]
    assert [error[: len(expected)] for error in errors] == [expected]
    assert not any("without" in problem or "is missing" in problem for problem in refused(text))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("Global=true\nMachineOf=b.service", "4: [X-Fleet] Global: cannot be used with MachineOf, which is in line 5"),
        ("X-ConditionMachineOf=b.service\nGlobal=yes", "5: [X-Fleet] Global: cannot be used with X-ConditionMachineOf"),
        (
            "X-ConditionMachineBootID=x\nX-Conflicts=b*",
            "4: [X-Fleet] X-ConditionMachineBootID: cannot be used with X-C",
        ),
        (
            "MachineOf=b.service\nX-Conflicts=z*\nX-Conflicts=b*",
            "6: [X-Fleet] X-Conflicts: 'b*' matches b.service, which M",
        ),
    ],
)
def test_a_contradiction_names_the_keys_as_they_are_written(lines, expected):
    (found,) = refused(f"{RUN}[X-Fleet]\n{lines}\n")
    assert found.startswith(f"a.service:{expected}")


def test_fleets_own_problems_are_there():
    found = refused(f"{RUN}[X-Fleet]\nMachineID=a\nGlobal=true\nMachinID=b\nMaxAttempts=2\n")
    assert any("[X-Fleet] MachineID: cannot be used with Global, which is in line 5" in problem for problem in found)
    assert any("did you mean MachineID?" in problem for problem in found)
    assert sum("MaxAttempts" in problem for problem in found) == 1


def test_extension_keys_of_others_are_left_alone():
    assert warnings(service("X-Vendor=1", "ExecStart=/a")) == []


def test_crlf_and_marks_of_an_editor():
    text = "\ufeff[Service]\r\nExecStart=/bin/true\r\n[X-Chronos]\r\nMaxAttempts=3\r\n"
    assert compile_unit("a.service", text).retry == Retry(3)


def test_a_unit_is_what_its_name_and_text_say():
    assert UnitName.parse(compile_unit("a.service", RUN).name).suffix == ".service"
    assert compile_unit("a.service", RUN) == compile_unit("a.service", RUN.encode())
    assert compile_unit("a.service", RUN).revision == parse(RUN).revision
