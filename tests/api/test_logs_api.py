"""Output: whole, tailed, live over rotations, and from other machines."""

import asyncio
import re
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from tests.api.api_helpers import Cluster, at, ended, running
from xchronos.api.app import create_app
from xchronos.api.context import Context
from xchronos.api.logfiles import Follower, followers
from xchronos.api.ports import Services
from xchronos.api.routes import logs as logs_module
from xchronos.api.routes.logs import LogQuery, LogRequest
from xchronos.api.serving.listening import listen
from xchronos.api.serving.server import serve
from xchronos.errors import ApiError, NotFound
from xchronos.executors.logfile import BoundedLog, trim
from xchronos.model.records import Attempt, Execution
from xchronos.store.memory import MemoryStore
from xchronos.wire.messages import ErrorBody


def failure(answer, status):
    assert answer.status_code == status, answer.text
    return msgspec.json.decode(answer.content, type=ErrorBody).error


def drain(follower: Follower) -> bytes:
    parts = []
    while data := follower.read():
        parts.append(data)
    return b"".join(parts)


def without_notes(output: bytes) -> bytes:
    """Only what the steps printed. A file is full where it is full, so a note may stand within a line."""
    return re.sub(rb"\[xchronos: [^]]*\]\n", b"", output)


class TestFollower:
    def test_reads_what_is_there_then_what_comes(self, tmp_path):
        log = tmp_path / "log"
        follower = Follower(log)
        assert follower.read() == b""
        log.write_bytes(b"one\n")
        assert drain(follower) == b"one\n"
        with log.open("ab") as file:
            file.write(b"two\n")
        assert drain(follower) == b"two\n"
        follower.close()

    def test_goes_on_through_every_rotation_that_it_keeps_up_with(self, tmp_path):
        path = tmp_path / "log"
        read = b""
        with BoundedLog(path, 4_000) as log:
            follower = Follower(path)
            for number in range(1_000):
                log.write(b"%d\n" % number)
                if number % 100 == 99:
                    read += drain(follower)
            read += drain(follower)
        follower.close()
        assert without_notes(read).split() == [b"%d" % number for number in range(1_000)]

    def test_a_slow_reader_gets_what_is_kept(self, tmp_path):
        path = tmp_path / "log"
        with BoundedLog(path, 4_000) as log:
            log.write(b"first\n")
            follower = Follower(path)
            assert drain(follower) == b"first\n"
            for number in range(5_000):
                log.write(b"%d\n" % number)
            numbers = [int(line) for line in without_notes(drain(follower)).split()]
        follower.close()
        # What was dropped begins and ends somewhere within a line; behind it nothing is missing.
        gap = next(index for index, number in enumerate(numbers) if number != index)
        assert numbers[gap + 1 :] == list(range(numbers[gap + 1], 5_000))
        assert len(numbers) > 400

    def test_a_log_that_its_process_writes_itself_and_that_was_trimmed(self, tmp_path):
        path = tmp_path / "log"
        path.write_bytes(b"x" * 3_000 + b"\n")
        follower = Follower(path)
        drain(follower)
        assert trim(path, 3_000)
        path.write_bytes(b"after\n")
        assert drain(follower) == b"after\n"
        follower.close()

    def test_starts_with_the_older_part(self, tmp_path):
        (tmp_path / "log.1").write_bytes(b"old\n")
        (tmp_path / "log").write_bytes(b"new\n")
        follower = Follower(tmp_path / "log")
        assert drain(follower) == b"old\nnew\n"
        follower.close()

    def test_waits_while_the_log_is_away(self, tmp_path):
        log = tmp_path / "log"
        log.write_bytes(b"one\n")
        follower = Follower(log)
        assert drain(follower) == b"one\n"
        log.rename(tmp_path / "log.1")
        assert drain(follower) == b""
        log.write_bytes(b"two\n")
        assert drain(follower) == b"two\n"
        follower.close()

    @pytest.mark.parametrize("lines", [0, 1, 2, 3, 4, 5, 100])
    @pytest.mark.parametrize("end", [b"", b"\n"])
    def test_tail_over_steps_and_their_older_parts(self, tmp_path, lines, end):
        first, second, empty = tmp_path / "a", tmp_path / "b", tmp_path / "c"
        first.write_bytes(b"1\n2\n")
        (tmp_path / "b.1").write_bytes(b"3\n")
        second.write_bytes(b"4\n5" + end)
        empty.touch()
        found = b""
        for follower in followers([first, second, empty, tmp_path / "missing"], lines):
            found += drain(follower)
            follower.close()
        everything = [b"1", b"2", b"3", b"4", b"5"]
        assert found.splitlines() == everything[max(5 - lines, 0) :]

    def test_tail_across_blocks(self, tmp_path, monkeypatch):
        monkeypatch.setattr("xchronos.api.logfiles.BLOCK_BYTES", 7)
        log = tmp_path / "log"
        log.write_bytes(b"".join(b"line %d\n" % number for number in range(50)))
        (follower,) = followers([log], 3)
        assert drain(follower) == b"line 47\nline 48\nline 49\n"
        follower.close()


class TestWhole:
    @pytest.fixture
    async def execution(self, cluster: Cluster, tmp_path: Path) -> Execution:
        (tmp_path / "pre").write_bytes(b"pulling\n")
        (tmp_path / "main").write_bytes(b"one\ntwo\n\xff\n")
        done = await cluster.execution(ended("a.service", 0))
        cluster.steps.files["a.service", 1] = [("start-pre-0", tmp_path / "pre"), ("start-0", tmp_path / "main")]
        return done

    async def test_all_steps_in_order(self, api, execution):
        answer = api.get(f"/v1/executions/{execution.id}/logs")
        assert answer.content == b"pulling\none\ntwo\n\xff\n"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"

    async def test_one_step_and_tail(self, api, execution):
        path = f"/v1/executions/{execution.id}/logs"
        assert api.get(f"{path}?step=start-0").content == b"one\ntwo\n\xff\n"
        assert api.get(f"{path}?tail=2").content == b"two\n\xff\n"
        assert api.get(f"{path}?tail=4").content == b"pulling\none\ntwo\n\xff\n"
        assert api.get(f"{path}?attempt=1&follow=true&tail=1").content == b"\xff\n"

    async def test_what_is_not_there(self, api, cluster, execution):
        path = f"/v1/executions/{execution.id}/logs"
        assert "it has start-pre-0, start-0" in failure(api.get(f"{path}?step=stop-0"), 404)
        assert "attempt 7 of" in failure(api.get(f"{path}?attempt=7"), 404)
        assert "attempt 7 of" in failure(api.get(f"{path}?attempt=7&follow=1"), 404)
        assert api.get(f"{path}?attempt=-1").status_code == 400
        cluster.steps.files.clear()
        assert "no step has output" in failure(api.get(f"{path}?step=start-0"), 404)
        assert api.get(path).content == b""

    async def test_the_machine_that_has_it_is_gone(self, api, cluster):
        elsewhere = await cluster.execution(ended("a.service", 9, machine="m2"))
        answer = api.get(f"/v1/executions/{elsewhere.id}/logs")
        assert failure(answer, 503) == "machine m2 is not alive: what it ran left its output there"

    async def test_nothing_has_run(self, api, cluster):
        waiting = Execution("a.service", at(5), state="waiting", reason="no machine is alive")
        await cluster.execution(waiting)
        answer = api.get(f"/v1/executions/{waiting.id}/logs")
        assert failure(answer, 404) == f"{waiting.id} has not run: it is waiting (no machine is alive)"


@pytest.fixture
def context(services: Services, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(logs_module, "LOOK_AGAIN_SECONDS", 0.01)
    return Context(services)


class TestLive:
    async def test_until_the_attempt_has_ended_with_steps_that_begin_meanwhile(self, context, cluster, tmp_path):
        execution = await cluster.execution(running("a.service", 0))
        attempt = execution.current
        cluster.steps.running[execution.id] = attempt
        cluster.steps.files["a.service", 1] = [("start-pre-0", tmp_path / "pre"), ("start-0", tmp_path / "main")]
        (tmp_path / "pre").write_bytes(b"pre\n")
        stream = await LogRequest(context, execution, LogQuery(follow=True)).open()
        assert await anext(stream) == b"pre\n"
        (tmp_path / "main").write_bytes(b"main\n")
        assert await anext(stream) == b"main\n"
        with (tmp_path / "main").open("ab") as file:
            file.write(b"last words\n")
        del cluster.steps.running[execution.id]
        await cluster.registry.store.commit(_ended_in_place(cluster, execution))
        assert [part async for part in stream] == [b"last words\n"]

    async def test_a_placed_attempt_is_waited_for(self, context, cluster, tmp_path):
        """The agent has it and has not begun: it is not over."""
        execution = await cluster.execution(msgspec.structs.replace(running("a.service", 0), state="placed"))
        cluster.steps.files["a.service", 1] = [("start-0", tmp_path / "main")]
        stream = await LogRequest(context, execution, LogQuery(follow=True, step="start-0")).open()
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        assert not first.done()
        (tmp_path / "main").write_bytes(b"main\n")
        assert await first == b"main\n"
        assert isinstance(stream, AsyncGenerator)
        await stream.aclose()

    async def test_ends_when_the_unit_is_destroyed(self, context, cluster):
        execution = running("gone.service", 0)
        stream = await LogRequest(context, execution, LogQuery(follow=True)).open()
        assert [part async for part in stream] == []

    async def test_ends_when_the_server_does(self, context, cluster):
        execution = await cluster.execution(running("a.service", 0))
        cluster.steps.running[execution.id] = execution.current
        stream = await LogRequest(context, execution, LogQuery(follow=True)).open()
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.03)
        context.closing.set()
        assert await reading == logs_module.SHUT_DOWN
        assert [part async for part in stream] == []

    async def test_what_waits_is_waited_for(self, context, cluster, tmp_path):
        waiting = Execution("a.service", at(5), state="waiting")
        await cluster.execution(waiting)
        stream = await LogRequest(context, waiting, LogQuery(follow=True)).open()
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.03)
        (tmp_path / "main").write_bytes(b"main\n")
        cluster.steps.files["a.service", 1] = [("start-0", tmp_path / "main")]
        await _clear(cluster)
        await cluster.execution(ended("a.service", 5))
        assert await reading == b"main\n"
        assert [part async for part in stream] == []

    async def test_what_waits_and_never_runs(self, context, cluster):
        waiting = Execution("a.service", at(5), state="waiting")
        stream = await LogRequest(context, waiting, LogQuery(follow=True)).open()
        (told,) = [part async for part in stream]
        assert told.startswith(b"[xchronos: there is no execution a.service/")
        stream = await LogRequest(context, waiting, LogQuery(follow=True)).open()
        await cluster.execution(msgspec.structs.replace(waiting, state="ended", reason="StartDeadline"))
        (told,) = [part async for part in stream]
        assert b"has not run: it is ended (StartDeadline)" in told

    async def test_closing_ends_the_waiting_too(self, context, cluster):
        waiting = await cluster.execution(Execution("a.service", at(5), state="waiting"))
        stream = await LogRequest(context, waiting, LogQuery(follow=True)).open()
        context.closing.set()
        assert [part async for part in stream] == [logs_module.SHUT_DOWN]


def _ended_in_place(cluster: Cluster, execution: Execution):
    from xchronos.registry.transitions import finish

    done = msgspec.structs.replace(ended("a.service", 0), attempts=(execution.current,))
    keys, store = cluster.registry.keys, cluster.registry.store
    assert isinstance(store, MemoryStore)
    row = store._rows[keys.placement("m1", execution.id)]
    return finish(keys, keys.placement("m1", done.id), done, row.mod_revision)


async def _clear(cluster: Cluster) -> None:
    from xchronos.store.contract import DeleteRange, Txn

    await cluster.registry.store.commit(Txn((), (DeleteRange(cluster.registry.keys.pending),)))


class TestPeers:
    """Two machines, each with its own server, over one store."""

    @pytest.fixture
    async def peer(self, cluster: Cluster):
        """The server of m2; its address is in m2's record."""
        from tests.api.api_helpers import FakeSteps

        steps = FakeSteps()
        services = Services(cluster.registry, cluster.clock, "m2", steps, cluster.daemon, token="t")
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve(create_app(services), listen("127.0.0.1", 0), address.set_result))
        await cluster.machine("m2", address=(await address).removeprefix("http://"))
        yield steps
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    @pytest.fixture
    def context(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Context:
        monkeypatch.setattr(logs_module, "LOOK_AGAIN_SECONDS", 0.01)
        return Context(Services(cluster.registry, cluster.clock, "m1", cluster.steps, cluster.daemon, token="t"))

    async def test_output_is_passed_on(self, context, cluster, peer, tmp_path):
        execution = await cluster.execution(ended("a.service", 0, machine="m2"))
        (tmp_path / "main").write_bytes(b"one\ntwo\n")
        peer.files["a.service", 1] = [("start-0", tmp_path / "main")]
        stream = await LogRequest(context, execution, LogQuery(step="start-0", tail=1)).open()
        assert b"".join([part async for part in stream]) == b"two\n"
        with pytest.raises(ApiError, match="no output of stop-0: it has start-0"):
            await LogRequest(context, execution, LogQuery(step="stop-0")).open()

    async def test_progress_is_asked_for(self, context, cluster, peer):
        from xchronos.api.routes.executions import _with_progress

        execution = await cluster.execution(running("a.service", 0, machine="m2"))
        peer.running[execution.id] = Attempt(1, "m2", reason="half way")
        found = await _with_progress(context, execution, forwarded=False)
        assert found.current.reason == "half way"
        assert await _with_progress(context, execution, forwarded=True) == execution

    async def test_a_request_is_passed_on_once(self, context, cluster):
        execution = await cluster.execution(ended("a.service", 0, machine="m3"))
        with pytest.raises(ApiError, match="ran on m3, not here") as caught:
            await LogRequest(context, execution, LogQuery(forwarded=True)).open()
        assert caught.value.status == 409

    async def test_a_machine_that_is_gone_or_silent(self, context, cluster, peer):
        execution = ended("a.service", 0, machine="m3")
        with pytest.raises(ApiError, match="machine m3 is not alive"):
            await LogRequest(context, execution).open()
        await cluster.machine("m3")
        with pytest.raises(ApiError, match="m3 cannot be asked: its daemon has no role api"):
            await LogRequest(context, execution).open()
        await cluster.machine("m3", address="http://127.0.0.1:1/")
        with pytest.raises(ApiError, match=r"m3 at http://127\.0\.0\.1:1 does not answer") as caught:
            await LogRequest(context, execution).open()
        assert caught.value.status == 503

    async def test_something_that_is_no_api(self, context, cluster):
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\nno")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            await cluster.machine("m3", address=f"{host}:{port}")
            with pytest.raises(ApiError, match="something that is no API's answer"):
                await LogRequest(context, ended("a.service", 0, machine="m3")).open()

    async def test_a_machine_that_dies_while_it_is_followed(self, context, cluster):
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            await cluster.machine("m3", address=f"{host}:{port}")
            execution = ended("a.service", 0, machine="m3")
            live = await LogRequest(context, execution, LogQuery(follow=True)).open()
            told = b"".join([part async for part in live]).decode()
            assert told.startswith(f"one\n[xchronos: machine m3 at http://{host}:{port} does not answer: ")
            assert told.endswith("]\n")
            # What is to be the whole is cut off: nobody shall take it for that.
            with pytest.raises(ApiError, match="does not answer"):
                [part async for part in await LogRequest(context, execution).open()]

    async def test_an_execution_that_is_gone_there(self, context, cluster, peer):
        with pytest.raises(ApiError, match="there is no execution"):
            await LogRequest(context, ended("a.service", 0, machine="m2")).open()

    async def test_nothing_ran(self, context):
        with pytest.raises(NotFound):
            await LogRequest(context, Execution("a.service", at(0))).open()
