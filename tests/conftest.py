"""Fixtures of all tests: the Docker engine and an image to run in it, real etcd and Consul servers."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import side_by_side
from tests.services import consul, etcd
from tests.services.servers import Place

for contract in ("executors", "store", "store_base", "store_leases", "store_watches"):
    pytest.register_assert_rewrite(f"xchronos.testing.{contract}")

ROOT = Path(__file__).resolve().parent.parent
STRICT = os.environ.get("XCHRONOS_REQUIRE_SERVICES") == "1" or os.environ.get("CI", "").lower() in ("1", "true")


# How long an example takes on a machine that does other things too says nothing; what has to be fast has a benchmark.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def unavailable(what: str) -> None:
    """A service that is not there skips a test on a laptop, and fails it where services are promised."""
    if STRICT:
        pytest.fail(f"{what}, and this run requires every service")
    pytest.skip(what)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What happens between real processes may be late on a machine that others use too: it is tried once more.

    The summary tells what was; a defect fails twice.
    """
    for item in items:
        if side_by_side.is_between_processes(item):
            item.add_marker(pytest.mark.flaky(reruns=1))
    side_by_side.arrange(config, items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Each of several processes that share the tests leaves the CPU to whom needs it more."""
    side_by_side.take_turns(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Tests marked `untraced` run without coverage.

    pytest-cov's own `no_cover` does not do it in processes that share the tests: each has two collectors, and where one
    pauses the other takes over. A test that computed for long there has waited for ever for a lock of theirs.
    """
    if item.get_closest_marker("untraced") is None:
        return (yield)
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(trace)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Names a time-out that was raised in a task of the test's, where what failed then is only what came of it."""
    began = time.monotonic()
    try:
        return (yield)
    except Exception as error:
        marker = pyfuncitem.get_closest_marker("timeout")
        limit = float(marker.args[0] if marker is not None else pyfuncitem.config.getini("timeout") or 0)
        if limit and time.monotonic() - began >= limit:
            error.add_note(f"The test's time-out of {limit:g} s came first: this is what came of it.")
        raise


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How several processes share the tests."""
    return side_by_side.scheduling(config, log)


def is_of_a_test(report: object) -> bool:
    """Whether a report is about a test, and not about a file that could not be collected, or a warning."""
    return isinstance(report, pytest.TestReport)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests have run, whatever became of each, and what the fault tests have measured.

    Reports bring it from the processes that the tests have run in.
    """
    begun = {report.nodeid for told in terminalreporter.stats.values() for report in told if is_of_a_test(report)}
    terminalreporter.write_line(f"{len(begun)} tests have begun")
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        for figures in (value for name, value in report.user_properties if name == "figures"):
            words = ", ".join(
                f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}"
                for name, value in figures.items()
                if name != "scenario"
            )
            terminalreporter.write_line(f"{figures['scenario']}: {words}")


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


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[etcd.EtcdCluster]:
    """One etcd server for all tests of this process. They share it: each keeps to keys of its own, or empties it first."""
    if why := etcd.missing():
        unavailable(why)
    with tempfile.TemporaryDirectory(prefix="xchronos-etcd-", dir=etcd.fast_directory()) as directory:
        server = etcd.EtcdCluster(Path(directory)).start()
        yield server
        server.stop()


@pytest.fixture
def make_etcd(tmp_path: Path) -> Iterator[Callable[..., etcd.EtcdCluster]]:
    """Make a cluster of the test's own, `make_etcd(3)`, started; it ends with the test."""
    if why := etcd.missing():
        unavailable(why)
    with ExitStack() as after:

        def make(members: int = 1, **options) -> etcd.EtcdCluster:
            directory = tempfile.TemporaryDirectory(prefix="xchronos-etcd-", dir=etcd.fast_directory())
            where = Path(after.enter_context(directory))
            cluster = etcd.EtcdCluster(where, [Place()] * members, **options)
            after.callback(cluster.stop)
            return cluster.start()

        yield make


@pytest.fixture(scope="session")
def consul_server() -> Iterator[consul.ConsulCluster]:
    """One Consul server for all tests of this process. They share it: each uses a prefix of its own."""
    if why := consul.missing():
        unavailable(why)
    with tempfile.TemporaryDirectory(prefix="xchronos-consul-", dir=etcd.fast_directory()) as directory:
        server = consul.ConsulCluster(Path(directory)).start()
        yield server
        server.stop()


@pytest.fixture
def make_consul() -> Iterator[Callable[..., consul.ConsulCluster]]:
    """Make a cluster of the test's own, `make_consul(3)`, started; it ends with the test."""
    if why := consul.missing():
        unavailable(why)
    with ExitStack() as after:

        def make(members: int = 1, **options) -> consul.ConsulCluster:
            directory = tempfile.TemporaryDirectory(prefix="xchronos-consul-", dir=etcd.fast_directory())
            where = Path(after.enter_context(directory))
            cluster = consul.ConsulCluster(where, [Place()] * members, **options)
            after.callback(cluster.stop)
            return cluster.start()

        yield make
