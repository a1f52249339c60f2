"""Whatever a container writes, and whoever dies or stands still meanwhile: what is kept ends with the last byte.

After the last line that says that some is missing it has no gap, and without such a line it is everything, or the end of
it with a first line that says how much is gone.
"""

import asyncio
import re
import signal
import uuid
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.executors import one_step
from tests.executors.docker_bench import NAMESPACE
from xchronos.executors.contract import StepSpec
from xchronos.executors.docker.executor import DockerExecutor
from xchronos.executors.logfile import kept_files

pytestmark = pytest.mark.docker

LIMIT = 100_000
NOTE = re.compile(rb"\[xchronos: [^\n]*\]\n")
DROPPED = re.compile(rb"\[xchronos: [^\n]*its beginning was dropped: (at least )?(\d+) bytes\]\n")

LENGTHS = st.one_of(
    st.integers(0, 8), st.integers(0, 200), st.sampled_from((16383, 16384, 16385, 32768, 40000, 1 << 20))
)
TEXT, BINARY = bytes(range(97, 123)), bytes(byte for byte in range(256) if byte != 10)


class Writes(msgspec.Struct):
    """What a container writes: bursts of `lines` lines of one length, and a pause of `pause` seconds after each."""

    bursts: list[tuple[int, int]]
    ended: bool
    binary: bool
    tty: bool
    errors: int
    pause: float
    fault: str

    def texts(self) -> list[bytes]:
        """The bytes of each burst."""
        alphabet = BINARY if self.binary and not self.tty else TEXT
        texts = []
        for number, (length, lines) in enumerate(self.bursts):
            letters = bytes(alphabet[(number * 7 + at) % len(alphabet)] for at in range(min(length, 509)))
            line = (letters * (length // 509 + 1))[:length] if length else b""
            texts.append(b"".join(line + b"\n" for _ in range(lines)))
        if not self.ended:
            texts.append(b"last")
        return texts


@st.composite
def writes(draw):
    bursts = []
    for _ in range(draw(st.integers(1, 4))):
        length = draw(LENGTHS)
        most = max(3 * LIMIT // (4 * (length + 1)), 1)
        bursts.append((length, draw(st.sampled_from((1, max(most // 3, 1), most)))))
    tty = draw(st.sampled_from((False, False, True)))
    return Writes(
        bursts,
        ended=draw(st.booleans()),
        binary=draw(st.booleans()),
        tty=tty,
        errors=0 if tty else draw(st.sampled_from((0, 0, 5))),
        pause=draw(st.sampled_from((0, 0, 0.6))),
        fault=draw(st.sampled_from(("none", "none", "killed", "paused"))),
    )


async def kept_of(host, image, where: Path, plan: Writes) -> tuple[bytes, int]:
    """Run it, with the fault. What is kept of its output, and its exit code."""
    script = []
    for number, text in enumerate(plan.texts()):
        (where / str(number)).write_bytes(text)
        script.append(f"cat /data/{number}; sleep {plan.pause}")
    script.append(f"for i in $(seq {plan.errors}); do echo ERROR >&2; done; exit 7")
    body = {
        "Image": image, "Cmd": ["sh", "-c", "; ".join(script)], "Tty": plan.tty,
        "HostConfig": {"NetworkMode": "none", "Binds": [f"{where}:/data"]},
    }  # fmt: skip
    spec = StepSpec("p.service", f"p-{uuid.uuid4().hex}", 1, "start-0", (), "", {}, str(where), f"{where}/log",
                    log_limit=LIMIT, body=body)  # fmt: skip
    executor = DockerExecutor(NAMESPACE, host)
    try:
        if plan.fault == "none":
            code = (await executor.run(spec)).code
        else:
            process = one_step.spawn(host, spec)
            await asyncio.sleep(1.0)
            if plan.fault == "paused":
                process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(1.0)
                process.send_signal(signal.SIGCONT)
                code = (await asyncio.to_thread(one_step.result, process)).code
            else:
                one_step.kill(process)
                code = (await executor.run(spec)).code
        return b"".join(path.read_bytes() for path in kept_files(spec.log)), code
    finally:
        await executor.release(spec.execution, 1)
        await executor.close()


@settings(
    max_examples=15, deadline=None, phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(plan=writes())
def test_what_is_kept_is_a_gapless_end_of_what_was_written(docker_host, busybox_image, tmp_path_factory, plan):
    where = tmp_path_factory.mktemp("output")
    kept, code = asyncio.run(kept_of(docker_host, busybox_image, where, plan))
    assert code == 7
    want = b"".join(plan.texts())
    if plan.tty:
        want = want.replace(b"\n", b"\r\n")
    whole = len(want) + 6 * plan.errors
    dropped = DROPPED.match(kept)
    rest = NOTE.split(kept)[-1]
    if not NOTE.search(kept):
        assert len(rest) == whole <= LIMIT + 1
    elif dropped and not dropped[1] and len(NOTE.findall(kept)) == 1:
        assert int(dropped[2]) + len(rest) == whole
        assert len(rest) >= LIMIT // 2
    if plan.errors:
        assert rest.count(b"ERROR\n") == plan.errors
        rest = rest.replace(b"ERROR\n", b"")
    assert want.endswith(rest)
    assert rest or not want
