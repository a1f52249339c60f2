"""Writes the fixtures of this directory: what the commit 89caaa6 left behind, killed in the middle of its life.

    git worktree add /tmp/old 89caaa6
    cd /tmp/old && python -m venv .venv && .venv/bin/pip install . tzdata
    .venv/bin/python <this file> <this directory>/fixtures

It imports nothing of xchronos but its records (`writing_down.every_field`): daemons are started as
`python -m xchronos daemon` in the current directory, and spoken to by their HTTP API. It needs etcd and etcdctl in
PATH, no Docker engine, and Linux.

`single/` is a daemon of its own on SQLite: its settings, its directory of unit files, its state directory and the rows
of its store. `cluster/` is two machines on one etcd: the keys, and of each machine its settings and its state
directory. How each execution came to be as it is stands in `live`, `end_single` and `end_cluster`.

Nothing of the machine that wrote the fixtures is left in them: its name, where it kept them and when it was booted are
replaced (`writing_down.neutral`), so to whoever opens them their machine was booted since. Rows are written one a line,
values as JSON wherever that gives the very bytes back, else as text or base64.

What has changed in the format of a record since 89caaa6 is no reason to write them anew: that they stay as they are is
what they are for.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.compatibility.old_machine import MACHINES, Machine, etcd_server, until
from tests.compatibility.old_units import DIRECTORY, LATIN, MASKED, scheduled, started
from tests.compatibility.writing_down import (
    ROOT,
    etcd_rows,
    every_field,
    keep_files,
    sqlite_rows,
    write_readings,
    write_rows,
)


def live(machine: Machine, there: str) -> None:
    """What happens in both fixtures before the end; `there` asks for the machine that goes on longest."""
    for name, text in started(there).items():
        machine.submit(name, text.encode())
    machine.submit("latin", LATIN)
    machine.submit("masked", MASKED)
    lose(machine)
    for name, text in scheduled(datetime.now(UTC)).items():
        machine.submit(name, text.encode())
    for name in ("failed", "timed-out", "missed", "skipped", "third-time", "stubborn", "waits", "cancelled"):
        machine.begin(name)
    machine.begin("payload", "from a person")
    for name in ("twice", "crunch", "reported", "stopping", "finishing", "adopted"):
        machine.begin(name)
    for name in ("queue", "queue", "queue", "replace", "replace"):
        machine.begin(name)
        time.sleep(0.3)
    machine.reach("cancelled", "running")
    machine.ask("POST", "units/cancelled.service/stop", {"reason": "it was not needed"})
    for name, outcomes in {
        "failed": ["failed"], "timed-out": ["timed_out"], "missed": ["missed"], "skipped": ["skipped"],
        "third-time": ["succeeded"], "cancelled": ["cancelled"], "waits": ["waiting"], "stubborn": ["delayed"],
        "payload": ["succeeded"], "past": ["succeeded"], "queue": ["running", "queued", "queued"],
        "replace": ["running", "cancelled"], "delayed": ["delayed"],
    }.items():  # fmt: skip
        machine.reach(name, *outcomes)
    until(lambda: len(machine.executions("paused")) > 1)
    machine.ask("POST", "units/paused.service/pause")
    machine.ask("PATCH", "machines/m1/metadata", {"set": {"rack": "7"}, "unset": ["spare"]})
    until(lambda: [e for e in machine.executions("forbid") if e.get("outcome") == "skipped"])


def lose(machine: Machine) -> None:
    """An execution loses its process while its machine takes nothing new: so it is lost for good."""
    machine.begin("lost")
    machine.reach("lost", "running")
    machine.ask("POST", "machines/m1/cordon", {"reason": "for a moment"})
    os.kill(machine.wrapper("lost"), signal.SIGKILL)
    machine.reach("lost", "lost")
    machine.ask("POST", "machines/m1/uncordon")


# -- the two fixtures -------------------------------------------------------------------------------------------------


def end_single(root: Path) -> tuple[Machine, dict[str, Any]]:
    """One daemon, killed and started again on its way; then one that runs but schedules nothing; then none."""
    machine = Machine(root, "m1", f'units = ["{root}/units"]\nmetadata = {{ zone = "a", spare = "yes" }}')
    lay_out(machine.units)
    machine.start()
    machine.submit("gap", scheduled(datetime.now(UTC))["gap"].encode())
    until(lambda: len(machine.executions("gap")) > 1)
    machine.kill()
    time.sleep(4)
    machine.start()
    live(machine, 'MachineMetadata="zone=a"')
    machine.kill()
    machine.start("--roles", "agent,api")
    machine.ask("POST", "units/stopping.service/stop", {"reason": "stopped while nobody scheduled"})
    machine.ask_to_end("reported")
    machine.ask_to_end("crunch")
    for name in ("reported", "crunch", "stopping"):
        machine.reach(name, "reported")
    readings = machine.readings()
    machine.kill()
    readings["killed_at"] = datetime.now(UTC).isoformat()
    # One step ends after its daemon; one goes on, and its wrapper is started again by whoever opens the fixture.
    machine.ask_to_end("finishing")
    until((machine.homes("finishing")[0] / "status").exists)
    machine.end_all()
    (home,) = machine.homes("adopted")
    (home / "claim").unlink()
    return machine, readings


def end_cluster(root: Path, etcd: str) -> tuple[list[Machine], dict[str, Any]]:
    """Two machines; m1 dies first: what its shards have to decide stays undecided, what it is given is not begun."""
    zones = {"m1": '{ zone = "a", spare = "yes" }', "m2": '{ zone = "b" }'}
    machines = [
        Machine(root / name, name, f'store = "{etcd}"\nunits = ["{root / name}/units"]\nmetadata = {zone}')
        for name, zone in zones.items()
    ]
    first, second = machines
    lay_out(first.units)
    second.units.mkdir()
    first.start()
    second.start()
    until(lambda: [len(s["shards"]) for s in first.ask("GET", "status")["schedulers"]] == [8, 8])
    live(first, 'MachineMetadata="zone=b"')
    first.ask("POST", "machines/m2/cordon", {"reason": "its disk is old"})
    first.kill()
    second.begin("given")
    second.reach("given", "placed")
    second.ask("POST", "units/stopping.service/stop", {"reason": "stopped while its machine was away"})
    second.ask_to_end("reported")
    second.ask_to_end("crunch")
    for name in ("reported", "crunch"):
        second.reach(name, "reported")
    readings = second.readings()
    second.kill()
    readings["killed_at"] = datetime.now(UTC).isoformat()
    return machines, readings


def lay_out(units: Path) -> None:
    for name, text in DIRECTORY.items():
        (units / name).parent.mkdir(parents=True, exist_ok=True)
        (units / name).write_text(text)


def end_all() -> None:
    for left in MACHINES:
        left.end_all()


def main(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for name in ("single", "cluster"):
        (target / name).mkdir(parents=True)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as after:
        root = Path(directory)
        after.callback(end_all)
        roots = {str(root): ROOT}
        machine, readings = end_single(root / "single")
        keep_files(machine, target / "single", roots)
        rows, rest = sqlite_rows(machine.state / "xchronos.db", roots)
        write_rows(target / "single/store.jsonl", rows)
        (target / "single/store.sql").write_text(rest)
        write_readings(target / "single/readings.json", readings, roots)
        with etcd_server(root / "etcd") as endpoint:
            machines, readings = end_cluster(root / "cluster", endpoint.replace("http://", "etcd://"))
            write_rows(target / "cluster/store.jsonl", etcd_rows(endpoint, roots))
        for machine in machines:
            machine.end_all()
            # What ran goes on in the store's tests without its processes; what had ended is in `single` as well.
            over = [home.name for home in machine.state.glob("attempts/*/*") if not (home / "scratch").exists()]
            keep_files(machine, target / "cluster" / machine.name, roots, "guardian", "processes", *over)
        del readings["logs"]
        write_readings(target / "cluster/readings.json", readings, roots)
    every_field(target / "every_field.jsonl")
    wrapper = Path("xchronos/executors/process_wrapper.py")
    shutil.copyfile(wrapper, target / "process_wrapper")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
