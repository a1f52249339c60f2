"""xchronosctl as a program: what a person at a terminal sees, exit codes, options, entry points, imports."""

import getpass
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from tests.api.api_helpers import HOURLY, at, ended
from xchronos.cli import times


class TestTerminal:
    """What a person at a terminal sees: rich tables, local and relative times."""

    @pytest.fixture(autouse=True)
    def terminal(self, monkeypatch):
        from xchronos.cli.context import CliContext

        monkeypatch.setattr(CliContext, "terminal", property(lambda _: True))
        monkeypatch.setattr(CliContext, "now", property(lambda _: at(0)))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)

    def test_list(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("a.service"))
        shown = ctl("list-units", "--no-color").stdout
        assert "UNIT" in shown
        assert "in 1h" in shown
        assert "UNIT" not in ctl("list-units", "--no-legend").stdout

    @pytest.mark.parametrize("columns", ["20", "80"])
    def test_names_are_whole_however_narrow_the_terminal_is(self, ctl, daemon, monkeypatch, columns):
        monkeypatch.setenv("COLUMNS", columns)
        name = f"{'long-name-' * 8}.service"
        text = HOURLY.replace(b"Hourly report", b"One two three four five six seven eight nine ten eleven")
        daemon.run(daemon.cluster.submit(name, text))
        lines = ctl("list-units", "--no-color").stdout.splitlines()
        assert lines[2].rstrip() == f"{name}   scheduled   in 1h"
        wide = ctl("list-units", "--no-color", "-o", "wide").stdout.splitlines()
        assert wide[2].startswith(f"{name}   scheduled   0        13:00:00, in 1h   -      One two three")
        assert "".join(line[len(wide[2]) - 24 :].strip() for line in wide[2:]).endswith("eleven")
        daemon.run(daemon.cluster.execution(ended(name, 0)))
        assert any(f"{name}/20300101T120000 " in line for line in ctl("list-executions").stdout.splitlines())
        whole = ctl("list-executions", "-o", "wide").stdout
        assert f"{name}/20300101T120000.000000Z/0" in whole

    @pytest.mark.parametrize(
        ("columns", "titles"),
        [
            ("80", ["UNIT", "STATE", "NEXT", "DESCRIPTION"]),
            ("90", ["UNIT", "STATE", "NEXT", "LAST", "DESCRIPTION"]),
            ("120", ["UNIT", "STATE", "ACTIVE", "NEXT", "LAST", "DESCRIPTION"]),
        ],
    )
    def test_a_table_fits_the_terminal(self, ctl, daemon, monkeypatch, columns, titles):
        monkeypatch.setenv("COLUMNS", columns)
        text = HOURLY.replace(b"Hourly report", b"One two three four five six seven eight nine ten eleven")
        daemon.run(daemon.cluster.submit("the-nightly-report-of-all.service", text))
        lines = ctl("list-units", "--no-color").stdout.splitlines()
        assert lines[0].split() == titles
        assert max(map(len, lines)) <= int(columns)
        assert "eleven" in lines[-1]

    def test_a_short_id_is_taken_where_it_is_unambiguous(self, ctl, daemon):
        for seconds in (0, 0.25, 5):
            daemon.run(daemon.cluster.execution(ended("a.service", seconds)))
        daemon.run(daemon.cluster.submit("a.service"))
        shown = ctl("list-executions", "--no-color", "--no-legend").stdout.split()
        short = [word for word in shown if word.startswith("a.service/")]
        assert short == [
            "a.service/20300101T120005",
            "a.service/20300101T120000.250000Z",
            "a.service/20300101T120000.000000Z",
        ]
        for word in short:
            assert ctl("status", word).stdout.startswith(f"{word}")
        several = ctl("status", "a/20300101T120000")
        assert (several.exit_code, "is the beginning of 2 executions' ids" in several.stderr) == (1, True)
        none = ctl("status", "a/2031")
        assert (none.exit_code, "there is no execution a/2031" in none.stderr) == (3, True)

    def test_a_drawn_machine_id_is_shortened_to_what_is_enough(self, ctl, daemon):
        for seconds, machine in ((0, "3d1219c7c4c5404aaa1f6d2a48adfda4"), (1, "a-machine-with-a-long-name-of-its-own")):
            daemon.run(daemon.cluster.execution(ended("a.service", seconds, machine=machine)))
        shown = ctl("list-executions", "--no-color").stdout.split()
        assert {"3d1219c7", "a-machine-with-a-long-name-of-its-own"} <= set(shown)

    def test_status(self, ctl, daemon):
        daemon.run(daemon.cluster.submit("a.service"))
        assert "next Tue 2030-01-01 " in ctl("status", "a").stdout

    def test_calendar_in_the_expression_s_zone(self, ctl):
        result = ctl(
            "calendar", "--cron", "0 12 * * *", "--tz", "Europe/Berlin", "--from", "2030-01-01T12:00:00Z", "-n", "1"
        )
        assert "Wed 2030-01-02 12:00:00 CET, in 23h" in result.stdout


class TestPatterns:
    def test_every_unit_whose_name_matches(self, ctl, daemon):
        for name in ("aa.service", "ab.service", "b.service"):
            daemon.run(daemon.cluster.submit(name))
        assert ctl("pause", "a*").stdout == "aa.service: paused\nab.service: paused\n"
        assert [line.split()[0] for line in ctl("list-units", "--no-legend", "a?", "b.*").stdout.splitlines()] == [
            "aa.service",
            "ab.service",
            "b.service",
        ]
        assert len(ctl("list-units", "--no-legend", "--limit", "1", "a*").stdout.splitlines()) == 1
        none = ctl("status", "q*")
        assert (none.exit_code, none.stderr) == (3, "xchronosctl: no unit matches q*\n")
        one = ctl("explain", "a*")
        assert one.exit_code != 0
        assert "a*: expected the name of one unit" in one.stderr


class TestTimes:
    @pytest.mark.parametrize(
        ("seconds", "told"),
        [
            (0.3, "now"), (-0.3, "now"), (1.25, "in 1.25s"), (59, "in 59s"), (60, "in 1min"), (61, "in 1min 1s"),
            (3600, "in 1h"), (-7260, "2h 1min ago"), (90_000, "in 1d 1h"), (86_400 * 800, "in 2y 69d"),
        ],
    )  # fmt: skip
    def test_distances(self, seconds, told):
        now = datetime(2030, 1, 1, tzinfo=UTC)
        assert times.distance(now + timedelta(seconds=seconds), now) == told

    @pytest.mark.parametrize(
        ("seconds", "told"), [(0, "0s"), (0.0031, "3ms"), (0.25, "250ms"), (-1, "0s"), (9.99, "9.99s")]
    )
    def test_lengths(self, seconds, told):
        assert times.length(timedelta(seconds=seconds)) == told

    def test_forms(self):
        moment = datetime(2030, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)
        assert times.machine_time(moment) == "2030-01-01T12:00:00.500000Z"
        assert times.human_time(moment, moment, UTC) == "Tue 2030-01-01 12:00:00.5 UTC, now"
        assert times.short_time(moment, moment, UTC) == "12:00:00, now"
        assert times.short_time(moment, moment + timedelta(days=1), UTC) == "2030-01-01 12:00:00, 1d ago"
        assert times.short_time(None, moment) == "-"
        assert times.human_time(None, moment) == times.machine_time(None) == "-"


class TestOutput:
    @pytest.mark.parametrize("command", [("list-units",), ("status", "-o", "json"), ("cat", "a")])
    @pytest.mark.parametrize(
        ("where", "told"), [("/dev/full", "No space left on device"), ("", "standard output is closed")]
    )
    def test_an_output_that_takes_nothing(self, daemon, command, where, told):
        daemon.run(daemon.cluster.submit("a.service"))
        redirection = f">{where}" if where else ">&-"
        program = f'exec "$0" -m xchronos "$@" {redirection}'
        done = subprocess.run(
            ["sh", "-c", program, sys.executable, *command], stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (1, f"xchronosctl: {told}\n")

    @pytest.mark.parametrize("command", ["--version", "--help", "submit --help"])
    @pytest.mark.parametrize(
        ("redirection", "code", "told"),
        [
            (">/dev/full", 1, "xchronosctl: No space left on device\n"),
            (">&-", 1, "xchronosctl: standard output is closed\n"),
        ],
    )
    def test_help_and_versions_that_nobody_takes(self, command, redirection, code, told):
        """Python 3.13 would end with 120, or with a traceback, if it were left to write what is left."""
        program = f'"$0" -m xchronos {command} {redirection}'
        done = subprocess.run(
            ["sh", "-c", program, sys.executable], stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (code, told)

    def test_a_failure_keeps_its_code_when_its_output_is_not_taken(self):
        program = 'exec "$0" -m xchronos verify - >/dev/full'
        done = subprocess.run(
            ["sh", "-c", program, sys.executable],
            input="[Service]\nNope\n",
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert "No space left on device" in done.stderr

    def test_a_reader_that_goes_hears_nothing(self):
        program = '{ "$0" -m xchronos --help; echo "code $?" >&2; } | true'
        done = subprocess.run(
            ["sh", "-c", program, sys.executable], stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
        assert done.stderr in ("code 0\n", "code 1\n"), "without a traceback; the reader may have taken it all"


class TestProgram:
    def test_a_slip_of_the_keyboard(self, ctl):
        done = ctl("list-unit")
        assert (done.exit_code, done.stderr.splitlines()[-1]) == (
            2,
            "Error: No such command 'list-unit', did you mean list-units?",
        )
        assert "did you mean" not in ctl("frobnicate").stderr

    def test_help_names_every_command(self, ctl):
        from xchronos.cli.program import COMMANDS

        shown = ctl("--help").stdout
        for name in COMMANDS:
            assert f"  {name} " in shown
            assert ctl(name, "--help").exit_code == 0

    def test_usage_errors(self, ctl):
        assert ctl("frobnicate").exit_code == 2
        assert ctl("list-units", "--output", "xml").exit_code == 2
        assert ctl("--api", "ftp://x", "list-units").exit_code == 2

    def test_options_on_either_side(self, ctl, daemon):
        for arguments in (("--api", daemon.url, "list-units"), ("list-units", "--api", daemon.url)):
            assert ctl(*arguments, env={"XCHRONOS_API": "http://127.0.0.1:1"}).exit_code == 0

    def test_interrupted(self, ctl, daemon, monkeypatch):
        from xchronos.client import Client

        def interrupt(_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(Client, "units", interrupt)
        assert ctl("list-units").exit_code == 130

    def test_completion(self, daemon, monkeypatch):
        import click

        from xchronos.cli.context import complete_units

        daemon.run(daemon.cluster.submit("a.service"))
        context, parameter = click.Context(click.Command("x")), click.Option(["--x"])
        assert complete_units(context, parameter, "a") == ["a.service"]
        assert complete_units(context, parameter, "b") == []
        monkeypatch.setenv("XCHRONOS_API", "http://127.0.0.1:1")
        assert complete_units(context, parameter, "a") == []

    @pytest.mark.parametrize("arguments", [["--version"], ["list-units", "--help"]])
    def test_entry_point(self, monkeypatch, capsys, arguments):
        import xchronos.__main__ as program

        monkeypatch.setattr("sys.argv", ["xchronosctl", *arguments])
        program.run()
        assert "xchronosctl" in capsys.readouterr().out

    def test_the_daemon_s_entry_point(self, monkeypatch):
        import sys
        from types import ModuleType

        import xchronos.__main__ as program

        seen = []
        fake = ModuleType("xchronos.daemon.main")
        fake.main = lambda: seen.append(list(sys.argv))  # type: ignore[attr-defined]
        package = ModuleType("xchronos.daemon")
        monkeypatch.setitem(sys.modules, "xchronos.daemon", package)
        monkeypatch.setitem(sys.modules, "xchronos.daemon.main", fake)
        monkeypatch.setattr("sys.argv", ["xchronos", "daemon", "--dev"])
        program.run()
        assert seen == [["xchronosd", "--dev"]]

    def test_nothing_slow_is_imported_for_a_list(self, daemon):
        import subprocess
        import sys

        code = (
            "import sys; sys.argv=['xchronosctl','list-units'];"
            "from xchronos.cli.main import main\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "slow = {'rich', 'asyncio', 'litestar', 'uvicorn', 'structlog', 'xchronos.model.compile.unit'} & set(sys.modules)\n"
            "assert not slow, slow"
        )
        done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_identity_without_a_user(self, monkeypatch):
        from xchronos.cli.commands import submit

        def fail():
            raise KeyError

        monkeypatch.setattr(getpass, "getuser", fail)
        assert submit.identity().startswith("unknown@")
