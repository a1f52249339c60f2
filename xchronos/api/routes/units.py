"""The routes of units: submit, look, start, stop, pause, and the questions why and when."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from xchronos.api import queries, views
from xchronos.api.context import Context, context_of, try_compile
from xchronos.api.errors import status_of
from xchronos.api.openapi import TakesUnitFile, errors, takes
from xchronos.errors import InvalidValue, NotFound, Problem, StoreUnavailable, UnitFileError
from xchronos.limits import (
    EXECUTIONS_LISTED,
    FIRE_TIMES,
    MOST_FIRE_TIMES,
    MOST_LISTED,
    MOST_RECENT,
    RECENT_EXECUTIONS,
    UNITS_DESTROYED,
    UNITS_PER_PAGE,
)
from xchronos.model.compile.unit import compile_unit
from xchronos.model.records import DropIn, Execution, Schedule, UnitRecord
from xchronos.registry.codec import BadRecord
from xchronos.registry.copies import ended_copies
from xchronos.registry.judging import judge
from xchronos.registry.readers import told_unread
from xchronos.registry.refused import refusals
from xchronos.registry.units import Stored, compile_record
from xchronos.registry.unreadable import remove_unreadable
from xchronos.scheduler.explain import explain, explain_refused
from xchronos.scheduler.placement import asks_history, stands
from xchronos.scheduler.view import fire_prefix
from xchronos.wire.details import Executions, UnitDetail, UnreadableRecord
from xchronos.wire.messages import (
    Asked,
    Calendar,
    DestroyedUnit,
    DestroyedUnits,
    ExecutionIds,
    Explanation,
    Submission,
    SubmissionResult,
    UnitPage,
    Verified,
)
from xchronos.wire.requests import DestroyRequest, ResumeRequest, StartRequest, StopRequest

Limit = Annotated[int, QueryParameter(ge=1, le=MOST_LISTED)]
Count = Annotated[int, QueryParameter(ge=1, le=MOST_FIRE_TIMES)]
Recent = Annotated[int, QueryParameter(ge=0, le=MOST_RECENT)]


@get("/v1/units", summary="List units by name", responses=errors())
async def list_units(state: State, limit: Limit = UNITS_PER_PAGE, after: FromQuery[str] = "") -> Response[UnitPage]:
    """One page of units; `after` is the last name of the page before."""
    context = context_of(state)
    registry = context.services.registry
    active = await queries.active_counts(registry)
    start = after + "\0" if after else ""
    schedulers = await registry.schedulers()
    found = [stored async for stored in registry.units(start=start, limit=limit + 1)]
    refused = await refusals(registry.store, registry.keys)

    def page() -> UnitPage:
        rows = [views.summarize(stored, active[stored.name], schedulers) for stored in found]
        rows = views.with_refused(rows, refused, after, limit + 1)
        return UnitPage(tuple(rows[:limit]), rows[limit - 1].name if len(rows) > limit else "")

    return await context.answer(page)


@get("/v1/units/{name:str}", summary="Everything about a unit", responses=errors(404, 409))
async def get_unit(state: State, name: FromPath[str], recent: Recent = RECENT_EXECUTIONS) -> UnitDetail:
    """The unit's file, schedule, triggers and placement, what runs of it, and its last `recent` executions."""
    context = context_of(state)
    registry = context.services.registry
    refused = await refusals(registry.store, registry.keys, name)
    told = views.refused_files(refused)
    try:
        stored = await registry.unit(name)
    except NotFound:
        if not refused:
            raise
        return UnitDetail(views.with_refused([], refused, "", 1)[0], UnitRecord(), None, refused=told)
    active = [await _progress(context, execution) for execution in await registry.open_executions(name)]
    ended = await queries.executions(registry, name, {"ended"}, recent) if recent else []
    summary = views.summarize(stored, len(active), await registry.schedulers())
    summary = views.with_refused([summary], refused, "", 1)[0]
    recently = tuple(views.shown(e, context.now) for e in views.newest_first([*active, *ended]))
    unit = await context.compute(lambda: try_compile(name, stored.record))
    bad = (Problem(stored.unreadable),) if stored.unreadable else ()
    if isinstance(unit, UnitFileError):
        return UnitDetail(
            summary, stored.record, stored.schedule, problems=(*bad, *unit.problems), executions=recently, refused=told
        )
    return UnitDetail(
        summary,
        stored.record,
        stored.schedule,
        views.trigger_statuses(unit, _shown_schedule(stored)),
        views.placing(unit),
        (*unit.warnings_on(registry.store.name), *await context.unit_warnings(unit)),
        problems=bad,
        executions=recently,
        documentation=unit.documentation,
        refused=told,
    )


async def _progress(context: Context, execution: Execution) -> Execution:
    if execution.current is None or execution.current.machine != context.services.machine_id:
        return execution
    return views.with_progress(execution, await context.services.steps.progress(execution.id))


@put("/v1/units/{name:str}", summary="Submit a unit file", operation_class=TakesUnitFile, responses=errors(422))
async def submit_unit(request: Request[Any, Any, Any], state: State, name: FromPath[str]) -> SubmissionResult:
    """Store a unit. The body is the file itself, or with `Content-Type: application/json` a Submission."""
    context = context_of(state)
    text, submission = await _submission(context, request)
    done = await context.services.registry.submit(
        name,
        text,
        drop_ins=[DropIn(dropin.name, dropin.text) for dropin in submission.drop_ins],
        by=submission.by,
        source="api",
        path=submission.path,
        now=context.now,
    )
    return SubmissionResult(done.unit, done.revision, done.result, done.warnings)


@post(
    "/v1/verify",
    summary="What is wrong with a unit file",
    status_code=200,
    operation_class=TakesUnitFile,
    responses=errors(),
)
async def verify_unit(request: Request[Any, Any, Any], state: State, name: FromQuery[str] = "unit.service") -> Verified:
    """Compile a unit file and store nothing. The body is as for a submission."""
    context = context_of(state)
    text, submission = await _submission(context, request)
    drop_ins = [(dropin.name, dropin.text) for dropin in submission.drop_ins]
    try:
        registry = context.services.registry
        unit = await registry.offload(lambda: compile_unit(name, text, drop_ins, submission.path))
        try:
            problems = await registry.verify(unit, submission.path, now=context.now)
        except StoreUnavailable:  # then nobody knows which executors machines have
            problems = judge(unit, submission.path, now=context.now, store=registry.store.name)
    except UnitFileError as error:
        return Verified(ok=False, problems=error.problems)
    return Verified(ok=True, problems=(*problems, *await context.unit_warnings(unit)))


async def _submission(context: Context, request: Request[Any, Any, Any]) -> tuple[bytes, Submission]:
    """The file's bytes, and what else the request says of it. Raises InvalidValue."""
    body = await request.body()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return body, Submission(path=request.query_params.get("path", ""), by=request.query_params.get("by", ""))
    return await context.compute(lambda: _decoded(body))


def _decoded(body: bytes) -> tuple[bytes, Submission]:
    try:
        submission = msgspec.json.decode(body, type=Submission)
        if submission.text_base64:
            return base64.b64decode(submission.text_base64, validate=True), submission
        return submission.text.encode(), submission
    except (msgspec.MsgspecError, ValueError) as error:  # of base64 and of UTF-8
        raise InvalidValue(f"the body is no submission: {error}") from error


@delete("/v1/unreadable", summary="Remove a record that cannot be read", status_code=200, responses=errors(404, 409))
async def remove_record(state: State, key: FromQuery[str]) -> Asked:
    """By the key that a list shows. A record that can be read is left alone."""
    registry = context_of(state).services.registry
    await remove_unreadable(registry.store, registry.keys, key)
    return Asked(key, "removed")


@delete("/v1/units/{name:str}", summary="Destroy a unit", status_code=200, responses=errors(404, 409))
async def destroy_unit(state: State, name: FromPath[str], keep_file: FromQuery[bool] = False) -> Asked:
    """Remove a unit; what runs of it is stopped, and its history goes with it.

    One that comes from a file of a directory is refused, unless `keep_file` says that the file may bring it back.
    """
    file = await context_of(state).services.registry.destroy(name, keep_file=keep_file)
    return Asked(name, "destroyed", _brought_back(name, file))


@post(
    "/v1/destroy",
    summary="Destroy units together",
    status_code=200,
    operation_class=takes(DestroyRequest, needed=True),
    responses=errors(),
)
async def destroy_units(state: State, data: JSONBody[DestroyRequest]) -> DestroyedUnits:
    """Remove units as `DELETE` does with one, and say of each what became of it: with few requests to the store."""
    if len(data.units) > UNITS_DESTROYED:
        raise InvalidValue(f"{len(data.units)} units: expected at most {UNITS_DESTROYED} in one request")
    answers = await context_of(state).services.registry.destroy_many(data.units, keep_file=data.keep_file)
    return DestroyedUnits(
        tuple(
            DestroyedUnit(name, note=_brought_back(name, answer))
            if isinstance(answer, str)
            else DestroyedUnit(name, error=str(answer), status=status_of(answer))
            for name, answer in zip(data.units, answers, strict=True)
        )
    )


def _brought_back(name: str, file: str) -> str:
    return f"{file} is still there: it brings {name} back when it is changed, or is taken in anew" if file else ""


@post(
    "/v1/units/{name:str}/start",
    summary="Run a unit once, now",
    status_code=202,
    operation_class=takes(StartRequest),
    responses=errors(404, 409, 422),
)
async def start_unit(state: State, name: FromPath[str], data: JSONBody[StartRequest | None] = None) -> ExecutionIds:
    """Beside its schedule; one execution per copy. A unit that is kept running and runs already is left alone."""
    context = context_of(state)
    asked = data or StartRequest()
    started = await context.services.registry.start(name, now=context.now, payload=asked.payload, by=asked.by)
    note = "" if started else f"{name} is kept running, and runs already or is about to: nothing was started"
    return ExecutionIds(tuple(started), note)


@post(
    "/v1/units/{name:str}/stop",
    summary="Stop what runs of a unit",
    status_code=202,
    operation_class=takes(StopRequest),
    responses=errors(404, 409),
)
async def stop_unit(state: State, name: FromPath[str], data: JSONBody[StopRequest | None] = None) -> ExecutionIds:
    """Everything of it that has not ended; its schedule goes on. A unit that is kept running stays stopped.

    But one that is kept running on every machine begins again immediately, where it is not paused.
    """
    registry = context_of(state).services.registry
    stopped = tuple(await registry.stop(name, stop_reason(data)))
    stored = await registry.unit(name)
    again = stored.record.desired != "paused" and stored.schedule is not None and stored.schedule.everywhere
    note = f"{name} is kept running on every machine and begins again: pause it first to have it stay stopped"
    return ExecutionIds(stopped, note if again else "")


def stop_reason(asked: StopRequest | None) -> str:
    """The reason that the record of a stopped execution has."""
    asked = asked or StopRequest()
    return asked.reason or f"stopped by {asked.by or 'hand'}"


@post("/v1/units/{name:str}/pause", summary="Pause a unit's schedule", status_code=200, responses=errors(404))
async def pause_unit(state: State, name: FromPath[str]) -> Asked:
    """Nothing fires until it is resumed; what runs goes on."""
    await context_of(state).services.registry.set_desired(name, "paused")
    return Asked(name, "paused")


@post(
    "/v1/units/{name:str}/resume",
    summary="Resume a unit's schedule",
    status_code=200,
    operation_class=takes(ResumeRequest),
    responses=errors(404),
)
async def resume_unit(state: State, name: FromPath[str], data: JSONBody[ResumeRequest | None] = None) -> Asked:
    """Its misfire policy decides what becomes of the fire times that fell into the pause, unless they are skipped."""
    context = context_of(state)
    skip = data is not None and data.skip_missed
    await context.services.registry.set_desired(name, "active", now=context.now, skip_missed=skip)
    return Asked(name, "resumed")


@get("/v1/units/{name:str}/explain", summary="Why is it not running?", responses=errors(404, 409, 422))
async def explain_unit(state: State, name: FromPath[str]) -> Explanation:
    """The scheduler's own reasons, for the unit and for each of its executions that has not ended."""
    context = context_of(state)
    registry = context.services.registry
    refused = await refusals(registry.store, registry.keys, name)
    try:
        stored = await registry.unit(name)
    except NotFound:
        if not refused:
            raise
        return Explanation(name, tuple(explain_refused(views.refused_words(refused), known=False)), refused=True)
    unread = told_unread(name, await registry.schedulers())
    told = (unread,) if unread else ()
    unit = await context.compute(lambda: compile_record(name, stored.record))
    active = await registry.open_executions(name)
    waiting = any(execution.state == "waiting" for execution in active)
    machines = await queries.machine_views(context) if waiting else []
    schedule = _shown_schedule(stored)
    ended = [] if active else await queries.executions(context.services.registry, name, {"ended"}, 1)
    last = ended[0] if ended else None
    copies: dict[str, str] = {}
    if waiting and asks_history(unit):
        for prefix in {fire_prefix(execution.id) for execution in active if execution.state == "waiting"}:
            copies |= await ended_copies(registry.store, registry.keys, prefix, lost=not stands(unit))
    now, held_up = context.now, await queries.held_up(context, name)
    lines = await context.compute(lambda: explain(unit, schedule, active, machines, now, last, copies, held_up))
    lines += explain_refused(views.refused_words(refused), known=True)
    return Explanation(name, (*told, *lines), refused=bool(refused))


def _shown_schedule(stored: Stored) -> Schedule | None:
    """The unit's schedule, paused or not as its record says: its scheduler may not have followed the record yet."""
    schedule = stored.schedule
    paused = stored.record.desired == "paused"
    if schedule is None or schedule.paused == paused:
        return schedule
    return msgspec.structs.replace(schedule, paused=paused)


@get("/v1/units/{name:str}/calendar", summary="The fire times to come", responses=errors(404, 409, 422))
async def unit_calendar(state: State, name: FromPath[str], n: Count = FIRE_TIMES) -> Calendar:
    """The next `n` fire times, under every count and bound."""
    context = context_of(state)
    stored = await context.services.registry.unit(name)
    now = context.now
    return await context.compute(
        lambda: views.calendar(compile_record(name, stored.record), _shown_schedule(stored), now, n)
    )


@get("/v1/units/{name:str}/executions", summary="The executions of a unit", responses=errors(404, 409))
async def unit_executions(state: State, name: FromPath[str], limit: Limit = EXECUTIONS_LISTED) -> Response[Executions]:
    """The newest `limit`, open and ended."""
    context = context_of(state)
    registry = context.services.registry
    await registry.unit(name)
    unreadable: list[BadRecord] = []
    found = await queries.executions(registry, name, set(), limit + 1, unreadable)
    return await views_of(context, found, limit, unreadable)


async def views_of(
    context: Context, found: Sequence[Execution], limit: int, unreadable: Sequence[BadRecord]
) -> Response[Executions]:
    """The first `limit` of the executions as programs see them, whether there are more, and what cannot be read."""
    now = context.now
    bad = tuple(UnreadableRecord(each.key, each.reason) for each in unreadable[:limit])
    return await context.answer(
        lambda: Executions(tuple(views.shown(e, now) for e in found[:limit]), len(found) > limit, bad)
    )


UNIT_ROUTES = (
    list_units, get_unit, submit_unit, verify_unit, destroy_unit, destroy_units, remove_record, start_unit, stop_unit,
    pause_unit, resume_unit, explain_unit, unit_calendar, unit_executions,
)  # fmt: skip
