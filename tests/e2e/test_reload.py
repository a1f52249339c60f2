"""SIGHUP: a running daemon reads its settings again, and what runs does not notice."""

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.e2e.house import House, eventually
from xchronos.client import Client

pytestmark = pytest.mark.slow


def test_settings_are_read_again(house: House, tmp_path: Path) -> None:
    config, told = tmp_path / "x.toml", tmp_path / "notify"
    config.write_text('metadata = "region=eu"\nslots = 2\n[log]\nlevel = "info"\n')
    house.environment |= {"XCHRONOS_CONFIG": str(config), "NOTIFY_SOCKET": str(told)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(told))
        systemd.settimeout(60)
        house.start()
        while systemd.recv(999) != b"READY=1":
            pass
        house.drop(
            "long.service",
            "[Service]\nExecStart=/bin/sleep 1000\n[X-Chronos]\nExecutor=process\n",
        )
        eventually(lambda: house.ctl("start", "long.service").returncode == 0)
        running = eventually(lambda: [one for one in house.executions("long.service") if one["state"] == "running"])
        config.write_text(
            'metadata = "region=us"\nslots = 3\nsettle = "1s"\n[log]\nlevel = "debug"\n[api]\ntoken = "new"\n'
        )
        house.process.send_signal(signal.SIGHUP)
        assert systemd.recv(999).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert systemd.recv(999) == b"READY=1"
    line = eventually(
        lambda: next((at for at in house.log.read_text().splitlines() if "settings read again" in at), "")
    )
    assert "taken_up=['metadata', 'api.token', 'slots', 'log.level']" in line
    assert "need_restart=['settle']" in line
    assert house.ctl("list-units").returncode != 0
    house.environment["XCHRONOS_TOKEN"] = "new"
    house.client = Client(f"http://127.0.0.1:{house.port}", token="new")
    assert eventually(lambda: "region=us" in house.text("list-machines"))
    house.drop("more.service", "[Service]\nExecStart=/bin/true\n[X-Chronos]\nExecutor=process\n")
    eventually(lambda: house.ctl("start", "more.service").returncode == 0)
    assert eventually(lambda: "[debug" in house.log.read_text())
    # What cannot be read changes nothing, however often it is asked for.
    config.write_text("slots = many\n")
    for _ in range(5):
        house.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the settings cannot be read again; all stay as they are" in house.log.read_text())
    config.unlink()
    os.mkfifo(config)
    house.process.send_signal(signal.SIGHUP)
    assert "region=us" in house.text("list-machines")  # nor does a file that nobody writes hold anything up
    assert [one["fire_time"] for one in house.executions("long.service")] == [running[0]["fire_time"]]
    assert house.terminate() == 0  # although nobody listens to what systemd is told
