"""A thin client of the Docker Engine API over aiohttp: one connection per open call, no timeout on what may take long.

It keeps two failures apart, because its callers decide differently on them:

- the engine says no: `EngineRefusal`, with its HTTP status and text;
  An answer of success is one whatever its body: podman answers `OK` where docker answers nothing or JSON. Only a call
  whose answer is needed refuses one without (`DockerClient.ask`);
- the engine does not answer: `ExecutorUnavailable` when the request was never sent, its subclass `ConnectionLost`
  when it may have been carried out although no answer came.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from xchronos.errors import ConfigError, ExecutorError, ExecutorUnavailable
from xchronos.executors.patience import note_trouble
from xchronos.urls import shown

DEFAULT_HOST = "unix:///var/run/docker.sock"
CALL_LIMIT = 120.0
"""Seconds that a call may take that engines answer immediately; after that the engine counts as not answering.

It is generous on purpose: under load an inspect waits for the lock of a container that is being started.
"""

NO_CONTENT = 204
"""The status of a refusal that is an answer of success without the content that it was asked for."""

_NEWEST = (1, 47)
"""The newest API version that this code knows. An older engine is spoken to in its own version."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class EngineRefusal(ExecutorError):  # noqa: N818 - it is an answer
    """The engine answered with an error: `status` is the HTTP status, `message` the engine's text."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


class ConnectionLost(ExecutorUnavailable):
    """The connection ended before the answer was complete: what was asked for may or may not have happened."""


def _tls() -> ssl.SSLContext | None:
    """The TLS settings of DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, as the docker client reads them."""
    if not os.environ.get("DOCKER_TLS_VERIFY"):
        return None
    certificates = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    try:
        context = ssl.create_default_context(cafile=certificates / "ca.pem")
        context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    except OSError as error:
        raise ConfigError(
            f"DOCKER_TLS_VERIFY is set, but {certificates} holds no usable certificates: {error}"
        ) from error
    return context


def _message(status: int, body: bytes) -> str:
    """The text of an error answer: that of `{"message": ...}`, or whatever a proxy in between has written."""
    try:
        answer = _decode(body)
    except msgspec.DecodeError:
        return body.decode(errors="replace").strip() or f"HTTP status {status}"
    return str(answer["message"]) if isinstance(answer, dict) and "message" in answer else str(answer)


class DockerClient:
    """One Docker engine (or podman's socket), reached over a unix socket or TCP.

    `host` has the form of DOCKER_HOST (`unix:///path`, `tcp://host:port`), and DOCKER_HOST is its default. Raises
    ConfigError for any other form. Nothing is connected before the first call.

    Attributes:
        version: The API version that is spoken; (0, 0) before the engine was asked (`identify`).
        podman: Whether the engine is podman.
    """

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self.named = shown(self.host)
        scheme, _, rest = self.host.partition("://")
        if scheme not in ("unix", "tcp", "http", "https") or not rest:
            raise ConfigError(
                f"the Docker engine's address is {self.named!r}; expected unix:///path or tcp://host:port"
            )
        self._path = rest if scheme == "unix" else None
        self._ssl = _tls() if scheme == "tcp" else None
        if self._path is not None:
            self._base = "http://docker"
        else:
            secure = scheme == "https" or self._ssl is not None
            self._base = f"{'https' if secure else 'http'}://{rest.rstrip('/')}"
        self._session: aiohttp.ClientSession | None = None
        self._prefix = ""
        self.version = (0, 0)
        self.podman = False

    @property
    def socket(self) -> str | None:
        """The path of the unix socket; None when the engine is reached over TCP."""
        return self._path

    async def ping(self) -> None:
        """Agree on an API version with the engine. Raises ExecutorUnavailable when the engine does not answer."""
        async with self._exchange("GET", f"{self._base}/_ping", timeout=CALL_LIMIT) as response:
            await response.read()
            if response.status != 200:
                raise ExecutorUnavailable(
                    f"{self.named} does not answer as a Docker engine: HTTP status {response.status}"
                )
            theirs = response.headers.get("Api-Version", "1.24")
            self.podman = "Libpod-Api-Version" in response.headers
        major, _, minor = theirs.partition(".")
        try:
            version = min(_NEWEST, (int(major), int(minor)))
        except ValueError:
            raise ExecutorUnavailable(
                f"{self.named} does not answer as a Docker engine: Api-Version {theirs!r}"
            ) from None
        self.version = version
        self._prefix = f"{self._base}/v{version[0]}.{version[1]}"

    async def identify(self) -> None:
        """Ask what the engine is, unless that is known. Raises as `ping` does."""
        if not self._prefix:
            await self.ping()

    def connection(self) -> dict[str, Any]:
        """How another process of this machine reaches the engine: the settings of `attachment.process`."""
        url = URL(self._base)
        folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker") if self._ssl else None
        return {
            "socket": self._path or "",
            "address": url.host or "",
            "port": url.port or 0,
            "tls": url.scheme == "https",
            "ca": str(folder / "ca.pem") if folder else "",
            "certificate": str(folder / "cert.pem") if folder else "",
            "key": str(folder / "key.pem") if folder else "",
            "prefix": f"/v{self.version[0]}.{self.version[1]}",
        }

    async def answers_anew(self, limit: float) -> bool:
        """Whether the engine answers on a new connection within `limit` seconds.

        An engine that shuts down takes no new connections, but goes on answering on the old ones while it ends its
        containers (`test_an_engine_that_takes_no_new_connections`).
        """
        fresh = DockerClient(self.host)
        try:
            async with asyncio.timeout(limit):
                await fresh.ping()
        except (ExecutorUnavailable, TimeoutError):
            return False
        else:
            return True
        finally:
            await fresh.close()

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - an HTTP setting
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer whose body the caller reads as it comes.

        Args:
            method: the HTTP method.
            path: below the API version; not escaped yet.
            params: the query.
            body: is sent as JSON.
            data: is sent as it is.
            headers: sent with the request.
            timeout: seconds for the whole answer; None: any time.

        Raises:
            EngineRefusal: the status is 400 or more.
            ExecutorUnavailable: the request was never sent.
            ConnectionLost: there was no whole answer; also while the caller reads.
        """
        if not self._prefix:
            await self.ping()
        url = self._prefix + quote(path, safe="/:@!+")
        if params:
            url += "?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in params.items())
        send = dict(headers or {})
        if body is not None:
            data = _encode(body)
            send["Content-Type"] = "application/json"
        try:
            async with self._exchange(method, url, data=data, headers=send, timeout=timeout) as response:
                if response.status >= 400:
                    message = _message(response.status, await response.read())
                    note_trouble(f"{method} {path}", message)
                    raise EngineRefusal(response.status, message)
                yield response
        except ExecutorUnavailable as error:
            note_trouble(f"{method} {path}", str(error))
            self._prefix = ""  # the engine that answers next may be another version
            raise

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float | None = CALL_LIMIT,  # noqa: ASYNC109 - an HTTP setting, None where an answer may take for ever
    ) -> Any:
        """Make one call; returns the decoded answer, None for one that is empty or no JSON. Raises as `stream` does.

        A GET whose keep-alive connection turns out to be dead is sent once more. Any other request may have been
        carried out, so the caller has to find out.
        """
        try:
            return await self._call(method, path, params, body, timeout)
        except ConnectionLost:
            if method != "GET":
                raise
        return await self._call(method, path, params, body, timeout)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float | None = CALL_LIMIT,  # noqa: ASYNC109 - an HTTP setting, None where an answer may take for ever
    ) -> Any:
        """As `call`, where the answer is what the call is made for: one without JSON is a refusal too."""
        answer = await self.call(method, path, params=params, body=body, timeout=timeout)
        if answer is None and method == "GET":  # an engine that stops may have cut it off
            answer = await self.call(method, path, params=params, body=body, timeout=timeout)
        if answer is None:
            raise EngineRefusal(NO_CONTENT, f"the engine at {self.named} answered {method} {path} without any JSON")
        return answer

    async def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Any,
        timeout: float | None,  # noqa: ASYNC109
    ) -> Any:
        async with self.stream(method, path, params=params, body=body, timeout=timeout) as response:
            answer = await response.read()
        try:
            return _decode(answer)
        except msgspec.DecodeError:
            return None

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        url: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = self._open_session()
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),
                data=data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=10),
                allow_redirects=False,
            ) as response:
                yield response
        except aiohttp.ClientConnectorError as error:
            raise ExecutorUnavailable(f"the Docker engine at {self.named} does not answer: {error.os_error}") from error
        except TimeoutError as error:
            raise ConnectionLost(f"the Docker engine at {self.named} did not answer in time") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise ConnectionLost(f"the connection to the Docker engine at {self.named} was lost: {error}") from error

    def _open_session(self) -> aiohttp.ClientSession:
        # A wait uses a connection for as long as its container runs. With aiohttp's default limit of 100 connections,
        # a hundred containers would block every other call.
        connector = (
            aiohttp.UnixConnector(self._path, limit=0)
            if self._path is not None
            else aiohttp.TCPConnector(limit=0, ssl=self._ssl if self._ssl is not None else True)
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close every connection. A later call opens new ones."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()
