"""What the API needs of the rest of a daemon. The daemon plugs its parts in; the API knows none of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry

from xchronos.clock import Clock
from xchronos.model.records import Attempt
from xchronos.registry.registry import Registry


class LocalSteps(Protocol):
    """The attempts on this machine."""

    async def progress(self, execution_id: str) -> Attempt | None:
        """The attempt of an execution that runs here, with the steps that have ended; None when none runs here."""
        ...

    async def logs(self, unit: str, fire_time: datetime, copy: int, attempt: int) -> list[tuple[str, Path]]:
        """The steps of an attempt that have output here, with their log files, in the order in which they ran."""
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
    """What the intake directory's reader has to tell."""

    def problems(self) -> Sequence[ReportedProblem]:
        """The files that are not taken in now."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a daemon that the API speaks for.

    `health` tells what is wrong right now (nothing: healthy). `token`, unless empty, must come with every request as
    `Authorization: Bearer`. `names` are the host names, beside the loopback ones and the address that a request came
    in at, under which the API may be called; the host of this machine's advertised address belongs here.
    """

    registry: Registry
    clock: Clock
    machine_id: str
    steps: LocalSteps
    intake: IntakeView | None = None
    health: Callable[[], Sequence[str]] = tuple
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    token: str = ""
    names: tuple[str, ...] = ()
