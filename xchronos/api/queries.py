"""Questions that go across units, answered from the store.

They read keys. Values are read only where a filter or the answer needs them.
"""

import heapq
from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import get_args

import msgspec

from xchronos.api.context import Context, try_compile
from xchronos.api.views import newest_first
from xchronos.errors import Conflict, NotFound, UnitFileError
from xchronos.model.records import Execution, ExecutionState, KnownMachine, Machine, MachineWish, UnitRecord
from xchronos.registry.codec import BadRecord, decode, readable
from xchronos.registry.keys import shard_of
from xchronos.registry.machine_desired import wished
from xchronos.registry.readers import differences
from xchronos.registry.registry import Registry
from xchronos.registry.roster import Share
from xchronos.scheduler.explain import nobody_decides
from xchronos.scheduler.feasibility import UNAVAILABLE, MachineView
from xchronos.store.contract import KeyValue
from xchronos.store.reading import read_some, snapshot
from xchronos.wire.details import MachineState, MachineStatus

PAGE = 5_000
SHORT_ID = 8
OPEN = frozenset(get_args(ExecutionState)) - {"ended"}
"""The states of an execution that has not ended."""


class _Ended(msgspec.Struct):
    """Of an ended execution's record, only what filters ask for: the rest is skipped, not decoded."""

    outcome: str = ""


_ENDED = msgspec.json.Decoder(_Ended)


async def executions(
    registry: Registry, unit: str, states: AbstractSet[str], limit: int, unreadable: list[BadRecord] | None = None
) -> list[Execution]:
    """The newest `limit` executions, open and ended.

    `unit` "" means of every unit; `states` names states (`running`) and outcomes (`failed`), none means all. Records
    that cannot be read are told of in `unreadable`.
    """
    found: list[Execution] = []
    if not states or states & OPEN:
        found = [e for e in await registry.open_executions(unit, unreadable) if not states or e.state in states]
        found = newest_first(found)[:limit]
    if states and states <= OPEN:
        return found
    newest = await _newest_ended(registry, unit, set() if "ended" in states else states, limit)
    # One that ended between the two readings is in both: what it became is the truth.
    known = {execution.id: execution for execution in found}
    known.update(
        (execution.id, execution) for execution in (each for _, each in readable(newest, Execution, unreadable))
    )
    return newest_first(known.values())[:limit]


async def _newest_ended(registry: Registry, unit: str, outcomes: AbstractSet[str], limit: int) -> list[KeyValue]:
    """The newest ended executions, as keys with values. Keys hold the fire time in a form that sorts like the time."""
    keys = registry.keys
    heap: list[tuple[str, str]] = []
    async for page in snapshot(
        registry.store, keys.history(unit) if unit else keys.executions, keys_only=not outcomes, size=PAGE
    ):
        for item in page.items:
            if outcomes and _outcome(item) not in outcomes:
                continue
            entry = (item.key.rsplit("/", 2)[1], item.key)
            if len(heap) < limit:
                heapq.heappush(heap, entry)
            elif entry > heap[0]:
                heapq.heapreplace(heap, entry)
    below = len(keys.executions)
    found = await read_some(registry.store, keys.executions, [key[below:] for _, key in heap])
    return list(found.values())


def _outcome(item: KeyValue) -> str:
    try:
        return _ENDED.decode(item.value).outcome
    except msgspec.MsgspecError:
        return ""  # a list of all outcomes tells of it


async def active_counts(registry: Registry) -> Counter[str]:
    """How many executions of each unit have not ended."""
    keys = registry.keys
    counts: Counter[str] = Counter()
    async for page in snapshot(registry.store, keys.pending, keys_only=True, size=PAGE):
        counts.update(item.key[len(keys.pending) :].partition("/")[0] for item in page.items)
    async for page in snapshot(registry.store, keys.placements, keys_only=True, size=PAGE):
        counts.update(keys.split_placement(item.key)[1].partition("/")[0] for item in page.items)
    return counts


async def machines(registry: Registry, unreadable: list[BadRecord] | None = None) -> list[MachineStatus]:
    """Every machine by id: the living ones, and those that are gone but have a wish on record or executions.

    Records that cannot be read are told of in `unreadable`.
    """
    placed: Counter[str] = Counter()
    async for page in snapshot(registry.store, registry.keys.placements, keys_only=True, size=PAGE):
        placed.update(registry.keys.split_placement(item.key)[0] for item in page.items)
    wishes = await registry.wishes.all(unreadable)
    known = await registry.known_machines()
    alive = {machine.id: machine for machine in await registry.machines(unreadable)}
    names = sorted({*placed, *wishes, *known, *alive})
    return [_machine(name, alive.get(name), wishes.get(name), placed[name], known.get(name)) for name in names]


async def machine_id(registry: Registry, name: str) -> str:
    """The machine that a person means: by its id or, as MachineID= does, by the first 8 characters of it.

    What is neither is given back as it is. Raises Conflict when several begin so.
    """
    if len(name) != SHORT_ID:
        return name
    keys = registry.keys
    known: set[str] = set()
    for prefix in (keys.machines, keys.wishes, keys.known_machines):
        async for page in snapshot(registry.store, prefix + name, keys_only=True, size=PAGE):
            known.update(item.key[len(prefix) :] for item in page.items)
    if name not in known and len(known) > 1:
        raise Conflict(f"{name} is the beginning of {len(known)} machines' ids: {', '.join(sorted(known))}")
    return name if name in known or not known else known.pop()


async def machine(registry: Registry, name: str) -> MachineStatus:
    """One of them. Raises NotFound."""
    keys, store = registry.keys, registry.store
    held, item = await store.get(keys.machine(name)), await store.get(keys.wish(name))
    placed = 0
    async for page in snapshot(registry.store, keys.machine_placements(name), keys_only=True, size=PAGE):
        placed += len(page.items)
    known = (await registry.known_machines(name)).get(name)
    if held is None and item is None and known is None and not placed:
        raise NotFound(f"there is no machine {name}")
    alive = decode(held, Machine) if held is not None else None
    return _machine(name, alive, decode(item, MachineWish) if item is not None else None, placed, known)


def _machine(
    name: str, alive: Machine | None, wish: MachineWish | None, placed: int, known: KnownMachine | None
) -> MachineStatus:
    former = known.machine if known is not None else Machine(name)
    machine = alive if alive is not None else wished(former, wish)
    state: MachineState = "cordoned" if machine.cordoned else "ready"
    since = None
    if machine.drain_until is not None:
        state = "draining" if placed else "drained"
    if alive is None:
        state, since = ("gone", None) if known is None else ("down", known.down_since)
    elif state == "ready" and machine.docker.startswith(UNAVAILABLE):
        state, since = "no-engine", machine.docker_since
    return MachineStatus(**msgspec.structs.asdict(machine), state=state, placed=placed, since=since)


def skew(schedulers: Iterable[Share], machines: Iterable[Machine]) -> list[str]:
    """What differs in what the living schedulers and machines read, and what schedulers cannot: a sentence for each."""
    shares = list(schedulers)
    told = [
        f"the scheduler on {share.machine} cannot read {unit}: {why}"
        for share in shares
        for unit, why in share.cannot_read.items()
    ]
    readings = {machine.id: machine.reads for machine in machines} | {share.machine: share.reads for share in shares}
    return told + differences(readings)


async def held_up(context: Context, unit: str) -> list[str]:
    """Why nothing can be decided about a unit just now: nobody owns its shard, or the store takes no writes."""
    shard = shard_of(unit)
    schedulers = await context.services.registry.schedulers()
    owner = next((share.machine for share in schedulers if shard in share.shards), "")
    return nobody_decides(shard, owner, (await context.report()).store)


async def machine_views(context: Context) -> list[MachineView]:
    """Every living machine with what has its room, as the scheduler sees it. Units are compiled once per revision."""
    registry = context.services.registry
    views = {machine.id: MachineView(machine) for machine in await registry.machines()}
    for execution in await registry.open_executions():
        view = views.get(execution.current.machine if execution.current is not None else execution.home)
        if view is None:
            continue
        item = await registry.store.get(registry.keys.job(execution.unit))
        if item is None:
            continue  # destroyed: what runs of it is being stopped
        records = readable([item], UnitRecord)
        unit = try_compile(execution.unit, records[0][1]) if records else UnitFileError(())
        if not isinstance(unit, UnitFileError):
            view.take(unit)
    return list(views.values())
