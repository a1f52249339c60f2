"""Image references, pulls, and the credentials of registries."""

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from xchronos.executors.docker.client import DockerClient, EngineRefusal
from xchronos.hostfiles import HostFileRefused, HostFiles, read_file

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


class _RegistryLogin(msgspec.Struct):
    """What docker's configuration says of one registry: `user:password` in base64, or a token."""

    auth: str = ""
    identitytoken: str = ""


class _DockerConfig(msgspec.Struct, rename="camel"):
    """What is used of docker's `config.json`. An entry for another registry may be whatever it is."""

    auths: dict[str, msgspec.Raw] | None = None
    cred_helpers: dict[str, str] | None = None
    creds_store: str | None = None


class Credentials(NamedTuple):
    """With which credentials an image is pulled.

    Attributes:
        headers: X-Registry-Auth; empty: with none.
        lacking: Why there are none although somebody wanted some; empty: nobody did, or there are.
    """

    headers: dict[str, str]
    lacking: str = ""


async def credentials(image: str, files: HostFiles) -> Credentials:
    """What the docker configuration of the daemon's user says of an image's registry.

    It is `config.json` in DOCKER_CONFIG, else in `~/.docker`, and read anew for each pull. As the docker client does, a
    registry is found by its host, whatever path is written after it (`https://registry.example/v2/`), and an image is
    pulled without credentials where there are none that can be read. Programs that keep credentials (credHelpers,
    credsStore) are not asked: they are for a person's desktop.
    """
    where = os.environ.get("DOCKER_CONFIG", "")
    file = f"{where or '~/.docker'}/config.json"

    def read() -> bytes:
        try:
            path = file if where else str(Path(file).expanduser())  # it may have to look the user up
        except RuntimeError:
            return b""  # this user has no home
        try:
            return read_file(path, file)
        except FileNotFoundError:
            return b""

    try:
        content = await files.ask(read, file)
        config = msgspec.json.decode(content or b"{}", type=_DockerConfig)
        return _found_in(config, registry_of(image), file)
    except HostFileRefused as error:
        return Credentials({}, str(error))
    except msgspec.MsgspecError as error:
        return Credentials({}, f"{file}: {error}")


def _found_in(config: _DockerConfig, registry: str, file: str) -> Credentials:
    """Raises MsgspecError for an entry that is none."""
    auths = config.auths or {}
    name = registry if registry in auths else next((key for key in auths if _host(key) == _host(registry)), "")
    login = msgspec.json.decode(auths[name], type=_RegistryLogin) if name else _RegistryLogin()
    answer = {"serveraddress": registry}
    if login.identitytoken:
        answer["identitytoken"] = login.identitytoken
    elif login.auth:
        try:
            user, colon, password = base64.b64decode(login.auth, validate=True).decode().partition(":")
        except ValueError:
            colon = ""
        if not colon:
            return Credentials({}, f"{file}: auths {name}: auth: expected user:password in base64")
        answer |= {"username": user, "password": password}
    else:
        helper = (config.cred_helpers or {}).get(registry) or config.creds_store or ""
        return Credentials(
            {}, f"{file}: docker-credential-{helper} is not asked: put auth into auths" if helper else ""
        )
    return Credentials({"X-Registry-Auth": base64.urlsafe_b64encode(msgspec.json.encode(answer)).decode()})


def _host(key: str) -> str:
    """The host in a key of `auths`, which may be a URL."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


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
    image: str,
    say: Callable[[str], None],
    files: HostFiles,
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
    login = await credentials(image, files)
    try:
        async with engine.stream("POST", "/images/create", params=params, headers=login.headers) as response:
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    _progress(line, say)
            _progress(buffer, say)
    except EngineRefusal as refusal:
        # Podman says no more than "connection refused".
        message = refusal.message if repository in refusal.message else f"pulling {image}: {refusal.message}"
        if login.lacking:
            message = f"{message} (asked without credentials: {login.lacking})"
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
