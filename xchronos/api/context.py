"""What every route works with."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec
from litestar import MediaType, Response
from litestar.datastructures import State

from xchronos.api.ports import DaemonReport, Services
from xchronos.errors import Problem, UnitFileError
from xchronos.ipc import Disconnected
from xchronos.limits import ANSWER_SECONDS
from xchronos.model.records import UnitRecord
from xchronos.model.unit import Unit
from xchronos.registry.units import compile_record

T = TypeVar("T")


class Context:
    """What the handlers of one server share."""

    def __init__(self, services: Services) -> None:
        self.services = services
        """The parts of the daemon."""
        self.closing = asyncio.Event()
        """Set once, when the server begins to shut down. Live streams end then."""

    @property
    def now(self) -> int:
        """The present instant. A handler reads it once, so that its answer is of one moment."""
        return self.services.clock.now()

    async def compute(self, work: Callable[[], T]) -> T:
        """What a function returns or raises that only computes and may take long. The API goes on meanwhile."""
        return await self.services.offload(work)

    async def answer(self, make: Callable[[], T]) -> Response[T]:
        """An answer that may be long, made and encoded aside."""
        body: Any = await self.services.making(lambda: msgspec.json.encode(make()))
        return Response(body, media_type=MediaType.JSON)

    async def unit_warnings(self, unit: Unit) -> tuple[Problem, ...]:
        """What this machine has to say of a unit."""
        ask = self.services.unit_warnings
        return await ask(unit) if ask is not None else ()

    async def report(self) -> DaemonReport:
        """What the daemon says of itself; that it says nothing is a fault too."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self.services.daemon.report()
        except TimeoutError:
            fault = f"the event loop that schedules has not answered for {ANSWER_SECONDS:g} s"
        except Disconnected:
            fault = "the process that schedules has ended"
        return DaemonReport((fault,))


def try_compile(name: str, record: UnitRecord) -> Unit | UnitFileError:
    """The compiled unit of a record, or the problems for which it does not compile (any more)."""
    try:
        return compile_record(name, record)
    except UnitFileError as error:
        return error


def context_of(state: State) -> Context:
    """The context that the application's state holds."""
    return cast("Context", state.context)
