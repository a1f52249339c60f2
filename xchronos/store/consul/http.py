"""Consul's HTTP API, as far as the store needs it: it speaks to one of several agents, and says what errors mean.

The store makes no request that may not be repeated (`log` says why). So a request without an answer goes to the next
agent, and around all agents again after a pause, until its time is up.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from ssl import SSLContext

import aiohttp
import msgspec

from xchronos.aio import Backoff, first
from xchronos.clock import MILLISECOND, SECOND, Micros, SystemClock
from xchronos.errors import StoreError, StoreUnavailable
from xchronos.store.consul.access import ConsulAccess

MAX_CONSUL_OPERATIONS = 64
"""The most operations that Consul takes in one of its own Txns."""

_ATTEMPT = 2.0  # seconds that one agent has to answer, before the next is asked
_BULK_SILENCE = 10.0  # seconds that may pass without a byte while the whole store is read
_RIGHTS = "the ACL token must be allowed to write all of the prefix"
_HEADERS = {"/v1/txn": {"Content-Type": "application/json"}}  # all other bodies are plain bytes
_FIRST_RETRY_PAUSE: Micros = 50 * MILLISECOND
_LONGEST_RETRY_PAUSE: Micros = SECOND


class Denied(StoreUnavailable):
    """Consul's access control refused the request: it was not carried out."""


class Item(msgspec.Struct, frozen=True, rename="pascal"):
    """One of Consul's keys. Consul's answer to a write has no value in it."""

    key: str
    modify_index: int
    value: bytes | None = None


class Op(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """One operation of one of Consul's Txns. `verb` and `index` mean what Consul's documentation says."""

    verb: str
    key: str
    value: bytes | None = None
    index: int | None = None


class FailedOp(msgspec.Struct, frozen=True):
    """Why Consul rolled a Txn back: the operation number `at` did not hold; `what` are Consul's words."""

    at: int = msgspec.field(name="OpIndex")
    what: str = msgspec.field(name="What")


class _Wrapped(msgspec.Struct, frozen=True):
    item: Item = msgspec.field(name="KV")


class TxnAnswer(msgspec.Struct, frozen=True, rename="pascal"):
    """What became of a Txn: either there are `failures` and nothing happened, or `items` were read and written."""

    results: list[_Wrapped] | None = None
    errors: list[FailedOp] | None = None

    @property
    def failures(self) -> list[FailedOp]:
        """Which operations did not hold; empty when the Txn was carried out."""
        return self.errors or []

    @property
    def items(self) -> list[Item]:
        """What was read and written, in the order of the operations. A deletion gives no item."""
        return [wrapped.item for wrapped in self.results or []]


class HttpAnswer(msgspec.Struct, frozen=True):
    """An answer that is no error. A blocking query goes on from `index`; it is 0 when the answer has none."""

    status: int
    body: bytes
    index: int


_ITEMS = msgspec.json.Decoder(list[Item])
_TXN = msgspec.json.Decoder(TxnAnswer)
_ENCODER = msgspec.json.Encoder()


class Agents:
    """The agents of one Consul cluster. The token goes with every request, and no error message shows it."""

    def __init__(self, access: ConsulAccess, tls: SSLContext | None) -> None:
        self._addresses = access.addresses
        self._at = 0
        self._turned = asyncio.Event()
        self._timeout = access.timeout
        # An agent is near: compressing its answers would cost more time than it saves.
        headers = {"Accept-Encoding": "identity"}
        if access.token:
            headers["X-Consul-Token"] = access.token
        connector = aiohttp.TCPConnector(limit=0, ssl=tls if tls is not None else True)
        self._session = aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=None)
        )

    async def close(self) -> None:
        """Close every connection. Requests under way end with StoreUnavailable."""
        await self._session.close()

    async def txn(self, operations: Sequence[Op], *, consistent: bool = False) -> TxnAnswer:
        """Carry out one of Consul's Txns. That Consul has rolled it back is an answer, not an error.

        Raises:
            StoreUnavailable: no answer. Nobody knows whether the Txn was carried out, or still will be.
            Denied: the token does not allow it.
        """
        body = _ENCODER.encode([{"KV": operation} for operation in operations])
        answer = await self._ask("PUT", "/v1/txn", {"consistent": ""} if consistent else {}, body)
        done = _TXN.decode(answer.body)
        for failure in done.failures:
            if "permission denied" in failure.what.lower():
                raise Denied(f"Consul refused: {failure.what}: {_RIGHTS}")
        return done

    async def get(self, key: str) -> Item | None:
        """One key as a majority of the servers has it; None when there is no such key."""
        answer = await self._ask("GET", f"/v1/kv/{key}", {"consistent": ""})
        return None if answer.status == 404 else _ITEMS.decode(answer.body)[0]

    async def changed(self, key: str, index: int, wait: float) -> tuple[Item | None, int]:
        """The key (None: there is none) and the next index; after a change since `index`, or after `wait` seconds.

        An agent that is silent on this question need not hang. So the question is given up as soon as another request
        has found its agent silent. The caller then asks again: another agent, or the same one, which may have waited
        for a leader that is gone (`test_who_only_listens_hears_by_another_agent_when_one_hangs`).
        """
        params = {"index": str(index), "wait": f"{wait:.0f}s"}
        # Consul adds up to a sixteenth to the wait, so that not all watchers come back together.
        limit = wait * 1.1 + _ATTEMPT
        asking = self._once(self._at, "GET", f"/v1/kv/{key}", params, None, limit)
        answer = await first(asking, self._turned.wait())
        if answer is None:
            raise StoreUnavailable("Consul has left another question without an answer")
        item = None if answer.status == 404 else _ITEMS.decode(answer.body)[0]
        # Consul's documentation asks for this: after an index that went backwards, begin anew from 0.
        return item, answer.index if answer.index >= index else 0

    async def all(self, prefix: str, *, bulk: bool = False) -> list[Item]:
        """Every key that begins with `prefix`, all as of one moment.

        With `bulk` the answer may take any time while bytes keep coming.
        """
        params = {"recurse": "", "consistent": ""}
        answer = await self._ask("GET", f"/v1/kv/{prefix}", params, bulk=bulk)
        return [] if answer.status == 404 else _ITEMS.decode(answer.body)

    async def names(self, prefix: str) -> list[str]:
        """The names of the keys that begin with `prefix`."""
        answer = await self._ask("GET", f"/v1/kv/{prefix}", {"keys": "", "consistent": ""})
        return [] if answer.status == 404 else msgspec.json.decode(answer.body, type=list[str])

    async def put(self, key: str, value: bytes) -> None:
        """Write one key, whatever it held."""
        await self._ask("PUT", f"/v1/kv/{key}", {}, value)

    async def _ask(
        self, method: str, path: str, params: Mapping[str, str], body: bytes | None = None, *, bulk: bool = False
    ) -> HttpAnswer:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout
        # Drawn at random, so that daemons do not come back together.
        backoff = Backoff(SystemClock(), _FIRST_RETRY_PAUSE, _LONGEST_RETRY_PAUSE, random)
        told: StoreUnavailable | None = None
        while True:
            pause = backoff.next() / SECOND
            for _ in self._addresses:
                left = max(end - loop.time(), 0.001)
                try:
                    return await self._once(self._at, method, path, params, body, min(_ATTEMPT, left), bulk=bulk)
                except Denied:
                    raise
                except StoreUnavailable as error:
                    # Tell the first error: the last try had only the rest of the time, so its error says little.
                    told = told or error
                    if loop.time() + pause >= end:
                        raise told from told.__cause__
            await asyncio.sleep(pause)

    async def _once(
        self,
        at: int,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: bytes | None,
        limit: float,
        *,
        bulk: bool = False,
    ) -> HttpAnswer:
        address = self._addresses[at]
        if self._session.closed:
            raise StoreUnavailable("the store is closed: Consul is not asked any more")
        timeout = (
            aiohttp.ClientTimeout(total=None, sock_connect=limit, sock_read=_BULK_SILENCE)
            if bulk
            else aiohttp.ClientTimeout(total=limit)
        )
        try:
            async with self._session.request(
                method, address + path, params=params, data=body, headers=_HEADERS.get(path), timeout=timeout
            ) as response:
                content = await response.read()
                status, index = response.status, response.headers.get("X-Consul-Index", "")
        except TimeoutError as error:
            self._turn_from(at)
            raise StoreUnavailable(
                f"Consul at {address} has not answered within {limit:.1f} s: it hangs, or has no leader"
            ) from error
        except aiohttp.ClientError as error:
            self._turn_from(at)
            raise StoreUnavailable(f"Consul at {address} does not answer: {error}") from error
        if status in (200, 404, 409):
            return HttpAnswer(status, content, int(index) if index.isdecimal() else 0)
        text = content.decode(errors="replace").strip()[:300]
        if status == 403:
            raise Denied(f"Consul at {address} refused: {text}: {_RIGHTS}")
        if status == 413:
            raise StoreError(
                f"Consul at {address} takes no request of that size: {text}: kv_max_value_size and txn_max_req_len of"
                " its servers must be 512 KiB, the default, or more"
            )
        if status == 429 or status >= 500:
            self._turn_from(at)
            raise StoreUnavailable(f"Consul at {address} cannot answer (status {status}): {text}")
        raise StoreError(f"Consul at {address} refused {method} {path.partition('?')[0]} (status {status}): {text}")

    def _turn_from(self, at: int) -> None:
        """Speak to the next agent from now on, unless another request has turned from this one already."""
        if self._at == at:
            self._at = (at + 1) % len(self._addresses)
            self._turned.set()
            self._turned = asyncio.Event()
