"""One connection to one etcd member: its channel, what is under way on it, and a watchman that notices its silence."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

import grpc
from grpc.aio import AioRpcError

from xchronos.aio import first
from xchronos.errors import ConfigError
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.rpc import messages_pb2 as messages
from xchronos.store.etcd.rpc import services_pb2_grpc as stubs

PROBE_AFTER = 1.0
"""Seconds that a member may leave a call without an answer before it is asked whether it is there at all."""

PROBE_LIMIT = 1.0
"""Seconds that the answer to that may take."""

_CHANNEL_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # What is sent again is decided here, where it is known what may be.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    # A channel that was given up takes its connection with it.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Servers take more than one ping in 5 s, or any while nothing is under way, for an attack.
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),
    ("grpc.http2.max_pings_without_data", 0),
]


def make_credentials(access: EtcdAccess) -> grpc.ChannelCredentials | None:
    """The TLS side of the settings; None for plain connections. Reads the files: raises ConfigError."""
    if not access.tls:
        return None
    parts = []
    for name, path in (("ca", access.ca), ("key", access.key), ("cert", access.cert)):
        try:
            parts.append(path.read_bytes() if path else None)
        except OSError as error:
            raise ConfigError(f"etcd.{name}: {path} cannot be read: {error.strerror}") from error
    return grpc.ssl_channel_credentials(*parts)


async def send(stream: Any, message: Any) -> None:
    """Write to a stream. Into one that has ended nothing is written: reading from it tells why.

    The stream's own `write` waits until its headers have been sent, and never returns when it ends before that.
    """
    over = asyncio.Event()
    stream.add_done_callback(lambda _: over.set())
    with suppress(asyncio.InvalidStateError):
        await first(stream.write(message), over.wait())


class EtcdConnection:
    """A channel to one member. `silent` is called when the member seems to be gone while it is being waited for."""

    def __init__(
        self,
        endpoint: str,
        access: EtcdAccess,
        credentials: grpc.ChannelCredentials | None,
        silent: Callable[["EtcdConnection"], None],
    ) -> None:
        self.endpoint = endpoint
        self.broken = False
        self.term = 0
        """The newest term of a leader that an answer came with."""
        self._silent = silent
        options = list(_CHANNEL_OPTIONS)
        if access.server_name:
            options.append(("grpc.ssl_target_name_override", access.server_name))
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(endpoint, options=options)
        else:
            self._channel = grpc.aio.secure_channel(endpoint, credentials, options=options)
        kv, lease = stubs.KVStub(self._channel), stubs.LeaseStub(self._channel)
        self.txn, self.range, self.compact = kv.Txn, kv.Range, kv.Compact
        self.grant, self.revoke, self.keep_alive = lease.LeaseGrant, lease.LeaseRevoke, lease.LeaseKeepAlive
        self.watch = stubs.WatchStub(self._channel).Watch
        self.status = stubs.MaintenanceStub(self._channel).Status
        self.authenticate = stubs.AuthStub(self._channel).Authenticate
        self._loop = asyncio.get_running_loop()
        self._calls: dict[Any, tuple[float, int]] = {}
        self._unanswered: float | None = None
        """When the first call was sent that was given up, with no answer to any call since."""
        self._streams: set[Any] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._probe: asyncio.Task[None] | None = None

    def begin(self, call: Any) -> None:
        """A call is under way: an answer is expected soon."""
        self._calls[call] = self._loop.time(), self.term
        if self._timer is None and self._probe is None:
            self._timer = self._loop.call_later(PROBE_AFTER, self._look)

    def end(self, call: Any, *, answered: bool) -> None:
        """A call is over: it was answered, or given up. Who gives up early learns of a silent member all the same."""
        since, _ = self._calls.pop(call)
        if answered:
            self._unanswered = None
        elif self._unanswered is None:
            self._unanswered = since

    def open_stream(self, stream: Any) -> None:
        """A stream is open that may be silent for as long as it likes."""
        self._streams.add(stream)

    def close_stream(self, stream: Any) -> None:
        """A stream is over."""
        self._streams.discard(stream)
        stream.cancel()

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return bool(self._calls)

    async def close(self) -> None:
        """Cut off whatever is under way."""
        self.broken = True
        if self._timer is not None:
            self._timer.cancel()
        if self._probe is not None:
            self._probe.cancel()
        for call in (*self._calls, *self._streams):
            call.cancel()
        await self._channel.close()

    def _look(self) -> None:
        """See whether the member has been silent for long; the oldest call comes first."""
        self._timer = None
        waiting = [since for since, _ in islice(self._calls.values(), 1)]
        if self._unanswered is not None:
            waiting.append(self._unanswered)
        if self.broken or not waiting:
            return
        left = min(waiting) + PROBE_AFTER - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._probe = self._loop.create_task(self._ask(), name=f"probe etcd at {self.endpoint}")

    async def _ask(self) -> None:
        """Ask the member alone, which needs no agreement of the others: one that is there answers at once.

        What was sent under an earlier leader may have died with it. Nobody would answer it before a long time-out.
        """
        try:
            status = await self.status(messages.StatusRequest(), timeout=PROBE_LIMIT)
            well = status.leader != 0 and not self._outlived(status.raftTerm)
        except AioRpcError as error:
            well = error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        self._probe = self._unanswered = None
        if not well:
            self._silent(self)
        elif self._calls and not self.broken:
            self._timer = self._loop.call_later(PROBE_AFTER, self._look)

    def _outlived(self, term: int) -> bool:
        """Whether a call that waits for long was sent under a leader that is none any more."""
        self.term = max(self.term, term)
        limit = self._loop.time() - PROBE_AFTER
        return any(0 < sent_under < term and since <= limit for since, sent_under in self._calls.values())
