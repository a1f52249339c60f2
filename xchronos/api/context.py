"""What every route works with."""

import asyncio
from collections import OrderedDict
from typing import cast

from litestar.datastructures import State

from xchronos.api.ports import Services
from xchronos.errors import UnitFileError
from xchronos.model.records import UnitRecord
from xchronos.model.unit import Unit
from xchronos.registry.units import compile_record

UNITS_KEPT = 2_000
"""How many compiled units the API keeps: enough for people's questions, few beside those that the engine keeps."""


class Context:
    """The services, and what the API keeps of its own. `closing` is set when the server begins to shut down."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.closing = asyncio.Event()
        self._compiled: OrderedDict[tuple[str, str], Unit] = OrderedDict()

    @property
    def now(self) -> int:
        """The instant at which a request is answered; a handler reads it once."""
        return self.services.clock.now()

    def compile(self, name: str, record: UnitRecord) -> Unit:
        """The meaning of a stored unit. Raises UnitFileError when it does not compile (any more)."""
        key = (name, record.revision)
        unit = self._compiled.get(key)
        if unit is None:
            unit = compile_record(name, record)
            self._compiled[key] = unit
            if len(self._compiled) > UNITS_KEPT:
                self._compiled.popitem(last=False)
        return unit

    def try_compile(self, name: str, record: UnitRecord) -> Unit | UnitFileError:
        """The meaning of a stored unit, or why it has none."""
        try:
            return self.compile(name, record)
        except UnitFileError as error:
            return error


def context_of(state: State) -> Context:
    """The application's context."""
    return cast("Context", state.context)
