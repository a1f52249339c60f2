"""Files that units name: whatever is there, the daemon goes on, and the unit is told."""

import ctypes
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House, eventually

pytestmark = pytest.mark.slow

TICK = "TriggerCron=* * * * * *\n"


def unit(lines: str, chronos: str = TICK) -> str:
    return f"[Service]\nType=oneshot\n{lines}\n[X-Chronos]\nExecutor=process\n{chronos}"


def test_what_is_no_file_stops_nobody_else(house: House, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    named = {
        "pipe": (tmp_path / "pipe", "is a named pipe (FIFO): expected a regular file"),
        "link": (tmp_path / "link", "is a named pipe (FIFO): expected a regular file"),
        "zero": (Path("/dev/zero"), "is a device: expected a regular file"),
        "dir": (tmp_path, "is a directory: expected a regular file"),
        "huge": (tmp_path / "huge", "has more than 1048576 bytes: expected a smaller file"),
    }
    house.environment["XCHRONOS_READ_PATHS"] = str(tmp_path)
    house.start()
    for name, (path, _) in named.items():
        house.drop(f"env-{name}.service", unit(f"EnvironmentFile={path}\nExecStart=/bin/true"))
    for number in range(8):
        house.drop(f"get-{number}.service", unit("ExecStart=/bin/true", f"{TICK}Artifact=file://{tmp_path}/pipe\n"))
    house.drop("tick.service", unit("ExecStart=/bin/true"))
    for name, (path, words) in named.items():
        reason = eventually(lambda name=name: house.ended(f"env-{name}.service"))[0]["reason"]  # type: ignore[misc]
        assert reason == f"start-0: EnvironmentFile={path}: {words}"
    for number in range(8):
        ended = eventually(lambda number=number: house.ended(f"get-{number}.service"))  # type: ignore[misc]
        assert ended[0]["reason"] == f"Artifact=file://{tmp_path}/pipe: is a named pipe (FIFO): expected a regular file"
    # Each of them is due in each second, and so is this one.
    assert eventually(lambda: any(one["outcome"] == "succeeded" for one in house.ended("tick.service")))
    house.kill()
    house.start()
    seen = len(house.ended("tick.service"))
    assert eventually(lambda: len(house.ended("tick.service")) > seen + 2)
    assert house.terminate() == 0


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system whose server never answers: whoever looks into it waits until it is killed."""
    where, libc = tmp_path / "silent", ctypes.CDLL(None, use_errno=True)
    where.mkdir()
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"/dev/fuse: {error.strerror}")
    told = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"silent", bytes(where), b"fuse", 0, told):
        os.close(server)
        pytest.skip(f"mount: {os.strerror(ctypes.get_errno())}")
    yield where
    libc.umount2(bytes(where), 2)  # MNT_DETACH
    os.close(server)


def test_a_file_system_that_does_not_answer_stops_nobody_else(house: House, tmp_path: Path, silent: Path) -> None:
    (tmp_path / "env").write_text("A=1\n")
    house.environment["XCHRONOS_READ_PATHS"] = "*"
    house.drop("env.service", unit(f"EnvironmentFile={silent}/env\nExecStart=/bin/true"))
    house.drop("get.service", unit("ExecStart=/bin/true", f"{TICK}Artifact=file://{silent}/tool\n"))
    house.drop("dir.service", unit(f"WorkingDirectory=-{silent}/dir\nExecStart=/bin/true"))
    house.drop("if.service", f"[Unit]\nConditionPathExists={silent}/x\n" + unit("ExecStart=/bin/true"))
    house.drop("tick.service", unit(f"EnvironmentFile={tmp_path}/env\nExecStart=/bin/true"))
    house.start()
    for name in ("env", "get", "dir", "if"):
        eventually(
            lambda name=name: any(  # type: ignore[misc]
                "is it on a server that is away?" in one["reason"] for one in house.ended(f"{name}.service")
            ),
            60,
        )
    seen = len(house.ended("tick.service"))
    assert eventually(lambda: len(house.ended("tick.service")) > seen + 2)
    assert {one["outcome"] for one in house.ended("tick.service")} == {"succeeded"}
    # The threads that wait there hold up no end.
    assert house.terminate() == 0


def test_an_artifact_is_a_program_and_its_url_keeps_its_secrets(house: House, tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\necho ran $1\n")
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    house.environment["XCHRONOS_READ_PATHS"] = str(tmp_path)
    house.start()
    house.drop(
        "tool.service",
        unit("ExecStart=./tool well", f"{TICK}Artifact=file://{program}\nArtifactSHA256={digest}\n"),
    )
    house.drop("far.service", unit("ExecStart=./tool", f"{TICK}Artifact=http://me:pass1@127.0.0.1:1/tool?sig=pass2\n"))
    assert eventually(lambda: any(one["outcome"] == "succeeded" for one in house.ended("tool.service")))
    assert eventually(lambda: "an artifact is tried again" in house.log.read_text())
    house.text("stop", "far.service")
    told = house.log.read_text() + house.text("status", "far.service") + house.text("explain", "far.service")
    assert "pass1" not in told
    assert "pass2" not in told
    assert "http://...@127.0.0.1:1/tool?sig=..." in told


def test_units_name_files_of_the_unit_directories_and_no_others(house: House, tmp_path: Path) -> None:
    elsewhere, tick = tmp_path / "elsewhere.env", f"{TICK}HistoryLimit=3\n"
    elsewhere.write_text("A=1\n")
    house.units.joinpath("near.env").write_text("A=1\n")
    house.units.joinpath("link.env").symlink_to(elsewhere)
    for name, path in (("near", house.units / "near.env"), ("far", elsewhere), ("link", house.units / "link.env")):
        house.drop(f"{name}.service", unit(f"EnvironmentFile={path}\nExecStart=/bin/true", tick))
    house.drop("own.service", unit(f"EnvironmentFile={house.state}/xchronos.db\nExecStart=/bin/true", tick))
    house.start()
    assert eventually(lambda: any(one["outcome"] == "succeeded" for one in house.ended("near.service")))
    for name in ("far", "link"):
        reason = eventually(lambda name=name: house.ended(f"{name}.service"))[0]["reason"]  # type: ignore[misc]
        assert f": {elsewhere} is outside of what units may have read on this machine (/etc/xchronos, " in reason
        assert "name its directory in the setting read_paths" in reason
    assert "is the daemon's own" in eventually(lambda: house.ended("own.service"))[0]["reason"]
    assert house.terminate() == 0
    house.start()  # the stored units are looked at
    told = eventually(lambda: house.client.status().notes)[0]
    warning = f"EnvironmentFile {elsewhere} is outside of what units may have read on this machine (/etc/xchronos, "
    assert warning in house.text("status", "far.service")
    assert "its steps fail here" in house.text("status", "far.service")
    assert f"which are not read: far.service (EnvironmentFile {elsewhere}), link.service (" in told
    assert house.terminate() == 0
    # A state directory from before there was a default: nothing fails for the upgrade, and the status tells.
    house.state.joinpath("read-paths").unlink()
    house.start()
    assert eventually(lambda: any(one["outcome"] == "succeeded" for one in house.ended("far.service")))
    assert eventually(lambda: "which are read until the setting read_paths is named" in house.text("status"))
    # Once it is named, it holds.
    house.terminate()
    house.environment["XCHRONOS_READ_PATHS"] = str(house.units)
    house.start()
    assert eventually(lambda: all(one["outcome"] == "failed" for one in house.ended("far.service")))
