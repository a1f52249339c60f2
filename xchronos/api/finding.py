"""Questions that go across units, answered from the store with work in proportion to what there is.

They read keys, and values only where a filter or the answer needs them.
"""

import heapq
from collections import Counter
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from typing import get_args

import msgspec

from xchronos.api.context import Context, try_compile
from xchronos.api.views import newest_first
from xchronos.errors import UnitFileError
from xchronos.model.records import Execution, ExecutionState, UnitRecord
from xchronos.registry.codec import decode
from xchronos.registry.registry import Registry
from xchronos.scheduler.placement import MachineView
from xchronos.store.contract import KeyValue

PAGE = 5_000
OPEN = frozenset(get_args(ExecutionState)) - {"ended"}
"""The states of an execution that has not ended."""


class _Ended(msgspec.Struct):
    """Of an ended execution's record, only what filters ask for: the rest is skipped, not decoded."""

    outcome: str = ""


_ENDED = msgspec.json.Decoder(_Ended)


async def executions(registry: Registry, unit: str, states: AbstractSet[str], limit: int) -> list[Execution]:
    """The newest `limit` executions, open and ended.

    `unit` "" means of every unit; `states` names states (`running`) and outcomes (`failed`), none means all.
    """
    found: list[Execution] = []
    if not states or states & OPEN:
        found = [e for e in await registry.open_executions(unit) if not states or e.state in states]
        found = newest_first(found)[:limit]
    if states and states <= OPEN:
        return found
    newest = await _newest_ended(registry, unit, set() if "ended" in states else states, limit)
    # One that ended between the two readings is in both: what it became is the truth.
    known = {execution.id: execution for execution in found}
    known.update((execution.id, execution) for execution in (decode(item, Execution) for item in newest))
    return newest_first(known.values())[:limit]


async def _newest_ended(registry: Registry, unit: str, outcomes: AbstractSet[str], limit: int) -> list[KeyValue]:
    """The newest ended executions, as keys with values. Keys hold the fire time in a form that sorts like the time."""
    keys, store = registry.keys, registry.store
    heap: list[tuple[str, str]] = []
    async for items in _pages(registry, keys.history(unit) if unit else keys.executions, keys_only=not outcomes):
        for item in items:
            if outcomes and _ENDED.decode(item.value).outcome not in outcomes:
                continue
            entry = (item.key.rsplit("/", 2)[1], item.key)
            if len(heap) < limit:
                heapq.heappush(heap, entry)
            elif entry > heap[0]:
                heapq.heapreplace(heap, entry)
    found = [await store.get(key) for _, key in sorted(heap, reverse=True)]
    return [item for item in found if item is not None]


async def active_counts(registry: Registry) -> Counter[str]:
    """How many executions of each unit have not ended."""
    keys = registry.keys
    counts: Counter[str] = Counter()
    async for items in _pages(registry, keys.pending, keys_only=True):
        counts.update(item.key[len(keys.pending) :].partition("/")[0] for item in items)
    async for items in _pages(registry, keys.placements, keys_only=True):
        counts.update(keys.split_placement(item.key)[1].partition("/")[0] for item in items)
    return counts


async def placed_counts(registry: Registry) -> Counter[str]:
    """How many executions each machine has."""
    counts: Counter[str] = Counter()
    async for items in _pages(registry, registry.keys.placements, keys_only=True):
        counts.update(registry.keys.split_placement(item.key)[0] for item in items)
    return counts


async def machine_views(context: Context) -> list[MachineView]:
    """Every living machine with what it has, as the scheduler sees it. Units are compiled once per revision."""
    registry = context.services.registry
    views = {machine.id: MachineView(machine) for machine in await registry.machines()}
    for execution in await registry.open_executions():
        view = views.get(execution.current.machine) if execution.current is not None else None
        if view is None or execution.state not in ("placed", "running", "reported"):
            continue
        item = await registry.store.get(registry.keys.job(execution.unit))
        if item is None:
            continue  # destroyed: what runs of it is being stopped
        unit = try_compile(execution.unit, decode(item, UnitRecord))
        if not isinstance(unit, UnitFileError):
            view.take(unit)
    return list(views.values())


async def _pages(registry: Registry, prefix: str, *, keys_only: bool) -> AsyncIterator[list[KeyValue]]:
    start, revision = "", 0
    while True:
        page = await registry.store.range(prefix, start=start, limit=PAGE, keys_only=keys_only, revision=revision)
        yield page.items
        if not page.more:
            return
        start, revision = page.items[-1].key + "\0", page.revision
