"""One connection to one etcd member: its channel, the calls under way on it, and a probe that notices its silence.

A call that has waited for a second makes the connection ask the member for its status. A member that does not answer
that, has no leader, or has a newer leader than the one that the call was sent under, is reported as silent.
"""

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
"""Seconds that a member may leave a call without an answer before it is asked for its status."""

PROBE_LIMIT = 1.0
"""Seconds that the answer to that question may take."""

_CHANNEL_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # grpc must not send anything again: only `client` knows what may be sent twice.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    # Channels share no connection: giving a channel up closes its own.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Servers take more than one ping in 5 s for an attack, and so any ping while nothing is under way.
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),
    ("grpc.http2.max_pings_without_data", 0),
]


def make_credentials(access: EtcdAccess) -> grpc.ChannelCredentials | None:
    """The TLS credentials of the settings; None without TLS. Blocks: reads files. Raises ConfigError."""
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
    """Write to a stream. Nothing is written to one that has ended; reading from it tells why it ended.

    The stream's own `write` waits until its headers have been sent. It never returns when the stream ends before that
    (`test_a_message_for_a_stream_that_ends_before_it_has_begun_is_not_waited_for`), so this waits for the end too.
    """
    over = asyncio.Event()
    stream.add_done_callback(lambda _: over.set())
    with suppress(asyncio.InvalidStateError):
        await first(stream.write(message), over.wait())


class EtcdConnection:
    """A channel to one member. `silent` is called when the member seems to be gone while a call waits for it."""

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
        """The newest term of a leader that an answer of this member has named; 0: none yet."""
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
        """When the oldest call was sent that was given up and after which no call was answered; None: there is none."""
        self._streams: set[Any] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._probe: asyncio.Task[None] | None = None

    def begin(self, call: Any) -> None:
        """A call is under way, and an answer is expected soon."""
        self._calls[call] = self._loop.time(), self.term
        if self._timer is None and self._probe is None:
            self._timer = self._loop.call_later(PROBE_AFTER, self._look)

    def end(self, call: Any, *, answered: bool) -> None:
        """A call is over: it was answered, or its caller gave up.

        A call that was given up still counts as unanswered, so that a caller with less patience than the probe leaves a
        silent member too (`test_who_gives_up_early_leaves_a_stopped_member_too`). Any answer clears that
        (`test_a_member_that_answers_is_not_left_for_a_call_that_was_given_up`).
        """
        since, _ = self._calls.pop(call)
        if answered:
            self._unanswered = None
        elif self._unanswered is None:
            self._unanswered = since

    def open_stream(self, stream: Any) -> None:
        """A stream is open. It may be silent for any time, so the probe does not look at it."""
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
        """Cut off everything under way and close the channel."""
        self.broken = True
        if self._timer is not None:
            self._timer.cancel()
        if self._probe is not None:
            self._probe.cancel()
        for call in (*self._calls, *self._streams):
            call.cancel()
        await self._channel.close()

    def _look(self) -> None:
        """Probe the member if its oldest call has waited for long; otherwise look again when it will have."""
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
        """Ask the member for its status, which needs no agreement of the others: a living member answers immediately.

        A call that was sent under an earlier leader may have died with that leader, and then nobody answers it before a
        long time-out. So such a call counts as silence too (`test_what_died_with_a_leader_is_not_waited_for`).
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
        """Whether a call has waited for long that was sent under a leader of before `term`."""
        self.term = max(self.term, term)
        limit = self._loop.time() - PROBE_AFTER
        return any(0 < sent_under < term and since <= limit for since, sent_under in self._calls.values())
