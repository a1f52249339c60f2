"""Asking an engine again: the pauses, and the line in the step's log that says so when it goes on for long.

Every loop of this executor that asks again takes its pauses here (`new_pauses`), so none goes on for ever without a
word. What was asked last, and what came of it, is noted by the client; whose log the line belongs into is said once,
where the log is opened (`telling`). Both belong to the task that runs the step, and to the tasks that it makes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from xchronos.aio import Backoff
from xchronos.clock import MILLISECOND, SECOND, Clock, Micros, SystemClock

SHORTEST_PAUSE: Micros = 50 * MILLISECOND
LONGEST_PAUSE: Micros = 2 * SECOND

TELL_AFTER: Micros = 10 * SECOND
"""How long something is asked again before the step's log says so. After that it says so when this has doubled."""

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)
_trouble: ContextVar[str] = ContextVar("trouble", default="")


@contextmanager
def telling(listener: Callable[[str], None]) -> Iterator[None]:
    """While this is open, `listener` hears of what this task and the tasks that it makes ask again for long."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def note_trouble(asked: str, error: str) -> None:
    """What this task has asked, such as `POST /containers/x/start`, and why there was no good answer."""
    _trouble.set(f"{asked}: {error}")


class EnginePauses(Backoff):
    """Pauses that tell of themselves. See `aio.Backoff`."""

    def __init__(self, clock: Clock, first: Micros, longest: Micros) -> None:
        super().__init__(clock, first, longest)
        self._began = clock.monotonic()
        self._tell_at = TELL_AFTER

    async def pause(self) -> None:
        """Take the next pause; say what is asked, how often, and the last error when it is time to."""
        await super().pause()
        listener = _listener.get()
        lasted = self._clock.monotonic() - self._began
        if listener is not None and lasted >= self._tell_at:
            self._tell_at = 2 * lasted
            trouble = _trouble.get() or "no usable answer"
            listener(f"the engine was asked {self.tries} times in {lasted // SECOND} s; {trouble}")


def new_pauses(first: Micros = SHORTEST_PAUSE) -> EnginePauses:
    """The pauses before an engine is asked again: 50 ms at first, doubling up to 2 s."""
    return EnginePauses(SystemClock(), first, LONGEST_PAUSE)
