"""[Service] and [Unit]: commands, how they are run, and what contradicts."""

import pytest

from tests.model.compile_helpers import chronos, refused, service, warnings
from xchronos.clock import MINUTE, SECOND
from xchronos.model.compile.unit import compile_unit
from xchronos.model.unit import ExitStatuses

TRIGGER = "[X-Chronos]\nTriggerCron=@daily\n"
TRUE = "ExecStart=/bin/true"


class TestCommands:
    def test_steps_come_in_the_order_of_the_phases(self):
        unit = service(
            "ExecStopPost=/p", "ExecStart=-/a x ; /b", "ExecStartPre=/q", "ExecStart=@/c zero one", "Type=oneshot",
            "ExecCondition=/k", "ExecStop=+/s", "ExecStartPost=:/t $X",
        )  # fmt: skip
        assert [(step.name, step.text, step.main) for step in unit.service.steps] == [
            ("condition-0", "/k", False), ("start-pre-0", "/q", False), ("start-0", "-/a x", False),
            ("start-1", "/b", False), ("start-2", "@/c zero one", True), ("start-post-0", ":/t $X", False),
            ("stop-0", "+/s", False), ("stop-post-0", "/p", False),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("lines", "docker"),
        [
            ("ExecStart=docker ps", True),
            ("ExecStart=-/usr/local/bin/docker ps", True),
            ("ExecStart=@/usr/bin/docker argv0 run -m 64m --cpus 0.5 busybox", True),
            ("ExecStart=/bin/sh -c 'docker ps'", False),
            ("ExecStart=/usr/bin/podman ps", False),
            ("ExecStart=/usr/bin/dockerd", False),
        ],
    )
    def test_docker_lines(self, lines, docker):
        unit = service(lines)
        assert unit.service.steps[0].docker is docker
        assert unit.executor == ("docker" if docker else "process")

    def test_limits_of_docker_run_are_counted(self):
        unit = service("Type=oneshot", "ExecStart=docker run -m 64m a", "ExecStart=docker run --cpus 1.5 -m 1g b")
        assert (unit.memory, unit.cpus) == (2**30, 1.5)
        assert service("ExecStart=docker ps").memory == 0

    @pytest.mark.parametrize(
        ("line", "part"),
        [
            ("ExecStart=docker run --frobnicate x", "unknown flag: --frobnicate"),
            ("ExecStart=docker compose up", "docker compose is not supported"),
            ("ExecStartPre=-docker ruN x", "did you mean run?"),
            ("ExecStart=bin/x", "neither an absolute path nor a plain file name"),
            ("ExecStart=/bin/date +%%Y-%d", "write %%d for a literal %d"),
            ("ExecStart=/bin/date +%Q", "unknown specifier %Q in '+%Q': write %%Q for a literal %Q"),
            ("ExecStart=docker run --memory 5x -p ${PORT}:80 -h %H a", 'invalid argument "5x"'),
            ("ExecStart='/bin/x", "no command is left of it"),
            ("ExecStart=-bin/x", "no command is left of it"),
        ],
    )
    def test_bad_lines(self, line, part):
        text = f"[Service]\n{line}\n" if "Pre" not in line else f"[Service]\n{line}\n{TRUE}\n"
        (error,) = [found for found in refused(text) if "warning: " not in found]
        assert error.startswith("a.service:2: [Service] Exec")
        assert part in error

    @pytest.mark.parametrize(
        ("line", "part"),
        [
            ("ExecStart=docker run -rm a", "-rm: single-dash form, read as --rm"),
            ("ExecStart=docker run -d a", "returns at once, and with it the attempt ends: leave -d out"),
            ("Type=exec\nExecStart=docker run -d a", "returns at once"),
            ("ExecStart=docker run $FLAGS", "cannot be checked before its variables are known"),
            ("ExecStart=docker run %H:x/y --z", "cannot be checked before its variables are known"),
            ("ExecStart=docker $VERB", "cannot be checked before its variables are known: docker: no verb"),
            (r"ExecStart=/bin/echo \q", "kept as written"),
            ("ExecStart=/bin/date +%%Y-%s", "write %%s for %s"),
        ],
    )
    def test_warned_lines(self, line, part):
        (warning,) = warnings(service(line))
        assert part in warning

    def test_detached_steps_elsewhere_are_fine(self):
        assert warnings(service("ExecStartPre=docker run -d a", "ExecStart=docker wait a")) == []
        assert warnings(service("Type=oneshot", "ExecStart=docker run -d a", "ExecStart=docker wait a")) == []

    def test_an_artifact_may_be_the_program(self):
        unit = service("ExecStart=./tool x\n[X-Chronos]\nArtifact=http://h/tool")
        assert unit.service.steps[0].line.path == "./tool"
        lines = "[Service]\nExecStart=./tool x\n[X-Chronos]\nArtifact=http://h/tool\nArtifact=\n"
        assert any("neither an absolute path nor a plain file name" in line for line in refused(lines))

    def test_variables_of_the_unit_are_known(self):
        unit = service("Environment=IMAGE=busybox", "ExecStart=docker run -m 32m ${IMAGE}")
        assert (warnings(unit), unit.memory) == ([], 32 * 2**20)


@pytest.mark.parametrize(
    ("lines", "field", "value"),
    [
        ("Type=oneshot", "type", "oneshot"),
        ("Type=exec", "type", "exec"),
        ("", "type", "simple"),
        ("", "timeout_start", 90 * SECOND),
        ("Type=oneshot", "timeout_start", None),
        ("Type=oneshot\nTimeoutStartSec=5", "timeout_start", 5 * SECOND),
        ("TimeoutStartSec=0", "timeout_start", None),
        ("TimeoutStopSec=infinity", "timeout_stop", None),
        ("TimeoutSec=1min", "timeout_start", MINUTE),
        ("TimeoutSec=1min", "timeout_stop", MINUTE),
        ("TimeoutStopSec=3\nTimeoutSec=1min", "timeout_stop", MINUTE),
        ("TimeoutSec=1min\nTimeoutStopSec=3", "timeout_stop", 3 * SECOND),
        ("RuntimeMaxSec=0", "runtime_max", 0),
        ("RuntimeMaxSec=infinity", "runtime_max", None),
        ("KillSignal=2", "kill_signal", "SIGINT"),
        ("KillSignal=SIGQUIT", "kill_signal", "SIGQUIT"),
        ("KillMode=mixed", "kill_mode", "mixed"),
        ("SendSIGKILL=no", "send_sigkill", False),
        ("RemainAfterExit=yes", "remain_after_exit", True),
        (
            "SuccessExitStatus=7 SIGUSR1\nSuccessExitStatus=8",
            "success",
            ExitStatuses(frozenset({7, 8}), frozenset({"SIGUSR1"})),
        ),
        ("SuccessExitStatus=7\nSuccessExitStatus=", "success", ExitStatuses()),
        ("Restart=on-abort\nRestartPreventExitStatus=3", "restart_prevent", ExitStatuses(frozenset({3}))),
        ("RestartForceExitStatus=3", "restart_force", ExitStatuses(frozenset({3}))),
        ("Environment=A=1\nEnvironment=\nEnvironment=B=%H", "environment", ("A=1", "", "B=%H")),
        ("EnvironmentFile=/a\nEnvironmentFile=-%E/b", "environment_files", (("/a", False), ("%E/b", True))),
        ("PassEnvironment=A B", "pass_environment", ("A B",)),
        ("UnsetEnvironment=A=1 B", "unset_environment", ("A=1 B",)),
        ("WorkingDirectory=-/srv/%i", "working_directory", "/srv/%i"),
        ("WorkingDirectory=-/srv", "working_directory_optional", True),
        ("WorkingDirectory=/srv\nWorkingDirectory=", "working_directory", ""),
        ("User=web\nGroup=www", "user", "web"),
        ("User=web\nUser=", "user", ""),
        ("Group=www", "group", "www"),
    ],
)
def test_settings(lines, field, value):
    unit = service(lines, TRUE)
    assert warnings(unit) == []
    assert getattr(unit.service, field) == value


@pytest.mark.parametrize(
    ("lines", "field", "value", "part"),
    [
        ("Type=", "type", "simple", "none of its values"),
        ("Type=fast", "type", "simple", "'fast' is none of its values"),
        ("Type=notify", "type", "simple", "Type=notify is run like simple: readiness is not waited for"),
        ("Type=forking", "type", "simple", "run like simple: its main process is the command itself"),
        ("Type=idle", "type", "simple", "run like simple"),
        ("TimeoutStartSec=5\nTimeoutStartSec=soon", "timeout_start", 5 * SECOND, "soon"),
        ("KillMode=everything", "kill_mode", "control-group", "everything"),
        ("KillSignal=SIGNOPE", "kill_signal", "SIGTERM", "SIGNOPE"),
        ("SuccessExitStatus=7 NOPE SIGUSR1", "success", ExitStatuses(frozenset({7}), frozenset({"SIGUSR1"})), "NOPE"),
        ("SuccessExitStatus=SIGNOPE", "success", ExitStatuses(), "SIGNOPE"),
        ("Restart=sometimes", "restart", "no", "sometimes"),
        ("Type=oneshot\nRuntimeMaxSec=5", "runtime_max", 5 * SECOND, "systemd ignores it with Type=oneshot"),
        ("FinalKillSignal=SIGQUIT", "kill_signal", "SIGTERM", "has no meaning in xchronos"),
        ("Restart=on-success", "restart", "on-success", "a success is not followed by another attempt"),
        ("EnvironmentFile=relative", "environment_files", (), "not an absolute path"),
        ("PassEnvironment=A XCHRONOS_API_TOKEN", "pass_environment", ("A XCHRONOS_API_TOKEN",), "is not passed"),
        ("MemoryMax=1G", "user", "", "has no meaning without a [Container]"),
        ("Nice=5", "user", "", "has no meaning in xchronos"),
        ("NoSuchKey=5", "user", "", "unknown key 'NoSuchKey'"),
        ("Image=busybox", "user", "", "Image is no key of [Service]: expected it in [Container]"),
        ("Environment=" + "A" * 300 + "=1 =", "user", "", "no assignment"),
    ],
)
def test_settings_that_are_warned_about(lines, field, value, part):
    unit = service(lines, TRUE)
    (warning,) = warnings(unit)
    assert part in warning
    assert getattr(unit.service, field) == value


def test_dbus_is_run_like_simple_where_systemd_takes_it():
    (warning,) = [text for text in warnings(service("Type=dbus", "BusName=org.x.Y", TRUE)) if "BusName" not in text]
    assert "Type=dbus is run like simple" in warning


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ExecStart=/a\nExecStart=/b", "2 commands and no Type=: expected Type=oneshot, or a single command"),
        ("Type=exec\nExecStart=/a ; /b", "2 commands and Type=exec"),
        ("Type=simple\nExecStop=/a", "there is no ExecStart=, which only Type=oneshot may leave out, not Type=simple"),
        ("ExecStop=/a", "only a unit with RemainAfterExit=yes may leave out"),
        ("Type=oneshot\nRestart=always\n" + TRUE, "Restart=always does not fit Type=oneshot"),
        ("Type=oneshot\nRestartForceExitStatus=1\n" + TRUE, "does not fit Type=oneshot"),
        ("Type=dbus\n" + TRUE, "Type=dbus without BusName="),
        ("User=%Q\n" + TRUE, "unknown specifier %Q"),
        ("Group=%Q\n" + TRUE, "unknown specifier %Q"),
        ("WorkingDirectory=/%Q\n" + TRUE, "unknown specifier %Q"),
        ("WorkingDirectory=relative\n" + TRUE, "not an absolute path"),
        ("ExecReload=/a %Q\n" + TRUE, "unknown specifier %Q"),
        ("EnvironmentFile=/%Q\n" + TRUE, "unknown specifier %Q"),
        ("TriggerCron=@daily\n" + TRUE, "TriggerCron is no key of [Service]: expected it in [X-Chronos]"),
        ("MachineID=x\n" + TRUE, "MachineID is no key of [Service]: expected it in [X-Fleet]"),
        ("", "nothing to run: expected ExecStart= in [Service], or a [Container] with Image="),
    ],
)
def test_refused(text, part):
    (error,) = [found for found in refused(f"[Service]\n{text}\n") if "warning: " not in found]
    assert part in error


def test_a_variable_with_a_specifier_that_does_not_exist_is_dropped():
    unit = service("Environment=A=%Q B=2", "ExecStart=/a")
    (warning,) = warnings(unit)
    assert "the variable is not set: unknown specifier %Q in 'A=%Q': write %%Q for a literal %Q" in warning


def test_a_unit_may_only_stop_something():
    unit = service("RemainAfterExit=yes", "ExecStop=/a")
    assert (unit.service.type, len(unit.service.steps), warnings(unit)) == ("oneshot", 1, [])


def test_remaining_after_exit_does_not_fit_a_trigger():
    unit = service(TRUE, "RemainAfterExit=yes", TRIGGER)
    assert not unit.service.remain_after_exit
    assert "does nothing in a unit with a trigger" in warnings(unit)[0]


class TestLinks:
    def unit(self, *lines, name="a.service"):
        return compile_unit(name, "[Unit]\n" + "\n".join(lines) + f"\n[Service]\n{TRUE}\n")

    def test_names(self):
        unit = self.unit(
            "Description=What it does", "Documentation=man:x(1) https://x.org", "After=docker.service",
            "OnSuccess=e.service", "OnFailure=n@%n.service",
        )  # fmt: skip
        assert warnings(unit) == []
        assert (unit.description, unit.documentation) == ("What it does", ("man:x(1)", "https://x.org"))
        assert (unit.on_success, unit.on_failure) == (("e.service",), ("n@a.service.service",))
        assert unit.needs_docker
        assert self.unit("Requires=docker.service").needs_docker
        assert not self.unit("Wants=docker.service").needs_docker

    def test_a_template_stands_for_our_own_instance(self):
        assert self.unit("OnFailure=n@.service", name="a@x.service").on_failure == ("n@x.service",)
        assert self.unit("OnFailure=n@.service").on_failure == ("n@a.service",)

    @pytest.mark.parametrize(
        ("line", "part"),
        [
            ("OnFailure=nobody", "'nobody' is no unit: expected a name with its type, such as nobody.service"),
            ("After=%H.service", "is no unit"),
            ("After=docker.service b.service c.target", "After: warning: b.service c.target: not waited for"),
            ("Requires=b.service", "Requires: warning: b.service: not started along"),
            ("Wants=network-online.target", "Wants: warning: has no meaning in xchronos"),
            ("Wants=docker.service", "Wants: warning: has no meaning in xchronos"),
            ("OnSuccess=b.target", "b.target is not started: only .service units are"),
            ("OnFailure=a.service", "a.service starts itself, again and again"),
            ("After=b.service # later", "'#' begins no comment here"),
        ],
    )
    def test_warned(self, line, part):
        unit = self.unit(line)
        assert part in warnings(unit)[0]
        assert len(unit.warnings) == 1
        assert unit.on_success == ()

    def test_conditions_of_the_machine_count_on_the_machine(self):
        assert warnings(self.unit("ConditionPathExists=/x")) == []
        assert "has no meaning" in warnings(self.unit("ConditionACPower=true"))[0]
        reset = self.unit("ConditionHost=a", "AssertHost=b", "ConditionHost=", "ConditionPathExists=relative")
        assert [(condition.text, condition.asserted) for condition in reset.conditions] == [("AssertHost=b", True)]
        found = refused(f"[Unit]\nConditionPathExists=/%Q\n[Service]\n{TRUE}\n")
        assert "unknown specifier %Q" in found[0]


class TestExecutors:
    def test_mixed_kinds(self):
        (warning,) = warnings(service("ExecStartPre=/bin/a", "ExecStart=docker ps"))
        assert warning.startswith("a.service:2: [Service] ExecStartPre: warning: a host process beside docker")

    def test_docker_lines_stay_docker_lines(self):
        unit = service("ExecStart=docker ps", "[X-Chronos]", "Executor=process")
        assert "performed through the machine's Docker engine all the same" in warnings(unit)[0]
        assert unit.service.steps[0].docker

    def test_docker_is_what_it_says(self):
        assert warnings(service("ExecStart=docker ps", "[X-Chronos]", "Executor=docker")) == []

    def test_nothing_more_is_said_of_a_wrong_word(self):
        text = f"[Service]\n{TRUE}\nExecStartPre=docker ps\n[X-Chronos]\nExecutor=shell\n"
        assert len([found for found in refused(text) if "warning: " not in found]) == 1


def test_global_and_availability():
    fleet = "\n[X-Fleet]\nGlobal=true"
    found = refused(f"[Service]\n{TRUE}\n[X-Chronos]\nAvailability=2{fleet}\n")
    assert found == [
        (
            "a.service:4: [X-Chronos] Availability: cannot be used with Global=true, which is one copy on every machine: "
            "expected one of them"
        )
    ]
    assert chronos("Availability=1" + fleet).is_global


def test_what_install_says_has_no_meaning():
    (warning,) = warnings(service(TRUE, "[Install]", "WantedBy=multi-user.target"))
    assert warning.startswith("a.service:4: [Install] WantedBy: warning: has no meaning")


def test_a_unit_for_its_success_action_alone_is_accepted_with_a_warning() -> None:
    unit = compile_unit("exit.service", "[Unit]\nSuccessAction=exit\n")
    assert unit.service.steps == ()
    assert any("nothing to run" in warning.message for warning in unit.warnings)


@pytest.mark.parametrize(
    ("written", "shown"),
    [("Report for %i of %p, 100 %%", "Report for eu of report, 100 %"), ("date +%Q", "date +%Q"), ("plain", "plain")],
)
def test_a_description_speaks_of_the_instance(written, shown):
    text = f"[Unit]\nDescription={written}\n[Service]\nExecStart=/bin/true\n"
    assert compile_unit("report@eu.service", text).description == shown
