"""What the API needs of the rest of a daemon. The daemon hands its parts over; the API imports none of them."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec

from xchronos.aio import Offload, inline
from xchronos.clock import Clock
from xchronos.errors import Problem
from xchronos.model.records import Attempt
from xchronos.model.unit import Unit
from xchronos.registry.registry import Registry
from xchronos.wire.messages import IntakeFault, LoopStalls


class LocalSteps(Protocol):
    """The attempts on this machine."""

    async def progress(self, execution_id: str) -> Attempt | None:
        """The attempt of an execution that runs here, with the steps that have ended; None when none runs here."""
        ...

    async def logs(self, unit: str, fire_time: datetime, copy: int, attempt: int) -> list[tuple[str, Path]]:
        """The name and the log file of each step of an attempt that has output here, in the order of the steps."""
        ...


class DaemonReport(msgspec.Struct, frozen=True):
    """What a daemon says of itself."""

    faults: tuple[str, ...] = ()
    """What is wrong with it right now, a sentence for each fault; nothing: it is well."""

    notes: tuple[str, ...] = ()
    """What is no fault of it, and a person should look at."""

    refused: tuple[IntakeFault, ...] = ()
    """The files of its intake directories that are not taken in now."""

    stalls: LoopStalls | None = None
    """How often the event loop that schedules stood; None: nobody watches it."""

    store: tuple[str, ...] = ()
    """What is wrong with the job store; also among the faults."""


class DaemonView(Protocol):
    """The process that schedules and runs."""

    async def report(self) -> DaemonReport:
        """What it says of itself now."""
        ...

    async def metrics(self) -> bytes:
        """What it has counted, in Prometheus' text format."""
        ...


class UnitWarnings(Protocol):
    """Looks at a unit with the eyes of one machine."""

    async def __call__(self, unit: Unit, /) -> tuple[Problem, ...]:
        """The warnings; nothing: it would run as it stands."""
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

    daemon: DaemonView
    """The process that schedules and runs. The API may be served by another one."""

    unit_warnings: UnitWarnings | None = None
    """What this machine has to say of a unit that is verified or shown; None: nothing."""

    token: str = ""
    """What every request must bring as `Authorization: Bearer` from now on; empty: nothing."""

    names: tuple[str, ...] = ()
    """The host names under which the API may be called, besides the loopback ones and the address that a request came
    in at. The host of this machine's advertised address belongs here."""

    offload: Offload = inline
    """Does what only computes, and may take some time."""

    making: Offload = inline
    """Makes long answers: lists. What waits for it holds up nothing else."""
