"""The guardian in this process: its state, its strikes, and an engine that refuses or does not answer."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.agent.guardian_bench import FakeEngine
from xchronos.agent.guardian import process
from xchronos.executors.hostfacts import boot_id


def test_it_needs_the_standard_library_only() -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); import xchronos.agent.guardian.process;"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] not in sys.stdlib_module_names))"
    )
    root = str(Path(process.__file__).parents[3])
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code, root], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(
        ["__main__", "xchronos", "xchronos.agent", "xchronos.agent.guardian", "xchronos.agent.guardian.process",
         "xchronos.executors", "xchronos.executors.hostfacts", "xchronos.executors.process",
         "xchronos.executors.process.earlier", "xchronos.executors.process.table", "xchronos.executors.process.tree"]
    )  # fmt: skip


def test_a_torn_state_is_no_state(tmp_path: Path) -> None:
    whole = process.written(12345, over=True, boot=boot_id())
    path = tmp_path / "state"
    for data, wanted in (
        (whole, (12345, True, boot_id().replace("-", ""))),
        (whole[:-1], None),
        (b"", None),
        (bytes([whole[0] ^ 1]) + whole[1:], None),
    ):
        path.write_bytes(data)
        descriptor = os.open(path, os.O_RDONLY)
        assert process.read(descriptor) == wanted
        os.close(descriptor)


def test_a_strike_kills_removes_and_comes_back_for_what_is_left(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path / "docker.sock")
    try:
        (tmp_path / "state").write_bytes(process.written(1, over=False, boot=boot_id()))
        watcher = process.Guardian(str(tmp_path), f"unix://{tmp_path}/docker.sock", "n", "o", "")
        engine.containers = [
            {"Id": "runs", "State": "running"},
            {"Id": "pauses", "State": "paused"},
            {"Id": "created", "State": "created"},
            {"Id": "over", "State": "exited"},
        ]
        engine.stubborn = True
        assert watcher.strike()
        engine.stubborn = False
        engine.asked.clear()
        assert watcher.strike()
        assert sorted(engine.asked) == [
            "DELETE /containers/created",
            "GET /containers/json",
            "POST /containers/pauses/kill",
            "POST /containers/runs/kill",
        ]
        assert not watcher.strike()
        engine.asked.clear()
        engine.containers = [{"Id": "runs", "State": "running"}]
        (tmp_path / "state").write_bytes(process.written(process.now() + 10**12, over=False, boot=boot_id()))
        assert watcher.strike(), "put off as it looked round"
        assert engine.asked == ["GET /containers/json"]
        engine.containers = []
        (tmp_path / "state").write_bytes(process.written(1, over=False, boot=boot_id()))
        watcher.run()  # the deadline has passed, nothing is left, and there is no agent
    finally:
        engine.close()


def test_what_is_put_off_while_it_gets_no_processor_has_not_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_bytes(process.written(100, over=False, boot=boot_id()))
    watcher = process.Guardian(str(tmp_path), "", "n", "o", "")
    times = [90]
    monkeypatch.setattr(process, "now", lambda: times[-1])
    read = process.read

    def slowly(descriptor: int) -> tuple[int, bool, str] | None:
        known = read(descriptor)
        times.append(110)  # long enough for an agent to put it off, and for the old deadline to pass
        return known

    monkeypatch.setattr(process, "read", slowly)
    assert not watcher._strikes()
    assert watcher._strikes()


def test_its_mark_tells_when_it_has_struck(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(process.written(1, over=False, boot=boot_id()))
    watcher = process.Guardian(str(tmp_path), "", "n", "o", "")
    mark, boot = os.open(tmp_path / "mark", os.O_RDWR), boot_id().replace("-", "")
    assert process.marked(mark, boot) is None
    before = time.monotonic_ns()
    assert watcher._strikes()
    at = process.marked(mark, boot)
    assert at is not None
    assert before <= at <= time.monotonic_ns()
    assert process.marked(mark, "00" * 16) is None, "of another boot"
    # One that is being written is read again.
    whole = os.pread(mark, 100, 0)
    os.pwrite(mark, bytes([whole[0] ^ 1]) + whole[1:], 0)
    threading.Timer(0.05, os.pwrite, (mark, whole, 0)).start()
    assert process.marked(mark, boot) == at
    os.close(mark)


def test_an_engine_that_does_not_answer_is_asked_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").write_bytes(process.written(1, over=False, boot=boot_id()))
    watcher = process.Guardian(str(tmp_path), f"unix://{tmp_path}/nobody.sock", "n", "o", str(tmp_path / "none"))
    assert watcher.strike()
    assert watcher.strike()
    assert capfd.readouterr().err.count("FileNotFoundError") == 1, "said once"
    with pytest.raises(OSError, match="refused"):
        process.call("tcp://127.0.0.1:1", "GET", "/")


def test_while_an_agent_is_there_it_stays(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(process.written(1, over=False, boot=boot_id()))
    watcher = process.Guardian(str(tmp_path), "", "n", "o", "")
    agent = os.open(tmp_path / "agent", os.O_RDWR)
    assert process.locked(agent)
    assert not watcher._alone(1)
    os.close(agent)
    assert not watcher._alone(0), "the deadline was put off meanwhile"
    assert watcher._alone(1)
