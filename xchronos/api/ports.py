"""What the API needs of the rest of a daemon. The daemon hands its parts over; the API imports none of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from prometheus_client import CollectorRegistry

from xchronos.aio import Offload, inline
from xchronos.clock import Clock
from xchronos.errors import Problem
from xchronos.model.records import Attempt
from xchronos.model.unit import Unit
from xchronos.registry.registry import Registry

T = TypeVar("T")


class LocalSteps(Protocol):
    """The attempts on this machine."""

    async def progress(self, execution_id: str) -> Attempt | None:
        """The attempt of an execution that runs here, with the steps that have ended; None when none runs here."""
        ...

    async def logs(self, unit: str, fire_time: datetime, copy: int, attempt: int) -> list[tuple[str, Path]]:
        """The name and the log file of each step of an attempt that has output here, in the order of the steps."""
        ...


class ReportedProblem(Protocol):
    """A file that the intake could not take in."""

    @property
    def path(self) -> str:
        """The file."""
        ...

    @property
    def message(self) -> str:
        """What is wrong with it."""
        ...

    @property
    def since(self) -> datetime:
        """When it was found."""
        ...

    @property
    def last_good(self) -> str:
        """The revision of the unit that stays in force; empty when there is none."""
        ...


class IntakeView(Protocol):
    """The part of the intake that the API shows."""

    def problems(self) -> Sequence[ReportedProblem]:
        """The files that are not taken in now."""
        ...


class HealthCheck(Protocol):
    """Looks at a daemon."""

    def __call__(self) -> Sequence[str]:
        """What is wrong with the daemon right now, a sentence for each fault; nothing: it is well."""
        ...


class UnitWarnings(Protocol):
    """Looks at a unit with the eyes of one machine."""

    async def __call__(self, unit: Unit, /) -> tuple[Problem, ...]:
        """The warnings; nothing: it would run as it stands."""
        ...


class Inside(Protocol):
    """Calls quick functions where the daemon's own event loop runs: the API may have another one."""

    async def __call__(self, work: Callable[[], T], /) -> T:
        """What the function returns or raises."""
        ...


class StallView(Protocol):
    """The latest time at which the event loop stood."""

    @property
    def at(self) -> datetime:
        """When it was over."""
        ...

    @property
    def seconds(self) -> float:
        """How long it was."""
        ...

    @property
    def culprit(self) -> str:
        """What held it up."""
        ...


class LoopWatch(Protocol):
    """The watch over the daemon's event loop. Every thread may ask."""

    @property
    def stalls(self) -> int:
        """How often it stood."""
        ...

    @property
    def longest(self) -> float:
        """The longest time, in seconds."""
        ...

    @property
    def last(self) -> StallView | None:
        """The latest time; None: there was none."""
        ...


@dataclass(slots=True)
class Services:
    """The parts of a daemon that the API speaks for. Only the token is exchanged while the API is served."""

    registry: Registry
    """The units, executions and machines."""

    clock: Clock
    """The time."""

    machine_id: str
    """The machine on which this daemon runs."""

    steps: LocalSteps
    """The attempts on that machine."""

    intake: IntakeView | None = None
    """The reader of the intake directories; None: this daemon has none."""

    health: HealthCheck = tuple
    """Asked by /healthz and /v1/status, each time anew."""

    notes: HealthCheck = tuple
    """What is no fault of the daemon, and a person should look at. Asked with `health`."""

    unit_warnings: UnitWarnings | None = None
    """What this machine has to say of a unit that is verified or shown; None: nothing."""

    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    """What /metrics shows."""

    token: str = ""
    """What every request must bring as `Authorization: Bearer` from now on; empty: nothing."""

    names: tuple[str, ...] = ()
    """The host names under which the API may be called, besides the loopback ones and the address that a request came
    in at. The host of this machine's advertised address belongs here."""

    inside: Inside = inline
    """Calls what reads the parts of the daemon that change while its event loop runs."""

    offload: Offload = inline
    """Does what only computes and may take long: compiling units, making long answers."""

    loop: LoopWatch | None = None
    """The watch over the daemon's event loop; None: nobody watches it."""
