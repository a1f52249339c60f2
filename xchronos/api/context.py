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
    """The services, and what the API keeps of its own. `closing` is set when the server begins to shut down."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.closing = asyncio.Event()

    @property
    def now(self) -> int:
        """The instant at which a request is answered; a handler reads it once."""
        return self.services.clock.now()


def try_compile(name: str, record: UnitRecord) -> Unit | UnitFileError:
    """The meaning of a stored unit, or why it has none (any more)."""
    try:
        return compile_record(name, record)
    except UnitFileError as error:
        return error


def context_of(state: State) -> Context:
    """The application's context."""
    return cast("Context", state.context)
