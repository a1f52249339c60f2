"""Image references, pulls, and the credentials of registries."""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from xchronos.executors.docker.client import DockerClient, EngineRefusal
from xchronos.hostfiles import HostFileRefused, HostFiles

DOCKER_HUB = "https://index.docker.io/v1/"


class PullFailed(EngineRefusal):
    """The image could not be pulled. The text is the registry's or the engine's."""


def split_reference(image: str) -> tuple[str, str]:
    """(repository, tag or digest) of an image reference; the tag is `latest` when none is written.

    A colon begins a tag only after the last slash: in `localhost:5000/busybox` it begins the registry's port.
    """
    repository, at, digest = image.partition("@")
    if at:
        name, colon, _ = repository.rpartition(":")
        return (name if colon and "/" not in repository.rpartition(":")[2] else repository), digest
    head, slash, last = image.rpartition("/")
    name, colon, tag = last.partition(":")
    return head + slash + name, tag if colon else "latest"


def registry_of(image: str) -> str:
    """The key by which docker clients keep the credentials of an image's registry."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return DOCKER_HUB if first in ("docker.io", "index.docker.io") else first
    return DOCKER_HUB


async def credentials(files: HostFiles, image: str, say: Callable[[str], None]) -> dict[str, str]:
    """The X-Registry-Auth header for an image, from docker's own configuration file; empty when that has none.

    Credential helpers are not asked: they are programs for a person's desktop. A file that cannot be read, or says no
    credentials, gives none, and `say` is called with the reason: the registry is asked anonymously then.
    """
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        read = await files.read(path, f"the credentials of registries in {path}", listed=False)
        auths = msgspec.json.decode(read).get("auths") or {}
        registry = registry_of(image)
        entry = auths.get(registry) or auths.get(f"https://{registry}") or {}
        answer: dict[str, str] = {"serveraddress": registry}
        if entry.get("identitytoken"):
            answer["identitytoken"] = entry["identitytoken"]
        elif entry.get("auth"):
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            answer |= {"username": user, "password": password}
        else:
            return {}
    except HostFileRefused as refusal:
        if not refusal.absent:  # absent: nobody has logged in on this machine
            say(f"{refusal}; {image} is asked for without any")
        return {}
    except (msgspec.DecodeError, AttributeError, ValueError, TypeError):
        say(f"the credentials of registries in {path} cannot be understood; {image} is asked for without any")
        return {}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(msgspec.json.encode(answer)).decode()}


async def exists(engine: DockerClient, image: str) -> bool:
    """Whether the engine has the image."""
    try:
        await engine.call("GET", f"/images/{image}/json")
    except EngineRefusal as refusal:
        if refusal.status == 404:
            return False
        raise
    return True


async def pull(
    engine: DockerClient,
    files: HostFiles,
    image: str,
    say: Callable[[str], None],
    *,
    platform: str = "",
    all_tags: bool = False,
) -> None:
    """Pull an image. `say` is called with each line worth keeping, not with every layer's progress.

    Raises PullFailed, also for a failure after the status: engines answer 200 immediately, and a failure is one line of
    the answer (`test_a_pull_fails_in_three_ways`).
    """
    repository, tag = split_reference(image)
    params = {"fromImage": repository}
    if not all_tags:
        params["tag"] = tag
    if platform:
        params["platform"] = platform
    headers = await credentials(files, image, say)
    try:
        async with engine.stream("POST", "/images/create", params=params, headers=headers) as response:
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    _progress(line, say)
            _progress(buffer, say)
    except EngineRefusal as refusal:
        # Podman says no more than "connection refused".
        message = refusal.message if repository in refusal.message else f"pulling {image}: {refusal.message}"
        raise PullFailed(refusal.status, message) from refusal


def _progress(line: bytes, say: Callable[[str], None]) -> None:
    if not line.strip():
        return
    try:
        event: Any = msgspec.json.decode(line)
    except msgspec.DecodeError:
        event = None
    if not isinstance(event, dict):  # the answer has come whole, so this is how the engine says it
        say(line.decode(errors="replace").strip())
        return
    if "error" in event or "errorDetail" in event:
        raise PullFailed(
            500, str(event.get("error") or (event.get("errorDetail") or {}).get("message") or "pull failed")
        )
    status = str(event.get("status", ""))
    layer = str(event.get("id", ""))
    if status and (not layer or status.startswith("Pulling from")):
        say(f"{layer}: {status}" if layer else status)
