"""go-etcd-cron, the library in Go that Dapr schedules with: driven by a program of ours in `go_etcd_cron/`.

Its module is not on the usual proxy. `XCHRONOS_GO_ETCD_CRON` names its source tree (the figures in the documentation are
those of 2026-04-30), and Go 1.24 or newer builds the program. Where one of them is missing, ours is shown alone.
"""

import os
import shutil
import subprocess
import tempfile
import time
from datetime import timedelta
from functools import cache
from pathlib import Path

from tests.benchmarks.daemons import ROOT, Talking

VARIABLE = "XCHRONOS_GO_ETCD_CRON"
NAME = "go-etcd-cron"
PROGRAM = ROOT / "tests/benchmarks/go_etcd_cron"


def missing() -> str:
    """Why go-etcd-cron cannot be measured here; empty when it can."""
    source = os.environ.get(VARIABLE, "")
    if not source:
        return f"{VARIABLE} names no source tree of {NAME}"
    if not (Path(source) / "go.mod").is_file():
        return f"{VARIABLE} is {source}, and there is no go.mod"
    return "" if shutil.which("go") else f"there is no Go to build {NAME} with"


@cache
def built(source: str) -> tuple[str, tempfile.TemporaryDirectory[str]]:
    """The program, built with the library of a source tree; it is removed with the directory that comes with it."""
    place = tempfile.TemporaryDirectory()
    for name in ("main.go", "go.mod"):
        shutil.copy(PROGRAM / name, place.name)
    replaced = f"github.com/diagridio/go-etcd-cron={Path(source).resolve()}"
    for command in (
        ("go", "mod", "edit", "-replace", replaced),
        ("go", "mod", "tidy"),
        ("go", "build", "-o", "peer", "."),
    ):
        done = subprocess.run(command, cwd=place.name, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-1000:]}")
    return f"{place.name}/peer", place


class Theirs(Talking):
    """One instance of go-etcd-cron on an etcd; `probe` has it add one job after another, to see when it is on time."""

    def __init__(self, endpoint: str, directory: Path, *, probe: bool = False) -> None:
        directory.mkdir(exist_ok=True)
        program, _ = built(os.environ[VARIABLE])
        super().__init__([program, "-endpoint", endpoint, *(["-probe"] if probe else [])], directory / "log")

    def add(self, count: int, due: float, step: float, every: float | None) -> None:
        """See `Side.add`."""
        found = self.ask(
            "add", prefix="u", count=count, par=16, due_ns=round(due * 1e9), step_ns=round(step * 1e9),
            every=f"{timedelta(seconds=every) // timedelta(milliseconds=1)}ms" if every is not None else "",
        )  # fmt: skip
        if found["failed"]:
            raise RuntimeError(f"{found['failed']} of {count} jobs could not be added")

    def ready(self, jobs: int) -> None:
        """What has been added it knows."""

    def recorded(self, jobs: int) -> float:
        """A job that has run is removed."""
        found = self.ask("waitempty", prefix="u", secs=120.0)
        if found["left"]:
            raise TimeoutError(f"{found['left']} of {jobs} jobs are not recorded")
        return float(found["at"])

    def on_time(self, limit: float) -> float:
        """When a probe was first so few seconds late at most."""
        end = time.monotonic() + 120.0
        while time.monotonic() < end:
            for said in list(self.told):
                if said["ev"] == "probe" and said["late_ms"] <= limit * 1e3:
                    return float(said["at"])
            time.sleep(0.01)
        raise TimeoutError("no probe is on time")
