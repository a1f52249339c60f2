"""A network of the test's own: one bridge and a namespace for each member, whose link can be cut."""

import os
import subprocess
from pathlib import Path
from uuid import uuid4

from tests.cluster.reaper import Reaper
from tests.conftest import unavailable


def require_namespaces() -> None:
    """Skip (fail, where services are promised) on a machine on which no network namespace can be made."""
    probe = f"xc-probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"network namespaces cannot be made here: {done.stderr.strip()}")
    _ip("netns", "del", probe)


class Host:
    """One machine of the network: a namespace with an address and a link to all the others."""

    def __init__(self, network: "Network", name: str, address: str) -> None:
        self.network = network
        self.name = name
        self.address = address
        self.namespace = f"{network.prefix}-{name}"
        self._link = f"v-{name}"

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command begins with that is to run here. (`ip netns exec` would hide the control groups as well.)"""
        return ("nsenter", f"--net=/run/netns/{self.namespace}")

    def make(self) -> None:
        """Create the namespace and its link."""
        hub = self.network.hub
        self.network.reaper.note("netns", self.namespace)
        _ip("netns", "add", self.namespace)
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        _ip("-n", hub, "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        _ip("-n", self.namespace, "addr", "add", f"{self.address}/16", "dev", "eth0")
        _ip("-n", self.namespace, "link", "set", "eth0", "up")
        _ip("-n", hub, "link", "set", self._link, "master", "bridge", "up")

    def cut(self) -> None:
        """Take the link away: packets vanish, nobody is told."""
        _ip("-n", self.network.hub, "link", "set", self._link, "down")

    def mend(self) -> None:
        """Give the link back."""
        _ip("-n", self.network.hub, "link", "set", self._link, "up")


class Network:
    """Hosts on one bridge, which stands in a namespace itself: nothing of this touches the machine's own network."""

    def __init__(self, reaper: Reaper) -> None:
        self.reaper = reaper
        self.prefix = f"xc{uuid4().hex[:6]}"
        self.hub = f"{self.prefix}-hub"
        self.hosts: dict[str, Host] = {}
        reaper.note("netns", self.hub)
        _ip("netns", "add", self.hub)
        _ip("-n", self.hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.hub, "link", "set", "bridge", "up")

    def host(self, name: str) -> Host:
        """The host of this name, made when it is asked for first."""
        known = self.hosts.get(name)
        if known is None:
            known = self.hosts[name] = Host(self, name, f"10.77.0.{len(self.hosts) + 2}")
            known.make()
        return known


def namespaces_left(prefix: str) -> list[str]:
    """The namespaces that still carry a network's prefix."""
    where = Path("/run/netns")
    return sorted(path.name for path in where.glob(f"{prefix}-*")) if where.is_dir() else []


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
