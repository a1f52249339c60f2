"""Artifact=: a file that is fetched into the attempt's scratch directory before its first step."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from io import FileIO
from pathlib import Path

from xchronos import limits
from xchronos.agent.attempt.download import NotFetched, name_of, pieces
from xchronos.agent.attempt.interfaces import Memory
from xchronos.errors import InvalidValue
from xchronos.hostfiles import HostFileRefused, HostFiles
from xchronos.model.records import StepResult
from xchronos.model.unit import Unit
from xchronos.unitfile import HostFacts, UnitName, expand
from xchronos.urls import shown

MODE = 0o755
"""An artifact may be a program: `ExecStart=./name` runs it, whoever the step's user is."""

_ENTRY = "artifact"
"""The fetching's entry in the attempt's memory. No step is called so."""


async def fetch_once(unit: Unit, facts: HostFacts, memory: Memory, scratch: Path, files: HostFiles) -> str:
    """Fetch the unit's artifact, unless the attempt has it already. Returns why that failed, or ""."""
    if memory.result(_ENTRY) is not None:
        return ""  # fetched before this daemon started; a step may have moved it since
    try:
        url = expand(unit.artifact, UnitName.parse(unit.name), facts)
        await asyncio.wait_for(fetch(url, unit.artifact_sha256, scratch, files), limits.ARTIFACT_SECONDS)
    except (InvalidValue, NotFetched) as error:
        return f"Artifact={shown(unit.artifact)}: {shown(str(error))}"
    except TimeoutError:
        return f"Artifact={shown(unit.artifact)}: it could not be fetched within {limits.ARTIFACT_SECONDS:.0f} s"
    await memory.record(StepResult(_ENTRY, shown(url), "succeeded"))
    return ""


async def fetch(url: str, sha256: str, directory: Path, files: HostFiles) -> Path:
    """Fetch `url` (http, https, file) into a directory, under the last part of its path, and check its SHA-256.

    The file appears there whole or not at all. Raises NotFetched, whose text shows no secret of the URL.
    """
    name = name_of(url)
    target, unfinished = directory / name, directory / f".{name[:200]}.part"
    what = f"writing {unfinished}"

    def begun() -> FileIO:
        directory.mkdir(parents=True, exist_ok=True)
        return FileIO(unfinished, "wb")

    try:
        file = await files.ask(begun, what)
        try:
            digest = await _written(pieces(url, files), file, what, files)
            if sha256 and digest != sha256.lower():
                raise NotFetched(f"its SHA-256 is {digest}, expected {sha256.lower()}")
            os.fchmod(file.fileno(), MODE)
            unfinished.replace(target)
        finally:
            file.close()
            unfinished.unlink(missing_ok=True)
    except HostFileRefused as error:
        raise NotFetched(str(error)) from error
    except OSError as error:
        raise NotFetched(f"{error.strerror or error}") from error
    return target


async def _written(found: AsyncGenerator[bytes | None, None], file: FileIO, what: str, files: HostFiles) -> str:
    """Write what comes into the file. Returns its SHA-256."""
    digest, size = hashlib.sha256(), 0
    async with aclosing(found):
        async for piece in found:
            if piece is None:
                digest, size = hashlib.sha256(), 0
                await files.ask(partial(_empty, file), what, within=limits.ARTIFACT_SILENCE)
                continue
            size += len(piece)
            if size > limits.ARTIFACT_BYTES:
                raise NotFetched(f"it is larger than {limits.ARTIFACT_BYTES} bytes")
            digest.update(piece)
            await files.ask(partial(_write, file, piece), what, within=limits.ARTIFACT_SILENCE)
    return digest.hexdigest()


def _empty(file: FileIO) -> None:
    file.seek(0)
    file.truncate()


def _write(file: FileIO, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[file.write(left) :]
