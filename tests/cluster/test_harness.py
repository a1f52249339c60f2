"""The harness itself: links that can be cut, and nothing that is left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.cluster.cluster import ROOT, eventually
from tests.cluster.network import Network, namespaces_left
from tests.cluster.reaper import Reaper

pytestmark = [pytest.mark.slow, pytest.mark.etcd, pytest.mark.usefixtures("cluster_services")]


def reaches(network: Network, one: str, other: str, port: int = 7000) -> bool:
    """Whether a TCP connection between two hosts can be made."""
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.5)"
    command = [*network.host(one).prefix, sys.executable, "-c", script, network.host(other).address, str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_cut_link_cuts_and_a_mended_one_does_not() -> None:
    reaper = Reaper()
    network = Network(reaper)
    listener = "import socket, time; s = socket.create_server(('', 7000)); time.sleep(60)"
    with subprocess.Popen([*network.host("b").prefix, sys.executable, "-c", listener]):
        try:
            eventually(lambda: reaches(network, "a", "b"), "b listens")
            network.host("b").cut()
            assert not reaches(network, "a", "b")
            network.host("b").mend()
            eventually(lambda: reaches(network, "a", "b"), "b is back")
        finally:
            reaper.close()
    assert namespaces_left(network.prefix) == []


def test_nothing_is_left_of_a_test_that_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import subprocess, sys, time
        from pathlib import Path
        from tests.cluster.network import Network
        from tests.cluster.reaper import Reaper, start_ticks
        reaper = Reaper()
        network = Network(reaper)
        reaper.note("directory", sys.argv[1])
        Path(sys.argv[1]).mkdir()
        inside = subprocess.Popen([*network.host("a").prefix, "sleep", "600"])
        beside = subprocess.Popen(["sleep", "600"])
        reaper.note("process", f"{beside.pid}:{start_ticks(beside.pid)}")
        print(network.prefix, inside.pid, beside.pid, flush=True)
        time.sleep(600)
    """)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    doomed = tmp_path / "doomed"
    test = subprocess.Popen(
        [sys.executable, "-c", script, str(doomed)], stdout=subprocess.PIPE, env=environment, cwd=ROOT
    )
    assert test.stdout is not None
    prefix, *pids = test.stdout.readline().decode().split()
    assert len(namespaces_left(prefix)) == 2
    test.send_signal(signal.SIGKILL)
    test.wait()
    test.stdout.close()
    eventually(lambda: not namespaces_left(prefix), "the namespaces are gone")
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the processes are gone")
    eventually(lambda: not doomed.exists(), "the directory is gone")


def test_a_pid_that_came_back_is_left_alone() -> None:
    reaper = Reaper()
    with subprocess.Popen(["sleep", "600"]) as other:
        reaper.note("process", f"{other.pid}:1")
        reaper.close()
        time.sleep(0.05)
        assert other.poll() is None
        other.kill()
