"""What packaging/CONTRIBUTING.md shows of a store and of the log is what a daemon writes there."""

import asyncio
import io
import logging
import os
import re
import shlex
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from tests.docs.contributing import blocks, section
from tests.docs.played import LIMIT, played, until_ended
from tests.services import consul, etcd
from xchronos.logs import configure_logging

SESSION = re.findall(r"^```sh\n(.*?)\n```\n+.*?^```\w+\n(.*?)^```", section("The store"), re.MULTILINE | re.DOTALL)
"""Each command with what it prints."""


def session(program: str) -> list[tuple[list[str], list[str]]]:
    """The commands of a program, as words, and the lines that each one prints."""
    found = [(shlex.split(command), shown.splitlines()) for command, shown in SESSION]
    return [(words, lines) for words, lines in found if words[0] == program]


def plain(line: str) -> str:
    """A line without the numbers that differ from run to run."""
    return re.sub(r"\d+", "0", line)


def are_in(shown: list[str], printed: list[str], *, in_order: bool) -> bool:
    """Whether every line that is shown begins one that was printed; `in_order`: each a later one."""
    rest = [plain(line) for line in printed if line]
    for line in map(plain, shown):
        place = next((number for number, other in enumerate(rest) if other.startswith(line)), None)
        if place is None:
            return False
        if in_order:
            del rest[: place + 1]
    return True


def test_every_command_is_tried():
    assert len(SESSION) == len(blocks("sh", section("The store"))) == 5
    assert [len(session(program)) for program in ("sqlite3", "etcdctl", "consul")] == [2, 2, 1]


def test_lines_are_compared_by_their_beginning_and_without_numbers():
    printed = ["7|/a/12", "", "8|/b"]
    assert are_in(["1|/a"], printed, in_order=True)
    assert are_in(["1|/b", "1|/a"], printed, in_order=False)
    assert not are_in(["1|/b", "1|/a"], printed, in_order=True)
    assert not are_in(["1|/c"], printed, in_order=False)


async def test_with_sqlite():
    with tempfile.TemporaryDirectory() as directory:
        async with played(Path(directory)) as daemon:
            daemon.drop_in()
            await until_ended(daemon)
            for (_, path, statement), shown in session("sqlite3"):
                assert path == "/var/lib/xchronos/xchronos.db"
                with sqlite3.connect(daemon.settings.state_directory / Path(path).name) as connection:
                    rows = connection.execute(statement).fetchall()
                connection.close()
                printed = ["|".join(map(str, row)) for row in rows]
                assert are_in(shown, printed, in_order=False), printed


@pytest.mark.etcd
async def test_with_etcd(make_etcd: Callable[..., etcd.EtcdCluster]):
    cluster = make_etcd()
    with tempfile.TemporaryDirectory() as directory:
        async with played(Path(directory), cluster.endpoints[0].replace("http", "etcd")) as daemon:
            daemon.drop_in()
            await until_ended(daemon)
            for words, shown in session("etcdctl"):
                # A watch does not end by itself.
                command = [str(etcd.program("etcdctl")), *words[1:]]
                printed = await printed_by(command, shown, ETCDCTL_ENDPOINTS=cluster.endpoints[0])
                assert are_in(shown, printed, in_order=True), printed


@pytest.mark.consul
@pytest.mark.slow
async def test_with_consul(make_consul: Callable[..., consul.ConsulCluster]):
    address = make_consul().members[0].address
    with tempfile.TemporaryDirectory() as directory:
        async with played(Path(directory), address.replace("http", "consul")) as daemon:
            daemon.drop_in()
            await until_ended(daemon)
            ((words, shown),) = session("consul")
            command = [str(consul.program()), *words[1:]]
            end = time.monotonic() + LIMIT
            while not are_in(
                shown, printed := await printed_by(command, shown, CONSUL_HTTP_ADDR=address), in_order=True
            ):
                # The log is folded into the keys every few seconds.
                assert time.monotonic() < end, printed
                await asyncio.sleep(0.5)


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    """What is logged, as people see it."""
    handlers, least, before = list(logging.root.handlers), logging.root.level, structlog.get_config()
    stream = io.StringIO()
    configure_logging("console", "debug", stream)
    yield stream
    logging.root.handlers[:] = handlers
    logging.root.setLevel(least)
    structlog.configure(**before)


async def test_the_log_of_decisions(told: io.StringIO):
    text = section("The log of decisions")
    ((_, shown),) = re.findall(r"^```(log)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (command,) = blocks("sh", text)
    with tempfile.TemporaryDirectory() as directory:
        async with played(Path(directory)) as daemon:
            daemon.drop_in()
            await until_ended(daemon)
    lines = [line for line in told.getvalue().splitlines() if shlex.split(command)[2] in line]
    # How wide a column is changes from release to release of structlog.
    assert [" ".join(plain(line).split()) for line in lines] == [
        " ".join(plain(line).split()) for line in shown.splitlines()
    ]


async def printed_by(command: list[str], shown: list[str], **environment: str) -> list[str]:
    """The lines that a program prints until it has printed what is shown, or ends."""
    printed: list[str] = []
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    async for line in process.stdout:
        printed.append(line.decode().rstrip("\n"))
        if are_in(shown, printed, in_order=True):
            process.kill()
            break
    await process.wait()
    return printed
