"""README's first command and its first unit, as they stand there, against a real engine."""

import os
import re
import shlex
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.docs.generated import README, ROOT
from xchronos.config import describe_settings

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.usefixtures("busybox_image")]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Clone:
    """The quick start of this checkout with a state directory, a port and a namespace of its own."""

    def __init__(self, home, venv):
        self.home = home
        self.namespace = f"quickstart-{uuid.uuid4().hex[:8]}"
        address = f"127.0.0.1:{free_port()}"
        settings = {row.variable for row in describe_settings()}
        self.environment = {key: value for key, value in os.environ.items() if key not in settings} | {
            "XCHRONOS_QUICKSTART": str(home),
            "XCHRONOS_VENV": str(venv),
            "XCHRONOS_API_LISTEN": address,
            "XCHRONOS_NAMESPACE": self.namespace,
            "XCHRONOS_API": f"http://{address}",
            "PATH": f"{venv}/bin:{os.environ['PATH']}",
        }

    def run(self, *command, cwd=None):
        done = subprocess.run(
            command, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=110, check=False
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    def containers(self):
        label = f"label=xchronos.namespace={self.namespace}"
        return self.run("docker", "ps", "-aq", "--filter", label).stdout.split()


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    venv = Path(sys.prefix)
    if not (venv / ".xchronos-installed").exists():
        pytest.skip("not run by packaging/test: this would install into somebody's environment")
    clone = Clone(tmp_path_factory.mktemp("quickstart") / "home", venv)
    yield clone
    clone.run(str(ROOT / "packaging/quickstart"), "--stop")
    assert clone.containers() == []


def test_it_ends_with_units_running_and_says_where_to_look_next(clone):
    shown = clone.run(str(ROOT / "packaging/quickstart")).stdout
    assert re.search(r"^hello\.service +scheduled ", shown, re.MULTILINE)
    assert re.search(r"^hello\.service/\S+ +succeeded ", shown, re.MULTILINE)
    assert "Hello from hello.service" in shown
    assert "Where to look next" in shown
    assert str(clone.home / "units") in shown
    assert "--stop" in shown


def test_it_can_be_run_again_and_touches_nothing_of_the_users(clone):
    clone.run(str(ROOT / "packaging/quickstart"))
    pid = (clone.home / "xchronosd.pid").read_text(encoding="ascii")
    mine = clone.home / "units/one-shot.service"
    mine.write_text(mine.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    again = clone.run(str(ROOT / "packaging/quickstart"))
    assert "running already" in again.stderr
    assert (clone.home / "xchronosd.pid").read_text(encoding="ascii") == pid
    assert mine.read_text(encoding="utf-8").endswith("# mine\n")


def test_the_first_unit_of_the_readme_does_what_it_says(clone, tmp_path):
    clone.run(str(ROOT / "packaging/quickstart"))
    section = README.read_text(encoding="utf-8").partition("\n## A first unit in two minutes\n")[2]
    found = re.search(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert found
    shown = clone.run("bash", "-euc", found[1], cwd=tmp_path).stdout
    assert "first.service: ok" in shown
    assert "attempt 1 on" in shown
    assert re.search(r"attempt 2 on \S+: succeeded", shown)
    assert re.search(r"^It is ", shown, re.MULTILINE)
    assert "first.service: destroyed" in shown


def test_a_taken_port_is_said_with_what_to_do(clone, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = clone.environment | {
            "XCHRONOS_QUICKSTART": str(tmp_path / "other"),
            "XCHRONOS_API_LISTEN": f"127.0.0.1:{taken.getsockname()[1]}",
        }
        done = subprocess.run(
            [ROOT / "packaging/quickstart"], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert "something else listens" in done.stderr
    assert "XCHRONOS_API_LISTEN=" in done.stderr


def test_an_engine_that_does_not_answer_is_said_with_what_to_do(clone, tmp_path):
    environment = clone.environment | {
        "XCHRONOS_QUICKSTART": str(tmp_path / "other"),
        "DOCKER_HOST": f"unix://{tmp_path}/none.sock",
    }
    done = subprocess.run(
        [ROOT / "packaging/quickstart"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "no Docker engine answers" in done.stderr
    assert "DOCKER_HOST" in done.stderr


def test_help_and_a_wrong_word(clone):
    assert "--stop" in clone.run(str(ROOT / "packaging/quickstart"), "--help").stdout
    done = subprocess.run([ROOT / "packaging/quickstart", "--wrong"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
