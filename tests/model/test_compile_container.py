"""[Container], with what [Service] adds to it."""

import msgspec
import pytest

from tests.model.compile_helpers import refused, warnings
from xchronos.dockercli.body import empty_body
from xchronos.model.compile.commands import limits
from xchronos.model.compile.unit import compile_unit


def container(*lines, service=(), name="a.service"):
    text = "\n".join(["[Container]", "Image=busybox", *lines, "[Service]", *service, ""])
    return compile_unit(name, text)


def host(unit):
    return unit.container.body.get("HostConfig", {})


class TestBody:
    def test_only_what_differs_from_the_baseline_is_kept(self):
        unit = container()
        assert unit.container.body == {"Image": "busybox"}
        assert unit.container.image == "busybox"
        assert len(msgspec.json.encode(unit.container)) < 300

    @pytest.mark.parametrize(
        ("line", "path", "value"),
        [
            ("StopTimeout=0", "StopTimeout", 0),
            ("PodmanArgs=--memory-swappiness=0", "HostConfig.MemorySwappiness", 0),
            ("Entrypoint=/x", "Entrypoint", ["/x"]),
            ("Exec=a b", "Cmd", ["a", "b"]),
            ("RunInit=no", "HostConfig.Init", False),
            ("PidsLimit=-1", "HostConfig.PidsLimit", -1),
            ("Environment=A=1 B=2", "Env", ["A=1", "B=2"]),
            ("Label=a=1", "Labels", {"a": "1"}),
            ("PublishPort=80:8080", "HostConfig.PortBindings", {"8080/tcp": [{"HostIp": "", "HostPort": "80"}]}),
            ("ReadOnly=yes", "HostConfig.ReadonlyRootfs", True),
            ("Unmask=ALL", "HostConfig.MaskedPaths", []),
            ("Network=none", "HostConfig.NetworkMode", "none"),
            ("Volume=/data", "Volumes", {"/data": {}}),
            ("DNS=1.1.1.1", "HostConfig.Dns", ["1.1.1.1"]),
        ],
    )
    def test_nothing_that_was_said_is_lost(self, line, path, value):
        body = container(line).container.body
        for key in path.split("."):
            body = body[key]
        assert body == value

    def test_the_baseline_fills_in_the_rest(self):
        body, full = container("Memory=64m").container.body, empty_body("busybox")
        assert set(body) <= set(full)
        assert body["HostConfig"] == {"Memory": 64 * 2**20}


class TestService:
    def test_limits_become_the_containers(self):
        unit = container(service=["MemoryMax=1G", "CPUQuota=150%", "TasksMax=9", "LimitNOFILE=5", "PrivateNetwork=yes"])
        assert host(unit) == {
            "Memory": 2**30, "NanoCpus": 1_500_000_000, "PidsLimit": 9, "NetworkMode": "none",
            "Ulimits": [{"Name": "nofile", "Soft": 5, "Hard": 5}],
        }  # fmt: skip
        assert (unit.memory, unit.cpus, warnings(unit)) == (2**30, 1.5, [])

    def test_what_the_container_says_itself_wins(self):
        unit = container(
            "Memory=0", "PidsLimit=0", "CPUs=0", "ReadOnly=no", "User=web", "WorkingDir=/w", "AddCapability=NET_ADMIN",
            service=["MemoryMax=1G", "CPUQuota=50%", "TasksMax=9", "ProtectSystem=strict", "User=x", "Group=y",
                     "WorkingDirectory=/v", "CapabilityBoundingSet=CAP_CHOWN"],
        )  # fmt: skip
        assert host(unit) == {"CapAdd": ["NET_ADMIN", "CAP_CHOWN"], "CapDrop": ["ALL"]}
        assert (unit.container.body["User"], unit.container.body["WorkingDir"]) == ("web", "/w")
        assert (unit.memory, unit.cpus) == (0, 0.0)

    def test_user_and_directory_come_from_the_service_otherwise(self):
        body = container(service=["User=x", "Group=y", "WorkingDirectory=-/v/%p", "KillSignal=SIGINT"]).container.body
        assert (body["User"], body["WorkingDir"], body["StopSignal"]) == ("x:y", "/v/a", "SIGINT")

    def test_lists_are_joined_and_objects_merged(self):
        unit = container(
            "Tmpfs=/t", "AddDevice=/dev/fuse", service=["TemporaryFileSystem=/u", "DeviceAllow=/dev/kvm rw"]
        )
        assert set(host(unit)["Tmpfs"]) == {"/t", "/u"}
        assert [device["PathOnHost"] for device in host(unit)["Devices"]] == ["/dev/fuse", "/dev/kvm"]

    @pytest.mark.parametrize(
        ("line", "part"),
        [
            ("MemoryMax=lots", "'lots' is not a size"),
            ("CPUQuota=0%", "allows no CPU time at all"),
            ("User=%Q", "unknown specifier %Q"),
            ("CacheDirectory=%Q", "unknown specifier %Q"),
            ("MemoryMax=%Q", "unknown specifier %Q"),
        ],
    )
    def test_a_bad_limit_is_an_error_and_said_once(self, line, part):
        found = refused(f"[Container]\nImage=a\n[Service]\n{line}\n")
        assert len(found) == 1
        assert found[0].startswith("a.service:4: [Service] ")
        assert part in found[0]

    @pytest.mark.parametrize(
        ("line", "part"),
        [
            ("ProtectHome=yes", "no effect in a container"),
            ("CPUShares=100", "deprecated, use CPUWeight"),
            ("Nice=5", ""),
            ("SendSIGHUP=yes", "has no meaning in xchronos"),
        ],
    )
    def test_what_has_no_effect_is_said_once(self, line, part):
        (warning,) = warnings(container(service=[line]))
        assert part in warning


class TestSpecifiers:
    def test_the_names_are_filled_in_and_the_machines_stay(self):
        unit = container(
            "HostName=%p-%H", "Volume=%S/%i:/data/%%x", "Environment=DIR=%h/x", "Label=on=%H", "Label=share=5%",
            "EnvironmentFile=%E/%N.env", "AddDevice=-/dev/%l", "Secret=a,type=env,target=X",
            service=["WorkingDirectory=%S/w", "MemoryMax=64M"], name="a@b.service",
        )  # fmt: skip
        body = unit.container.body
        assert (body["Hostname"], body["WorkingDir"]) == ("a-%H", "%S/w")
        assert host(unit)["Binds"] == ["%S/b:/data/%%x"]
        assert (body["Env"], body["Labels"]) == (["DIR=%h/x"], {"on": "%H", "share": "5%"})
        assert unit.container.extras.env_files == ("%E/a@b.env",)
        assert unit.container.extras.optional_devices[0]["PathOnHost"] == "/dev/%l"
        assert unit.container.extras.secrets[0].target == "X"

    def test_in_the_image(self):
        text = "[Container]\nImage=registry/app-%p:%a\n"
        assert compile_unit("a.service", text).container.image == "registry/app-a:%a"

    def test_an_unknown_one_is_an_error(self):
        found = refused("[Container]\nImage=a\nHostName=%Q\n")
        assert found == ["a.service:3: [Container] HostName: unknown specifier %Q in '%Q': write %%Q for a literal %Q"]

    def test_an_error_shows_it_as_it_was_written(self):
        (error,) = refused("[Container]\nImage=a\nMemory=%h\n")
        assert "%h" in error


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[Container]\n", "a.service:1: [Container]: Image= is missing"),
        ("[Container]\nImage=a\nImge=b\n", "a.service:3: [Container] Imge: unknown key, did you mean Image?"),
        (
            "[Container]\nImage=a\nConditionPathExists=/a\n",
            "a.service:3: [Container] ConditionPathExists: unknown key: expected it in [Unit]",
        ),
        ("[Container]\nImage=a\nRestart=no\n", "[Container] Restart: unknown key: expected it in [Service]"),
        ("[Container]\nImage=a\nNonsense=b\n", "a.service:3: [Container] Nonsense: unknown key"),
        ("[Container]\nImage=a\nPod=b\n", "a.service:3: [Container] Pod: not supported: there are no pods"),
        ("[Container]\nImage=a\nMemory=x\n", "a.service:3: [Container] Memory: "),
        ("[Container]\nImage=a\n[X-Chronos]\nExecutor=process\n", "process contradicts [Container]"),
        ("[Container]\nImage=a\n[X-Chronos]\nExecutor=python\n", "python contradicts [Container]"),
    ],
)
def test_refused(text, part):
    errors = [found for found in refused(text) if "warning: " not in found]
    assert len(errors) == 1
    assert part in errors[0]


class TestCommands:
    def test_the_images_own_command_is_the_main_step(self):
        unit = container(service=["Type=oneshot", "ExecStartPre=/a"])
        assert [(step.name, step.text, step.main) for step in unit.service.steps] == [
            ("start-pre-0", "/a", False), ("start-0", "the image's command", True)
        ]  # fmt: skip
        assert (unit.executor, unit.service.type, warnings(unit)) == ("docker", "oneshot", [])

    def test_without_any_line_it_is_a_simple_service(self):
        assert container().service.type == "simple"

    def test_a_line_replaces_it(self):
        assert [step.name for step in container(service=["ExecStart=/a"]).service.steps] == ["start-0"]

    def test_exec_is_hidden_by_a_line_unless_there_is_an_entry_point(self):
        (warning,) = warnings(container("Exec=x", service=["ExecStart=/a"]))
        assert warning.startswith("a.service:3: [Container] Exec: warning: does nothing beside ExecStart=")
        assert warnings(container("Exec=", service=["ExecStart=/a"])) == []
        assert warnings(container("Entrypoint=/e", "Exec=x", service=["ExecStart=/a"])) == []

    def test_docker_lines_leave_it_unused(self):
        (warning,) = warnings(container(service=["ExecStart=docker ps"]))
        assert warning.startswith("a.service:1: [Container]: warning: the section does nothing")

    def test_conditions_are_not_judged_there(self):
        (warning,) = warnings(container("[Unit]\nConditionPathExists=/x"))
        assert "is not judged in a unit with a [Container]" in warning


@pytest.mark.parametrize(
    ("line", "told", "cpus"),
    [
        ("CPUQuota=0.5%", "", 0.005),
        ("CPUQuota=0.05%", "a quota of less than 1,000 microseconds", 0.0005),
        ("CPUQuota=40%", "", 0.4),
    ],
)
def test_a_small_cpu_quota_is_told_in_a_period_of_a_second(line, told, cpus):
    unit = compile_unit("x.service", f"[Container]\nImage=docker.io/library/b\n[Service]\nType=oneshot\n{line}\n")
    assert [(w.key, w.line, w.message.partition(":")[0]) for w in unit.warnings] == (
        [("CPUQuota", 5, told)] if told else []
    )
    assert limits(unit.container.body) == (0, cpus)
