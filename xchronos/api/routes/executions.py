"""The routes of executions: what ran, what runs, what it printed."""

from typing import Annotated, Any, get_args

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream

from xchronos.api import peers, queries, views
from xchronos.api.context import Context, context_of
from xchronos.api.openapi import errors, takes
from xchronos.api.routes.logs import LogQuery, LogRequest
from xchronos.api.routes.units import Limit, stop_reason, views_of
from xchronos.errors import InvalidValue
from xchronos.limits import EXECUTIONS_LISTED
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution, ExecutionState
from xchronos.registry.codec import BadRecord
from xchronos.wire.details import Executions, ExecutionStatus
from xchronos.wire.messages import ExecutionIds
from xchronos.wire.requests import StopRequest

WORDS = frozenset((*get_args(ExecutionState), *(outcome.value for outcome in Outcome)))
"""The words that the filter `state` takes: states, and the outcomes of executions that have ended."""

EXECUTION_PATH = "/v1/executions/{unit:str}/{fire:str}/{copy:int}"
Tail = Annotated[Annotated[int, msgspec.Meta(ge=0)] | None, QueryParameter()]


@get("/v1/executions", summary="List executions, the newest first", responses=errors(404, 409))
async def list_executions(
    state: State,
    unit: FromQuery[str] = "",
    states: Annotated[list[str] | None, QueryParameter(name="state")] = None,
    limit: Limit = EXECUTIONS_LISTED,
) -> Response[Executions]:
    """Of one unit or of all; `state` may be repeated and names states (`running`) and outcomes (`failed`)."""
    wanted = {word for part in states or () for word in part.split(",") if word}
    unknown = sorted(wanted - WORDS)
    if unknown:
        raise InvalidValue(f"state: {unknown[0]!r} is unknown: expected one of {', '.join(sorted(WORDS))}")
    context = context_of(state)
    registry = context.services.registry
    if unit:
        await registry.unit(unit)
    unreadable: list[BadRecord] = []
    found = await queries.executions(registry, unit, wanted, limit + 1, unreadable)
    return await views_of(context, found, limit, unreadable)


@get(EXECUTION_PATH, summary="One execution", responses=errors(404, 409))
async def get_execution(
    request: Request[Any, Any, Any], state: State, unit: FromPath[str], fire: FromPath[str], copy: FromPath[int]
) -> ExecutionStatus:
    """Its attempts and their steps; of a running attempt those that have ended, from the machine that runs it."""
    context = context_of(state)
    execution = await context.services.registry.execution(f"{unit}/{fire}/{copy}")
    forwarded = peers.FORWARDED in request.headers
    return views.shown(await _with_progress(context, execution, forwarded=forwarded), context.now)


async def _with_progress(context: Context, execution: Execution, *, forwarded: bool) -> Execution:
    current = execution.current
    if current is None:
        return execution
    if current.machine == context.services.machine_id:
        return views.with_progress(execution, await context.services.steps.progress(execution.id))
    if forwarded or execution.state != "running":
        return execution
    theirs = await peers.remote_execution(context, current.machine, execution)
    return views.with_progress(execution, theirs.current if theirs is not None else None)


@post(
    EXECUTION_PATH + "/stop",
    summary="Stop an execution",
    status_code=202,
    operation_class=takes(StopRequest),
    responses=errors(404, 409),
)
async def stop_execution(
    state: State,
    unit: FromPath[str],
    fire: FromPath[str],
    copy: FromPath[int],
    data: JSONBody[StopRequest | None] = None,
) -> ExecutionIds:
    """Ask it to stop. One that has ended, or was asked before, is left alone."""
    registry = context_of(state).services.registry
    return ExecutionIds(tuple(await registry.stop(f"{unit}/{fire}/{copy}", stop_reason(data))))


@get(
    EXECUTION_PATH + "/logs",
    summary="What an execution printed",
    media_type="text/plain",
    responses=errors(404, 409, 502, but=(413,)),
)
async def execution_logs(
    request: Request[Any, Any, Any],
    state: State,
    unit: FromPath[str],
    fire: FromPath[str],
    copy: FromPath[int],
    step: FromQuery[str] = "",
    attempt: Annotated[int, QueryParameter(ge=0)] = 0,
    follow: FromQuery[bool] = False,
    tail: Tail = None,
) -> Stream:
    """The output of an attempt's steps (the latest attempt, all steps), live until it has ended with `follow`."""
    context = context_of(state)
    execution = await context.services.registry.execution(f"{unit}/{fire}/{copy}")
    forwarded = peers.FORWARDED in request.headers
    query = LogQuery(step=step, attempt=attempt, follow=follow, tail=tail, forwarded=forwarded)
    return Stream(await LogRequest(context, execution, query).open(), media_type="text/plain")


EXECUTION_ROUTES = (list_executions, get_execution, stop_execution, execution_logs)
