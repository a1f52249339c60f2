"""The routes of the daemon itself: its overview, its metrics, its health."""

from collections import Counter

from litestar import Response, get
from litestar.datastructures import State
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from xchronos import __version__
from xchronos.api import queries, views
from xchronos.api.context import context_of
from xchronos.api.openapi import errors
from xchronos.api.ports import LoopWatch
from xchronos.clock import to_datetime
from xchronos.errors import ApiError
from xchronos.registry.keys import SHARDS
from xchronos.wire.messages import DaemonStatus, Health, IntakeFault, LoopStalls

METRICS_TYPE = CONTENT_TYPE_LATEST.partition("; charset=")[0]
"""The type of Prometheus' text format, without the charset: the framework adds that to every text."""


@get("/v1/status", summary="This daemon's overview", responses=errors())
async def daemon_status(state: State) -> DaemonStatus:
    """What it is, what it works on, and what is wrong."""
    context = context_of(state)
    services = context.services
    registry = services.registry
    states = Counter(execution.state for execution in await registry.open_executions())
    schedulers, machines = await registry.schedulers(), await registry.machines()
    owned = {number for share in schedulers for number in share.shards}
    problems = await services.inside(services.intake.problems) if services.intake is not None else ()
    return DaemonStatus(
        version=__version__,
        machine=services.machine_id,
        store=registry.store.name,
        namespace=registry.keys.namespace,
        now=to_datetime(context.now),
        units=len(await registry.unit_names()),
        executions=dict(sorted(states.items())),
        machines=len(machines),
        schedulers=tuple(views.scheduler(share) for share in schedulers),
        unowned=tuple(number for number in range(SHARDS) if number not in owned),
        intake=tuple(IntakeFault(p.path, p.message, p.since, p.last_good) for p in problems),
        faults=await context.faults(),
        stalls=_stalls(services.loop),
        notes=(*await services.inside(services.notes), *queries.skew(schedulers, machines)),
    )


def _stalls(loop: LoopWatch | None) -> LoopStalls | None:
    if loop is None:
        return None
    last = loop.last
    if last is None:
        return LoopStalls(loop.stalls, loop.longest)
    return LoopStalls(loop.stalls, loop.longest, last.at, last.seconds, last.culprit)


@get("/metrics", summary="Prometheus metrics", media_type=METRICS_TYPE, responses=errors())
async def metrics(state: State) -> Response[bytes]:
    """In the text format."""
    services = context_of(state).services
    return Response(await services.inside(lambda: generate_latest(services.metrics)), media_type=METRICS_TYPE)


@get("/healthz", summary="Is the daemon well?", responses=errors(but=(401, 413)))
async def healthz(state: State) -> Health:
    """200, or 503 with what is wrong."""
    faults = await context_of(state).faults()
    if faults:
        raise ApiError("; ".join(faults), 503)
    services = context_of(state).services
    return Health(notes=tuple(await services.inside(services.notes)))


CLUSTER_ROUTES = (daemon_status, metrics, healthz)
