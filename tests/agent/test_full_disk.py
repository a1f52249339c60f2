"""A machine whose disk has no room: what has run is told as it was, and what has not is for another machine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.worlds import OK, ONE, Cluster
from xchronos.agent.attempt import journal
from xchronos.clock import SECOND
from xchronos.durable import Strength, append, write_whole
from xchronos.model.policies import Outcome

FULL = Path("/dev/full")


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have no room for one of the attempts' files."""

    def fill(name: str) -> None:
        def filled(write: Callable[[Path, bytes, Strength], None]) -> Callable[[Path, bytes, Strength], None]:
            def written(path: Path, data: bytes, strength: Strength) -> None:
                if path.name == name:
                    FULL.write_bytes(data)  # the kernel's own refusal
                write(path, data, strength)

            return written

        monkeypatch.setattr(journal, "write_whole", filled(write_whole))
        monkeypatch.setattr(journal, "append", filled(append))

    return fill


def test_a_step_that_ended_well_is_no_failure_because_its_journal_has_no_room(
    play: Callable[..., None], fill: Callable[[str], None]
) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE + "\nExecStart=/bin/more")
        execution = await c.place()
        fill("journal.json")
        c.boot()
        attempt = await c.ended(execution)
        assert (attempt.outcome, attempt.reason) == (Outcome.SUCCEEDED, "")
        assert c.world.starts == ["start-0", "start-1"]

    play(test)


def test_without_a_journal_a_crash_starts_nothing_again(play: Callable[..., None], fill: Callable[[str], None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE + "\nExecStart=/bin/more")
        execution = await c.place()
        fill("journal.json")
        c.boot()
        await c.clock.sleep(10 * SECOND)
        await c.crash()
        c.boot()
        attempt = await c.ended(execution)
        assert attempt.outcome is Outcome.SUCCEEDED
        assert c.world.starts == ["start-0", "start-1"]

    play(test, {"start-1": (60.0, OK)})


def test_what_cannot_be_begun_is_for_another_machine(play: Callable[..., None], fill: Callable[[str], None]) -> None:
    async def test(c: Cluster) -> None:
        await c.submit(ONE)
        execution = await c.place()
        fill("unit.json")
        c.boot()
        attempt = await c.ended(execution)
        assert attempt.outcome is Outcome.LOST
        assert attempt.reason == "m1 cannot keep the attempt's files: [Errno 28] No space left on device"
        assert c.world.starts == []

    play(test)


def test_an_attempt_that_a_file_keeps_from_going_on_says_which(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(c: Cluster) -> None:
        async def run(spec: object) -> None:
            raise OSError(28, "No space left on device", "/var/lib/xchronos/x")

        monkeypatch.setattr(c.executor, "run", run)
        await c.submit(ONE)
        execution = await c.place()
        c.boot()
        attempt = await c.ended(execution)
        assert attempt.outcome is Outcome.FAILED
        assert attempt.reason == "m1 cannot keep the attempt's files: No space left on device: /var/lib/xchronos/x"

    play(test)
