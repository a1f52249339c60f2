"""Artifact=: a file that is fetched into the attempt's scratch directory before its first step."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp

from xchronos.agent.attempt.interfaces import Memory
from xchronos.errors import InvalidValue, XchronosError
from xchronos.model.records import StepResult
from xchronos.model.unit import Unit
from xchronos.unitfile import HostFacts, UnitName, expand

MAX_SIZE = 4 * 1024**3
"""Bytes that an artifact may have."""

FETCH_LIMIT = 1800.0
"""Seconds that fetching an artifact may take."""

SERVER_SILENCE_LIMIT = 60.0
"""Seconds of silence after which a server is given up."""

READ_SIZE = 1 << 20
"""Bytes that are read from the server, or from the file, and written to the disk in one piece."""

_ENTRY = "artifact"
"""The fetching's entry in the attempt's memory. No step is called so."""


class NotFetched(XchronosError):  # noqa: N818 - reads as what it says
    """The artifact is not there; the text says why."""


async def fetch_once(unit: Unit, facts: HostFacts, memory: Memory, scratch: Path) -> str:
    """Fetch the unit's artifact, unless the attempt has it already. Returns why that failed, or ""."""
    if memory.result(_ENTRY) is not None:
        return ""  # fetched before this daemon started; a step may have moved it since
    try:
        url = expand(unit.artifact, UnitName.parse(unit.name), facts)
        await asyncio.wait_for(fetch(url, unit.artifact_sha256, scratch), FETCH_LIMIT)
    except (InvalidValue, NotFetched) as error:
        return f"Artifact={unit.artifact}: {error}"
    except TimeoutError:
        return f"Artifact={unit.artifact}: it could not be fetched within {FETCH_LIMIT:.0f} s"
    await memory.record(StepResult(_ENTRY, url, "succeeded"))
    return ""


async def fetch(url: str, sha256: str, directory: Path) -> Path:
    """Fetch `url` (http, https, file) into a directory, under the last part of its path, and check its SHA-256.

    The file appears there whole or not at all. Raises NotFetched.
    """
    parts = urlsplit(url)
    name = unquote(parts.path.rpartition("/")[2])
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise NotFetched("expected a URL whose path ends in a file name")
    if parts.scheme in ("http", "https"):
        chunks = _from_server(url)
    elif parts.scheme == "file" and parts.netloc in ("", "localhost"):
        chunks = _from_file(Path(unquote(parts.path)))
    else:
        raise NotFetched("expected an http, https or file URL")
    target, partial = directory / name, directory / f".{name[:200]}.part"
    digest, size = hashlib.sha256(), 0
    try:
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        async with aclosing(chunks):
            with partial.open("wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > MAX_SIZE:
                        raise NotFetched(f"it is larger than {MAX_SIZE} bytes")
                    digest.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
        if sha256 and digest.hexdigest() != sha256.lower():
            raise NotFetched(f"its SHA-256 is {digest.hexdigest()}, expected {sha256.lower()}")
        partial.chmod(0o644)
        partial.replace(target)
    except OSError as error:
        raise NotFetched(f"{error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


async def _from_server(url: str) -> AsyncGenerator[bytes, None]:
    timeout = aiohttp.ClientTimeout(total=None, connect=SERVER_SILENCE_LIMIT, sock_read=SERVER_SILENCE_LIMIT)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(url) as response:
            if response.status != 200:
                raise NotFetched(f"the server answered {response.status} {response.reason or ''}".rstrip())
            async for chunk in response.content.iter_chunked(READ_SIZE):
                yield chunk
    except aiohttp.ClientError as error:
        raise NotFetched(str(error) or type(error).__name__) from error


async def _from_file(path: Path) -> AsyncGenerator[bytes, None]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, READ_SIZE):
            yield chunk
