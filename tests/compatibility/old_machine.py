"""A daemon of the old commit, for `make_fixtures`: started, asked by its HTTP API, killed. Imports nothing of xchronos."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PORTS = {"m1": 17481, "m2": 17482}
Rows = list[dict[str, Any]]
MACHINES: list["Machine"] = []
"""All that were started, for the end."""


def until(ask: Callable[[], Any], limit: float = 90.0) -> Any:
    """Ask until the answer is true."""
    end = time.monotonic() + limit
    while not (answer := ask()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit} s: {ask!r}, line {ask.__code__.co_firstlineno}")
        time.sleep(0.1)
    return answer


class Machine:
    """A daemon that can be killed and started again over the same state directory."""

    def __init__(self, root: Path, name: str, settings: str) -> None:
        self.name = name
        self.root = root
        self.state = root / "state"
        self.units = root / "units"
        self.config = root / "xchronosd.toml"
        self.address = f"http://127.0.0.1:{PORTS[name]}"
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f'state_directory = "{self.state}"\nmachine_id = "{name}"\nallow_process = true\nslots = 40\n'
            f'memory = "4G"\ncpus = 4\nheartbeat_ttl = "30s"\nsettle = "100ms"\n{settings}\n'
            f'[api]\nlisten = "127.0.0.1:{PORTS[name]}"\n[docker]\nhost = "unix:///run/no-such-engine.sock"\n'
            '[log]\nlimit = "1M"\n'
        )
        self.process: subprocess.Popen[bytes] | None = None
        MACHINES.append(self)

    def start(self, *more: str) -> None:
        with (self.root / "daemon.log").open("ab") as log:
            command = [sys.executable, "-m", "xchronos", "daemon", "--config", str(self.config), *more]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self.answers)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("GET", "status"))
        return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/v1/{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
                return json.loads(text) if "json" in answer.headers["Content-Type"] else text.decode()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()}") from error

    def submit(self, name: str, text: bytes) -> None:
        body = {"text_base64": base64.b64encode(text).decode()} if text else {"text": ""}
        self.ask("PUT", f"units/{name}.service", {**body, "by": "ann"})

    def begin(self, name: str, payload: str = "") -> str:
        body = {"by": "ann", **({"payload": payload} if payload else {})}
        return self.ask("POST", f"units/{name}.service/start", body)["executions"][0]

    def executions(self, name: str) -> Rows:
        return self.ask("GET", f"executions?unit={name}.service&limit=1000")["executions"]

    def reach(self, name: str, *wanted: str) -> None:
        """Wait until the executions of a unit have these states or outcomes, in any order."""
        until(lambda: sorted(e.get("outcome", e["state"]) for e in self.executions(name)) == sorted(wanted))

    def readings(self) -> dict[str, Any]:
        """What a person can read here beside the records: units, machines, and what ended executions have printed."""
        found = self.ask("GET", "executions?limit=1000")["executions"]
        logs = {}
        for execution in found:
            fire = execution["fire_time"].replace("-", "").replace(":", "").rstrip("Z")
            fire = fire if "." in fire else f"{fire}.000000"
            identity = f"{execution['unit']}/{fire}Z/{execution['copy']}"
            for attempt in execution.get("attempts", ()):
                if attempt.get("started_at") and execution["state"] == "ended":
                    with contextlib.suppress(RuntimeError):  # on a machine that is dead by now
                        said = self.ask("GET", f"executions/{identity}/logs?attempt={attempt['number']}")
                        logs[f"{identity} {attempt['number']}"] = said
        told = ("name", "state", "description", "next", "last", "fired", "active", "finished", "source")
        units = [{key: unit[key] for key in told} for unit in self.ask("GET", "units?limit=1000")["units"]]
        return {"units": units, "logs": logs, "machines": self.ask("GET", "machines")["machines"]}

    # -- host processes -----------------------------------------------------------------------------------------------

    def homes(self, name: str, step: str = "start-0") -> list[Path]:
        """Where the process executor keeps what it knows of a unit's running steps."""
        records = self.state.glob(f"processes/*/{step}/record")
        return [path.parent for path in records if json.loads(path.read_text())["unit"] == f"{name}.service"]

    def wrapper(self, name: str) -> int:
        (home,) = self.homes(name)
        return int((home / "claim").read_text().split()[0])

    def ask_to_end(self, name: str) -> None:
        """Send SIGTERM to the program of a unit's step."""
        wrapper = self.wrapper(name)
        children = until(Path(f"/proc/{wrapper}/task/{wrapper}/children").read_text)
        os.kill(int(children.split()[0]), signal.SIGTERM)

    def end_all(self) -> None:
        """The end of everything that still runs, as when the machine is switched off."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for claim in self.state.glob("processes/*/*/claim"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(claim.read_text().split()[0]), signal.SIGKILL)
            for stat in Path("/proc").glob("[0-9]*/stat"):
                with contextlib.suppress(OSError):
                    pid, rest = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
                    if rest[3] == claim.read_text().split()[0]:
                        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def etcd_server(directory: Path) -> Iterator[str]:
    client, peer = "http://127.0.0.1:17379", "http://127.0.0.1:17380"
    command = ["etcd", "--data-dir", str(directory), "--listen-client-urls", client, "--advertise-client-urls", client]
    command += [
        "--listen-peer-urls",
        peer,
        "--initial-advertise-peer-urls",
        peer,
        "--initial-cluster",
        f"default={peer}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield client
    finally:
        process.kill()
        process.wait()
