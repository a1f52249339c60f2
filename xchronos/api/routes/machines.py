"""The routes of machines: what they are, and what people want of them."""

from litestar import Response, delete, get, patch, post
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody

from xchronos.api import queries
from xchronos.api.context import context_of
from xchronos.api.openapi import errors, takes
from xchronos.clock import SECOND, to_datetime
from xchronos.errors import InvalidValue
from xchronos.registry.codec import BadRecord
from xchronos.wire.details import Machines, MachineStatus, UnreadableRecord
from xchronos.wire.messages import Asked
from xchronos.wire.requests import LONGEST_DRAIN, CordonRequest, DrainRequest, MetadataRequest


@get("/v1/machines", summary="The machines", responses=errors())
async def list_machines(state: State) -> Response[Machines]:
    """By id: those that are alive, and those that are down until they are forgotten."""
    context = context_of(state)
    unreadable: list[BadRecord] = []
    found = await queries.machines(context.services.registry, unreadable)
    bad = tuple(UnreadableRecord(each.key, each.reason) for each in unreadable)
    return await context.answer(lambda: Machines(tuple(found), bad))


@get("/v1/machines/{machine:str}", summary="One machine", responses=errors(404, 409))
async def get_machine(state: State, machine: FromPath[str]) -> MachineStatus:
    """What it offers, what it has, what is wanted of it."""
    registry = context_of(state).services.registry
    return await queries.machine(registry, await queries.machine_id(registry, machine))


@post(
    "/v1/machines/{machine:str}/cordon",
    summary="Keep new work from a machine",
    status_code=200,
    operation_class=takes(CordonRequest),
    responses=errors(404, 409),
)
async def cordon_machine(state: State, machine: FromPath[str], data: JSONBody[CordonRequest | None] = None) -> Asked:
    """What it has goes on."""
    registry = context_of(state).services.registry
    machine = await queries.machine_id(registry, machine)
    await registry.wishes.cordon(machine, data.reason if data is not None else "")
    return Asked(machine, "cordoned")


@post(
    "/v1/machines/{machine:str}/uncordon",
    summary="Let a machine have work again",
    status_code=200,
    responses=errors(404, 409),
)
async def uncordon_machine(state: State, machine: FromPath[str]) -> Asked:
    """What waits is placed anew. A drain is over."""
    registry = context_of(state).services.registry
    machine = await queries.machine_id(registry, machine)
    await registry.wishes.uncordon(machine)
    return Asked(machine, "uncordoned")


@post(
    "/v1/machines/{machine:str}/drain",
    summary="Have everything leave a machine",
    status_code=202,
    operation_class=takes(DrainRequest, needed=True),
    responses=errors(404, 409),
)
async def drain_machine(state: State, machine: FromPath[str], data: JSONBody[DrainRequest]) -> Asked:
    """It is cordoned; units that are kept running move immediately, all else may run until the deadline."""
    if not 0 <= data.seconds <= LONGEST_DRAIN:
        raise InvalidValue(f"seconds: {data.seconds:g}: expected 0 to {LONGEST_DRAIN}")
    context = context_of(state)
    until = to_datetime(context.now + round(data.seconds * SECOND))
    registry = context.services.registry
    machine = await queries.machine_id(registry, machine)
    await registry.wishes.drain(machine, until, data.reason)
    return Asked(machine, "draining")


@patch(
    "/v1/machines/{machine:str}/metadata",
    summary="Change a machine's metadata",
    operation_class=takes(MetadataRequest, needed=True),
    responses=errors(404, 409),
)
async def change_metadata(state: State, machine: FromPath[str], data: JSONBody[MetadataRequest]) -> Asked:
    """Beside or instead of what its configuration says; it lasts. What no longer fits there moves."""
    registry = context_of(state).services.registry
    machine = await queries.machine_id(registry, machine)
    await registry.wishes.set_metadata(machine, data.set, data.unset)
    return Asked(machine, "changed")


@delete(
    "/v1/machines/{machine:str}", summary="Forget a machine that is gone", status_code=200, responses=errors(404, 409)
)
async def forget_machine(state: State, machine: FromPath[str]) -> Asked:
    """What was known and wanted of it is removed. One that is alive is not forgotten."""
    registry = context_of(state).services.registry
    machine = await queries.machine_id(registry, machine)
    await registry.wishes.forget(machine)
    return Asked(machine, "forgotten")


MACHINE_ROUTES = (
    list_machines, get_machine, cordon_machine, uncordon_machine, drain_machine, change_metadata, forget_machine,
)  # fmt: skip
