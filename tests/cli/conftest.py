"""A real server on a free port of the loopback interface, in a thread, and xchronosctl in this process."""

import asyncio
import io
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parent.parent / "api"))

from tests.api.api_helpers import Cluster
from xchronos.api.app import create_app
from xchronos.api.ports import Services
from xchronos.api.serving.listening import listen
from xchronos.api.serving.server import serve
from xchronos.cli.context import CliContext
from xchronos.cli.failures import INTERRUPTED
from xchronos.cli.program import cli
from xchronos.cli.quick import LISTS, listed

T = TypeVar("T")


@dataclass
class Daemon:
    """The API of a cluster that exists in this test only."""

    cluster: Cluster
    url: str
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    started = threading.Event()
    found: list[Daemon] = []
    stop: list[asyncio.Task[None]] = []

    async def main() -> None:
        cluster = Cluster()
        services = Services(cluster.registry, cluster.clock, "m1", cluster.steps, cluster.daemon)

        def ready(url: str) -> None:
            found.append(Daemon(cluster, url, asyncio.get_running_loop()))
            started.set()

        stop.append(asyncio.create_task(serve(create_app(services), listen("127.0.0.1", 0), ready)))
        with pytest.raises(asyncio.CancelledError):
            await stop[0]

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert started.wait(10)
    monkeypatch.setenv("XCHRONOS_API", found[0].url)
    yield found[0]
    found[0].loop.call_soon_threadsafe(stop[0].cancel)
    thread.join(10)
    assert not thread.is_alive()


def quickly(*args: str) -> tuple[str, str] | None:
    """What the quick way prints to standard output and error; None when it leaves the list to the whole way."""
    out, err = io.BytesIO(), io.BytesIO()
    with io.TextIOWrapper(out, "utf-8") as stdout, io.TextIOWrapper(err, "utf-8") as stderr:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            done = listed(args)
        stdout.flush()
        stderr.flush()
        texts = out.getvalue().decode(), err.getvalue().decode()
    assert done or texts == ("", ""), "the whole way would say it twice"
    return texts if done else None


class Ctl:
    """xchronosctl, in this process. Every list is asked for in both ways, and must be the same."""

    def __call__(self, *args: str, stdin: bytes | None = None, env: dict[str, str] | None = None) -> Result:
        result = CliRunner().invoke(cli, list(args), input=stdin, env=env, prog_name="xchronosctl")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if args and args[0] in LISTS and not env and result.exit_code != INTERRUPTED and not CliContext().terminal:
            quick = quickly(*args)
            assert quick is None or (*quick, 0) == (result.stdout, result.stderr, result.exit_code)
        return result


@pytest.fixture
def ctl() -> Ctl:
    return Ctl()
