"""The sink: the record outside of the cluster of what really started and ended."""

from collections.abc import Callable

import msgspec

from xchronos.clock import Instant, Micros
from xchronos.executors.contract import StepSpec
from xchronos.testing.simulation.loop import Process, WorldClock


class SimulatedStart(msgspec.Struct):
    """One step that was really started, at a true time `at`. `ended` (true time) and `code` are None while it runs."""

    unit: str
    execution: str
    attempt: int
    machine: str
    at: Instant
    process: Process | None
    """The daemon's process, for a step that is a call in it; None for a container."""
    ended: Instant | None = None
    code: int | None = None
    signal: str = ""
    life: int = 0
    """The life of its unit (see `Monitor.births`) in which its execution was claimed; set when it starts."""
    step: str = ""
    unpowered: bool = False
    """Whether it has ended because its machine lost its power."""


class Body(msgspec.Struct, frozen=True):
    """What a step will do: run for `length`, and end with `code`. A `deaf` step ignores every signal but SIGKILL."""

    length: Micros
    code: int
    deaf: bool


class Sink:
    """Everything that started. It calls `started` at the instant of a start, and `ended` at that of an end."""

    def __init__(
        self, clock: WorldClock, body: Callable[[StepSpec], Body], started: Callable[[SimulatedStart], None],
        ended: Callable[[SimulatedStart], None],
    ) -> None:  # fmt: skip
        self.starts: list[SimulatedStart] = []
        self._clock = clock
        self._body = body
        self._started = started
        self._ended = ended

    def start(self, spec: StepSpec, machine: str, process: Process | None = None) -> tuple[SimulatedStart, Body]:
        """A step starts now."""
        start = SimulatedStart(
            spec.unit, spec.execution, spec.attempt, machine, self._clock.now(), process, step=spec.step
        )
        self.starts.append(start)
        self._started(start)
        return start, self._body(spec)

    def end(self, start: SimulatedStart, code: int | None, signal: str = "") -> None:
        """A step ends now."""
        if start.ended is None:
            start.ended, start.code, start.signal = self._clock.now(), code, signal
            self._ended(start)
