"""The bytes of an artifact, from a server or from a file of this host, piece by piece and as they were published.

Nothing here uses the threads that everybody shares: the file system and the resolver may both not answer.
"""

import asyncio
import random
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from xchronos import limits
from xchronos.errors import XchronosError
from xchronos.hostfiles import HostFileRefused, HostFiles
from xchronos.urls import shown

log = structlog.get_logger(__name__)

PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds before each further try. A random part of up to as much again is added: many may wait for one server."""

PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""The statuses of servers that may answer otherwise in a while."""


class NotFetched(XchronosError):  # noqa: N818 - reads as what it says
    """The artifact is not there; the text says why, and shows no secret of a URL."""


class _Passing(Exception):  # noqa: N818 - control flow
    """A failure that may pass. `pause`: the seconds for which the server wants to be left alone; None: it is silent."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        self.pause = pause
        super().__init__(reason)


def name_of(url: str) -> str:
    """The file name under which an artifact is kept: the last part of its path. Raises NotFetched."""
    try:
        name = unquote(urlsplit(url).path.rpartition("/")[2])
    except ValueError as error:
        raise NotFetched(f"expected a URL: {shown(str(error))}") from None
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise NotFetched("expected a URL whose path ends in a file name")
    return name


async def pieces(url: str, files: HostFiles) -> AsyncGenerator[bytes | None, None]:
    """What the URL stands for, piece by piece. None: it begins again, and what came before does not count.

    Raises NotFetched.
    """
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        tries = _from_server(url, files)
    elif parts.scheme == "file" and parts.netloc in ("", "localhost"):
        tries = _from_file(Path(unquote(parts.path)), files)
    else:
        raise NotFetched("expected an http, https or file URL")
    async with aclosing(tries):
        async for piece in tries:
            yield piece


async def _from_file(path: Path, files: HostFiles) -> AsyncGenerator[bytes | None, None]:
    try:
        async with files.opened(path, str(path), limits.ARTIFACT_SILENCE) as file:
            while piece := await file.read(limits.ARTIFACT_PIECE):
                yield piece
    except HostFileRefused as error:
        raise NotFetched(str(error).removeprefix(f"{path}: ")) from error


async def _from_server(url: str, files: HostFiles) -> AsyncGenerator[bytes | None, None]:
    for usual in (*PAUSES, None):
        tried = _tried(url, files)
        try:
            async with aclosing(tried):
                async for piece in tried:
                    yield piece
        except _Passing as error:
            if usual is None:
                raise NotFetched(f"{error}; tried {len(PAUSES) + 1} times") from None
            if error.pause is not None and error.pause > limits.ARTIFACT_RETRY_AFTER:
                raise NotFetched(f"{error}; it asks to be left alone for {error.pause:.0f} s") from None
            pause = max(usual, error.pause or 0.0)
            log.info("an artifact is tried again", url=shown(url), reason=str(error), seconds=pause)
        else:
            return
        await asyncio.sleep(pause + random.uniform(0, usual))  # noqa: S311 - no secret
        yield None


async def _tried(url: str, files: HostFiles) -> AsyncGenerator[bytes, None]:
    """One try. Raises _Passing, and NotFetched for what does not pass."""
    silence = limits.ARTIFACT_SILENCE
    timeout = aiohttp.ClientTimeout(total=None, connect=silence, sock_read=silence)
    # The bytes as published: a digest is about them, and a .tar.gz is to stay one.
    headers = {"Accept-Encoding": "identity"}
    try:
        async with (
            aiohttp.ClientSession(
                timeout=timeout,
                trust_env=True,
                auto_decompress=False,
                headers=headers,
                connector=aiohttp.TCPConnector(resolver=_Resolver(files)),
            ) as session,
            session.get(url) as response,
        ):
            if response.status != 200:
                reason = f"the server answered {response.status} {response.reason or ''}".rstrip()
                if response.status in PASSING:
                    raise _Passing(reason, _pause_of(response.headers.get("Retry-After", "")))
                raise NotFetched(reason)
            async for piece in response.content.iter_chunked(limits.ARTIFACT_PIECE):
                yield piece
    except (aiohttp.ClientSSLError, aiohttp.InvalidURL, aiohttp.TooManyRedirects) as error:
        raise NotFetched(_words(error)) from error
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
        raise _Passing(_words(error)) from error
    except (aiohttp.ClientError, ValueError) as error:
        raise NotFetched(_words(error)) from error


def _words(error: Exception) -> str:
    return shown(str(error)) or type(error).__name__


def _pause_of(retry_after: str) -> float | None:
    """The seconds that Retry-After asks for: a number, or a date. None: it says nothing."""
    if retry_after.strip().isdecimal():
        return float(retry_after.strip()[:9])
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max((at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


class _Resolver(AbstractResolver):
    """Looks names up in threads that nobody else waits for. The usual one uses the event loop's, which all share."""

    def __init__(self, files: HostFiles) -> None:
        self._files = files

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError."""
        what = f"the address of {host}"
        try:
            found = await self._files.ask(
                lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG), what
            )
        except HostFileRefused as error:
            raise OSError(None, str(error)) from error
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=int(address[1]), family=kind, proto=proto, flags=numeric
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is open."""
