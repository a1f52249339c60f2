"""Machines that lose the store, for real: paused daemons, a paused etcd, real containers, and docker as the witness."""

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.house import House, eventually, listed, moment
from tests.services.etcd import EtcdCluster

pytestmark = [pytest.mark.slow, pytest.mark.etcd, pytest.mark.docker, pytest.mark.usefixtures("busybox_image")]

TTL = 6
RUN = uuid.uuid4().hex[:8]
STOP, GOES_ON = f"stop-{RUN}.service", f"goes-on-{RUN}.service"
"""Several runs may share one engine."""


class Pair:
    """Two daemons with all roles over one etcd."""

    def __init__(self, root: Path, etcd: EtcdCluster, ttl: int = TTL) -> None:
        self.etcd = etcd
        self.houses: dict[str, House] = {}
        for machine in ("m1", "m2"):
            (root / machine).mkdir()
            house = self.houses[machine] = House(root / machine, "--allow-process")
            house.environment |= {
                "XCHRONOS_STORE": "etcd://" + ",".join(url.partition("://")[2] for url in etcd.endpoints),
                "XCHRONOS_MACHINE_ID": machine,
                "XCHRONOS_HEARTBEAT_TTL": f"{ttl}s",
                "XCHRONOS_SHUTDOWN_GRACE": "1s",
            }
            house.start()

    def other(self, machine: str) -> str:
        return next(name for name in self.houses if name != machine)

    def run(self, asked: str, name: str, chronos: str, seconds: int = 300, fleet: str = "") -> None:
        text = (
            f"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'trap \"exit 0\" TERM; sleep {seconds} & wait'\n"
            f"[Container]\nImage=xchronos/busybox\nNetwork=none\n[X-Fleet]\n{fleet}\n[X-Chronos]\n{chronos}\n"
        )
        done = self.houses[asked].ctl("submit", "--name", name, "-", stdin=text.encode())
        assert done.returncode == 0, done.stderr
        self.houses[asked].text("start", name)

    def running(self, asked: str, unit: str, number: int = 1) -> dict[str, Any]:
        """The execution of a unit, once its attempt of this number runs in a container."""

        def there() -> dict[str, Any] | None:
            (execution,) = self.houses[asked].executions(unit)
            current = execution.get("current", {})
            if execution["state"] != "running" or current["number"] != number:
                return None
            attempts = [c["Config"]["Labels"]["xchronos.attempt"] for c in inspected(unit) if c["State"]["Running"]]
            return execution if str(number) in attempts else None

        found = eventually(there)
        assert found is not None
        return found

    def given_up(self, machine: str) -> datetime:
        """Wait until etcd has ended the machine's lease; when that was, a moment late at most."""

        def gone() -> bool:
            return not self.etcd.ctl("get", f"/xchronos/etc/executors/{machine}", "--keys-only").stdout.strip()

        eventually(gone, 3 * TTL, 0.02)
        return datetime.now(UTC)

    def close(self) -> None:
        for house in self.houses.values():
            if house.process is not None and house.process.poll() is None:
                os.kill(house.process.pid, signal.SIGCONT)
            house.close()


def inspected(unit: str) -> list[dict[str, Any]]:
    """What docker knows of a unit's containers, the eldest first."""
    ids = listed(f"xchronos.unit={unit}")
    if not ids:
        return []
    done = subprocess.run(["docker", "inspect", *ids], capture_output=True, check=False)
    return sorted(json.loads(done.stdout or b"[]"), key=lambda found: found["Created"])


def finished(container: str) -> datetime | None:
    """When a container ended, by docker; None while it runs. One that is removed already has left that event."""
    done = subprocess.run(["docker", "inspect", container], capture_output=True, check=False)
    if done.returncode:
        died = ["docker", "events", "--since", "10m", "--until", "0s", "--format", "{{.TimeNano}}"]
        wanted = ["--filter", f"container={container}", "--filter", "event=die"]
        told = subprocess.run([*died, *wanted], capture_output=True, check=True).stdout.split()
        return datetime.fromtimestamp(int(told[-1]) / 1e9, UTC)
    state = json.loads(done.stdout)[0]["State"]
    return None if state["Running"] else moment(state["FinishedAt"][:26] + "Z")


@pytest.fixture
def pair(tmp_path: Path, make_etcd: Callable[..., EtcdCluster], request: pytest.FixtureRequest) -> Iterator[Pair]:
    found = Pair(tmp_path, make_etcd(), getattr(request, "param", TTL))
    yield found
    found.close()
    for machine, house in found.houses.items():
        print(machine, house.log.read_text()[-4000:])
    for unit in (STOP, GOES_ON):
        if left := listed(f"xchronos.unit={unit}"):
            subprocess.run(["docker", "rm", "-f", *left], capture_output=True, check=False)


def test_a_paused_daemon(pair: Pair) -> None:
    pair.run("m1", STOP, "Concurrency=forbid")
    machine = pair.running("m1", STOP)["current"]["machine"]
    other = pair.other(machine)
    (first,) = inspected(STOP)
    paused = pair.houses[machine].process
    assert paused is not None
    os.kill(paused.pid, signal.SIGSTOP)
    given_up = pair.given_up(machine)
    ended = finished(first["Id"])
    assert ended is not None, "its guardian has ended it"
    print(f"killed {(given_up - ended).total_seconds():.2f} s before the lease was seen to have ended")
    assert ended < given_up
    # It runs again elsewhere, and never at the same time.
    pair.running(other, STOP, 2)
    second = inspected(STOP)[-1]
    assert moment(second["State"]["StartedAt"][:26] + "Z") > ended
    assert second["Config"]["Labels"]["xchronos.owner"] != first["Config"]["Labels"]["xchronos.owner"]
    os.kill(paused.pid, signal.SIGCONT)
    # Back, the machine removes what is left, and touches nothing else.
    eventually(lambda: [c["Id"] for c in inspected(STOP)] == [second["Id"]])
    time.sleep(2)
    assert [c["Id"] for c in inspected(STOP)] == [second["Id"]]
    (execution,) = pair.houses[other].executions(STOP)
    assert [attempt["outcome"] for attempt in execution["attempts"]] == ["lost"]
    pair.houses[other].text("stop", STOP)


def test_a_paused_daemon_whose_containers_may_go_on(pair: Pair) -> None:
    pair.run("m2", GOES_ON, "", 45, "MachineID=m1")  # nowhere else: it comes back to where it still runs
    pair.running("m2", GOES_ON)
    ids = [c["Id"] for c in inspected(GOES_ON)]
    paused = pair.houses["m1"].process
    assert paused is not None
    os.kill(paused.pid, signal.SIGSTOP)
    pair.given_up("m1")

    def waits() -> bool:
        (execution,) = pair.houses["m2"].executions(GOES_ON)
        return execution["state"] == "waiting"

    eventually(waits)
    assert [(c["Id"], c["State"]["Running"]) for c in inspected(GOES_ON)] == [(ids[0], True)]
    os.kill(paused.pid, signal.SIGCONT)
    ended = eventually(lambda: pair.houses["m2"].ended(GOES_ON))
    assert ended[0]["outcome"] == "succeeded"
    lost, again = ended[0]["attempts"]
    assert (lost["outcome"], lost["late"]) == ("lost", "succeeded")
    assert [step["container"] for step in lost["steps"]] == ids, "the same container from first to last"
    assert (again["outcome"], again.get("steps", [])) == ("succeeded", [])
    assert again["reason"] == "attempt 1, which had been given up, went on here"


def test_a_killed_daemon_that_comes_back_too_late(pair: Pair) -> None:
    pair.run("m1", STOP, "OnPartition=stop")
    machine = pair.running("m1", STOP)["current"]["machine"]
    other = pair.other(machine)
    (first,) = inspected(STOP)
    pair.houses[machine].kill()
    given_up = pair.given_up(machine)
    ended = finished(first["Id"])
    assert ended is not None
    assert ended < given_up
    pair.running(other, STOP, 2)
    pair.houses[machine].start()
    eventually(lambda: len(inspected(STOP)) == 1)
    assert inspected(STOP)[0]["State"]["Running"]


@pytest.mark.parametrize("pair", [15], indirect=True, ids=["15 s"])  # a busy machine starts a daemon slowly
def test_a_killed_daemon_that_is_back_in_time(pair: Pair) -> None:
    pair.run("m1", STOP, "OnPartition=stop")
    machine = pair.running("m1", STOP)["current"]["machine"]
    (first,) = inspected(STOP)
    pair.houses[machine].kill()
    pair.houses[machine].start()
    time.sleep(15)
    (found,) = inspected(STOP)
    assert (found["Id"], found["State"]["Running"]) == (first["Id"], True)
    (execution,) = pair.houses[machine].executions(STOP)
    assert (execution["state"], execution["current"]["number"]) == ("running", 1)


def test_a_paused_etcd(pair: Pair) -> None:
    pair.run("m1", STOP, "OnPartition=stop")
    pair.run("m1", GOES_ON, "Availability=2", 40)
    pair.running("m1", STOP)
    going = eventually(lambda: found if len(found := inspected(GOES_ON)) == 2 else None)
    assert going is not None
    (first,) = inspected(STOP)
    began = datetime.now(UTC)
    pair.etcd.members[0].pause()
    try:
        ended = eventually(lambda: finished(first["Id"]))
        assert ended is not None
        assert ended < began + timedelta(seconds=TTL)
        # Nobody can be told anything, and says so.
        refused = pair.houses["m1"].ctl("status", STOP)
        assert refused.returncode == 1
        assert b"the job store is not available: etcd at " in refused.stderr, refused.stderr
        time.sleep(max(0.0, 3 * TTL - (datetime.now(UTC) - began).total_seconds()))
        assert [c["Id"] for c in inspected(GOES_ON)] == [c["Id"] for c in going]
        assert all(c["State"]["Running"] for c in inspected(GOES_ON))
        assert len(inspected(STOP)) <= 1, "nothing starts without a durable claim"
    finally:
        pair.etcd.members[0].resume()
    # Everything heals by itself: what went on is recorded as the attempt that it was, what was stopped runs again.
    pair.running("m1", STOP, 2)
    ended_well = eventually(lambda: e if len(e := pair.houses["m2"].ended(GOES_ON)) == 2 else None)
    assert ended_well is not None
    for execution in ended_well:
        assert execution["outcome"] == "succeeded"
        assert [a["outcome"] for a in execution["attempts"]] == ["succeeded"]
