"""Three daemons of the commit 89caaa6, with older zone rules, become today's one after the other, while units fire.

The old code is that of the repository's history, run by this Python. The old rules are the installed ones with a zone
less, and another one an hour behind.
"""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, unavailable
from tests.services.etcd import EtcdCluster, free_ports
from tests.triggers.other_rules import tzif

OLD = "89caaa6"
GONE, MOVED = "America/Coyhaique", "Europe/Berlin"
"""The zone that the old rules lack, and the one that they have without its summer and an hour behind."""
ONCE_NEEDED = ("aetcd==1.0.0",)
"""What the old code imports and today's does not."""
NAMES = ("m1", "m2", "m3")
RUN = "[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=process\nHistoryLimit=10000\n"
LENIENT = "MisfireThreshold=1h\n"
LOAD = {
    **{f"every{number}.service": f"{RUN}{LENIENT}TriggerRepeatInterval=1s\n" for number in range(8)},
    "walls.service": f"{RUN}{LENIENT}TriggerCron=0-59 0-59 0-23 * * *\nTimeZone={MOVED}\n",
    "follows.service": f"{RUN}{LENIENT}TriggerCron=* * * * * *\nTimeZone={MOVED}\n",
}
NEW = {
    "zone.service": f"{RUN}TriggerCron=* * * * * *\nTimeZone={GONE}\n",
    "key.service": f"{RUN}TriggerCron=* * * * * *\n".replace("[X-Chronos]", "RestartSteps=3\n[X-Chronos]"),
}


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH: the package of the old commit, and the older zone rules."""
    where = tmp_path_factory.mktemp("old")
    packed = subprocess.run(["git", "-C", ROOT, "archive", OLD, "xchronos"], capture_output=True, check=False)
    if packed.returncode:
        unavailable(f"the history has no {OLD}: {packed.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(where, filter="data")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(where), *ONCE_NEEDED]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode:
        unavailable(f"cannot install {' '.join(ONCE_NEEDED)}: {installed.stderr.strip()}")
    spec = importlib.util.find_spec("tzdata")
    assert spec is not None
    assert spec.origin is not None
    rules = where / "tzdata"
    shutil.copytree(Path(spec.origin).parent, rules, ignore=shutil.ignore_patterns("__pycache__"))
    names = (rules / "zones").read_text().split()
    (rules / "zones").write_text("\n".join(name for name in names if name != GONE))
    (rules / "zoneinfo" / GONE).unlink()
    (rules / "zoneinfo" / MOVED).write_bytes(tzif(0, []))
    return where


class Daemon:
    """A machine with a daemon on it, of the old code or of today's."""

    def __init__(self, root: Path, name: str, store: str, port: int) -> None:
        self.name, self.root, self.address = name, root, f"http://127.0.0.1:{port}"
        root.mkdir()
        self.config = root / "xchronosd.toml"
        self.config.write_text(
            f'state_directory = "{root / "state"}"\nmachine_id = "{name}"\nstore = "{store}"\nallow_process = true\n'
            f'heartbeat_ttl = "10s"\n[api]\nlisten = "127.0.0.1:{port}"\n[docker]\n'
            'host = "unix:///run/no-such-engine.sock"\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, code: Path) -> None:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("XCHRONOS_", "COV_", "COVERAGE"))}
        with (self.root / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "xchronos", "daemon", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                cwd=self.root,
                env=env | {"PYTHONPATH": str(code)},
            )
        until(lambda: self.answers("status"))

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def answers(self, path: str) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("GET", path))
        return False

    def ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/v1/{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def submit(self, name: str, text: str) -> None:
        self.ask("PUT", f"units/{name}", {"text": text})

    def refusal(self, name: str, text: str) -> str:
        with pytest.raises(urllib.error.HTTPError) as refused:
            self.submit(name, text)
        assert refused.value.code == 422
        return str(json.loads(refused.value.read()))

    def history(self, unit: str) -> list[dict[str, Any]]:
        return list(self.ask("GET", f"executions?unit={unit}&limit=5000")["executions"])

    def log(self) -> str:
        return (self.root / "daemon.log").read_text()


def until(ask: Callable[[], object], limit: float = 120.0) -> None:
    end = time.monotonic() + limit
    while not ask():
        assert time.monotonic() < end, f"not within {limit} s"
        time.sleep(0.1)


@pytest.fixture
def daemons(make_etcd: Callable[..., EtcdCluster], tmp_path: Path) -> Iterator[list[Daemon]]:
    server = make_etcd()
    store = "etcd://" + ",".join(endpoint.removeprefix("http://") for endpoint in server.endpoints)
    found = [Daemon(tmp_path / name, name, store, port) for name, port in zip(NAMES, free_ports(3), strict=True)]
    yield found
    for daemon in found:
        daemon.stop()


def seconds(executions: list[dict[str, Any]]) -> list[float]:
    return sorted(datetime.fromisoformat(one["fire_time"]).timestamp() for one in executions)


def check(daemon: Daemon, unit: str) -> None:
    """Nothing of a unit that fires every second is finished, lost, doubled or early."""
    schedule = daemon.ask("GET", f"units/{unit}?recent=0")["schedule"]
    assert schedule.get("finished", "") == "", f"{unit}: {schedule}"
    executions = daemon.history(unit)
    assert not [one for one in executions if one.get("missed")], unit
    found = seconds(executions)
    assert len(found) == len(set(found)), f"{unit} has fired twice"
    holes = [(before, after) for before, after in pairwise(found) if round(after - before) != 1]
    assert not holes, f"{unit}: {holes}"
    for one in executions:
        assert datetime.fromisoformat(one["claimed_at"]) >= datetime.fromisoformat(one["fire_time"]), one


@pytest.mark.etcd
@pytest.mark.slow
@pytest.mark.untraced
def test_one_after_the_other(daemons: list[Daemon], old_code: Path) -> None:
    for daemon in daemons:
        daemon.start(old_code)
    for name, text in LOAD.items():
        daemons[0].submit(name, text)
    until(lambda: all(len(daemons[0].history(name)) > 3 for name in LOAD))
    for position, daemon in enumerate(daemons):
        daemon.stop()
        daemon.start(ROOT)
        until(lambda daemon=daemon: len(daemon.ask("GET", "status")["schedulers"]) == len(daemons))  # type: ignore[misc]
        time.sleep(3)
        old = NAMES[position + 1 :]
        for name, text in NEW.items() if old else ():
            said = daemon.refusal(name, text)
            assert all(f"the scheduler on {one} (an older one) cannot read" in said for one in old), said
        for name in LOAD:
            check(daemons[0], name)
    # When the last old one has gone, what is new is taken in, and fires.
    for name, text in NEW.items():
        daemons[0].submit(name, text)
    until(lambda: all(len(daemons[2].history(name)) > 2 for name in NEW))
    for name in (*LOAD, *NEW):
        check(daemons[1], name)
    assert daemons[0].ask("GET", "status")["notes"] == []


@pytest.mark.slow
@pytest.mark.untraced
def test_alone_on_its_own_file(old_code: Path, tmp_path: Path) -> None:
    """A daemon on SQLite is stopped, and today's is started over what it has left; and the other way round."""
    (port,) = free_ports(1)
    daemon = Daemon(tmp_path / "m1", "m1", "sqlite:", port)
    try:
        for code in (old_code, ROOT, old_code, ROOT):
            daemon.start(code)
            if code is old_code and not (tmp_path / "submitted").exists():
                (tmp_path / "submitted").touch()
                for name, text in LOAD.items():
                    daemon.submit(name, text)
            before = {name: len(daemon.history(name)) for name in LOAD}
            until(lambda before=before: all(len(daemon.history(name)) > before[name] + 2 for name in LOAD))  # type: ignore[misc]
            for name in LOAD:
                check(daemon, name)
            daemon.stop()
    finally:
        daemon.stop()
