"""The Docker engine dies under running containers, and comes back."""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.checker import check, told
from tests.cluster.cluster import FULL, Cluster, eventually
from tests.cluster.engine import OwnEngine
from tests.cluster.units import container, names
from xchronos.executors.contract import StepExit, StepSpec
from xchronos.executors.docker.executor import DockerExecutor
from xchronos.executors.logfile import kept_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.docker,
    pytest.mark.usefixtures("cluster_services", "busybox_image"),
]


def test_an_engine_that_dies_and_comes_back_changes_nothing(figures: Callable[..., None]) -> None:
    long, short = names(4 if FULL else 2, "long"), names(2, "short")
    with Cluster(members=0) as cluster, OwnEngine(cluster) as engine:
        engine.make_image()
        daemon = cluster.daemon("alone", docker_host=engine.url).start()
        where = str(cluster.sink.parent)
        cluster.submit(dict.fromkeys(long, container(where, "sleep 12")))
        cluster.submit(dict.fromkeys(short, container(where, "sleep 2")))
        for unit in (*long, *short):
            daemon.client.start(unit)
        eventually(lambda: len(cluster.events()) == len(long) + len(short), "all have begun")
        before = engine.containers()
        engine.kill()
        killed = time.time()
        time.sleep(4)  # the short ones end while nobody looks
        late = names(1, "late")
        cluster.submit(dict.fromkeys(late, container(where, "true")))
        daemon.client.start(late[0])
        engine.start()
        back = time.time()
        after = engine.containers()
        history = cluster.settled([*long, *short, *late], len(long) + len(short) + len(late))
        events = cluster.events()
        found = check(events, history, {})
        assert not found, told(found)
        assert {execution.outcome for execution in history} == {"succeeded"}, history
        # Those that ran through the outage are the same containers before and after.
        assert after.items() <= before.items()
        assert len(after) >= len(long)
        assert all(len(execution.attempts) == 1 for execution in history)
        figures(engine_away_for=back - killed, containers=len(before), untouched=len(after))


def test_a_step_that_a_shutdown_of_the_engine_ends_is_not_charged_for_it(figures: Callable[..., None]) -> None:
    units = names(2, "cut")
    with Cluster(members=0) as cluster, OwnEngine(cluster, live_restore=False) as engine:
        engine.make_image()
        daemon = cluster.daemon("alone", docker_host=engine.url).start()
        cluster.submit(dict.fromkeys(units, container(str(cluster.sink.parent), "sleep 8")))
        for unit in units:
            daemon.client.start(unit)
        eventually(lambda: len(cluster.events()) == len(units), "all have begun")
        engine.stop()
        engine.start()
        history = cluster.settled(units, len(units))
        found = check(cluster.events(), history, {})
        assert not found, told(found)
        for execution in history:
            # It has one attempt of its own; the one that the engine ended is beside the budget.
            assert [attempt.outcome for attempt in execution.attempts] == ["lost", "succeeded"], execution
            assert "the engine was shut down" in execution.attempts[0].reason
        figures(executions=len(history))


def test_nor_for_one_while_no_daemon_is_there(figures: Callable[..., None]) -> None:
    units, failing = names(2, "cut"), names(1, "failing")
    with Cluster(members=0) as cluster, OwnEngine(cluster, live_restore=False) as engine:
        engine.make_image()
        daemon = cluster.daemon("alone", docker_host=engine.url).start()
        cluster.submit(dict.fromkeys(units, container(str(cluster.sink.parent), "sleep 8")))
        cluster.submit(dict.fromkeys(failing, container(str(cluster.sink.parent), "sleep 2; exit 3")))
        for unit in (*units, *failing):
            daemon.client.start(unit)
        eventually(lambda: len(cluster.events()) == len(units) + len(failing), "all have begun")
        daemon.kill()
        eventually(lambda: len(engine.containers()) == len(units), "one has failed by itself")
        engine.stop()
        engine.start()
        daemon.start()
        history = cluster.settled([*units, *failing], len(units) + len(failing))
        found = check(cluster.events(), history, {})
        assert not found, told(found)
        for execution in history:
            outcomes = [attempt.outcome for attempt in execution.attempts]
            if execution.unit in failing:
                assert outcomes == ["failed"], "what ended by itself is the step's own"
            else:
                assert outcomes == ["lost", "succeeded"], execution
                assert "the engine was shut down" in execution.attempts[0].reason
        figures(executions=len(history))


COUNTS = "i=0; while [ $i -lt {} ]; do i=$((i+1)); echo $i; [ $((i % 20)) = 0 ] && sleep 0.05; done; printf end"
AWAY = r"\[xchronos: the end of the output may be missing: the engine was away when the container ended, \S+\]\n"


@pytest.mark.parametrize(("driver", "count"), [("", 7000), ("none", 7000), ("", 1000)])
def test_the_output_goes_on_after_an_engine_that_died(tmp_path: Path, driver: str, count: int) -> None:
    script = COUNTS.format(count)
    body = {"Image": "xchronos/busybox:latest", "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}}
    if driver:
        body["HostConfig"] = {"NetworkMode": "none", "LogConfig": {"Type": driver}}
    spec = StepSpec("o.service", "o", 1, "start-0", (), "", {}, str(tmp_path), f"{tmp_path}/log", body=body)

    def kept() -> str:
        return b"".join(path.read_bytes() for path in kept_files(spec.log)).decode()

    async def run(engine: OwnEngine) -> StepExit:
        executor = DockerExecutor("output", engine.url)
        task = asyncio.create_task(executor.run(spec))
        try:
            while "\n500\n" not in kept():  # noqa: ASYNC110 - the output is a file
                await asyncio.sleep(0.05)
            await asyncio.to_thread(engine.kill)
            await asyncio.sleep(4)  # its containerd ends with it
            await asyncio.to_thread(engine.start)
            end = await task
            await executor.release("o", 1)
            return end
        finally:
            await executor.close()

    with Cluster(members=0) as cluster, OwnEngine(cluster) as engine:
        engine.make_image()
        end = asyncio.run(asyncio.wait_for(run(engine), 120))
    assert (end.code, end.lost) == (0, False)
    whole = [str(number) for number in range(1, count + 1)] + ["end"]
    if count == 1000:
        # It ended while nobody took what it wrote: the engine has lost that, and the log says so.
        text, note, rest = re.split(f"({AWAY})", kept())
        assert "\n".join(whole).startswith(text.rstrip("\n")), text
        assert (bool(note), rest) == (True, "")
        return
    if not driver:
        assert kept().split("\n") == whole, "what the engine's log has is all there, and once"
        return
    parts = re.split(r"\n?\[xchronos: output from \S+ to \S+ may be missing here: nobody was attached\]\n", kept())
    assert len(parts) == 2
    for part in parts:
        # Nothing is missing but where a line says so; a line of the output may be cut there.
        lines = [line for line in part.split("\n") if line][1:-1]
        assert "\n".join(lines) in "\n".join(whole)
    assert kept().endswith("6999\n7000\nend")
