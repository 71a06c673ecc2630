"""What /openapi.json says of the rerank routes, written from the same msgspec types that decode and encode them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rerankd.dialects.base import Dialect
from rerankd.dialects.fields import EXAMPLE
from rerankd.dialects.root_error import ErrorBody

REFERENCE = "#/components/schemas/{name}"
REQUIRED = ["query", "documents"]
ERRORS = {
    "400": "A parameter is wrong; which one is in `error.param`.",
    "401": "The API key is missing or not valid.",
    "404": "No such model is served; the message lists those that are.",
    "413": "The body is too large, or has too many documents.",
    "415": "The body is compressed.",
    "500": "The model failed.",
    "503": "There is no capacity now; `retry-after` says when to try again.",
    "504": "The deadline passed.",
}
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Needed where the server has a key."},
    "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


CLOSED: dict[str, Any] = {"security": [{}, *({name: []} for name in SECURITY)]}
"""What is said of a route that needs the key where there is one."""


def operation(dialect: Dialect) -> dict[str, Any]:
    """The `requestBody` and `responses` of a route that speaks `dialect`."""
    request, response = dialect.schemas()
    return {
        "requestBody": {"required": True, "content": _json(request, EXAMPLE)},
        "responses": {
            "200": {"description": "The documents, best first.", "content": _json(response)},
            **{status: {"description": text, "content": _json(ErrorBody)} for status, text in ERRORS.items()},
        },
        **CLOSED,
    }


def components(dialects: list[Dialect]) -> dict[str, Any]:
    """Every schema that `operation` refers to."""
    requests = [dialect.schemas()[0] for dialect in dialects]
    responses = [dialect.schemas()[1] for dialect in dialects]
    _, schemas = msgspec.json.schema_components([*requests, *responses, ErrorBody], ref_template=REFERENCE)
    for request in requests:
        # The decoder takes null and absent for every field, to say by itself what is missing; these two are needed.
        described = schemas[request.__name__]
        described["required"] = REQUIRED
        described["properties"]["query"] = {"type": "string", "minLength": 1}
        documents = described["properties"]["documents"]
        described["properties"]["top_n"] = {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}],
            "default": None,
        }
        described["properties"]["documents"] = {**_without_null(documents), "minItems": 1}
    return schemas


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    return next(choice for choice in schema["anyOf"] if choice.get("type") == "array")


def _json(cls: type[Any], example: Mapping[str, Any] | None = None) -> dict[str, Any]:
    shown = {} if example is None else {"example": example}
    return {"application/json": {"schema": {"$ref": REFERENCE.format(name=cls.__name__)}, **shown}}
