"""The process that serves a daemon's API: what its end means for the daemon, and the daemon's end for it."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.house import House, eventually
from xchronos.errors import ApiError

pytestmark = pytest.mark.slow

UNIT = "[Service]\nExecStart=/bin/true\n[X-Chronos]\nExecutor=process\nTriggerRepeatInterval=1s\nHistoryLimit=100\n"


def children(house: House) -> list[int]:
    """The processes that serve the daemon's API."""
    assert house.process is not None
    return _children(house.process.pid)


def _children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(each) for each in found if "api_process" in Path(f"/proc/{each}/cmdline").read_text()]


def _is_gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


def healthy(house: House) -> bool:
    try:
        house.client.status()
    except ApiError:
        return False
    return True


def test_one_that_is_killed_is_started_anew_and_no_fire_is_missed(house: House) -> None:
    house.drop("a.service", UNIT)
    house.start()
    eventually(lambda: len(house.ended("a.service")) >= 2)
    (first,) = children(house)
    os.kill(first, signal.SIGKILL)
    status = house.client.status()  # asked at once: the connection waits for the next process
    (second,) = children(house)
    assert (status.machine, second != first) == ("here", True)
    assert "the API's process has ended, and is started anew" in house.log.read_text()
    before = len(house.ended("a.service"))
    eventually(lambda: len(house.ended("a.service")) >= before + 2)
    assert house.missed("a.service") == []
    assert house.terminate() == 0
    assert not Path(f"/proc/{second}").exists()


def test_it_ends_with_a_daemon_that_is_killed_and_leaves_it_the_address(house: House) -> None:
    house.start()
    for _ in range(3):
        eventually(lambda: healthy(house))
        (server,) = children(house)
        house.kill()
        house.start()  # fails where the address is taken
        eventually(partial(_is_gone, server), limit=10)


def test_a_signal_to_all_processes_of_the_service_ends_the_daemon_in_order(house: House) -> None:
    house.drop("long.service", UNIT.replace("/bin/true", "/bin/sleep 1000"))
    house.start()
    eventually(lambda: [one for one in house.executions("long.service") if one["state"] == "running"])
    assert house.process is not None
    os.killpg(house.process.pid, signal.SIGTERM)  # as systemd does, and a terminal with SIGINT
    assert house.process.wait(60) == 0
    assert "started anew" not in house.log.read_text()


def test_it_says_that_a_daemon_stands(house: House) -> None:
    house.start()
    eventually(lambda: healthy(house))
    assert house.process is not None
    house.process.send_signal(signal.SIGSTOP)
    done = house.ctl("daemon", "--health")
    assert done.returncode == 1
    assert b"the event loop that schedules has not answered" in done.stdout
    house.process.send_signal(signal.SIGCONT)
    eventually(lambda: house.ctl("daemon", "--health").returncode == 0)
    assert house.terminate() == 0


def test_lists_that_come_together_are_made_by_a_worker_that_goes_again(house: House) -> None:
    house.drop("a.service", UNIT)
    house.start()
    eventually(lambda: house.ended("a.service"))
    (server,) = children(house)
    assert _children(server) == []  # one request after the other needs none

    def ask(number: int) -> int:
        if number % 4 == 3:
            name = f"new-{number}.service"
            return house.client.submit(name, UNIT.replace("TriggerRepeatInterval=1s\n", "").encode()).unit == name
        return len(list(house.client.units())) > 0 and house.client.status().machine == "here"

    def crowd() -> bool:
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(ask, range(64)))
        return bool(_children(server))

    eventually(crowd)
    (worker,) = _children(server)
    assert len(list(house.client.units())) == 17  # those that were submitted on the way are there
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: worker not in _children(server))
    eventually(crowd)
    eventually(lambda: not _children(server), limit=90)  # nobody asks any more
    assert "Traceback" not in house.log.read_text()
    assert house.terminate() == 0
