"""Real Consul servers on free ports in a directory of the test's own: one, or a cluster whose members can be hurt.

    cluster = ConsulCluster(tmp_path, places=[Place()] * 3)
    cluster.start()
    cluster.members[0].kill()          # also: pause, resume, stop, start
    cluster.stop()

`XCHRONOS_TEST_CONSUL` names another `consul` program than the one in PATH. Everything here blocks; inside an event
loop, `asyncio.to_thread` keeps that going.
"""

import base64
import http.client
import json
import os
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from .etcd import free_ports
from .servers import Cluster, Member, Place, Tls


def program() -> str | None:
    """The path of `consul`, if there is one: the named one, or in PATH, or the one that packaging/test has fetched."""
    if found := shutil.which(os.environ.get("XCHRONOS_TEST_CONSUL") or "consul"):
        return found
    return next((str(path) for path in Path(sys.prefix + ".cache").glob("consul-*/usr/bin/consul")), None)


def missing() -> str:
    """Why no Consul can be started here; empty when it can."""
    return "" if program() else "no consul (packaging/test fetches one; otherwise XCHRONOS_TEST_CONSUL can name it)"


class ConsulMember(Member):
    """One server process, which is its own clients' agent too, started and hurt by itself.

    In a network namespace it listens on a unix socket as well, by which tests reach it whatever links are cut.
    """

    def __init__(self, cluster: "ConsulCluster", number: int, place: Place, ports: list[int]) -> None:
        super().__init__(f"c{number + 1}", cluster.directory)
        self.cluster = cluster
        self.place = place
        self.http, self.rpc, self.serf = ports
        self.address = f"{'https' if cluster.tls else 'http'}://{place.host}:{self.http}"
        self.socket = cluster.directory / f"{self.name}.sock" if place.prefix else None
        self.data = cluster.directory / f"{self.name}.consul"

    def command(self) -> list[str]:
        """An agent in its place, with its configuration as it is to be now."""
        config = self.cluster.directory / f"{self.name}.json"
        config.write_text(json.dumps(self._config()))
        if self.socket is not None:
            self.socket.unlink(missing_ok=True)  # left by one that was killed
        return [*self.place.prefix, program(), "agent", "-config-file", str(config)]

    def _config(self) -> dict:
        cluster = self.cluster
        https = cluster.tls is not None
        config = {
            "server": True,
            "bootstrap_expect": len(cluster.members),
            "node_name": self.name,
            "data_dir": str(self.data),
            "bind_addr": self.place.host,
            "client_addr": self.place.host,
            "ports": {
                "http": -1 if https else self.http,
                "https": self.http if https else -1,
                "server": self.rpc,
                "serf_lan": self.serf,
                "serf_wan": -1,
                "dns": -1,
                "grpc": -1,
            },
            "retry_join": [f"{member.place.host}:{member.serf}" for member in cluster.members if member is not self],
            "retry_interval": "1s",
            # The quickest elections that Consul knows.
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "log_level": "WARN",
        }
        if self.socket is not None:
            config["addresses"] = {"http": f"{self.place.host} unix://{self.socket}"}
        if cluster.tls:
            config |= {"ca_file": str(cluster.tls.ca), "cert_file": str(cluster.tls.cert)}
            config |= {"key_file": str(cluster.tls.key), "verify_incoming": True}
        if cluster.token:
            tokens = {"master": cluster.token, "agent": cluster.token}
            config["acl"] = {"enabled": True, "default_policy": "deny", "tokens": tokens}
        return config | dict(cluster.settings)

    def trouble(self) -> str:
        """That it takes no writes."""
        try:
            self.request("PUT", "/v1/kv/ready", self.name.encode(), timeout=2)
        except OSError as error:
            return f"takes no writes: {error}"
        return ""

    @property
    def leads(self) -> bool:
        """Whether it leads the others."""
        return json.loads(self.request("GET", "/v1/status/leader")) == f"{self.place.host}:{self.rpc}"

    def request(self, method: str, path: str, body: bytes | None = None, timeout: float = 10) -> bytes:
        """Ask this agent, with every right; an answer that is an error raises urllib's HTTPError, an OSError."""
        request = urllib.request.Request(self.address + path, data=body, method=method)
        if self.cluster.token:
            request.add_header("X-Consul-Token", self.cluster.token)
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self.socket is not None:
            handlers.append(_BySocket(self.socket))
        if tls := self.cluster.tls:
            context = ssl.create_default_context(cafile=str(tls.ca))
            context.load_cert_chain(tls.cert, tls.key)
            handlers.append(urllib.request.HTTPSHandler(context=context))
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
            return answer.read()

    def get(self, prefix: str = "") -> dict[str, bytes]:
        """Every key that begins with a prefix, and what it holds."""
        try:
            found = json.loads(self.request("GET", f"/v1/kv/{prefix}?recurse=&consistent="))
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return {}
        return {item["Key"]: base64.b64decode(item["Value"] or "") for item in found}

    def delete(self, prefix: str = "") -> None:
        """Remove every key that begins with a prefix."""
        self.request("DELETE", f"/v1/kv/{prefix}?recurse=")


class _BySocket(urllib.request.HTTPHandler):
    """Speaks HTTP on a unix socket, whatever the URL says."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        path = str(self._path)

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.settimeout(self.timeout)
                self.sock.connect(path)

        return self.do_open(Connection, request)


class ConsulCluster(Cluster[ConsulMember]):
    """Servers that know each other.

    Args:
        directory: for data and logs; the cluster's own.
        places: where the members run; one makes a server without a cluster.
        token: switches access control on; this token may do everything.
        tls: what the clients must use; they must present a certificate of the same authority.
        settings: more of the servers' configuration.
    """

    def __init__(
        self,
        directory: Path,
        places: Sequence[Place] = (Place(),),
        *,
        token: str = "",
        tls: Tls | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(directory, tls)
        self.token = token
        self.settings = settings or {}
        ports = free_ports(3 * len(places))
        self.members = [
            ConsulMember(self, number, place, ports[3 * number : 3 * number + 3]) for number, place in enumerate(places)
        ]

    @property
    def addresses(self) -> list[str]:
        """The URLs of all agents."""
        return [member.address for member in self.members]

    def new_token(self, rules: str) -> str:
        """A token with these rules alone, such as `key_prefix "xchronos/" { policy = "write" }`."""
        member = self.members[0]
        policy = {"Name": f"p{time.monotonic_ns()}", "Rules": rules}
        made = json.loads(member.request("PUT", "/v1/acl/policy", json.dumps(policy).encode()))
        token = {"Policies": [{"ID": made["ID"]}]}
        return json.loads(member.request("PUT", "/v1/acl/token", json.dumps(token).encode()))["SecretID"]
