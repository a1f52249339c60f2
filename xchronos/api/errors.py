"""Every exception as an answer: an HTTP status, and a text that tells a person what to do."""

from collections.abc import Callable
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from xchronos.errors import (
    ApiError,
    Conflict,
    InvalidValue,
    LeaseLost,
    NotFound,
    StoreError,
    StoreUnavailable,
    UnitFileError,
    XchronosError,
)
from xchronos.ipc import Disconnected
from xchronos.wire.messages import ErrorBody

log = structlog.get_logger(__name__)

_STATUS: dict[type[Exception], int] = {
    NotFound: 404,
    Conflict: 409,
    LeaseLost: 409,
    InvalidValue: 400,
    StoreError: 500,
    Disconnected: 503,
}


def status_of(error: XchronosError) -> int:
    """The status of an answer that is nothing but this error. Raises KeyError for one that has no status of its own."""
    return _STATUS[type(error)]


RETRY_AFTER_SECONDS = 2
"""How long a client should wait before it repeats a question that the absent job store kept from being answered."""


def _known(status: int) -> Callable[[Request[Any, Any, Any], Exception], Response[ErrorBody]]:
    def answer(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
        return Response(ErrorBody(str(error)), status_code=status)

    return answer


def _refused(_: Request[Any, Any, Any], error: UnitFileError) -> Response[ErrorBody]:
    errors = sum(problem.severity == "error" for problem in error.problems)
    text = f"the unit file is refused: {errors} problem{'s' if errors != 1 else ''}"
    return Response(ErrorBody(text, error.problems), status_code=422)


def _away(_: Request[Any, Any, Any], error: StoreUnavailable) -> Response[ErrorBody]:
    """The job store is away. Nothing is known to be wrong with the question, so it may be asked again."""
    text = f"the job store is not available: {error}"
    return Response(ErrorBody(text), status_code=503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def _peer(_: Request[Any, Any, Any], error: ApiError) -> Response[ErrorBody]:
    """The daemon of another machine had to be asked, and it refused or did not answer."""
    return Response(ErrorBody(str(error)), status_code=error.status)


def _http(_: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorBody]:
    text = error.detail
    if isinstance(error.extra, list):
        parts = [_part(item) for item in error.extra if isinstance(item, dict)]
        text = "; ".join([text.partition(" for ")[0], *parts])
    return Response(ErrorBody(text), status_code=error.status_code, headers=error.headers)


def _part(item: dict[str, Any]) -> str:
    """What is wrong with one parameter, or with the body. Litestar calls the body by the handler's argument, `data`."""
    key, message = item.get("key", ""), item.get("message", "")
    if key != "data":
        return f"{key}: {message}"
    return "body: missing, expected a JSON object" if message == "'data'" else f"body: {message}"


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
    return Response(ErrorBody("internal error: the daemon's log has the details"), status_code=500)


HANDLERS: dict[int | type[Exception], Any] = {
    **{kind: _known(status) for kind, status in _STATUS.items()},
    StoreUnavailable: _away,
    UnitFileError: _refused,
    ApiError: _peer,
    HTTPException: _http,
    Exception: _unexpected,
}
"""What Litestar answers each exception with. It takes the handler of the narrowest class."""
