"""The routes of the daemon itself: its overview, its metrics, its health."""

from collections import Counter

from litestar import Response, get
from litestar.datastructures import State
from prometheus_client import CONTENT_TYPE_LATEST

from xchronos import __version__
from xchronos.api import queries, views
from xchronos.api.context import context_of
from xchronos.api.openapi import errors
from xchronos.clock import to_datetime
from xchronos.errors import ApiError
from xchronos.registry.keys import SHARDS
from xchronos.wire.messages import DaemonStatus, Health

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
    report = await context.report()
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
        intake=report.refused,
        faults=report.faults,
        stalls=report.stalls,
        notes=(*report.notes, *queries.skew(schedulers, machines)),
    )


@get("/metrics", summary="Prometheus metrics", media_type=METRICS_TYPE, responses=errors())
async def metrics(state: State) -> Response[bytes]:
    """In the text format."""
    return Response(await context_of(state).services.daemon.metrics(), media_type=METRICS_TYPE)


@get("/healthz", summary="Is the daemon well?", responses=errors(but=(401, 413)))
async def healthz(state: State) -> Health:
    """200, or 503 with what is wrong."""
    report = await context_of(state).report()
    if report.faults:
        raise ApiError("; ".join(report.faults), 503)
    return Health(notes=report.notes)


CLUSTER_ROUTES = (daemon_status, metrics, healthz)
