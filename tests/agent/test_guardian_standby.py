"""The guardian outside of the daemon's container: it strikes when the one inside cannot, and only then has to."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.agent.guardian_bench import TTL, Bench, FakeEngine, clean, holder
from xchronos.agent.guardian import process
from xchronos.agent.guardian.process import STATE_POLL, STRIKE_POLL
from xchronos.agent.guardian.standby import Standby
from xchronos.clock import SECOND
from xchronos.executors.hostfacts import boot_id
from xchronos.testing.executors import eventually

PROGRAM = "from xchronos.agent.guardian.standby import main; main()"


def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_it_kills_in_time_when_the_agent_and_its_guardian_are_frozen(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path / "docker.sock")
    engine.containers = [{"Id": "must-end", "State": "running"}]
    # There before the agent has anything to guard, as in a compose file.
    standby = start(XCHRONOS_STATE_DIRECTORY=str(tmp_path))
    bench = Bench(tmp_path, f"unix://{tmp_path}/docker.sock")
    try:
        bench.renew()
        await bench.guardian.ready()
        inside = holder(tmp_path)
        assert inside, "0 would be this process"
        os.kill(inside, signal.SIGSTOP)
        for _ in range(5):
            bench.renew()
            await asyncio.sleep(0.3 * TTL / SECOND)
        assert engine.asked == []
        bench.renew()
        began = time.monotonic()
        await eventually(lambda: "POST /containers/must-end/kill" in engine.asked, 60)
        assert time.monotonic() - began >= 0.8 * TTL / SECOND - 0.1
        assert bench.guardian.struck_since(0), "the agent must not take it for a failure"
        # Another life of the agent, with another owner.
        bench.owner = "other"
        asked = len(engine.asked)
        os.kill(inside, signal.SIGKILL)
        await eventually(lambda: not holder(tmp_path))
        bench.die()
        bench.guardian = bench.new_agent()
        bench.renew()
        await bench.guardian.ready()
        inside = holder(tmp_path)
        assert inside, "0 would be this process"
        os.kill(inside, signal.SIGKILL)
        engine.containers = [{"Id": "the-next", "State": "running"}]
        await eventually(lambda: "POST /containers/the-next/kill" in engine.asked[asked:], 60)
    finally:
        standby.terminate()
        _, told = standby.communicate(timeout=60)
        await clean(bench)
        engine.close()
    assert standby.returncode == 0
    assert told == ""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What an agent leaves: its deadline has passed."""
    (tmp_path / "state").write_bytes(process.written(1, over=False, boot=boot_id()))
    (tmp_path / "settings").write_text(
        f'{{"directory": "/elsewhere", "docker": "unix://{tmp_path}/docker.sock", "namespace": "n", "owner": "o",'
        f' "processes": "{tmp_path}/processes"}}'
    )
    return tmp_path


def test_it_looks_as_often_as_there_is_need(directory: Path) -> None:
    engine = FakeEngine(directory / "docker.sock")
    standby = Standby(directory)
    state = directory / "state"
    try:
        assert standby.look() == STATE_POLL, "nobody is there who could start anything"
        agent = os.open(directory / "agent", os.O_RDWR)
        fcntl.flock(agent, fcntl.LOCK_EX | fcntl.LOCK_NB)  # what looked has let go of it again
        assert standby.look() == STRIKE_POLL
        asked = len(engine.asked)
        in_a_minute = process.now() + 60 * 10**9
        for written, wanted in (
            (process.written(1, over=True, boot=boot_id()), STATE_POLL),
            (process.written(1, over=False, boot="0" * 32), STATE_POLL),
            (process.written(in_a_minute, over=False, boot=boot_id()), STATE_POLL),
            (b"torn", STRIKE_POLL),
        ):
            state.write_bytes(written)
            assert standby.look() == wanted
        state.write_bytes(process.written(process.now() + 10**8, over=False, boot=boot_id()))
        assert 0 < standby.look() <= 0.1
        assert len(engine.asked) == asked
        os.close(agent)
    finally:
        standby.close()
        engine.close()


@pytest.mark.parametrize("replaced", ["settings", "state"])
def test_it_notices_that_its_files_are_others(directory: Path, replaced: str) -> None:
    standby = Standby(directory)
    assert standby.current
    file = directory / replaced
    fresh = directory / "fresh"
    fresh.write_bytes(file.read_bytes())
    fresh.replace(file)
    assert not standby.current
    standby.close()


@pytest.mark.parametrize("arguments", [(), ("relative",), ("/one", "/two")])
def test_it_says_how_it_is_called(arguments: tuple[str, ...]) -> None:
    process = start(*arguments, XCHRONOS_STATE_DIRECTORY="")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.startswith("usage: xchronos-guardian STATE_DIRECTORY")
