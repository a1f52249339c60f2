"""packaging/dev: every piece of `fast` runs and its failure is told; the other words call what they say."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.docs.generated import ROOT

DEV = ROOT / "packaging/dev"
TOOLS = ("ruff", "mypy", "lint-imports", "python")
ROOMS = ("unitfile", "dockercli", "triggers", "model", "scheduler")
PIECES = {
    "style": ["ruff check .", "ruff format --check ."],
    "types": ["mypy"],
    "layers": ["lint-imports"],
    **{room: [f"python -m pytest -q -p no:cacheprovider tests/{room}"] for room in ROOMS},
}


class Tools:
    """A virtual environment whose programs note how they are called; those that are told to fail do so."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "bin").mkdir(parents=True)
        for name in TOOLS:
            # A command is noted before the output, and the output names it.
            text = (
                f'#!/bin/sh\ncommand="{name}${{*:+ $*}}"\necho "$command" >> {directory}/calls\necho "output of $command"\n'
                f'! grep -qxF "$command" {directory}/failing 2> /dev/null\n'
            )
            (directory / "bin" / name).write_text(text, encoding="utf-8")
            (directory / "bin" / name).chmod(0o755)

    def dev(self, *words: str, failing: str = "") -> subprocess.CompletedProcess[str]:
        """Run `packaging/dev WORDS`, with one command that fails."""
        (self.directory / "failing").write_text(f"{failing}\n", encoding="utf-8")
        (self.directory / "calls").write_text("", encoding="utf-8")
        return dev(*words, venv=self.directory)

    def calls(self) -> list[str]:
        return (self.directory / "calls").read_text(encoding="utf-8").splitlines()


def until(ask: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not ask():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_over(pid: str) -> bool:
    """Whether a process has ended, even if nobody has asked how."""
    try:
        return ") Z " in Path("/proc", pid, "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def dev(*words: str, venv: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"XCHRONOS_VENV": str(venv)}
    return subprocess.run([DEV, *words], env=environment, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def tools(tmp_path):
    return Tools(tmp_path / "venv")


def test_fast_runs_every_piece_and_shows_no_output_of_what_is_good(tools):
    done = tools.dev("fast")
    assert (done.returncode, "output of" in done.stdout + done.stderr) == (0, False)
    assert sorted(tools.calls()) == sorted(call for calls in PIECES.values() for call in calls)
    for name in PIECES:
        assert f"==> {name}: good (" in done.stderr
    assert "left out: " in done.stderr
    assert done.stdout.startswith("good after ")


@pytest.mark.parametrize(("name", "failing"), [(name, call) for name, calls in PIECES.items() for call in calls])
def test_a_piece_that_fails_is_named_and_its_output_alone_is_shown(tools, name, failing):
    done = tools.dev("fast", failing=failing)
    assert done.returncode == 1
    assert f"==> {name}: FAILED (" in done.stderr
    assert done.stderr.count(": good (") == len(PIECES) - 1
    assert [line for line in done.stdout.splitlines() if line.startswith("output of ")] == [
        f"output of {call}" for call in PIECES[name]
    ]
    assert re.search(rf"^FAILED after \d+ s: {name}$", done.stdout, re.MULTILINE)
    assert len(tools.calls()) == sum(map(len, PIECES.values()))


def test_whoever_stops_it_stops_what_it_has_begun(tools):
    mypy = tools.directory / "bin/mypy"
    mypy.write_text(f"#!/bin/sh\nsleep 100 &\necho $! > {tools.directory}/pid\nwait\n", encoding="utf-8")
    environment = os.environ | {"XCHRONOS_VENV": str(tools.directory)}
    with subprocess.Popen([DEV, "fast"], env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        # All others have ended, and so this one has begun.
        for _ in range(len(PIECES) - 1):
            assert ": good (" in process.stderr.readline()
        until(lambda: (tools.directory / "pid").exists() and (tools.directory / "pid").read_text() != "")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    until(lambda: is_over((tools.directory / "pid").read_text().strip()))


def test_the_pure_rooms_are_those_whose_every_branch_is_covered():
    """packaging/test measures by the same list; each of them has tests."""
    assert all((ROOT / "tests" / room).is_dir() for room in ROOMS)
    lines = f'ROOT={ROOT}; . "$ROOT/packaging/lib.sh"; echo "${{PURE[@]}}"'
    told = subprocess.run(["bash", "-euc", lines], capture_output=True, text=True, check=True).stdout
    assert tuple(told.split()) == ROOMS
    assert '"${PURE[@]}"' in (ROOT / "packaging/test").read_text(encoding="utf-8")


def test_fix_formats_even_what_it_cannot_put_right(tools):
    calls = ["ruff check --fix .", "ruff format ."]
    assert (tools.dev("fix").returncode, tools.calls()) == (0, calls)
    assert (tools.dev("fix", failing=calls[0]).returncode, tools.calls()) == (1, calls)


def test_regen_writes_the_generated_parts(tools):
    assert (tools.dev("regen").returncode, tools.calls()) == (0, ["python -m tests.docs.generated"])
    # The real one, which has nothing to do here.
    assert subprocess.run(
        [sys.executable, "-m", "tests.docs.generated"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.startswith("everything generated is current")


def test_sim_plays_a_seed_with_everything_that_happens(tools):
    call = "python -m xchronos.testing.simulation --seed 7 --trace"
    assert (tools.dev("sim", "7").returncode, tools.calls()) == (0, [call])
    done = subprocess.run([sys.executable, *call.split()[1:]], cwd=ROOT, capture_output=True, text=True, check=True)
    *trace, last = done.stdout.splitlines()
    assert last.startswith("seed 7: ")
    assert any("SUBMIT" in line for line in trace)


def test_nothing_is_installed_where_there_is_no_environment(tmp_path):
    done = dev("fast", venv=tmp_path / "none")
    assert (done.returncode, done.stdout) == (1, "")
    assert "packaging/test tests/triggers" in done.stderr
    assert not (tmp_path / "none").exists()


def test_help_and_a_wrong_word(tools):
    done = tools.dev("help")
    assert done.returncode == 0
    for word in ("fast", "fix", "sim SEED", "regen", "help"):
        assert f"packaging/dev {word} " in done.stdout
    for words in ((), ("sim",), ("fast", "now"), ("wrong",)):
        done = tools.dev(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "packaging/dev fast" in done.stderr
    assert tools.calls() == []


def test_what_runs_before_a_commit_is_what_fast_runs():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repository["repo"] == "local"
    hooks = repository["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    commands = [hook["entry"].replace("--force-exclude", "").split() for hook in hooks]
    pieces = [call.removesuffix(" .").split() for name in ("style", "types") for call in PIECES[name]]
    assert commands == [[f".venv/bin/{name}", *words] for name, *words in pieces]
