"""Real Consul servers on free ports in a directory of the test's own: one, or a cluster whose members can be hurt.

    cluster = ConsulCluster(tmp_path, members=3)
    cluster.start()
    cluster.members[0].kill()          # also: pause, resume, stop, start
    cluster.stop()

`XCHRONOS_TEST_CONSUL` names another `consul` program than the one in PATH. Everything here blocks; inside an event
loop, `asyncio.to_thread` keeps that going.
"""

import base64
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from services.etcd import Tls, free_ports

PATIENCE = 30.0
"""Seconds that a server may take to answer."""


class ConsulError(RuntimeError):
    """A server did not do what it was asked; the text has the end of its log."""


def program() -> str | None:
    """The path of `consul`, if there is one: the named one, or in PATH, or the one that packaging/test has fetched."""
    if found := shutil.which(os.environ.get("XCHRONOS_TEST_CONSUL") or "consul"):
        return found
    return next((str(path) for path in Path(sys.prefix + ".cache").glob("consul-*/usr/bin/consul")), None)


def missing() -> str:
    """Why no Consul can be started here; empty when it can."""
    return "" if program() else "no consul (packaging/test fetches one; otherwise XCHRONOS_TEST_CONSUL can name it)"


class ConsulMember:
    """One server process, which is its own clients' agent too, started and hurt by itself."""

    def __init__(self, cluster: "ConsulCluster", number: int, ports: list[int]) -> None:
        self.cluster = cluster
        self.name = f"c{number + 1}"
        self.http, self.rpc, self.serf = ports
        self.address = f"{'https' if cluster.tls else 'http'}://127.0.0.1:{self.http}"
        self.data = cluster.directory / f"{self.name}.consul"
        self.log = cluster.directory / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process, anew after `kill` or `stop`; does not wait for it to answer."""
        assert not self.running, f"{self.name} runs already"
        config = self.cluster.directory / f"{self.name}.json"
        config.write_text(json.dumps(self._config()))
        # A server that outlives a killed test run would be in everybody's way.
        die = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*die, program(), "agent", "-config-file", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _config(self) -> dict:
        cluster = self.cluster
        https = cluster.tls is not None
        config = {
            "server": True,
            "bootstrap_expect": len(cluster.members),
            "node_name": self.name,
            "data_dir": str(self.data),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "ports": {
                "http": -1 if https else self.http,
                "https": self.http if https else -1,
                "server": self.rpc,
                "serf_lan": self.serf,
                "serf_wan": -1,
                "dns": -1,
                "grpc": -1,
            },
            "retry_join": [f"127.0.0.1:{member.serf}" for member in cluster.members if member is not self],
            "retry_interval": "1s",
            # The quickest elections that Consul knows.
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "log_level": "WARN",
        }
        if cluster.tls:
            config |= {"ca_file": str(cluster.tls.ca), "cert_file": str(cluster.tls.cert)}
            config |= {"key_file": str(cluster.tls.key), "verify_incoming": True}
        if cluster.token:
            tokens = {"master": cluster.token, "agent": cluster.token}
            config["acl"] = {"enabled": True, "default_policy": "deny", "tokens": tokens}
        return config | dict(cluster.settings)

    def wait(self, patience: float = PATIENCE) -> None:
        """Until it takes writes."""
        deadline = time.monotonic() + patience
        while True:
            try:
                self.request("PUT", "/v1/kv/ready", self.name.encode(), timeout=2)
            except OSError as error:
                if not self.running:
                    raise ConsulError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}") from error
                if time.monotonic() > deadline:
                    raise ConsulError(
                        f"{self.name} takes no writes after {patience:g} s: {error}\n{self.tail()}"
                    ) from error
                time.sleep(0.05)
            else:
                return

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:]) if self.log.exists() else ""

    def kill(self) -> None:
        """As a crash does: kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """In good order."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def pause(self) -> None:
        """SIGSTOP: its sockets stay open, and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, as if no time had passed."""
        self.process.send_signal(signal.SIGCONT)

    def request(self, method: str, path: str, body: bytes | None = None, timeout: float = 10) -> bytes:
        """Ask this agent, with every right; an answer that is an error raises urllib's HTTPError, an OSError."""
        request = urllib.request.Request(self.address + path, data=body, method=method)
        if self.cluster.token:
            request.add_header("X-Consul-Token", self.cluster.token)
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
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


class ConsulCluster:
    """Servers that know each other.

    Args:
        directory: for data and logs; the cluster's own.
        members: how many; one makes a server without a cluster.
        token: switches access control on; this token may do everything.
        tls: what the clients must use; they must present a certificate of the same authority.
        settings: more of the servers' configuration.
    """

    def __init__(
        self,
        directory: Path,
        members: int = 1,
        *,
        token: str = "",
        tls: Tls | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.directory = directory
        self.token = token
        self.tls = tls
        self.settings = settings or {}
        self.members: list[ConsulMember] = []
        ports = free_ports(3 * members)
        for number in range(members):
            self.members.append(ConsulMember(self, number, ports[3 * number : 3 * number + 3]))

    @property
    def addresses(self) -> list[str]:
        """The URLs of all agents."""
        return [member.address for member in self.members]

    @property
    def leader(self) -> ConsulMember:
        """The member that leads the others, once there is one."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for member in self.members:
                if member.running:
                    leader = json.loads(member.request("GET", "/v1/status/leader"))
                    for other in self.members:
                        if leader == f"127.0.0.1:{other.rpc}" and other.running:
                            return other
            time.sleep(0.05)
        raise ConsulError(f"no member leads after {PATIENCE:g} s")

    def start(self) -> "ConsulCluster":
        """Start every member that does not run, and wait until all take writes."""
        try:
            for member in self.members:
                if not member.running:
                    member.start()
            for member in self.members:
                member.wait()
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self) -> None:
        """kill -9 for all."""
        for member in self.members:
            member.kill()

    stop = kill
    """Tests keep nothing that a good order would save."""

    def new_token(self, rules: str) -> str:
        """A token with these rules alone, such as `key_prefix "xchronos/" { policy = "write" }`."""
        member = self.members[0]
        policy = {"Name": f"p{time.monotonic_ns()}", "Rules": rules}
        made = json.loads(member.request("PUT", "/v1/acl/policy", json.dumps(policy).encode()))
        token = {"Policies": [{"ID": made["ID"]}]}
        return json.loads(member.request("PUT", "/v1/acl/token", json.dumps(token).encode()))["SecretID"]
