"""The parts of the OpenAPI description that the framework cannot derive from the handlers."""

from dataclasses import dataclass

from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema

_TEXT = Schema(type=OpenAPIType.STRING, description="The unit file, byte for byte.")
_SUBMISSION = Schema(
    type=OpenAPIType.OBJECT,
    description="A Submission: the file's text (or text_base64), its drop-ins, what problems call it, who submits it.",
    properties={
        "text": Schema(type=OpenAPIType.STRING),
        "text_base64": Schema(type=OpenAPIType.STRING),
        "drop_ins": Schema(
            type=OpenAPIType.ARRAY,
            items=Schema(
                type=OpenAPIType.OBJECT,
                required=["name", "text"],
                properties={"name": Schema(type=OpenAPIType.STRING), "text": Schema(type=OpenAPIType.STRING)},
            ),
        ),
        "path": Schema(type=OpenAPIType.STRING),
        "by": Schema(type=OpenAPIType.STRING),
    },
)


@dataclass
class TakesUnitFile(Operation):
    """The description of a route whose body is a unit file, or a Submission in JSON."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            content={
                "text/plain": OpenAPIMediaType(schema=_TEXT),
                "application/json": OpenAPIMediaType(schema=_SUBMISSION),
            },
            required=True,
        )
