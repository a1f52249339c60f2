"""What a daemon's surroundings do to it: another daemon on the same engine, systemd, a place that cannot be written."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.house import House, eventually

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("busybox_image")
def test_a_second_daemon_on_the_engine_leaves_the_first_ones_containers_alone(tmp_path: Path) -> None:
    houses = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            houses.append(House(tmp_path / name))
        one, two = houses
        one.start()
        unit = b"[Service]\nExecStart=/bin/sleep 60\n[Container]\nImage=xchronos/busybox\nNetwork=none\n"
        assert one.ctl("submit", "--name", "neighbour.service", "-", stdin=unit).returncode == 0
        one.text("start", "neighbour.service")
        running = eventually(lambda: one.containers("neighbour.service"))
        two.start()
        assert "none active" in two.text("status")
        assert two.terminate() == 0
        assert one.containers("neighbour.service") == running
        assert [e["state"] for e in one.executions("neighbour.service")] == ["running"]
        one.text("destroy", "neighbour.service")
        eventually(lambda: not one.containers("neighbour.service"))
    finally:
        for house in houses:
            house.close()


@pytest.mark.usefixtures("busybox_image")
def test_a_second_daemon_on_the_state_directory_is_refused(tmp_path: Path) -> None:
    house = House(tmp_path)
    try:
        house.start()
        assert house.process is not None
        environment = house.environment | {
            "XCHRONOS_STORE": "memory:",
            "XCHRONOS_API_LISTEN": f"unix://{tmp_path}/sock",
        }
        done = subprocess.run(
            [sys.executable, "-m", "xchronos", "daemon"], env=environment, capture_output=True, timeout=60, check=False
        )
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == 1
        assert f"is in use by the process {house.process.pid}: every xchronosd needs one of its own" in said
        assert "none active" in house.text("status")
    finally:
        house.close()


def test_a_state_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    house = House(tmp_path)
    house.environment["XCHRONOS_STATE_DIRECTORY"] = f"{tmp_path}/file/state"
    done = subprocess.run(
        [sys.executable, "-m", "xchronos", "daemon"],
        env=house.environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 1
    assert f"state_directory {tmp_path}/file/state: Not a directory" in said
    assert "Traceback" not in said


def test_a_state_directory_that_everybody_may_look_into_has_nothing_to_see(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.state.mkdir()
    house.state.chmod(0o755)  # as an engine makes what it mounts
    try:
        house.start()
        assert house.terminate() == 0
        found = list(house.state.iterdir())
        assert found
        assert [path for path in found if path.stat().st_mode & 0o007] == []
    finally:
        house.close()


@pytest.mark.parametrize("roles", ["scheduler,agent,api,intake", "scheduler,agent"])
def test_systemd_is_told_when_the_daemon_is_ready_and_when_it_stops(tmp_path: Path, roles: str) -> None:
    house = House(tmp_path)
    house.environment |= {"XCHRONOS_ROLES": roles, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        daemon = subprocess.Popen(
            [sys.executable, "-m", "xchronos", "daemon"],
            env=house.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert systemd.recv(100) == b"READY=1"
            if "api" in roles:
                assert "none active" in house.text("status")
            daemon.send_signal(signal.SIGTERM)
            assert systemd.recv(100) == b"STOPPING=1"
            assert daemon.wait(60) == 0
        finally:
            daemon.kill()
            daemon.wait()


def test_settings_that_cannot_be_read_have_an_exit_code_of_their_own(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.environment["XCHRONOS_HEARTBEAT_TTL"] = "soon"
    done = subprocess.run(
        [sys.executable, "-m", "xchronos", "daemon"],
        env=house.environment, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, "systemd does not try again then: RestartPreventExitStatus="
