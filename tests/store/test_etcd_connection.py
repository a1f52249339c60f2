"""What grpc leaves undone on a connection."""

import asyncio
import socket

from xchronos.store.etcd import connection as connection_module
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.connection import EtcdConnection, send
from xchronos.store.etcd.rpc import messages_pb2 as messages


async def test_a_message_for_a_stream_that_ends_before_it_has_begun_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections, and says nothing
        endpoint = f"127.0.0.1:{mute.getsockname()[1]}"
        connection = EtcdConnection(endpoint, EtcdAccess(endpoints=(endpoint,)), None, lambda connection: None)
        try:
            stream = connection.watch(metadata=None)
            connection.open_stream(stream)
            sending = asyncio.create_task(send(stream, messages.WatchRequest()))
            await asyncio.sleep(0.2)
            assert not sending.done()
            stream.cancel()
            await asyncio.wait_for(sending, 10)
            # Nor is one for a stream that has ended before.
            await asyncio.wait_for(send(stream, messages.WatchRequest()), 10)
        finally:
            await connection.close()


async def test_who_waits_with_a_message_can_be_cancelled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"127.0.0.1:{mute.getsockname()[1]}"
        connection = EtcdConnection(endpoint, EtcdAccess(endpoints=(endpoint,)), None, lambda connection: None)
        try:
            stream = connection.watch(metadata=None)
            connection.open_stream(stream)
            sending = asyncio.create_task(send(stream, messages.WatchRequest()))
            await asyncio.sleep(0.1)
            sending.cancel()
            done, _ = await asyncio.wait({sending}, timeout=10)
            assert done
            assert sending.cancelled()
        finally:
            await connection.close()


async def test_a_member_that_answers_is_not_left_for_a_call_that_was_given_up(monkeypatch) -> None:
    """What is given up for the caller's own reasons says nothing about the member once that has answered something."""
    monkeypatch.setattr(connection_module, "PROBE_AFTER", 0.1)
    monkeypatch.setattr(connection_module, "PROBE_LIMIT", 0.1)
    left: list[EtcdConnection] = []
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"127.0.0.1:{mute.getsockname()[1]}"
        connection = EtcdConnection(endpoint, EtcdAccess(endpoints=(endpoint,)), None, left.append)
        try:
            given_up, other = object(), object()
            connection.begin(given_up)
            connection.begin(other)
            connection.end(given_up, answered=False)
            connection.end(other, answered=True)
            await asyncio.sleep(0.5)
            assert left == []
            connection.begin(other)
            connection.end(other, answered=False)
            await asyncio.sleep(0.5)
            assert left == [connection]
        finally:
            await connection.close()
