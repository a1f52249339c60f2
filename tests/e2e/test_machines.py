"""Machines of a real cluster, as their owners handle them: daemons on one etcd, Docker steps, xchronosctl."""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.house import House, eventually

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("busybox_image")]

PATIENCE = 60.0


class Fleet:
    """Daemons over one etcd; the first one that runs is asked."""

    def __init__(self, root: Path, store: str) -> None:
        self.root = root
        self.store = store
        self.houses: dict[str, House] = {}

    def house(self, machine: str, *, state: str = "", **metadata: str) -> House:
        """A daemon that is not started yet."""
        root = self.root / (state or machine)
        root.mkdir()
        house = House(root)
        house.environment |= {
            "XCHRONOS_STORE": self.store,
            "XCHRONOS_MACHINE_ID": machine,
            "XCHRONOS_METADATA": ",".join(f"{key}={value}" for key, value in metadata.items()),
            "XCHRONOS_HEARTBEAT_TTL": "10s",
            "XCHRONOS_SHUTDOWN_GRACE": "2s",
        }
        return house

    def join(self, machine: str, **metadata: str) -> House:
        house = self.houses[machine] = self.house(machine, **metadata)
        house.start()
        return house

    def leave(self, machine: str) -> None:
        assert self.houses.pop(machine).terminate() == 0

    @property
    def any(self) -> House:
        return next(iter(self.houses.values()))

    def submit(self, name: str, fleet: str = "", chronos: str = "", service: str = "Restart=always") -> None:
        text = (
            f"[Service]\nExecStart=/bin/sleep 1000\nKillSignal=SIGKILL\n{service}\n"
            f"[Container]\nImage=xchronos/busybox\nNetwork=none\n[X-Fleet]\n{fleet}\n[X-Chronos]\n{chronos}\n"
        )
        done = self.any.ctl("submit", "--name", name, "-", stdin=text.encode())
        assert done.returncode == 0, done.stderr

    def executions(self) -> list[dict[str, Any]]:
        return self.any.executions()

    def where(self) -> dict[str, list[str]]:
        """The machines on which each unit runs now."""
        found = defaultdict(list)
        for execution in self.executions():
            current = execution.get("current", {})
            if execution["state"] == "running" and "leave" not in current:
                found[execution["unit"]].append(current["machine"])
        return {unit: sorted(machines) for unit, machines in found.items()}

    def waiting(self) -> dict[str, str]:
        """Why each unit's waiting executions wait."""
        return {e["unit"]: e["reason"] for e in self.executions() if e["state"] == "waiting"}

    def reaches(self, **wanted: list[str]) -> None:
        """Wait until the units run on these machines, by the names' first parts, and nowhere else."""
        expected = {f"{name}.service": machines for name, machines in wanted.items()}
        seen: list[dict[str, list[str]]] = []

        def there() -> bool:
            seen.append(self.where())
            return {unit: seen[-1].get(unit, []) for unit in expected} == expected

        try:
            eventually(there, PATIENCE, 0.3)
        except AssertionError:
            raise AssertionError(f"expected {expected}, last seen {seen[-1]}; waiting: {self.waiting()}") from None

    def machines(self) -> dict[str, dict[str, Any]]:
        listed = json.loads(self.any.text("list-machines", "--output", "json"))
        return {machine["id"]: machine for machine in listed}

    def alive(self) -> list[str]:
        return sorted(name for name, machine in self.machines().items() if machine["state"] not in ("down", "gone"))


@pytest.fixture
def fleet(tmp_path: Path, make_etcd) -> Iterator[Fleet]:
    """A cluster without a daemon yet; when it ends well, nothing is left in etcd but who was there."""
    etcd = make_etcd(1)
    found = Fleet(tmp_path, "etcd://" + ",".join(endpoint.removeprefix("http://") for endpoint in etcd.endpoints))
    try:
        yield found
        for unit in json.loads(found.any.text("list-units", "--output", "json")):
            found.any.text("destroy", unit["name"])
        eventually(lambda: not found.executions(), PATIENCE)
        for machine in sorted(found.houses, reverse=True):
            found.leave(machine)
        left = etcd.ctl("get", "--prefix", "/xchronos", "--keys-only").stdout.split()
        assert [key for key in left if not key.startswith("/xchronos/var/machines/")] == []
    finally:
        for house in found.houses.values():
            house.close()
        for log in sorted(tmp_path.glob("*/xchronosd.log")):
            print(f"--- {log.parent.name}\n{log.read_text()[-3000:]}")


def test_who_runs_where(fleet: Fleet) -> None:
    fleet.join("m1", region="us-east-1", diskType="SSD")
    fleet.join("m2", region="us-east-1")

    # Three copies on two machines, then on three, and never a fourth; one on every machine, also on those that join.
    fleet.submit("three.service", chronos="Availability=3")
    fleet.submit("all.service", "Global=true")
    fleet.reaches(three=["m1", "m2"], all=["m1", "m2"])
    assert fleet.waiting() == {"three.service": "1 unplaced: 2 machines already run a copy"}
    assert "1 unplaced: 2 machines already run a copy" in fleet.any.text("explain", "three.service")
    fleet.join("m3", region="us-west-1", diskType="SSD")
    fleet.reaches(three=["m1", "m2", "m3"], all=["m1", "m2", "m3"])
    fleet.join("m4", diskType="HDD")
    fleet.reaches(all=["m1", "m2", "m3", "m4"])
    fleet.reaches(three=["m1", "m2", "m3"])
    assert fleet.waiting() == {}

    # A clean leave is immediate, long before its lease would end.
    fleet.leave("m4")
    assert fleet.alive() == ["m1", "m2", "m3"]
    fleet.reaches(all=["m1", "m2", "m3"])
    for name in ("three.service", "all.service"):
        fleet.any.text("destroy", name)

    # Metadata: OR within a key, AND across keys.
    pairs = 'MachineMetadata="region=us-east-1" "diskType=SSD"\nMachineMetadata=region=us-west-1\nGlobal=true'
    fleet.submit("table.service", pairs)
    fleet.reaches(table=["m1", "m3"])
    fleet.any.text("destroy", "table.service")

    # Five units that conflict with one another, on three machines.
    for n in range(5):
        fleet.submit(f"conflict.{n}.service", "Conflicts=conflict.*.service")
    eventually(lambda: len(fleet.where()) == 3, PATIENCE)
    placed = fleet.where()
    assert sorted(machine for machines in placed.values() for machine in machines) == ["m1", "m2", "m3"]
    reasons = fleet.waiting()
    assert len(reasons) == 2
    for unit, reason in reasons.items():
        assert reason.startswith("1 unplaced: 1 machine is taken by a conflict with conflict.")
        assert "is taken by a conflict with conflict." in fleet.any.text("explain", unit)
    gone = min(placed)
    fleet.any.text("destroy", gone)
    eventually(lambda: len(fleet.waiting()) == 1 and len(fleet.where()) == 3, PATIENCE)
    assert sorted(machine for machines in fleet.where().values() for machine in machines) == ["m1", "m2", "m3"]
    for unit in sorted(set(placed) | set(reasons)):
        if unit != gone:
            fleet.any.text("destroy", unit)

    # A pair moves together, when the machine of one does not fit any more.
    fleet.submit("web.service", "MachineMetadata=diskType=SSD")
    fleet.submit("logger.service", "MachineOf=web.service")
    eventually(lambda: set(fleet.where()) == {"web.service", "logger.service"}, PATIENCE)
    (first,) = fleet.where()["web.service"]
    (other,) = {"m1", "m3"} - {first}
    fleet.reaches(web=[first], logger=[first])
    assert fleet.any.text("machine", "set", first, "diskType=HDD") == f"{first}: changed\n"
    fleet.reaches(web=[other], logger=[other])
    fleet.any.text("machine", "unset", first, "diskType")
    assert "diskType" not in fleet.machines()[first]["metadata"]
    fleet.any.text("machine", "set", first, "diskType=SSD")


def test_machines_as_their_owners_handle_them(fleet: Fleet) -> None:
    fleet.join("m1")
    fleet.join("m2", disk="ssd")
    ctl = fleet.any.text

    # A cordon keeps what is new away, and says why.
    assert ctl("machine", "cordon", "m2", "--reason", "noise") == "m2: cordoned\n"
    fleet.submit("kept.service")
    fleet.submit("quick.service", service="Type=oneshot\nExecStart=/bin/sleep 2")
    fleet.submit("long.service", service="Type=oneshot\nExecStop=/bin/echo stopping")
    ctl("start", "long.service")
    fleet.reaches(kept=["m1"], long=["m1"])
    assert "cordoned: noise" in ctl("machine", "show", "m2")
    ctl("machine", "uncordon", "m2")

    # A drain moves at once what is kept running, and at the deadline what still runs.
    drained = fleet.houses["m2"].ctl("machine", "drain", "m1", "--deadline", "8s", "--wait", "--reason", "new disk")
    assert (drained.returncode, drained.stdout) == (0, b"m1: draining\nm1: drained\n"), drained.stderr
    fleet.reaches(kept=["m2"], long=["m2"])
    assert fleet.machines()["m1"]["state"] == "drained"
    (long,) = [e for e in fleet.executions() if e["unit"] == "long.service"]
    (first,) = long["attempts"]
    assert (first["machine"], first["outcome"], first["reason"]) == ("m1", "lost", "m1 is being drained: new disk")
    assert long["current"]["number"] == 2
    status = ctl("status", "long.service")
    assert "attempt 1 on m1: lost" in status
    ctl("machine", "uncordon", "m1")

    # The id of a machine that is there is refused, clearly and at once; so is another daemon with a copy of its state.
    double = fleet.house("m2", state="double")
    done = _daemon(double)
    assert done.returncode == 1
    said = (done.stdout + done.stderr).decode()
    assert "machine id 'm2' is in use by another machine" in said
    assert "give this one an id of its own (--machine-id)" in said
    assert "Traceback" not in said
    assert fleet.alive() == ["m1", "m2"]

    # What is wanted of a machine outlives its daemon.
    ctl("machine", "set", "m2", "disk=nvme", "zone=b")
    ctl("machine", "cordon", "m2")
    fleet.leave("m2")
    fleet.reaches(kept=["m1"], long=["m1"])
    gone = fleet.machines()["m2"]
    assert (gone["state"], gone["metadata"], gone["cordoned"]) == ("down", {"disk": "nvme", "zone": "b"}, True)
    again = fleet.houses["m2"] = double
    again.environment["XCHRONOS_METADATA"] = "disk=ssd,rack=4"
    again.start()
    found = fleet.machines()["m2"]
    assert (found["state"], found["metadata"]) == ("cordoned", {"disk": "nvme", "zone": "b", "rack": "4"})
    refused = fleet.houses["m1"].ctl("machine", "forget", "m2")
    assert (refused.returncode, b"m2 is alive: stop its daemon first" in refused.stderr) == (1, True)
    fleet.leave("m2")
    assert fleet.houses["m1"].text("machine", "forget", "m2") == "m2: forgotten\n"
    assert sorted(fleet.machines()) == ["m1"]
    assert fleet.houses["m1"].ctl("machine", "show", "m2").returncode == 3


def _daemon(house: House) -> "subprocess.CompletedProcess[bytes]":
    """Run a daemon that is to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "xchronos", "daemon"],
        env=house.environment, capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
