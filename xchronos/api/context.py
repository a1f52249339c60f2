"""What every route works with."""

import asyncio
from typing import cast

from litestar.datastructures import State

from xchronos.api.ports import Services
from xchronos.errors import UnitFileError
from xchronos.model.records import UnitRecord
from xchronos.model.unit import Unit
from xchronos.registry.units import compile_record


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


def try_compile(name: str, record: UnitRecord) -> Unit | UnitFileError:
    """The compiled unit of a record, or the problems for which it does not compile (any more)."""
    try:
        return compile_record(name, record)
    except UnitFileError as error:
        return error


def context_of(state: State) -> Context:
    """The context that the application's state holds."""
    return cast("Context", state.context)
