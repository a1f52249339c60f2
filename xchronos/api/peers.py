"""Asking the daemon of another machine. Only that daemon has the output and the progress of what runs there."""

from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

import msgspec
from yarl import URL

from xchronos.api.context import Context
from xchronos.errors import ApiError
from xchronos.limits import PART_BYTES
from xchronos.model.records import Execution, Machine
from xchronos.wire.messages import ErrorBody

FORWARDED = "x-xchronos-forwarded"
"""The header of a request that a daemon passes on. Such a request is not passed on again."""

CONNECT_SECONDS = 5
"""How long another daemon may take to accept a connection."""


async def address_of(context: Context, machine: str) -> str:
    """The URL of a machine's API. Raises ApiError (status 503) when nobody knows it."""
    known = next((m for m in await context.services.registry.machines() if m.id == machine), None)
    if known is None:
        raise ApiError(f"machine {machine} is not alive: what it ran left its output there", 503)
    if not known.address:
        raise ApiError(
            f"machine {machine} cannot be asked: its daemon has no role api, or answers on a socket only", 503
        )
    return _base(known)


def _base(machine: Machine) -> str:
    address = machine.address.rstrip("/")
    return address if "://" in address else f"http://{address}"


async def relay(
    context: Context, machine: str, path: str, query: Mapping[str, str], total: float | None = None
) -> AsyncIterator[bytes]:
    """The body of another daemon's answer, in parts.

    The first part is empty. It comes when the other daemon has agreed to answer, before any output.

    Args:
        context: Ours, which knows the machines and the token.
        machine: The machine whose daemon is asked.
        path: The path, quoted.
        query: The query's values.
        total: How long the whole answer may take, in seconds; None: for ever.

    Raises:
        ApiError: with the other daemon's status and reason, with status 503 when it does not answer, or with status
            502 when something else answers in its place.
    """
    import aiohttp  # noqa: PLC0415 - one machine by itself asks no other, and the import takes 8 MB

    base = await address_of(context, machine)
    services = context.services
    headers = {FORWARDED: services.machine_id}
    if services.token:
        headers["authorization"] = f"Bearer {services.token}"
    timeout = aiohttp.ClientTimeout(total=total, sock_connect=CONNECT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(URL(base + path, encoded=True).with_query(dict(query)), headers=headers) as answer,
        ):
            if answer.status != 200:
                raise _refusal(await answer.read(), machine, answer.status)
            yield b""
            async for chunk in answer.content.iter_chunked(PART_BYTES):
                yield chunk
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ApiError(f"machine {machine} at {base} does not answer: {str(error) or 'timed out'}", 503) from error


def _refusal(body: bytes, machine: str, status: int) -> ApiError:
    try:
        return ApiError(msgspec.json.decode(body, type=ErrorBody).error, status)
    except msgspec.MsgspecError:
        return ApiError(f"machine {machine} answered something that is no API's answer (status {status})", 502)


def execution_path(execution: Execution) -> str:
    """The path of an execution in the API, quoted."""
    return "/v1/executions/" + "/".join(quote(part, safe="") for part in execution.id.split("/"))


async def remote_execution(context: Context, machine: str, execution: Execution) -> Execution | None:
    """The execution with its progress, as the machine that runs it tells it; None when that machine does not answer."""
    try:
        body = b"".join([part async for part in relay(context, machine, execution_path(execution), {}, total=2)])
        return msgspec.json.decode(body, type=Execution)
    except (ApiError, msgspec.MsgspecError):
        return None
