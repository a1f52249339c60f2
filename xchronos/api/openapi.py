"""The parts of the OpenAPI description that the framework cannot derive from the handlers: errors, and some bodies.

Every answer that a route may give is in its description, and the other way round (`tests/api/test_description.py`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, Parameter, RequestBody, Schema

from xchronos.wire.messages import ErrorBody, Submission

MEANINGS = {
    400: "The request is no valid one: a query parameter or a field that there is not, a value that does not parse.",
    401: "The API wants a token, and the request has none or another one.",
    403: "`Host` is no name of this API, or `Origin` is not this API.",
    404: "There is no such unit, execution, step, machine or record.",
    408: "The request was not complete in time.",
    409: "As it is now, that cannot be done; or somebody else has changed it meanwhile. Look at it again.",
    413: "The body is larger than bodies may be.",
    422: "The unit file is refused: `problems` has everything that is wrong with it.",
    500: "The job store could not do what was asked, or the daemon has a fault: its log has more.",
    502: "The machine that has the output answered something that is no API's answer.",
    503: "The job store or another machine does not answer, or there are too many requests: ask again later. "
    "Of /healthz: something is wrong with the daemon.",
}
"""What each status of an error means. The body is an ErrorBody every time."""

_EVERYWHERE = frozenset((400, 401, 403, 408, 413, 500, 503))


def errors(*own: int, but: Collection[int] = ()) -> dict[int, ResponseSpec]:
    """The errors that a route may answer with: its own, and those of every route, `but` not these."""
    return {
        status: ResponseSpec(ErrorBody, generate_examples=False, description=MEANINGS[status])
        for status in sorted((_EVERYWHERE - set(but)) | set(own))
    }


def _schema(described: Mapping[str, Any], parts: Mapping[str, Any]) -> Schema:
    """What msgspec says of a type, as the framework's Schema. `parts` are the types that it refers to."""
    if reference := described.get("$ref"):
        return _schema(parts[reference.rpartition("/")[2]], parts)
    others = described.get("additionalProperties")
    properties = described.get("properties")
    return Schema(
        type=OpenAPIType(described["type"]),
        title=described.get("title"),
        description=described.get("description"),
        properties={name: _schema(one, parts) for name, one in properties.items()} if properties is not None else None,
        additional_properties=_schema(others, parts) if isinstance(others, Mapping) else others,
        items=_schema(described["items"], parts) if "items" in described else None,
        required=described.get("required") or None,
        minimum=described.get("minimum"),
        maximum=described.get("maximum"),
    )


def _schema_of(kind: type[msgspec.Struct]) -> Schema:
    described = msgspec.json.schema(kind)
    return _schema(described, described["$defs"])


def takes(kind: type[msgspec.Struct], *, needed: bool = False) -> type[Operation]:
    """The description of a route whose body is such a struct in JSON; unless it is `needed`, it may be left out.

    The framework's own says neither that a body may be left out nor that other fields are refused.
    """

    @dataclass
    class TakesBody(Operation):
        def __post_init__(self) -> None:
            schema = _schema_of(kind)
            if not needed:
                schema = Schema(any_of=[schema, Schema(type=OpenAPIType.NULL)])
            self.request_body = RequestBody({"application/json": OpenAPIMediaType(schema=schema)}, required=needed)

    return TakesBody


@dataclass
class TakesUnitFile(Operation):
    """The description of a route whose body is a unit file, or a Submission in JSON.

    `path` and `by`, which a Submission has inside, stand in the query where the body is the file itself.
    """

    def __post_init__(self) -> None:
        text = Schema(type=OpenAPIType.STRING)
        named = {"path": "What problems call the file.", "by": "Who submits it."}
        self.parameters = [
            *(self.parameters or ()),
            *(Parameter(name, "query", text, description=meaning) for name, meaning in named.items()),
        ]
        file = Schema(type=OpenAPIType.STRING, description="The unit file, byte for byte.")
        self.request_body = RequestBody(
            content={
                "text/plain": OpenAPIMediaType(schema=file),
                "application/json": OpenAPIMediaType(schema=_schema_of(Submission)),
            },
            required=True,
        )
