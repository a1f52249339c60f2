"""What the store has of units, as far as the intake compares files with it."""

import asyncio
from collections.abc import Mapping

import structlog

from xchronos.errors import Conflict, NotFound, StoreError, StoreUnavailable
from xchronos.intake.plan import Known
from xchronos.registry.registry import Registry
from xchronos.registry.units import Stored

log = structlog.get_logger(__name__)

UNITS_PER_BREATH = 100
"""The stored units that are listed before everything else in this process gets its turn."""


async def known_unit(registry: Registry, name: str) -> Known | None:
    """What is stored of a unit; None: there is none. Raises StoreError, also for a record that cannot be read."""
    try:
        return _known(await registry.unit(name))
    except NotFound:
        return None
    except Conflict as error:  # it cannot be read, and to look at it again does not help
        raise StoreError(str(error)) from error


async def known_units(registry: Registry) -> Mapping[str, Known] | None:
    """All stored units by name; None when a record cannot be read, and each unit is to be asked for by itself.

    Raises StoreUnavailable.
    """
    stored: dict[str, Known] = {}
    try:
        async for unit in registry.units():
            if unit.unreadable:
                log.warning("a stored unit cannot be read", unit=unit.name, reason=unit.unreadable)
                return None
            stored[unit.name] = _known(unit)
            if not len(stored) % UNITS_PER_BREATH:
                await asyncio.sleep(0)
    except StoreUnavailable:
        raise
    except StoreError as error:
        log.warning("the stored units cannot be read as a whole", reason=str(error))
        return None
    return stored


def _known(unit: Stored) -> Known:
    record = unit.record
    drop_ins = tuple(part.name for part in record.drop_ins)
    return Known(record.revision, record.source, record.submitted_by, drop_ins, unit.revision)
