"""The way to an etcd cluster: one member at a time, another when it fails. Requests are sent again where that is safe.

Every daemon chooses its member at random, so the daemons spread over the cluster. When a member fails, its daemons
spread over the others. Pauses between tries grow and are drawn at random, so that not all daemons come back together.
"""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from math import inf
from typing import Any, Literal, TypeAlias

from grpc.aio import EOF, AioRpcError

from xchronos.aio import Backoff
from xchronos.clock import MILLISECOND, SECOND, Micros, SystemClock
from xchronos.errors import ConfigError, StoreError, StoreUnavailable
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.connection import EtcdConnection, make_credentials, send
from xchronos.store.etcd.errors import Advice, LoginNotNeeded, NotPermitted, Trouble, broken, read_trouble
from xchronos.store.etcd.rpc import messages_pb2 as messages

SHORTEST_RETRY_PAUSE: Micros = 50 * MILLISECOND
LONGEST_RETRY_PAUSE: Micros = SECOND

_LEADER = ("hasleader", "true")
"""With this a member that has lost its leader says so immediately instead of waiting, and ends its watches."""

_WITH_TERM = ("txn", "range")
"""The methods from whose answers the leader's term is read: those that are called all the time."""

Metadata: TypeAlias = tuple[tuple[str, str], ...]
Method: TypeAlias = Literal["txn", "range", "compact", "grant", "revoke", "authenticate", "status"]


def new_backoff() -> Backoff:
    """The pauses between tries. The first try on another member comes immediately."""
    return Backoff(SystemClock(), SHORTEST_RETRY_PAUSE, LONGEST_RETRY_PAUSE, random, free=1)


def was_cut(connection: EtcdConnection) -> bool:
    """Whether a CancelledError came from giving up the connection, and not from cancelling the task that waits."""
    task = asyncio.current_task()
    return connection.broken and not (task is not None and task.cancelling())


class Sent:
    """A request that is under way: what was asked, with which token, on which connection, until when."""

    __slots__ = ("call", "connection", "method", "request", "token", "until")

    def __init__(self, method: Method, request: Any, until: float) -> None:
        self.method = method
        self.request = request
        self.until = until
        self.token = ""
        self.connection: EtcdConnection
        self.call: Any


class EtcdClient:
    """Sends requests to a member that answers. `close` ends it."""

    def __init__(self, access: EtcdAccess) -> None:
        self.access = access
        self.closed = False
        self.fault = ""
        """What only an operator can heal: the text of the last such refusal. Empty once a Txn succeeds again."""
        self._credentials = make_credentials(access)
        self._loop = asyncio.get_running_loop()
        self._endpoints = random.sample(access.endpoints, len(access.endpoints))
        self._connection: EtcdConnection | None = None
        self._metadata: Metadata = (_LEADER,)
        self.token = ""
        """The token that goes with every request; empty: none. Each `login` replaces it."""
        self._login = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def metadata(self) -> Metadata:
        """What is sent with every request: a demand for a leader, and the token if there is one."""
        return self._metadata

    def connection(self) -> EtcdConnection:
        """The connection to the present member; opened when there is none."""
        if self._connection is None:
            # Certificates are replaced before they expire, so each connection reads them anew. A pair that is being
            # replaced at this moment cannot be read, or does not fit together: then this connection still takes the
            # old pair, and the next one the new (`test_certificates_that_are_replaced`).
            with suppress(ConfigError):
                self._credentials = make_credentials(self.access)
            self._connection = EtcdConnection(self._endpoints[0], self.access, self._credentials, self.leave)
        return self._connection

    def leave(self, connection: EtcdConnection) -> None:
        """Leave for the next member. Calls under way on the connection are cut off, and their callers are told."""
        if connection is not self._connection:
            return
        self._connection = None
        self._endpoints.append(self._endpoints.pop(0))
        connection.broken = True
        self._in_background(connection.close(), f"leave etcd at {connection.endpoint}")

    def check_open(self) -> None:
        """Raise StoreError once the client is closed."""
        if self.closed:
            raise StoreError(f"{self.access}: the store is closed")

    def send(self, method: Method, request: Any, within: float = 0.0) -> Sent:
        """Send a request now; the caller must call `finish` or `forget` with what this returns.

        `within` is how many seconds all tries may take together; 0: the timeout of the access.
        """
        self.check_open()
        sent = Sent(method, request, self._loop.time() + (within or self.access.timeout))
        self._under_way += 1
        self._idle.clear()
        self._send(sent)
        return sent

    def _send(self, sent: Sent) -> None:
        connection = sent.connection = self.connection()
        sent.token = self.token
        left = max(sent.until - self._loop.time(), 0.001)
        # A request for a token must not carry a stale one: etcd would refuse it for that.
        metadata = self._metadata if sent.method != "authenticate" else (_LEADER,)
        sent.call = getattr(connection, sent.method)(sent.request, metadata=metadata, timeout=left)
        connection.begin(sent.call)

    async def finish(self, sent: Sent, *, twice: bool) -> Any:
        """The answer to a request. A request that may be carried out `twice` is sent again when its fate is unknown.

        Raises:
            StoreUnavailable: there was no answer in time. A request that may not be carried out twice may have been
                carried out once.
            StoreError: etcd's refusal.
        """
        backoff = new_backoff()
        try:
            while True:
                answered = False
                try:
                    answer = await sent.call
                except AioRpcError as error:
                    trouble = read_trouble(error, sent.connection.endpoint)
                    answered = trouble.advice is not Advice.LATE
                except asyncio.CancelledError:
                    if not was_cut(sent.connection):
                        raise
                    trouble = broken(sent.connection.endpoint)
                else:
                    answered = True
                    if sent.method in _WITH_TERM:
                        sent.connection.term = answer.header.raft_term
                    if self.fault and sent.method == "txn":
                        self.fault = ""
                    return answer
                finally:
                    sent.connection.end(sent.call, answered=answered)
                if trouble.advice is Advice.LOGIN and sent.method == "authenticate":
                    raise trouble.error
                await self.recover(
                    trouble, sent.connection, backoff, token=sent.token, until=sent.until, again=trouble.safe or twice,
                    needed=sent.method != "compact",
                )  # fmt: skip
                self._send(sent)
        finally:
            self._release()

    def forget(self, sent: Sent) -> None:
        """Nobody waits for the answer any more."""
        sent.call.cancel()
        sent.connection.end(sent.call, answered=False)
        self._release()

    def _release(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    async def call(self, method: Method, request: Any, *, twice: bool, within: float = 0.0) -> Any:
        """Send a request and wait for its answer; see `send` and `finish`."""
        return await self.finish(self.send(method, request, within), twice=twice)

    async def exchange(self, method: Literal["keep_alive", "watch"], request: Any, within: float) -> Any:
        """Open a stream, send one request, and return its first answer. Tries for `within` seconds."""
        self.check_open()
        backoff = new_backoff()
        until = self._loop.time() + within
        while True:
            connection, token = self.connection(), self.token
            stream = getattr(connection, method)(metadata=self._metadata, timeout=max(until - self._loop.time(), 0.001))
            connection.begin(stream)
            answered = False
            try:
                await send(stream, request)
                answer = await stream.read()
                answered = True
                if answer is not EOF:
                    return answer
                trouble = broken(connection.endpoint)
            except AioRpcError as error:
                trouble = read_trouble(error, connection.endpoint)
                answered = trouble.advice is not Advice.LATE
            except asyncio.CancelledError:
                if not was_cut(connection):
                    raise
                trouble = broken(connection.endpoint)
            finally:
                connection.end(stream, answered=answered)
                stream.cancel()
            await self.recover(trouble, connection, backoff, token=token, until=until)

    async def recover(
        self,
        trouble: Trouble,
        connection: EtcdConnection,
        backoff: Backoff,
        *,
        token: str,
        until: float = inf,
        again: bool = True,
        needed: bool = True,
    ) -> None:
        """Do what the trouble asks for, so that the caller can send the request again; raise when it must not be sent.

        Args:
            trouble: what became of the request.
            connection: the one that the request was sent on.
            backoff: the pauses between the tries of this request.
            token: the one that the request was sent with.
            until: when to give up, by the event loop's clock.
            again: whether the request may be sent again.
            needed: whether a refusal is a fault of the store, for the operator to heal.
        """
        if isinstance(trouble.error, NotPermitted) and self.access.user and not token:
            # The request had no token. Authentication was turned on meanwhile, so etcd took our certificate's name for
            # the user (`test_users_that_are_turned_off_again`).
            trouble = Trouble(trouble.error, Advice.LOGIN)
        if trouble.leave:
            self.leave(connection)
        if trouble.advice is Advice.GIVE_UP or not again:
            if needed and trouble.advice is Advice.GIVE_UP and isinstance(trouble.error, StoreUnavailable):
                self.fault = str(trouble.error)
            raise trouble.error
        if trouble.advice is Advice.LOGIN and not self.access.user:
            raise trouble.error
        pause = backoff.next() / SECOND
        if self._loop.time() + pause >= until:
            raise trouble.error
        await asyncio.sleep(pause)
        self.check_open()
        if trouble.advice is Advice.LOGIN:
            await self.login(token)

    async def login(self, stale: str = "") -> None:
        """Get a token, unless another caller has replaced the stale one meanwhile."""
        if not self.access.user:
            return
        async with self._login:
            if self.token != stale:
                return
            request = messages.AuthenticateRequest(name=self.access.user, password=self.access.password)
            try:
                answer = await self.call("authenticate", request, twice=True)
            except LoginNotNeeded:
                # etcd refuses a stale token even while authentication is turned off, so none is sent. Once it is turned
                # on, a refused request comes here again.
                self.token, self._metadata = "", (_LEADER,)
                return
            self.token = answer.token
            self._metadata = (_LEADER, ("token", answer.token))

    async def close(self) -> None:
        """Wait for the requests under way (each has its deadline), then close the connection."""
        self.closed = True
        await self._idle.wait()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _in_background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
