"""The watch over the event loop: a stall is counted, and named after what held the loop up."""

import asyncio
import sys
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from xchronos.daemon import watchdog as under_test
from xchronos.daemon.watchdog import UNSEEN, WHOLE_PROCESS, Watchdog, place_of
from xchronos.limits import STALL_SECONDS


async def watched(*works, watchdog=None):
    """Do the works one after the other while a watchdog watches."""
    watchdog = watchdog or Watchdog()
    watch = asyncio.create_task(watchdog.run())
    await asyncio.sleep(3 * under_test.EVERY)
    with capture_logs() as lines:
        for number, work in enumerate(works):
            await asyncio.create_task(work(), name=f"culprit {number}")
            await asyncio.sleep(3 * under_test.EVERY)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    return watchdog, lines


async def hold_up():
    time.sleep(5 * STALL_SECONDS)  # noqa: ASYNC251 - on purpose


async def test_a_stall_is_counted_and_logged_with_the_task_and_the_place():
    metrics = CollectorRegistry()
    dog, lines = await watched(hold_up, watchdog=Watchdog(metrics))
    assert dog.stalls >= 1
    assert dog.longest >= 4 * STALL_SECONDS
    assert dog.last is not None
    stall = next(line for line in lines if line["event"] == "the event loop stood" and "culprit 0" in line["culprit"])
    assert "the task 'culprit 0' in hold_up (tests/daemon/test_watchdog.py:" in stall["culprit"]
    assert stall["seconds"] >= 4 * STALL_SECONDS
    told = generate_latest(metrics).decode()
    assert f"xchronos_loop_stalls_total {float(dog.stalls)}" in told
    assert f"xchronos_loop_stall_longest_seconds {dog.longest}" in told


async def test_a_callback_is_a_culprit_as_well():
    async def work():
        asyncio.get_running_loop().call_soon(time.sleep, 5 * STALL_SECONDS)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    _, lines = await watched(work)
    assert any("a callback in " in line.get("culprit", "") for line in lines)


async def test_what_goes_on_is_no_stall():
    dog, _ = await watched()
    if not dog.stalls:  # the machine may be busy
        assert (dog.longest, dog.last, dog.standing) == (0.0, None, 0.0)


async def test_while_it_stands_every_thread_can_see_it():
    dog = Watchdog()
    dog._noted = time.monotonic() - under_test.EVERY - 2 * STALL_SECONDS
    assert dog.standing >= 2 * STALL_SECONDS
    dog._noted = time.monotonic()
    assert dog.standing == 0.0


async def test_many_stalls_are_all_counted_and_not_all_told(monkeypatch):
    dog = Watchdog()
    with capture_logs() as lines:
        for _ in range(5):
            dog._count(0.2, "somebody")
    assert dog.stalls == 5
    assert len(lines) == 1
    monkeypatch.setattr(under_test, "TELL_EVERY", 0.0)
    with capture_logs() as lines:
        dog._count(0.3, "somebody else")
    assert lines[0]["untold"] == 4
    assert (dog.longest, dog.last.culprit) == (0.3, "somebody else")


def test_when_nobody_ran_it_was_the_whole_process(monkeypatch):
    dog = Watchdog()
    now = [100.0]
    monkeypatch.setattr("xchronos.daemon.watchdog.time.monotonic", lambda: now[0])
    dog._noted = 100.0

    class Over:
        def __init__(self):
            self.waits = iter([5.0])

        def wait(self, _timeout):
            now[0] += next(self.waits, 0.0)
            return now[0] > 104 and dog._seen != ""

    monkeypatch.setattr(dog, "_over", Over())
    dog._look(None, 0)
    assert dog._seen == WHOLE_PROCESS


def test_a_place_is_the_innermost_one_of_ours_and_what_it_calls():
    from xchronos.unitfile.suggest import suggest

    places = []

    class Word(str):
        __slots__ = ()

        def casefold(self):
            places.append(place_of(sys._getframe()))
            return str(self)

    suggest(Word("abc"), ["abd"])
    assert places[0].startswith("suggest (xchronos/unitfile/suggest.py:")
    assert ", which calls " in places[0]
    assert "casefold" in places[0]


def test_the_words_for_a_stall_that_nobody_saw():
    assert UNSEEN.startswith("unknown")


@pytest.mark.parametrize("frame", [sys._getframe()])
def test_a_place_outside_of_our_code(frame):
    assert place_of(frame).startswith("<module> (")
