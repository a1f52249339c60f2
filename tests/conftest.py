"""Fixtures of all tests: the Docker engine, and an image to run in it."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

for contract in ("executors", "store", "store_base", "store_leases", "store_watches"):
    pytest.register_assert_rewrite(f"xchronos.testing.{contract}")

ROOT = Path(__file__).resolve().parent.parent
STRICT = os.environ.get("XCHRONOS_REQUIRE_SERVICES") == "1" or os.environ.get("CI", "").lower() in ("1", "true")


def unavailable(what: str) -> None:
    """A service that is not there skips a test on a laptop, and fails it where services are promised."""
    if STRICT:
        pytest.fail(f"{what}, and this run requires every service")
    pytest.skip(what)


@pytest.fixture(scope="session")
def docker_host() -> str:
    """The address of a Docker engine that answers on a unix socket."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not host.startswith("unix://"):
        unavailable(f"the tests need an engine on a unix socket, not {host}")
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(host.removeprefix("unix://"))
        except OSError as error:
            unavailable(f"no Docker engine at {host}: {error}")
    return host


@pytest.fixture(scope="session")
def busybox_image(docker_host: str) -> str:
    """The name of an image with busybox in it, made here when the engine has none."""
    made = subprocess.run([ROOT / "packaging/images/make-busybox"], capture_output=True, text=True, check=False)
    if made.returncode:
        unavailable(f"cannot make the busybox image: {made.stderr.strip()}")
    return made.stdout.strip()
