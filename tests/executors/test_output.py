"""What is kept of a container's output, on a real engine: everything up to the limit, then its end, to the last byte."""

import asyncio
import functools
import re
import signal

import pytest

from tests.executors import one_step
from xchronos.executors.docker.body import container_name
from xchronos.executors.docker.client import DockerClient
from xchronos.executors.docker.messages import PIECE
from xchronos.executors.docker.output import FILES, SMALLEST_FILE, log_config, log_keeping
from xchronos.executors.logfile import kept_files
from xchronos.testing.executors import eventually, output

pytestmark = pytest.mark.docker

SHORT_LINES = b"".join(b"%d\n" % number for number in range(1, 60_001))
NOTE = re.compile(rb"^\[xchronos: .*\]\n", re.MULTILINE)


def kept(spec):
    return b"".join(path.read_bytes() for path in kept_files(spec.log))


def has(spec, text):
    return text in kept(spec)


async def version(host):
    """A client that knows what the engine is."""
    client = DockerClient(host)
    await client.ping()
    await client.close()
    return client


def after_the_last_note(spec):
    """What is kept without a gap."""
    return NOTE.split(kept(spec))[-1]


def logged(driver, **options):
    return {"HostConfig": {"LogConfig": {"Type": driver, "Config": options}}}


async def test_short_lines_are_whole_however_much_the_engine_wraps_them(bench):
    spec = bench.container("seq 1 60000", log_limit=len(SHORT_LINES))
    assert (await bench.executor.run(spec)).code == 0
    assert kept(spec) == SHORT_LINES


async def test_beyond_the_limit_the_end_stays_and_the_first_line_says_what_is_gone(bench):
    spec = bench.container("seq 1 60000; echo end", log_limit=20_000)
    assert (await bench.executor.run(spec)).code == 0
    note, _, rest = kept(spec).partition(b"\n")
    whole = SHORT_LINES + b"end\n"
    assert whole.endswith(rest)
    assert 10_000 <= len(rest) <= 20_000
    assert note == b"[xchronos: output is limited to 20000 bytes; its beginning was dropped: %d bytes]" % (
        len(whole) - len(rest)
    )


@pytest.mark.parametrize(
    ("script", "want"),
    [
        (
            "head -c 40000 /dev/zero | tr '\\0' x; printf '\\na\\377\\000b\\r\\nlast'",
            b"x" * 40000 + b"\na\xff\0b\r\nlast",
        ),
        ("head -c 32768 /dev/zero | tr '\\0' x; echo; echo b", b"x" * 2 * PIECE + b"\nb\n"),
        ("head -c 16384 /dev/zero | tr '\\0' x; echo", b"x" * PIECE + b"\n"),
        ("head -c 40000 /dev/zero | tr '\\0' x; echo", b"x" * 40000 + b"\n"),
        ("printf '\\n\\n\\n'", b"\n\n\n"),
    ],
)
@pytest.mark.parametrize("tty", [False, True])
async def test_long_lines_and_bytes_that_are_no_text(bench, script, want, tty):
    if tty:
        script, want = script.replace("\\377\\000", ""), want.replace(b"\xff\0", b"").replace(b"\n", b"\r\n")
    spec = bench.container(script, {"Tty": tty})
    assert (await bench.executor.run(spec)).code == 0
    assert kept(spec) == want


@pytest.mark.parametrize(
    "log", [logged("none"), logged("json-file", **{"max-size": "10k"}), logged("local", **{"max-size": "10k"}), logged("syslog", **{"syslog-address": "udp://127.0.0.1:9"})],
    ids=lambda log: log["HostConfig"]["LogConfig"]["Type"],
)  # fmt: skip
async def test_what_the_engine_does_not_keep_is_there_as_the_docker_client_shows_it(bench, log):
    await bench.executor.probe()
    if bench.executor._engine.podman and log["HostConfig"]["LogConfig"]["Type"] in ("local", "syslog"):
        pytest.skip("podman has no such driver")
    spec = bench.container("echo x; echo y >&2; seq 1 2000; printf 'last\\377'; exit 2", log)
    assert (await bench.executor.run(spec)).code == 2
    numbers = b"".join(b"%d\n" % number for number in range(1, 2001))
    assert sorted(kept(spec).split(b"\n")) == sorted((b"x\ny\n" + numbers + b"last\xff").split(b"\n"))
    assert kept(spec).endswith(numbers + b"last\xff")
    found = await bench.inspect(container_name(spec))
    assert found["HostConfig"]["LogConfig"]["Type"] == log["HostConfig"]["LogConfig"]["Type"], "it is the user's"


async def test_a_container_without_a_log_that_is_started_attached(bench):
    line = "create|--name|NAME|--log-driver|none|--net|none|IMAGE|sh|-c|echo one; sleep 0.3; echo two; exit 3"
    assert (await bench.run(line))[0] == 0
    assert await bench.run("start|-a|NAME") == (3, "one\ntwo\n")
    assert await bench.run("start|-a|NAME") == (3, "one\ntwo\n"), "the second start has an output of its own"
    assert await bench.run("run|--rm|-t|--log-driver|none|--net|none|IMAGE|echo|x") == (0, "x\r\n")


@pytest.mark.parametrize("log", [{}, logged("none")], ids=["engine's log", "attached"])
async def test_who_reads_stands_still_and_holds_nothing_up(bench, docker_host, log):
    spec = bench.container(
        "echo begun; sleep 1; seq 1 3000000; echo end; touch /data/done",
        {"HostConfig": {"Binds": [f"{bench.directory}:/data"], **log.get("HostConfig", {})}},
        log_limit=1 << 20,
    )
    process = one_step.spawn(docker_host, spec)
    await eventually(lambda: b"begun" in kept(spec))
    process.send_signal(signal.SIGSTOP)
    try:
        await eventually((bench.directory / "done").exists, 120)
    finally:
        process.send_signal(signal.SIGCONT)
    assert (await asyncio.to_thread(one_step.result, process)).code == 0
    whole = b"begun\n" + b"".join(b"%d\n" % number for number in range(1, 3_000_001)) + b"end\n"
    rest = after_the_last_note(spec)
    assert whole.endswith(rest)
    if log or not (await version(docker_host)).podman:  # podman's one file was emptied just before the end, perhaps
        assert len(rest) >= 1 << 19
    assert b"its beginning was dropped" in kept(spec)


@pytest.mark.parametrize("log", [{}, logged("none")], ids=["engine's log", "attached"])
async def test_another_daemon_goes_on_where_a_killed_one_has_stopped(bench, docker_host, log):
    script = "for i in $(seq 1 12); do for j in $(seq 1 50); do echo $i $j; done; sleep 0.25; done; printf end; exit 4"
    spec = bench.container(script, log)
    for seen in (b"2 50\n", b"6 50\n"):
        process = one_step.spawn(docker_host, spec)
        await eventually(functools.partial(has, spec, seen))
        one_step.kill(process)
    assert (await bench.executor.run(spec)).code == 4
    want = b"".join(b"%d %d\n" % (i, j) for i in range(1, 13) for j in range(1, 51)) + b"end"
    assert kept(spec) == want
    assert (await bench.executor.run(spec)).code == 4
    assert kept(spec) == want, "once more after its end"


async def test_output_of_a_time_when_nobody_was_attached_is_said_to_be_missing(bench, docker_host):
    spec = bench.container("echo one; sleep 2; echo two; sleep 2; echo three", logged("none"))
    process = one_step.spawn(docker_host, spec)
    await eventually(lambda: b"one" in kept(spec))
    one_step.kill(process)
    holder = await asyncio.create_subprocess_exec(
        "fuser", "-k", "-KILL", str(spec.log.with_name(f".{spec.log.name}.attached")),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await holder.wait() == 0
    assert (await bench.executor.run(spec)).code == 0
    assert "three\n" in output(spec)
    assert re.search(
        r"one\n\[xchronos: output from \S+ to \S+ may be missing here: nobody was attached\]\n", output(spec)
    )


@pytest.mark.parametrize(
    ("podman", "version", "tty", "driver"),
    [
        (False, (1, 47), False, "local"), (False, (1, 47), True, "local"), (False, (1, 41), False, "local"),
        (False, (1, 41), True, "json-file"), (False, (1, 38), False, "json-file"), (True, (1, 41), False, "json-file"),
        (True, (1, 41), True, "json-file"),
    ],
)  # fmt: skip
def test_the_engine_has_room_for_the_limit_and_its_own_wrapping(podman, version, tty, driver):
    client = DockerClient("unix:///nowhere")
    client.podman, client.version = podman, version
    for limit in (1, 10 << 20):
        config = log_config(client, limit, tty=tty)
        keeping = log_keeping(client, config, tty=tty)
        assert config["Type"] == driver
        if podman and tty:
            assert keeping is None, "its pieces cannot be told apart without frames"
            continue
        size = max(limit, SMALLEST_FILE)
        assert keeping.kept == (FILES if podman else FILES - 1) * size
        assert keeping.room == (FILES if podman else 1) * size
        assert keeping.swallowed == (driver == "local" and version < (1, 42))


@pytest.mark.parametrize(
    ("driver", "options", "kept"),
    [
        ("json-file", {}, float("inf")), ("json-file", {"max-size": "10m"}, 0),
        ("json-file", {"max-size": "10m", "max-file": "3"}, 20 << 20), ("local", {}, 80 << 20),
        ("json-file", {"max-size": "1kb", "max-file": "2"}, 1 << 10), ("none", {}, None), ("journald", {}, None),
        ("syslog", {}, None), ("json-file", {"max-size": "many"}, None), ("", {"max-size": "10m"}, None),
    ],
)  # fmt: skip
def test_what_an_engine_keeps_with_options_of_the_users(driver, options, kept):
    keeping = log_keeping(DockerClient("unix:///nowhere"), {"Type": driver, "Config": options}, tty=False)
    assert (keeping and keeping.kept) == kept
