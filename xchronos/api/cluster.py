"""Routes of machines, and of the daemon itself."""

from collections import Counter
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from xchronos import __version__
from xchronos.api import finding
from xchronos.api.context import context_of
from xchronos.api.detail import Machines, MachineStatus
from xchronos.api.wire import Asked, DaemonStatus, Failure, Health, IntakeFault
from xchronos.clock import to_datetime

METRICS_TYPE = CONTENT_TYPE_LATEST.partition("; charset=")[0]
"""The framework adds the charset to every text."""


@get("/v1/machines", summary="The machines that are alive")
async def list_machines(state: State) -> Machines:
    """By id, each with what it offers and how much it has."""
    registry = context_of(state).services.registry
    placed = await finding.placed_counts(registry)
    machines = await registry.machines()
    return Machines(tuple(MachineStatus(**msgspec.structs.asdict(m), placed=placed[m.id]) for m in machines))


@post("/v1/machines/{machine:str}/cordon", summary="Keep new work from a machine", status_code=200)
async def cordon_machine(state: State, machine: FromPath[str]) -> Asked:
    """What it has goes on."""
    await context_of(state).services.registry.set_cordoned(machine, cordoned=True)
    return Asked(machine, "cordoned")


@post("/v1/machines/{machine:str}/uncordon", summary="Let a machine have work again", status_code=200)
async def uncordon_machine(state: State, machine: FromPath[str]) -> Asked:
    """What waits is placed anew."""
    await context_of(state).services.registry.set_cordoned(machine, cordoned=False)
    return Asked(machine, "uncordoned")


@get("/v1/status", summary="This daemon's overview")
async def daemon_status(state: State) -> DaemonStatus:
    """What it is, what it works on, and what is wrong."""
    context = context_of(state)
    services = context.services
    registry = services.registry
    states = Counter(execution.state for execution in await registry.open_executions())
    problems = services.intake.problems() if services.intake is not None else ()
    return DaemonStatus(
        version=__version__,
        machine=services.machine_id,
        store=registry.store.name,
        namespace=registry.keys.namespace,
        now=to_datetime(context.now),
        units=len(await registry.unit_names()),
        executions=dict(sorted(states.items())),
        machines=len(await registry.machines()),
        intake=tuple(IntakeFault(p.path, p.message, p.since, p.last_good) for p in problems),
        faults=tuple(services.health()),
    )


@get("/metrics", summary="Prometheus metrics", media_type=METRICS_TYPE)
async def metrics(state: State) -> Response[bytes]:
    """In the text format."""
    return Response(generate_latest(context_of(state).services.metrics), media_type=METRICS_TYPE)


@get("/healthz", summary="Is the daemon well?")
async def healthz(state: State) -> Response[Any]:
    """200, or 503 with what is wrong."""
    faults = tuple(context_of(state).services.health())
    if faults:
        return Response(Failure("; ".join(faults)), status_code=503)
    return Response(Health())


ROUTES = (list_machines, cordon_machine, uncordon_machine, daemon_status, metrics, healthz)
