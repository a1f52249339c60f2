"""The original example, byte for byte, on a machine that fits and on one that does not."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House, eventually

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("busybox_image")]

ORIGINAL = (Path(__file__).parents[2] / "units/statement_generation.service").read_bytes()
UNIT = "statement_generation.service"
SLEEPER = 'mkdir -p /usr/sbin && printf "#!/bin/sh\\necho apache $*\\nexec sleep 300\\n" > /usr/sbin/apache2ctl && chmod 755 /usr/sbin/apache2ctl'


@pytest.fixture
def apache() -> Iterator[str]:
    """A local image by the original's name: nothing can be pulled here."""
    subprocess.run(["docker", "rm", "-f", "xchronos-make-apache", "apache1"], capture_output=True, check=False)
    subprocess.run(
        ["docker", "run", "--name", "xchronos-make-apache", "--network", "none", "xchronos/busybox", "/bin/sh", "-c", SLEEPER],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(["docker", "commit", "xchronos-make-apache", "coreos/apache"], check=True, capture_output=True)
    subprocess.run(["docker", "rm", "xchronos-make-apache"], check=True, capture_output=True)
    yield "coreos/apache"
    subprocess.run(["docker", "rm", "-f", "apache1"], capture_output=True, check=False)
    subprocess.run(["docker", "rmi", "coreos/apache"], capture_output=True, check=False)


def submit(house: House) -> None:
    done = house.ctl("submit", "--name", UNIT, "-", stdin=ORIGINAL)
    assert done.returncode == 0, done.stderr
    said = done.stderr.decode() + done.stdout.decode()
    for warning in ("(*)", "-rm", "JobStore"):
        assert warning in said


@pytest.mark.usefixtures("apache")
def test_it_runs_through_the_engine_where_the_metadata_fits(tmp_path: Path) -> None:
    house = House(tmp_path, "--metadata", "region=us-east-1", "--metadata", "diskType=SSD")
    try:
        house.start()
        submit(house)
        assert house.ctl("cat", UNIT).stdout == ORIGINAL
        calendar = house.text("calendar", UNIT)
        assert "cron" in calendar
        assert "simple" in calendar
        # Nothing can be pulled here: the start-pre step that pulls fails, and with it the attempt, as under systemd.
        first = eventually(lambda: [e for e in house.executions(UNIT) if e.get("attempts")])[0]
        steps = {step["name"]: step for step in first["attempts"][0]["steps"]}
        assert steps["start-pre-0"]["outcome"] == "ignored"
        assert steps["start-pre-1"]["outcome"] == "ignored"
        assert steps["start-pre-2"]["outcome"] == "failed"
        # One machine, Availability=2: one copy placed, one waiting, and why.
        waiting = eventually(lambda: [e for e in house.executions(UNIT) if e["state"] == "waiting"])
        assert "already runs a copy" in waiting[0]["reason"]
        # Without the pull the rest of the file runs as it stands.
        house.text("destroy", UNIT)
        local = ORIGINAL.replace(b"ExecStartPre=/usr/bin/docker pull", b"ExecStartPre=-/usr/bin/docker pull")
        assert house.ctl("submit", "--name", "local.service", "-", stdin=local).returncode == 0
        eventually(lambda: "apache1" in _names())
        assert any(e["state"] == "running" for e in house.executions("local.service"))
        house.text("destroy", "local.service")
        eventually(lambda: "apache1" not in _names())
    finally:
        house.close()


def test_without_the_metadata_explain_names_both_pairs(house: House) -> None:
    house.start()
    submit(house)
    house.text("start", UNIT)
    said = eventually(lambda: _explained(house, "region=us-east-1"))
    assert "diskType=SSD" in said


def _explained(house: House, word: str) -> str:
    said = house.text("explain", UNIT)
    return said if word in said else ""


def _names() -> str:
    return subprocess.run(["docker", "ps", "--format", "{{.Names}}"], capture_output=True, check=True).stdout.decode()
