"""The server as one task among others: readiness, the end, addresses."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest
from litestar.testing import TestClient

from tests.api.api_helpers import running
from xchronos.api.app import create_app
from xchronos.api.ports import Services
from xchronos.api.routes.logs import SHUT_DOWN
from xchronos.api.serving.listening import forget, listen
from xchronos.api.serving.server import serve
from xchronos.client import Client
from xchronos.errors import ConfigError


class Serving:
    """A server in this task's loop."""

    def __init__(self, services: Services, host: str = "127.0.0.1", port: int = 0) -> None:
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(serve(create_app(services), listen(host, port), self.address.set_result))

    async def stop(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


async def ask(client: Client):
    return await asyncio.to_thread(client.status)


async def test_ready_then_stopped(services):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    serving = Serving(services)
    address = await serving.address
    assert (await ask(Client(address))).machine == "m1"
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    await serving.stop()
    port = int(address.rpartition(":")[2])
    with socket.socket() as peer:
        assert peer.connect_ex(("127.0.0.1", port)) != 0


async def test_live_streams_end_with_the_server(services, cluster, tmp_path):
    execution = await cluster.execution(running("a.service", 0))
    cluster.steps.running[execution.id] = execution.current
    (tmp_path / "main").write_bytes(b"one\n")
    cluster.steps.files["a.service", 1] = [("start-0", tmp_path / "main")]
    serving = Serving(services)
    client = Client(await serving.address)
    stream = client.logs(execution.id, follow=True)
    assert await asyncio.to_thread(next, stream) == b"one\n"
    async with asyncio.timeout(3):
        reading = asyncio.create_task(asyncio.to_thread(list, stream))
        await serving.stop()
        assert await reading == [SHUT_DOWN]


async def test_a_unix_socket_is_taken_over_from_a_dead_daemon_and_removed(services, tmp_path: Path):
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    serving = Serving(services, f"unix://{path}")
    assert await serving.address == f"unix://{path}"
    assert (await ask(Client(f"unix://{path}"))).machine == "m1"
    with pytest.raises(ConfigError, match=r"cannot listen on unix://.*in use"):
        await serve(create_app(services), listen(f"unix://{path}", 0), print)
    assert path.exists()
    await serving.stop()
    forget(f"unix://{path}")
    assert not path.exists()


async def test_an_address_that_is_taken(services):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            await serve(create_app(services), listen("127.0.0.1", port), print)


async def test_a_name_that_is_none(services):
    with pytest.raises(ConfigError, match=r"cannot listen on no\.such\.host\.invalid:1"):
        await serve(create_app(services), listen("no.such.host.invalid", 1), print)


async def test_ipv6(services):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    serving = Serving(services, "::1")
    address = await serving.address
    assert address.startswith("http://[::1]:")
    assert (await ask(Client(address))).machine == "m1"
    await serving.stop()


async def test_the_store_s_own_destroyed_units_do_not_break_explain(services, cluster):
    """A placement may outlive its unit for a moment."""
    await cluster.machine("m1")
    await cluster.execution(running("gone.service", 0))
    await cluster.submit("bad.service")
    await cluster.execution(running("bad.service", 0))
    from xchronos.model.records import Execution, UnitRecord

    await cluster.put(cluster.registry.keys.job("bad.service"), UnitRecord("[X-Chronos]\nNope=1\n", "bad"))
    await cluster.submit("a.service")
    from tests.api.api_helpers import at

    await cluster.execution(Execution("a.service", at(0), state="waiting"))
    with TestClient(create_app(services), base_url="http://127.0.0.1") as api:
        assert "could take it now" in api.get("/v1/units/a.service/explain").text
