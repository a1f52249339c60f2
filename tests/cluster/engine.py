"""A Docker engine of the test's own, which may be killed: dockerd in a network namespace, with its own containerd."""

import os
import shutil
import signal
import subprocess
from typing import Self

from tests.cluster.cluster import ROOT, Cluster, eventually
from tests.cluster.reaper import start_ticks
from tests.conftest import unavailable


class OwnEngine:
    """dockerd on a host of the cluster's network.

    With `live_restore`, as an operator would have it, its containers survive its end; without, it ends them itself.
    """

    def __init__(self, cluster: Cluster, *, live_restore: bool = True) -> None:
        if shutil.which("dockerd") is None:
            unavailable("no dockerd (Debian and Ubuntu: docker.io)")
        self._cluster = cluster
        self._host = cluster.network.host("engine")
        self._directory = cluster.directory / "engine"
        self._directory.mkdir()
        self._log = self._directory / "log"
        self._live_restore = live_restore
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = self._directory / "sock"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            if self.containers():
                self.docker("rm", "-f", *self.containers())
            self.stop()

    @property
    def url(self) -> str:
        """What DOCKER_HOST is to be."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        run = self._directory
        # What it has mounted has to go before its directory can.
        self._cluster.reaper.note("mounts", str(run))
        command = [
            *self._host.prefix, "dockerd", "--host", self.url, "--data-root", str(run / "data"),
            "--exec-root", str(run / "exec"), "--pidfile", str(run / "pid"), "--bridge=none", "--iptables=false",
            "--ip-forward=false", "--ip-masq=false",
            *(["--live-restore"] if self._live_restore else []),
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._cluster.reaper.note("process", f"{self._process.pid}:{start_ticks(self._process.pid)}")
        eventually(self._answers, "dockerd answers")

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._tail()
        return self.docker("version", check=False).returncode == 0

    def kill(self) -> None:
        """kill -9 of dockerd and of the containerd that it started."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Shut it down, as the init system does, and wait until it is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def docker(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A docker command against it."""
        return subprocess.run(["docker", "--host", self.url, *words], capture_output=True, text=True, check=check)

    def make_image(self) -> None:
        """The image that the steps run in."""
        environment = os.environ | {"DOCKER_HOST": self.url}
        subprocess.run([ROOT / "packaging/images/make-busybox"], env=environment, capture_output=True, check=True)

    def containers(self) -> dict[str, str]:
        """The containers that run: id by name."""
        lines = self.docker("ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}").stdout.splitlines()
        return dict(line.split() for line in lines)
