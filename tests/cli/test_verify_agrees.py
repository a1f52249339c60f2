"""`verify` says what `submit` would say, of every file: the same problems at the same lines, and the same exit code."""

from pathlib import Path

import pytest

from tests.data.bad_units import BAD_UNITS
from xchronos.limits import UNIT_BYTES
from xchronos.model.records import Machine

RUN = b"[Service]\nExecStart=/bin/true\n"
BOX = b"[Container]\nImage=box\n"
FILES = [
    *((name, text) for name, text, _, _ in BAD_UNITS if len(text) <= UNIT_BYTES),
    ("process.service", RUN),
    ("box.service", RUN + BOX),
    ("docker.service", b"[Service]\nExecStart=docker ps\n"),
    ("template@.service", RUN),
    ("instance@eu.service", RUN + b"[X-Chronos]\nPayload=%i\n"),
    ("warned.service", b"[Unit]\nAfter=a.service\n[Service]\nExecStart=/bin/true\nNice=5\nRestartSec=3\n"),
    ("over.service", RUN + b"[X-Chronos]\nTriggerAt=2020-01-01T00:00:00Z\n"),
    ("http.service", RUN + b"[X-Chronos]\nExecutor=http\n"),
    ("python.service", RUN + b"[X-Chronos]\nExecutor=python\n"),
    ("class.service", RUN + b"[X-Chronos]\nTriggerClass=of_the_daemon:Hourly\n"),
    ("store.service", RUN + BOX + b"[X-Chronos]\nJobStore=etcd\n"),
    ("shell.service", b"[Service]\nExecStart=|echo x | cat\n" + BOX),
    ("a.timer", b"[Timer]\nOnCalendar=daily\n"),
    ("a.socket", b"[Socket]\n"),
    ("nosuffix", RUN),
    ("masked.service", b""),
    ("bad name.service", RUN),
]  # fmt: skip


@pytest.mark.parametrize("machines", [(), ((),), (("docker", "process", "python"),)], ids=["none", "docker", "all"])
def test_they_agree(ctl, daemon, tmp_path: Path, machines) -> None:
    for number, executors in enumerate(machines):
        machine = Machine(f"m{number}", executors=executors)
        daemon.run(daemon.cluster.put(daemon.cluster.registry.keys.machine(machine.id), machine))
    for name, text in FILES:
        path = tmp_path / name
        path.write_bytes(text)
        verified, submitted = ctl("verify", str(path)), ctl("submit", str(path))
        assert (verified.exit_code, verified.stderr) == (submitted.exit_code, submitted.stderr), name
