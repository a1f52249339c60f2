"""A step's container is gone before the next step begins, also when the daemon dies between the record and the removal."""

import threading
import uuid
from pathlib import Path

import pytest

from tests.e2e.engine_tap import EngineTap
from tests.e2e.house import House, eventually, moment

pytestmark = [pytest.mark.slow, pytest.mark.docker]

UNIT = """[Service]
Type=oneshot
ExecStart=docker run --rm --name {name} --net none -v {shared}:/shared {image} sh -c 'echo one >> /shared/ran; echo first'
ExecStart=docker run --rm --name {name} --net none -v {shared}:/shared {image} sh -c 'echo two >> /shared/ran; echo second'
"""


def test_a_kill_minus_nine_between_the_record_of_a_step_and_the_removal_of_its_container(
    house: House, tmp_path: Path, docker_host: str, busybox_image: str
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    killed = threading.Event()
    removals: list[str] = []

    def hear(line: str) -> bool:
        if line.startswith("DELETE ") and "/containers/" in line:
            removals.append(line)
            if len(removals) == 1:
                assert house.process is not None
                house.process.kill()
                killed.set()
                return False
        return True

    with EngineTap(tmp_path / "engine.sock", docker_host, hear) as tap:
        house.environment["DOCKER_HOST"] = tap.host
        house.start()
        text = UNIT.format(name=f"xct-{uuid.uuid4().hex[:12]}", shared=shared, image=busybox_image)
        done = house.ctl("submit", "--name", "two.service", "-", stdin=text.encode())
        assert done.returncode == 0, done.stderr
        house.text("start", "two.service")
        eventually(killed.is_set)
        assert house.process is not None
        house.process.wait()
        (left,) = house.containers("two.service")
        assert (shared / "ran").read_text() == "one\n"
        house.start()
        (execution,) = eventually(lambda: house.ended("two.service"))
    assert execution["outcome"] == "succeeded", execution
    (attempt,) = execution["attempts"]
    assert [step["exit_code"] for step in attempt["steps"]] == [0, 0]
    assert (shared / "ran").read_text() == "one\ntwo\n", "each step once"
    assert any(left[:12] in line for line in removals[1:]), "what the dead daemon has left was removed"
    key = moment(execution["fire_time"]).strftime("%Y%m%dT%H%M%S.%fZ")
    assert house.text("logs", f"two.service/{key}/0").splitlines() == ["first", "second"]
    assert house.containers("two.service") == []
