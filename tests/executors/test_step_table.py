"""The table of host steps: what a slot says, what is torn, what is cut, and what the guardian has forbidden."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xchronos.executors.hostfacts import boot_id
from xchronos.executors.process import table
from xchronos.executors.process.table import Ended, StepRecord, StepTable, packed

BOOT = boot_id().replace("-", "")


def record(step: str = "start-0") -> StepRecord:
    return StepRecord("u.service/20260101T000000.000000Z/0", 1, step, "mixed", "stop", BOOT, 7)


def test_a_slot_says_what_was_written_into_it(tmp_path: Path) -> None:
    steps = StepTable(str(tmp_path / "table"))
    assert (steps.grow(), steps.grow(), len(steps)) == (64, 128, 128)
    assert list(steps.entries()) == []
    steps.claim(100, packed(record()))
    assert [(slot, entry.record, entry.pid, entry.ended) for slot, entry in steps.entries()] == [
        (100, record(), 0, None)
    ]
    steps.hold(100, 4711, 12)
    steps.runs(100, 4712)
    ended = Ended(-1, 9, True, 1, 2, True, 3, "ä'\"")
    steps.end(100, packed(record()), ended)
    entry = steps.read(100)
    assert entry is not None
    assert (entry.pid, entry.ticks, entry.program, entry.ended) == (4711, 12, 4712, ended)
    steps.claim(100, packed(record("other")))
    entry = steps.read(100)
    assert entry is not None
    assert (entry.record.step, entry.pid, entry.program, entry.ended) == ("other", 0, 0, None)
    steps.free(100)
    assert steps.read(100) is None
    steps.close()
    steps.close()


def test_the_table_is_the_daemons_alone(tmp_path: Path) -> None:
    StepTable(str(tmp_path / "table")).close()
    assert (tmp_path / "table").stat().st_mode & 0o077 == 0


def test_a_claim_that_is_torn_is_none(tmp_path: Path) -> None:
    steps = StepTable(str(tmp_path / "table"))
    steps.grow()
    steps.claim(0, packed(record()))
    os.pwrite(steps.descriptor, b"x", 60)
    assert steps.read(0) is None
    steps.claim(1, packed(record()))
    steps.end(1, packed(record()), Ended(0, 0, True, 1, 2, True, 3, ""))
    os.pwrite(steps.descriptor, b"x", table.SLOT + table._RECORD_AT + len(packed(record())) + 10)
    entry = steps.read(1)
    assert entry is not None
    assert entry.ended is None
    steps.close()


@pytest.mark.parametrize("letter", ["x", "ä", "\udcff", '"'])
def test_a_long_reason_is_cut(tmp_path: Path, letter: str) -> None:
    steps = StepTable(str(tmp_path / "table"))
    steps.grow()
    steps.claim(0, packed(record()))
    steps.end(0, packed(record()), Ended(200, 0, False, 10**18, 10**18, True, 10**12, letter * 5000))
    entry = steps.read(0)
    assert entry is not None
    assert entry.ended is not None
    assert entry.ended.reason.startswith(("\ufffd" if letter == "\udcff" else letter) * 15)
    assert entry.ended.reason.endswith("...")
    assert steps.read(1) is None, "its neighbour"
    steps.close()


def test_the_longest_unit_name_fits_and_a_longer_one_is_refused() -> None:
    longest = f"{'u' * 247}.service/20260101T000000.000000Z/99999"
    assert packed(StepRecord(longest, 10**9, "exec-condition-255", "control-group", "continue", BOOT, 10**18))
    with pytest.raises(ValueError, match="too long for a host process"):
        packed(StepRecord(longest * 3, 1, "start-0", "mixed", "stop", BOOT, 1))


def test_what_was_permitted_before_a_strike_is_forbidden(tmp_path: Path) -> None:
    notice, boot = str(tmp_path / "struck"), BOOT
    assert not table.struck(notice, boot, 1)
    table.strike(notice, boot)
    assert table.struck(notice, boot, 1)
    assert not table.struck(notice, boot, 1 << 62)
    assert not table.struck(notice, "00" * 16, 1), "of another boot"
    Path(notice).write_bytes(b"torn")
    assert not table.struck(notice, boot, 1)


def test_it_needs_the_standard_library_only() -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); import xchronos.executors.process.launcher;"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] not in sys.stdlib_module_names))"
    )
    root = str(Path(table.__file__).parents[3])
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code, root], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(
        ["__main__", "xchronos", "xchronos.executors", "xchronos.executors.process",
         "xchronos.executors.process.launcher", "xchronos.executors.process.table",
         "xchronos.executors.process.wrapper"]
    )  # fmt: skip
