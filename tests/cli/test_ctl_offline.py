"""What needs no daemon: `verify`, and `calendar` of a file or an expression."""

from pathlib import Path

import msgspec
import pytest

from xchronos.cli.commands.verify import FileVerdict
from xchronos.wire.messages import Calendar

EXAMPLE = str(Path(__file__).parents[2] / "units/statement_generation.service")


@pytest.fixture(autouse=True)
def no_daemon(monkeypatch):
    monkeypatch.setenv("XCHRONOS_API", "http://127.0.0.1:1")


class TestVerify:
    def test_the_example(self, ctl):
        result = ctl("verify", EXAMPLE)
        assert result.exit_code == 0
        for line, key, fragment in (
            (11, "[Service] ExecStart", "-rm"),
            (18, "[X-Chronos] JobStore", "footnote mark (*)"),
            (18, "[X-Chronos] JobStore", "etcd"),
            (22, "[X-Chronos] TriggerRepeatCount", "footnote mark (*)"),
        ):
            assert any(
                told.startswith(f"{EXAMPLE}:{line}: {key}: warning: ") and fragment in told
                for told in result.stderr.splitlines()
            ), (line, fragment)
        assert result.stdout.startswith(f"{EXAMPLE}: ok (")

    def test_json(self, ctl):
        (verdict,) = msgspec.json.decode(ctl("verify", "-o", "json", EXAMPLE).stdout, type=list[FileVerdict])
        assert (verdict.ok, verdict.unit) == (True, "statement_generation.service")
        assert {problem.key for problem in verdict.problems} >= {"JobStore", "ExecStart"}

    def test_standard_input(self, ctl):
        result = ctl("verify", "-", stdin=b"[Service]\nExecStart=/bin/true\n[X-Chronos]\nNope=1\n")
        assert (result.exit_code, result.stderr) == (1, "<stdin>:4: [X-Chronos] Nope: unknown key\n")
        assert result.stdout == "<stdin>: refused (1 error)\n"
        assert ctl("verify", "-", "--name", "x", stdin=b"[Service]\nExecStart=/bin/true\n").exit_code == 0

    def test_the_version_of_systemd_that_judges(self, ctl):
        text = b"[Service]\nExecStart=/bin/true\nRestartMode=direct\nCPUAccounting=yes\n"
        assert "CPUAccounting= was dropped in systemd 258" in ctl("verify", "-", stdin=text).stderr
        old = ctl("verify", "--systemd-version", "252", "-", stdin=text)
        assert (old.exit_code, "systemd 252 ignores it" in old.stderr) == (0, True)
        assert "was dropped" not in old.stderr
        assert ctl("verify", "--systemd-version", "251", "-", stdin=text).exit_code == 2
        assert "262" in ctl("verify", "--help").stdout

    def test_drop_ins_beside_the_file(self, ctl, tmp_path: Path):
        (tmp_path / "a.service").write_text("[Service]\nExecStart=/bin/true\n")
        (tmp_path / "a.service.d").mkdir()
        (tmp_path / "a.service.d" / "x.conf").write_text("[X-Chronos]\nNope=1\n")
        result = ctl("verify", str(tmp_path / "a.service"))
        assert (result.exit_code, result.stderr) == (
            1,
            f"{tmp_path}/a.service.d/x.conf:2: [X-Chronos] Nope: unknown key\n",
        )

    @pytest.mark.parametrize("suffix", ["timer", "socket", "path", "mount", "target"])
    def test_other_units_are_refused_as_they_are_submitted_and_passed_over_in_a_directory(
        self, ctl, tmp_path: Path, suffix
    ):
        path = tmp_path / f"a.{suffix}"
        path.write_text("[Unit]\nDescription=x\nno equals\n")
        result = ctl("verify", str(path))
        assert result.exit_code == 1
        assert f"a .{suffix} unit: xchronos runs .service units only" in result.stderr
        result = ctl("verify", str(tmp_path))
        assert result.exit_code == 0
        assert f"passed over: xchronos does not run .{suffix} units" in result.stderr
        assert f"{path}:3: [Unit]: warning: missing '='" in result.stderr
        path.write_text("[Unit\n")
        assert ctl("verify", str(tmp_path)).exit_code == 0

    def test_a_host_process_is_said_to_need_leave(self, ctl):
        result = ctl("verify", "-", stdin=b"[Service]\nExecStart=/bin/true\n")
        assert result.exit_code == 0
        assert "set allow_process on a machine, or give the unit a [Container]" in result.stderr
        container = b"[Service]\nExecStart=/bin/true\n[Container]\nImage=box\n"
        assert ctl("verify", "-", stdin=container).stderr == ""

    @pytest.mark.parametrize("kind", ["http", "python"])
    def test_an_executor_that_nobody_has_is_refused_at_its_line(self, ctl, kind):
        text = f"[Service]\nExecStart=/bin/true\n[X-Chronos]\nExecutor={kind}\n"
        result = ctl("verify", "-", stdin=text.encode())
        assert result.exit_code == 1
        assert f"<stdin>:4: [X-Chronos] Executor: no machine of this version runs the {kind} executor" in result.stderr

    def test_a_directory(self, ctl, tmp_path: Path):
        (tmp_path / "a.service").write_text("[Service]\nExecStart=/bin/true\n[Container]\nImage=box\n")
        (tmp_path / "b.timer").write_text("[Timer]\n")
        result = ctl("verify", str(tmp_path))
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [f"{tmp_path}/a.service: ok", f"{tmp_path}/b.timer: ok (1 warning)"]

    def test_what_cannot_be_read(self, ctl, tmp_path: Path):
        path = tmp_path / "a.service"
        result = ctl("verify", str(path))
        assert (result.exit_code, result.stderr) == (1, f"{path}: cannot be read: No such file or directory\n")
        result = ctl("verify", str(tmp_path / "bad name"))
        assert (result.exit_code, "cannot be read" in result.stderr) == (1, True)
        path.mkdir()
        assert "no unit files" in ctl("verify", str(path)).stderr

    def test_a_directory_that_cannot_be_entered(self, ctl, tmp_path: Path, monkeypatch):
        def walk(top, onerror):
            onerror(PermissionError(13, "Permission denied", f"{top}/secret"))
            yield str(top), [], ["a.service"]

        (tmp_path / "a.service").write_text("[Service]\nExecStart=/bin/true\n[Container]\nImage=box\n")
        monkeypatch.setattr("xchronos.cli.files.os.walk", walk)
        result = ctl("verify", str(tmp_path))
        assert (result.exit_code, result.stderr) == (1, f"{tmp_path}/secret: cannot be read: Permission denied\n")
        assert f"{tmp_path}/a.service: ok" in result.stdout

    @pytest.mark.parametrize("arguments", [("verify",), ("verify", "-o", "json"), ("submit",)])
    def test_a_file_name_that_is_no_text(self, ctl, tmp_path: Path, arguments):
        name = b"caf\xe9.service"
        try:
            (tmp_path / name.decode("utf-8", "surrogateescape")).write_text("[Service]\nExecStart=/bin/true\n")
        except OSError:
            pytest.skip("this file system has no such names")
        result = ctl(*arguments, str(tmp_path))
        assert result.exit_code == (4 if arguments == ("submit",) else 1)
        assert "caf?.service" in result.output or arguments == ("submit",)

    def test_control_characters_do_nothing_to_the_terminal(self, ctl, tmp_path: Path):
        path = tmp_path / "a.service"
        path.write_text("[Service]\nExecStart=/bin/true\n[X-Chronos]\nConcurrency=\x1b[2J\n")
        result = ctl("verify", str(path))
        assert result.exit_code == 1
        assert "\x1b" not in result.output


class TestCalendar:
    def times(self, result) -> list[str]:
        assert result.exit_code == 0, result.output
        found = msgspec.json.decode(result.stdout, type=Calendar)
        return [fire.fire_time.isoformat() for fire in found.fires]

    def test_the_example_shows_both_triggers(self, ctl):
        result = ctl("calendar", EXAMPLE, "--from", "2030-01-01T00:59:50Z", "-n", "4")
        assert result.exit_code == 0
        rows = [line.rstrip() for line in result.stdout.splitlines()]
        assert rows[0] == "statement_generation.service (as if the unit were accepted now)"
        assert [row.split()[-1] for row in rows[2:4]] == ["2030-01-01T01:00:00Z"] * 2
        assert rows[2].startswith("TriggerRepeatInterval=2000")
        assert rows[3].startswith("TriggerCron=* * 1 * * *")
        assert [row.split() for row in rows[-4:]] == [
            ["2030-01-01T01:00:00Z", "cron+simple"],
            ["2030-01-01T01:00:01Z", "cron"],
            ["2030-01-01T01:00:02Z", "cron+simple"],
            ["2030-01-01T01:00:03Z", "cron"],
        ]
        assert "JobStore" in result.stderr

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("--cron", "30 0 12 * * *"), ["2030-01-01T12:00:30+00:00", "2030-01-02T12:00:30+00:00"]),
            (
                ("--cron", "0 12 * * *", "--tz", "Europe/Berlin"),
                ["2030-01-01T11:00:00+00:00", "2030-01-02T11:00:00+00:00"],
            ),
            (("--iso8601", "R2/2030-01-05T00:00:00Z/PT1H"), ["2030-01-05T00:00:00+00:00", "2030-01-05T01:00:00+00:00"]),
            (("--at", "2030-02-01T00:00:00Z"), ["2030-02-01T00:00:00+00:00"]),
            (("--calendar", "Mon 9:00"), ["2030-01-07T09:00:00+00:00", "2030-01-14T09:00:00+00:00"]),
        ],
    )
    def test_expressions(self, ctl, arguments, expected):
        assert self.times(ctl("calendar", *arguments, "--from", "2030-01-01", "-n", "2", "-o", "json")) == expected

    def test_several_expressions_are_a_union(self, ctl):
        result = ctl(
            "calendar", "--cron", "0 1 * * *", "--calendar", "2:00", "--from", "2030-01-01T00:00:00+01:00", "-n", "2"
        )
        assert result.exit_code == 0
        assert [line.split()[1] for line in result.stdout.splitlines()[-2:]] == ["cron", "calendar"]

    def test_now_is_the_default(self, ctl):
        assert len(self.times(ctl("calendar", "--cron", "* * * * *", "-o", "json"))) == 10

    def test_nothing_follows(self, ctl, tmp_path: Path):
        path = tmp_path / "a.service"
        path.write_text("[Service]\nExecStart=/bin/true\n[X-Chronos]\nTriggerISO8601=R1/2000-01-01T00:00:00Z/PT1H\n")
        assert ctl("calendar", str(path)).stdout.splitlines()[-1] == "no further fire time"

    @pytest.mark.parametrize(
        ("arguments", "code", "fragment"),
        [
            ((), 2, "expected a UNIT, a FILE, or an expression"),
            (("a", "--cron", "* * * * *"), 2, "expected a UNIT"),
            (("--cron", "61 * * * *"), 1, "TriggerCron: cron expression '61 * * * *': minute"),
            (("--cron", "* * * * *", "--tz", "Nowhere/At"), 1, "unknown time zone 'Nowhere/At'"),
            (("--cron", "* * * * *", "--from", "soon"), 2, "expected a time like"),
            (("--cron", "* * * * *", "-n", "0"), 2, "--n"),
            (("./no.service",), 1, "no.service: cannot be read"),
            (("/tmp",), 1, "/tmp: is a directory"),
            (("unit-on-a-daemon",), 4, "is xchronosd running?"),
        ],
    )
    def test_errors(self, ctl, arguments, code, fragment):
        result = ctl("calendar", *arguments)
        assert (result.exit_code, fragment in result.output) == (code, True), result.output

    def test_a_refused_file(self, ctl, tmp_path: Path):
        path = tmp_path / "a.service"
        path.write_text("[Service]\nExecStart=/bin/true\n[X-Chronos]\nNope=1\n")
        result = ctl("calendar", str(path))
        assert (result.exit_code, result.stderr) == (1, f"{path}:4: [X-Chronos] Nope: unknown key\n")
