"""The units of the fault tests, and the fire times that they have to have."""

import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from tests.cluster import sink
from tests.cluster.checker import every

SECOND = timedelta(seconds=1)


class Window:
    """Whole seconds from `delay` seconds from now on, `seconds` long: the first and the last fire time are in it."""

    def __init__(self, seconds: float, delay: float = 2.0) -> None:
        begin = math.ceil(time.time() + delay)
        self.first = datetime.fromtimestamp(begin, UTC)
        self.last = self.first + timedelta(seconds=int(seconds))

    @property
    def keys(self) -> str:
        """As a unit says it."""
        return f"NotBefore={_text(self.first)}\nNotAfter={_text(self.last)}\n"

    def fires(self, period: int = 1) -> list[datetime]:
        """The instants of `*/period * * * * *` in it."""
        return [fire for fire in every(SECOND, self.first, self.last) if fire.second % period == 0]

    def wait(self, seconds: float = 1.0) -> None:
        """Until it is over, and a moment more."""
        until(self.last.timestamp() + seconds)


def until(moment: float) -> None:
    """Sleep until an instant, in unix seconds."""
    time.sleep(max(0.0, moment - time.time()))


def recorder(window: Window, *, length: float = 0.0, period: int = 1, chronos: str = "") -> str:
    """Fires every `period` seconds; its step is a call in the agent that reports to the sink."""
    step = f"/record {length:g}" if length else "/record"
    return (
        f"[Service]\nType=oneshot\nExecStart={step}\n"
        f"[X-Chronos]\nExecutor=python\nTriggerCron=*/{period} * * * * *\nHistoryLimit=5000\n{window.keys}{chronos}\n"
    )


def process(path: str, body: str, *, service: str = "", chronos: str = "", fleet: str = "") -> str:
    """A host process that reports to the sink at `path` before and after `body`."""
    return (
        f"[Service]\nType=oneshot\nExecStart={sink.shell_line(path, body)}\n{service}\n"
        f"[X-Fleet]\n{fleet}\n[X-Chronos]\nExecutor=process\nHistoryLimit=5000\n{chronos}\n"
    )


def container(directory: str, body: str, *, service: str = "", chronos: str = "", fleet: str = "") -> str:
    """A container that does the same; `directory` is the one that holds the sink."""
    return (
        f"[Service]\nType=oneshot\nExecStart={sink.shell_line('/sink/events', body)}\n{service}\n"
        f"[Container]\nImage=xchronos/busybox\nNetwork=none\nVolume={directory}:/sink\n"
        f"[X-Fleet]\n{fleet}\n[X-Chronos]\nHistoryLimit=5000\n{chronos}\n"
    )


def names(count: int, prefix: str = "u") -> list[str]:
    """Names of units."""
    return [f"{prefix}{number}.service" for number in range(count)]


def due(units: Iterable[str], fires: list[datetime]) -> dict[str, list[datetime]]:
    """The same fire times for each."""
    return dict.fromkeys(units, fires)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
