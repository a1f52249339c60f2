"""Consul's HTTP API as far as the store needs it: several agents, one of which is spoken to, and what errors mean.

Every request that the store makes may be repeated without harm (`consul_log` says why), so that one that is not
answered goes to the next agent, and round again after a pause, until its time is up.
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
"""The most operations in one of Consul's Txns."""

_ATTEMPT = 2.0  # seconds for one agent, before the next is asked
_BULK_SILENCE = 10.0  # seconds without a byte while everything is read
_RIGHTS = "the ACL token must be allowed to write all of the prefix"
_HEADERS = {"/v1/txn": {"Content-Type": "application/json"}}  # what else is sent is bytes
_FIRST_RETRY_PAUSE: Micros = 50 * MILLISECOND
_LONGEST_RETRY_PAUSE: Micros = SECOND


class Denied(StoreUnavailable):
    """Consul's access control refused the request: it was not carried out."""


class Item(msgspec.Struct, frozen=True, rename="pascal"):
    """One of Consul's keys. The value of what was written is not sent back."""

    key: str
    modify_index: int
    value: bytes | None = None


class Op(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """One operation of one of Consul's Txns; `verb` and `index` are Consul's."""

    verb: str
    key: str
    value: bytes | None = None
    index: int | None = None


class FailedOp(msgspec.Struct, frozen=True):
    """Why a Txn was rolled back: the operation at `at` did not hold."""

    at: int = msgspec.field(name="OpIndex")
    what: str = msgspec.field(name="What")


class _Wrapped(msgspec.Struct, frozen=True):
    item: Item = msgspec.field(name="KV")


class TxnAnswer(msgspec.Struct, frozen=True, rename="pascal"):
    """What became of a Txn: either `failures`, and nothing happened, or what was read and written."""

    results: list[_Wrapped] | None = None
    errors: list[FailedOp] | None = None

    @property
    def failures(self) -> list[FailedOp]:
        """Empty when the Txn was carried out."""
        return self.errors or []

    @property
    def items(self) -> list[Item]:
        """What was read and written, in the order of the operations; deletions leave nothing."""
        return [wrapped.item for wrapped in self.results or []]


class HttpAnswer(msgspec.Struct, frozen=True):
    """An answer that is no error. `index`: what a blocking query goes on from."""

    status: int
    body: bytes
    index: int


_ITEMS = msgspec.json.Decoder(list[Item])
_TXN = msgspec.json.Decoder(TxnAnswer)
_ENCODER = msgspec.json.Encoder()


class Agents:
    """The agents of one Consul cluster. The token is sent with every request, and is in no message."""

    def __init__(self, access: ConsulAccess, tls: SSLContext | None) -> None:
        self._addresses = access.addresses
        self._at = 0
        self._turned = asyncio.Event()
        self._timeout = access.timeout
        # Compressed answers cost more than they spare on the way to an agent, which is near.
        headers = {"Accept-Encoding": "identity"}
        if access.token:
            headers["X-Consul-Token"] = access.token
        connector = aiohttp.TCPConnector(limit=0, ssl=tls if tls is not None else True)
        self._session = aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=None)
        )

    async def close(self) -> None:
        """Let go of every connection; who waits for an answer hears that there is none."""
        await self._session.close()

    async def txn(self, operations: Sequence[Op], *, consistent: bool = False) -> TxnAnswer:
        """Carry out one of Consul's Txns; a rolled back one is an answer too.

        Raises:
            StoreUnavailable: no answer; whether it was, or still will be, carried out is not known.
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
        """One key as a majority of the servers has it."""
        answer = await self._ask("GET", f"/v1/kv/{key}", {"consistent": ""})
        return None if answer.status == 404 else _ITEMS.decode(answer.body)[0]

    async def changed(self, key: str, index: int, wait: float) -> tuple[Item | None, int]:
        """The key once it has changed since `index`, or when `wait` seconds have passed; and the next index.

        Silence is what is expected here. So it ends when a request that needs an answer has none: whoever asks again
        asks an agent that answers, or the same one, which may have waited for a leader that is gone.
        """
        params = {"index": str(index), "wait": f"{wait:.0f}s"}
        # Consul adds up to a sixteenth of the wait, so that many watchers do not come back at once.
        limit = wait * 1.1 + _ATTEMPT
        asking = self._once(self._at, "GET", f"/v1/kv/{key}", params, None, limit)
        answer = await first(asking, self._turned.wait())
        if answer is None:
            raise StoreUnavailable("Consul has left another question without an answer")
        item = None if answer.status == 404 else _ITEMS.decode(answer.body)[0]
        # As Consul's documentation asks: an index that went backwards is not to be trusted.
        return item, answer.index if answer.index >= index else 0

    async def all(self, prefix: str, *, bulk: bool = False) -> list[Item]:
        """Everything that begins with `prefix`, at one moment. `bulk`: it may take as long as bytes keep coming."""
        params = {"recurse": "", "consistent": ""}
        answer = await self._ask("GET", f"/v1/kv/{prefix}", params, bulk=bulk)
        return [] if answer.status == 404 else _ITEMS.decode(answer.body)

    async def names(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`."""
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
        backoff = Backoff(
            SystemClock(), _FIRST_RETRY_PAUSE, _LONGEST_RETRY_PAUSE, random
        )  # so that daemons do not come in step
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
                    # The last one has had what was left of the time, which tells nobody anything.
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
        """Speak to the next agent from now on, unless somebody has turned already."""
        if self._at == at:
            self._at = (at + 1) % len(self._addresses)
            self._turned.set()
            self._turned = asyncio.Event()
