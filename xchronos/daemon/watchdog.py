"""Looks whether the event loop that schedules goes on, and says what held it up where it did not.

The loop notes the time now and then. When a note is overdue, a thread looks where the loop's thread stands. A stall
ends when the next note comes: then it is counted, and logged with the place that was seen. When that thread was as late
itself, nobody ran: the whole process stood, as it does when it is stopped, or when the machine has no time for it.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xchronos.limits import STALL_SECONDS
from xchronos.wire.messages import LoopStalls

log = structlog.get_logger(__name__)

EVERY = 0.05
"""How often the loop notes the time, and how often it is looked at, in seconds. It is half of a stall."""

TELL_EVERY = 1.0
"""How often a stall is logged at most, in seconds. All are counted."""

WHOLE_PROCESS = "the whole process: it was stopped, or the machine had no time for it"
"""The culprit when the looking thread was late as well."""

UNSEEN = "unknown: it was over before anybody could look"
"""The culprit when nobody has looked in time."""

_PACKAGE = str(Path(__file__).resolve().parents[1])


class Stall(NamedTuple):
    """One time at which the loop stood."""

    at: datetime
    """When it was over."""
    seconds: float
    """How long it was."""
    culprit: str
    """The task, and the place in the code."""


class Watchdog:
    """The watch over one event loop.

    Attributes:
        stalls: How many there were.
        longest: The longest one, in seconds.
        last: The latest one; None: there was none.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.stalls = 0
        self.longest = 0.0
        self.last: Stall | None = None
        self._noted = time.monotonic()
        self._seen = ""
        self._told = -TELL_EVERY
        self._untold = 0
        self._over = threading.Event()
        if registry is not None:
            registry.register(_StallMetrics(self))

    @property
    def standing(self) -> float:
        """For how many seconds the loop has stood by now; 0: it goes on. Every thread may ask."""
        late = time.monotonic() - self._noted - EVERY
        return late if late >= STALL_SECONDS else 0.0

    def told(self) -> LoopStalls:
        """What it has seen, as the API tells it."""
        if self.last is None:
            return LoopStalls(self.stalls, self.longest)
        return LoopStalls(self.stalls, self.longest, self.last.at, self.last.seconds, self.last.culprit)

    async def run(self) -> None:
        """Watch the running loop until cancelled."""
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._look, args=(loop, threading.get_ident()), name="watchdog", daemon=True)
        self._noted = time.monotonic()
        thread.start()
        try:
            while True:
                await asyncio.sleep(EVERY)
                now = time.monotonic()
                seconds = now - self._noted - EVERY
                seen, self._seen, self._noted = self._seen, "", now
                if seconds >= STALL_SECONDS:
                    self._count(seconds, seen or UNSEEN)
        finally:
            self._over.set()

    def _look(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        looked = time.monotonic()
        while not self._over.wait(EVERY):
            now = time.monotonic()
            before, looked = looked, now
            if now - self._noted < EVERY + STALL_SECONDS / 2 or self._seen:
                continue
            if now - before > EVERY + STALL_SECONDS / 2:
                self._seen = WHOLE_PROCESS
                continue
            frame = sys._current_frames().get(thread)  # noqa: SLF001 - there is no other way to see where a thread is
            task = asyncio.current_task(loop)
            self._seen = f"{_name(task)} in {place_of(frame)}" if frame is not None else ""

    def _count(self, seconds: float, culprit: str) -> None:
        self.stalls += 1
        self.longest = max(self.longest, seconds)
        self.last = Stall(datetime.now(UTC), seconds, culprit)
        now = time.monotonic()
        if now - self._told < TELL_EVERY:
            self._untold += 1
            return
        log.warning("the event loop stood", seconds=round(seconds, 3), culprit=culprit, untold=self._untold)
        self._told, self._untold = now, 0


def _name(task: "asyncio.Task[object] | None") -> str:
    if task is None:
        return "a callback"
    return f"the task {task.get_name()!r}"


def place_of(frame: FrameType | None) -> str:
    """The innermost place in our own code, and the function of others that it is in, if it is in one."""
    frames = list(_outwards(frame))
    ours = next((each for each in frames if each.f_code.co_filename.startswith(_PACKAGE)), None)
    innermost = frames[0]
    if ours is None or ours is innermost:
        return _shown(innermost)
    return f"{_shown(ours)}, which calls {_shown(innermost)}"


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _shown(frame: FrameType) -> str:
    file = Path(frame.f_code.co_filename)
    short = "/".join(file.parts[-3:])
    return f"{frame.f_code.co_qualname} ({short}:{frame.f_lineno})"


class _StallMetrics(Collector):
    """What the watchdog has counted."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog

    def collect(self) -> Iterator[Metric]:
        stalls = CounterMetricFamily(
            "xchronos_loop_stalls", f"The times at which the event loop stood {STALL_SECONDS} s."
        )
        stalls.add_metric([], self._watchdog.stalls)
        yield stalls
        longest = GaugeMetricFamily("xchronos_loop_stall_longest_seconds", "The longest of these times.")
        longest.add_metric([], self._watchdog.longest)
        yield longest
