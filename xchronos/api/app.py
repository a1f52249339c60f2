"""The application: routes, errors, access control, and the OpenAPI description that is made from the same structs."""

from collections.abc import Sequence
from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.middleware import DefineMiddleware
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import QueryParameter

from xchronos import __version__
from xchronos.api.context import Context
from xchronos.api.errors import HANDLERS
from xchronos.api.openapi import TakesUnitFile
from xchronos.api.ports import Services
from xchronos.api.routes.cluster import CLUSTER_ROUTES
from xchronos.api.routes.executions import EXECUTION_ROUTES
from xchronos.api.routes.machines import MACHINE_ROUTES
from xchronos.api.routes.units import UNIT_ROUTES
from xchronos.api.serving.access_control import AccessControl
from xchronos.api.serving.admission import Room, Turnstile
from xchronos.api.serving.aside import Aside
from xchronos.errors import InvalidValue
from xchronos.limits import BODY_BYTES
from xchronos.unitfile.suggest import did_you_mean


def create_app(services: Services, room: Room | None = None, aside: Aside | None = None) -> Litestar:
    """The application that answers for these services, as far as there is room.

    Args:
        services: What it speaks for.
        room: How many requests are answered together.
        aside: Where those are answered that cost most; None: here.
    """
    layers = [
        DefineMiddleware(AccessControl, names=services.names, token=lambda: services.token),
        DefineMiddleware(Turnstile, room=room or Room(), aside=aside),
    ]
    return _application(services, layers)


def create_inner_app(services: Services) -> Litestar:
    """The application without what guards it: for requests that were admitted elsewhere (`serving.aside`)."""
    return _application(services, [])


def _application(services: Services, layers: Sequence[DefineMiddleware]) -> Litestar:
    return Litestar(
        route_handlers=[*UNIT_ROUTES, *EXECUTION_ROUTES, *MACHINE_ROUTES, *CLUSTER_ROUTES],
        state=State({"context": Context(services)}),
        middleware=layers,
        before_request=refuse_unknown_queries,
        request_max_body_size=BODY_BYTES,
        exception_handlers=HANDLERS,
        openapi_config=OpenAPIConfig(
            title="xchronos",
            version=__version__,
            description="Distributed, fault-tolerant batch jobs in Docker, written as systemd-style unit files.",
            path="/schema",
            render_plugins=[JsonRenderPlugin(path="/")],
            use_handler_docstrings=True,
        ),
        logging_config=None,
    )


async def refuse_unknown_queries(request: Request[Any, Any, Any]) -> None:
    """Refuse query parameters that a route does not know, as unknown fields of a body are. Raises InvalidValue."""
    if not request.query_params:
        return
    handler = request.route_handler
    known = {
        field.kwarg_definition.name or parameter
        for parameter, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    }
    if handler.operation_class is TakesUnitFile:
        known.update(("path", "by"))
    for name in sorted(request.query_params):
        if name not in known:
            expected = f"expected {', '.join(sorted(known))}" if known else "expected none"
            raise InvalidValue(f"{name}: no such query parameter{did_you_mean(name, known)}: {expected}")
