"""A daemon alone with its embedded store: the disk fills up, and is given room again."""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster.checker import check, told
from tests.cluster.cluster import FULL, Cluster, eventually
from tests.cluster.units import Window, due, names, recorder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster_services")]


def fill(directory: Path) -> Path:
    """Leave no byte free."""
    path = directory / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    assert os.statvfs(directory).f_bavail == 0
    return path


def test_a_full_disk_stops_claims_and_nothing_else(figures: Callable[..., None]) -> None:
    units = names(20)
    window = Window(30 if FULL else 8, delay=3)
    with Cluster(members=0) as cluster:
        daemon = cluster.daemon("alone")
        state = daemon.directory / "state"
        state.mkdir()
        cluster.reaper.note("mount", str(state))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(state)], check=True)
        daemon.start()
        cluster.submit(dict.fromkeys(units, recorder(window)))
        eventually(cluster.events, "something runs")
        ballast = fill(state)
        began = time.time()
        time.sleep(1)  # what was under way
        before = len(cluster.events())
        time.sleep(3)
        during = len(cluster.events()) - before
        assert daemon.running, daemon.tail()
        ballast.unlink()
        freed = time.time()
        eventually(lambda: cluster.events()[-1].when > freed, "it goes on")
        resumed = cluster.events()[-1].when - freed
        window.wait()
        fires = window.fires()
        history = cluster.settled(units, len(units) * len(fires))
        events = cluster.events()
        found = check(events, history, due(units, fires))
        assert not found, told(found)
        # What was not durable did not start.
        assert during == 0, f"{during} lines in the sink while no claim could be written"
        figures(full_for=freed - began, resumed_after=resumed, executions=len(history))
