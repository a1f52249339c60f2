"""The guardian: a real process that kills real processes when their agent cannot."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from tests.agent.guardian_bench import TTL, Bench, holder
from xchronos.agent.guardian import process
from xchronos.agent.guardian.client import GuardianClient
from xchronos.clock import SECOND, SystemClock
from xchronos.executors.contract import FORBIDDEN
from xchronos.executors.hostfacts import boot_id, start_ticks
from xchronos.executors.process import launching
from xchronos.executors.process.table import SLOT, StepRecord, StepTable, packed
from xchronos.testing.executors import eventually, output


async def test_it_waits_for_the_deadline_and_kills_all_that_must_not_outlive_it(bench: Bench) -> None:
    bench.renew()
    await bench.guardian.ready()
    stop = bench.spec("setsid sh -c 'echo $$ > grandchild; exec sleep 300' & echo $$ > child; trap '' TERM; sleep 300")
    stop = msgspec.structs.replace(stop, kill_mode="none", working_directory=str(bench.directory))
    ended = bench.run(stop)
    spared = bench.run(bench.spec("sleep 300", "continue"))
    await eventually(lambda: (bench.directory / "grandchild").exists() and (bench.directory / "child").exists())
    for _ in range(4):
        bench.renew()
        await asyncio.sleep(0.6 * TTL / SECOND)
    bench.renew()
    began = time.monotonic()
    assert not ended.done()
    result = await asyncio.wait_for(ended, 60)
    took = time.monotonic() - began
    assert 0.8 * TTL / SECOND - 0.1 <= took < TTL / SECOND, "dead before the lease can end"
    assert result.signal == "SIGKILL"
    for name in ("child", "grandchild"):
        assert start_ticks(int((bench.directory / name).read_text())) is None
    assert not spared.done()


async def test_what_is_started_too_late_is_not(bench: Bench) -> None:
    bench.renew()
    await bench.guardian.ready()
    assert (await bench.run(bench.spec("echo started"))).code == 0
    launcher = bench.processes._launcher._pid
    os.kill(launcher, signal.SIGSTOP)  # the request is permitted, and on its way
    spec = bench.spec("echo started")
    ended = bench.run(spec)
    await eventually((bench.directory / "processes" / "struck").exists, 60)
    bench.renew()  # the deadline is put off: what was asked before is not permitted again by that
    os.kill(launcher, signal.SIGCONT)
    result = await ended
    assert result.lost
    assert result.reason == FORBIDDEN
    assert output(spec) == ""
    assert (await bench.run(bench.spec("echo started"))).code == 0


async def test_what_is_paused_right_before_its_start_is_not_started(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os, signal, sys; sys.path.append(sys.argv[1]); from xchronos.executors.process import launcher, wrapper\n"
        "spawn = wrapper.spawn\n"
        "def paused(plan): os.kill(os.getpid(), signal.SIGSTOP); return spawn(plan)\n"
        "wrapper.spawn = paused; launcher.main(sys.argv[2])"
    )
    monkeypatch.setattr(launching, "_PROGRAM", program)
    bench.renew()
    await bench.guardian.ready()
    spec = bench.spec("echo started")
    result = await asyncio.wait_for(bench.run(spec), 60)
    assert result.lost
    assert output(spec) == ""


async def test_steps_of_an_earlier_version_are_ended_and_broken_records_do_no_harm(bench: Bench) -> None:
    bystander = subprocess.Popen(["sleep", "300"], start_new_session=True)  # noqa: ASYNC220 - does not block
    wrapper = subprocess.Popen(["sh", "-c", "sleep 300; exit $?"], start_new_session=True)  # noqa: ASYNC220 - as well
    try:
        ticks = start_ticks(bystander.pid)
        assert ticks is not None
        record = {"unit": "u", "execution": "e", "attempt": 1, "step": "s", "kill_mode": "none", "on_partition": "stop"}
        claims = (f"{bystander.pid} {ticks + 1} {boot_id()}", f"{bystander.pid} {ticks} another-boot", "no claim")
        for number, claim in enumerate(claims):
            home = bench.directory / "processes" / f"a{number}" / "start-0"
            home.mkdir(parents=True)
            (home / "record").write_text(json.dumps(record))
            (home / "claim").write_text(claim)
        (bench.directory / "processes" / "b" / "start-0").mkdir(parents=True)
        (bench.directory / "processes" / "b" / "start-0" / "record").write_text("{")
        table = StepTable(str(bench.directory / "processes" / "table"))
        table.grow()
        for slot, (start, boot) in enumerate(((ticks + 1, boot_id().replace("-", "")), (ticks, "00" * 16))):
            table.claim(slot, packed(StepRecord("e", 2, f"s{slot}", "none", "stop", boot, 1)))
            table.hold(slot, bystander.pid, start)
        os.pwrite(table.descriptor, b"XCS2 no claim", 2 * SLOT)
        table.close()
        held = bench.directory / "processes" / "c" / "start-0"
        held.mkdir(parents=True)
        (held / "record").write_text(json.dumps({**record, "attempt": 3}))
        (held / "claim").write_text(f"{wrapper.pid} {start_ticks(wrapper.pid)} {boot_id()}")
        bench.renew()
        await bench.guardian.ready()
        ended = bench.run(bench.spec("sleep 300"))
        assert (await asyncio.wait_for(ended, 60)).signal == "SIGKILL"
        assert bystander.poll() is None
        assert await asyncio.to_thread(wrapper.wait) == 128 + signal.SIGKILL
    finally:
        wrapper.kill()
        await asyncio.to_thread(wrapper.wait)
        bystander.kill()
        await asyncio.to_thread(bystander.wait)
        bench.guardian.end()  # one that still looks round would write into what is removed
        await eventually(lambda: not holder(bench.directory), 60)
        for path in (bench.directory / "processes").glob("[abc]"):
            shutil.rmtree(path)


async def test_it_ends_when_told(bench: Bench) -> None:
    bench.renew()
    await asyncio.gather(*(bench.guardian.ready() for _ in range(5)))
    assert holder(bench.directory)
    assert len(bench.guardian._children) == 1
    bench.guardian.end()
    await eventually(lambda: not holder(bench.directory), 60)


async def test_it_outlives_its_agent_for_as_long_as_needed(bench: Bench) -> None:
    began = SystemClock().monotonic()
    bench.renew()
    await bench.guardian.ready()
    ended = bench.run(bench.spec("sleep 300"))
    await asyncio.sleep(0.2)
    bench.die()
    assert holder(bench.directory)
    assert (await asyncio.wait_for(ended, 60)).signal == "SIGKILL"
    await eventually(lambda: not holder(bench.directory), 60)
    # The next agent of this machine learns that its predecessor's time was up.
    bench.guardian = bench.new_agent()
    bench.renew()
    assert not bench.guardian.struck_since(0), "not known yet"
    await bench.guardian.ready()
    assert bench.guardian.struck
    assert bench.guardian.struck_since(began)
    assert not bench.guardian.struck_since(SystemClock().monotonic())


async def test_an_agent_that_is_back_in_time_goes_on_with_the_same_guardian(bench: Bench) -> None:
    bench.renew()
    await bench.guardian.ready()
    first = holder(bench.directory)
    ended = bench.run(bench.spec("sleep 300"))
    await asyncio.sleep(0.5)
    bench.die()
    bench.guardian = bench.new_agent()
    bench.renew()
    await bench.guardian.ready()
    assert not bench.guardian.struck
    for _ in range(4):
        await asyncio.sleep(0.5 * TTL / SECOND)
        bench.renew()
    assert not ended.done()
    assert holder(bench.directory) == first


async def test_a_daemon_that_has_no_store_yet_keeps_its_predecessors_deadline(bench: Bench) -> None:
    bench.renew()
    await bench.guardian.ready()
    ended = bench.run(bench.spec("sleep 300"))
    await asyncio.sleep(0.2)
    os.kill(holder(bench.directory), signal.SIGKILL)  # as a container engine ends all of a container
    bench.die()
    bench.guardian = bench.new_agent()
    await bench.guardian.revive()
    assert holder(bench.directory)
    assert (await asyncio.wait_for(ended, 60)).signal == "SIGKILL"


async def test_nobody_is_revived_for_nothing(bench: Bench) -> None:
    await bench.guardian.revive()
    assert not holder(bench.directory)
    bench.renew()
    await bench.guardian.ready()
    bench.guardian.end()
    await eventually(lambda: not holder(bench.directory), 60)
    bench.guardian = bench.new_agent()
    await bench.guardian.revive()
    assert not holder(bench.directory)
    bench.renew()
    await bench.guardian.ready()
    assert not bench.guardian.struck


async def test_a_guardian_that_is_gone_is_replaced(bench: Bench) -> None:
    bench.renew()
    await bench.guardian.ready()
    first = holder(bench.directory)
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: holder(bench.directory) != first, 60)
    bench.renew()
    await eventually(lambda: holder(bench.directory) not in (0, first), 60)


async def test_two_agents_of_one_machine_are_refused(bench: Bench) -> None:
    bench.renew()
    await bench.guardian.ready()
    with pytest.raises(OSError, match="another agent uses"):
        await bench.new_agent().ready()


async def test_an_engine_behind_tls_is_refused(tmp_path: Path) -> None:
    guardian = GuardianClient(tmp_path, docker="https://engine:2376", namespace="n", owner="o", processes=None)
    with pytest.raises(OSError, match="TLS"):
        await guardian.ready()


async def test_a_guardian_that_cannot_start_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_ROOT", "/nowhere", raising=False)
    monkeypatch.setattr("xchronos.agent.guardian.client._ROOT", "/nowhere")
    with pytest.raises(OSError, match="has not started"):
        await bench.guardian.ready()
    assert "No module named" in (bench.directory / "guardian" / "guardian.log").read_text()
