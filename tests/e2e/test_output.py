"""A container's output while the daemon itself stands still: nobody waits for it, and what is kept has no hole."""

import re
import signal
from pathlib import Path

import pytest

from tests.e2e.house import House, eventually, moment

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.usefixtures("busybox_image")]

LINES = 100_000
"""Lines of 1,000 bytes: 100 MB in all."""

LIMIT = 1 << 20

UNIT = """[Service]
Type=oneshot
ExecStart=/bin/sh /shared/write
[Container]
Image=xchronos/busybox
Network=none
Volume={shared}:/shared
{more}
"""

SCRIPT = f"""
write() {{ awk -v from=$1 -v to=$2 'BEGIN {{ for (i = from; i < to; i++) printf "%0999d\\n", i }}'; }}
write 0 {LINES // 2}
touch /shared/half
while [ ! -e /shared/go ]; do sleep 0.05; done
write {LINES // 2} {LINES}
touch /shared/done
"""

NOTE = re.compile(rb"^\[xchronos: .*\]\n", re.MULTILINE)
DROPPED = re.compile(rb"^\[xchronos: output is limited to %d bytes; its beginning was dropped: (?:at least )?(\d+) bytes\]$" % LIMIT)  # fmt: skip


@pytest.mark.parametrize("more", ["", "LogDriver=none"], ids=["engine's log", "attached"])
def test_a_stopped_daemon_holds_up_no_job_and_keeps_the_end_of_its_output(
    house: House, tmp_path: Path, more: str
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "write").write_text(SCRIPT)
    house.environment["XCHRONOS_LOG_LIMIT"] = str(LIMIT)
    house.start()
    text = UNIT.format(shared=shared, more=more)
    done = house.ctl("submit", "--name", "loud.service", "-", stdin=text.encode())
    assert done.returncode == 0, done.stderr
    house.text("start", "loud.service")
    eventually((shared / "half").exists)
    assert house.process is not None
    house.process.send_signal(signal.SIGSTOP)
    try:
        (shared / "go").touch()
        eventually((shared / "done").exists)  # with the daemon stopped: the job does not wait for who reads it
    finally:
        house.process.send_signal(signal.SIGCONT)
    (execution,) = eventually(lambda: house.ended("loud.service"))
    assert execution["outcome"] == "succeeded"
    key = moment(execution["fire_time"]).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = house.ctl("logs", f"loud.service/{key}/0").stdout
    first, *_ = kept.split(b"\n", 1)
    said = DROPPED.match(first)
    assert said, first
    rest = NOTE.split(kept)[-1]
    last = b"".join(b"%0999d\n" % number for number in range(LINES - LIMIT // 1000 - 1, LINES))
    assert last.endswith(rest)
    assert LIMIT // 2 <= len(rest) <= LIMIT
    assert int(said[1]) + len(rest) <= 1000 * LINES
