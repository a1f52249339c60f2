"""`packaging/cluster` as a person uses it: start, hurt, look, stop; nothing is left."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.docs.generated import ROOT
from tests.services.etcd import free_ports, missing
from xchronos.config import describe_settings

pytestmark = [
    pytest.mark.docker,
    pytest.mark.etcd,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("busybox_image"),
]

SCRIPT = ROOT / "packaging/cluster"


class Playground:
    """A cluster in a directory and on ports of its own."""

    def __init__(self, home: Path, venv: Path) -> None:
        self.home = home
        self.port = free_ports(1)[0]
        settings = {row.variable for row in describe_settings()}
        self.environment = {key: value for key, value in os.environ.items() if key not in settings} | {
            "XCHRONOS_CLUSTER": str(home),
            "XCHRONOS_CLUSTER_PORT": str(self.port),
            "XCHRONOS_VENV": str(venv),
            "PATH": f"{venv}/bin:{os.environ['PATH']}",
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, *words], env=self.environment, capture_output=True, text=True, timeout=200, check=False
        )

    def good(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ctl(self, machine: int, *words: str) -> str:
        environment = self.environment | {"XCHRONOS_API": f"http://127.0.0.1:{self.port + machine}"}
        return subprocess.run(
            [sys.executable, "-m", "xchronos", *words], env=environment, capture_output=True, text=True, check=True
        ).stdout

    def machines(self, asked: int) -> list[str]:
        found = json.loads(self.ctl(asked, "list-machines", "-o", "json"))
        return sorted(machine["id"] for machine in found if machine["state"] not in ("down", "gone"))

    def eventually(self, ask, what: str, limit: float = 40) -> None:
        end = time.monotonic() + limit
        while not ask():
            assert time.monotonic() < end, what
            time.sleep(0.3)

    def pid(self, name: str) -> int:
        return int((self.home / name / "pid").read_text())


def state(pid: int) -> str:
    """`R`, `S`, `T` ...; empty when it has ended, even if nobody has asked how."""
    try:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return found.replace("Z", "")


@pytest.fixture(scope="module")
def playground(tmp_path_factory):
    venv = Path(sys.prefix)
    if not (venv / ".xchronos-installed").exists():
        pytest.skip("not run by packaging/test: this would install into somebody's environment")
    if reason := missing():
        unavailable(reason)
    found = Playground(tmp_path_factory.mktemp("playground") / "cluster", venv)
    yield found
    found.run("--stop")


def test_it_starts_a_cluster_and_says_what_to_do_with_it(playground):
    shown = playground.good()
    assert playground.machines(1) == ["m1", "m2", "m3"]
    assert re.search(r"^hello\.service/\S+ +succeeded ", shown, re.MULTILINE)
    for said in ("--stop", "kill m2", "pause m3", "list-executions", f"127.0.0.1:{playground.port + 1}"):
        assert said in shown, said
    again = playground.run()
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("is running already") == 6


def test_a_killed_daemon_is_missed_and_comes_back(playground):
    playground.good()
    gone = playground.pid("m2")
    playground.good("kill", "m2")
    playground.eventually(lambda: not state(gone), "m2 is dead")
    playground.eventually(lambda: playground.machines(1) == ["m1", "m3"], "m2 is missed")
    done = playground.run("kill", "m2")
    assert (done.returncode, "m2 does not run" in done.stderr) == (1, True)
    playground.good("start", "m2")
    playground.eventually(lambda: playground.machines(1) == ["m1", "m2", "m3"], "m2 is back")
    assert "runs already" in playground.run("start", "m2").stderr


def test_a_paused_daemon_stands_still_until_it_is_resumed(playground):
    playground.good()
    playground.good("pause", "m3")
    try:
        # A signal takes its time where nobody gets a CPU; and a daemon that stayed stopped would fail all other tests.
        playground.eventually(lambda: state(playground.pid("m3")) == "T", "m3 is stopped")
    finally:
        playground.good("resume", "m3")
    playground.eventually(lambda: playground.machines(3) == ["m1", "m2", "m3"], "m3 is back")


def test_two_of_three_etcd_members_are_enough(playground):
    playground.good()
    playground.good("kill", "e1")
    before = playground.ctl(1, "list-executions", "hello.service", "-o", "json").count('"succeeded"')
    playground.eventually(
        lambda: playground.ctl(1, "list-executions", "hello.service", "-o", "json").count('"succeeded"') > before,
        "hello.service goes on",
    )
    playground.good("start", "e1")


def test_a_taken_port_and_a_wrong_word_are_said_with_what_to_do(playground, tmp_path):
    playground.good()
    other = Playground(tmp_path / "other", Path(sys.prefix))
    other.environment["XCHRONOS_CLUSTER_PORT"] = str(playground.port)
    done = other.run()
    assert (done.returncode, "something else listens" in done.stderr) == (1, True)
    assert "XCHRONOS_CLUSTER_PORT=" in done.stderr
    assert other.run("kill", "m1").returncode == 1
    for words in (("--wrong",), ("kill",), ("kill", "m1", "m2")):
        done = playground.run(*words)
        assert (done.returncode, done.stdout) == (2, "")
    assert "no member m9" in playground.run("kill", "m9").stderr
    assert "--stop" in playground.good("--help")


def test_nothing_is_left_when_it_is_stopped(playground):
    playground.good()
    pids = [playground.pid(name) for name in ("e1", "e2", "e3", "m1", "m2", "m3")]
    assert all(map(state, pids))
    playground.good("--stop")
    assert not any(map(state, pids))
    assert not playground.home.exists()
    assert "there is no cluster" in playground.run("--stop").stderr
