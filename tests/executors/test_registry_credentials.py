"""With which credentials images are pulled: docker's own configuration, whatever is in that file."""

import base64
import json
import os
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from xchronos.executors.docker.client import EngineRefusal
from xchronos.executors.docker.images import DOCKER_HUB, PullFailed, credentials, pull
from xchronos.hostfiles import HostFiles

FILES = HostFiles()


@pytest.fixture
def docker_config(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


async def sent(image):
    header = (await credentials(image, FILES)).headers.get("X-Registry-Auth")
    return header and json.loads(base64.urlsafe_b64decode(header))


async def test_credentials(docker_config):
    assert await credentials("x", FILES) == ({}, "")
    auth = base64.b64encode(b"me:pass:word").decode()
    auths = {
        "r.example": {"auth": auth},
        DOCKER_HUB: {"identitytoken": "t"},
        "https://s.example": {"auth": auth},
        "https://v1.example:5000/v1/": {"auth": auth},
        "http://v2.example/v2/": {"auth": auth},
        "damaged.example": 5,
    }
    docker_config.write_text(json.dumps({"auths": auths}))
    assert await sent("r.example/a/b:1") == {"serveraddress": "r.example", "username": "me", "password": "pass:word"}
    for registry in ("s.example", "v1.example:5000", "v2.example"):
        assert (await sent(f"{registry}/a"))["username"] == "me"
    assert await sent("library/x") == {"serveraddress": DOCKER_HUB, "identitytoken": "t"}
    assert await credentials("other.example/x", FILES) == ({}, "")


@pytest.mark.parametrize(
    ("config", "lacking"),
    [
        ("[]", "Expected `object`, got `array`"),
        ("{", "truncated"),
        ('{"auths": []}', "Expected `object | null`, got `array` - at `$.auths`"),
        ('{"auths": {"r.example": []}}', "Expected `object`, got `array`"),
        ('{"auths": {"r.example": {"auth": "!"}}}', "auths r.example: auth: expected user:password in base64"),
        ('{"auths": {"r.example": {"auth": "bWU="}}}', "auths r.example: auth: expected user:password in base64"),
        ('{"auths": {"r.example": {"auth": "/////w=="}}}', "auths r.example: auth: expected user:password in base64"),
        ('{"auths": {"r.example": {}}, "credsStore": "pass"}', "docker-credential-pass is not asked"),
        ('{"credHelpers": {"r.example": "gcr"}}', "docker-credential-gcr is not asked: put auth into auths"),
    ],
)
async def test_a_pull_that_fails_says_why_it_had_no_credentials(docker_config, config, lacking):
    """It is made without them, as the docker client does: what is public needs none."""
    asked: list[dict[str, str]] = []

    class Denying:
        @asynccontextmanager
        async def stream(self, *_, headers, **__):
            asked.append(headers)
            raise EngineRefusal(404, "denied")
            yield

    docker_config.write_text(config)
    engine: Any = Denying()
    with pytest.raises(PullFailed) as failed:
        await pull(engine, "r.example/x", lambda _: None, FILES)
    assert asked == [{}]
    told = failed.value.message
    assert told.startswith(f"pulling r.example/x: denied (asked without credentials: {docker_config}: ")
    assert lacking in told


async def test_a_configuration_that_does_not_answer_holds_no_pull_up(docker_config):
    """It may be on a server that is away, and is read in a thread of its own."""
    os.mkfifo(docker_config)
    assert await credentials("x", FILES) == ({}, f"{docker_config}: is a named pipe (FIFO): expected a regular file")
    docker_config.unlink()
    docker_config.write_text("{}")
    free, seen = threading.Event(), []

    class Slow(HostFiles):
        async def ask(self, work, what, *, about="", within=0.0):
            def slowly():
                seen.append(threading.current_thread())
                free.wait()
                return work()

            return await super().ask(slowly, what, about=about, within=0.01)

    try:
        found = await credentials("x", Slow())
    finally:
        free.set()
    assert found.lacking == f"{docker_config}: no answer within 0.01 s: is it on a server that is away?"
    assert threading.main_thread() not in seen


async def test_a_user_without_a_home_has_no_credentials(monkeypatch):
    def nowhere(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setattr(Path, "expanduser", nowhere)
    assert await credentials("x", FILES) == ({}, "")
