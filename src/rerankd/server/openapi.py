"""What /openapi.json says of the rerank routes, written from the same msgspec types that decode and encode them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from rerankd.dialects.base import Dialect
from rerankd.dialects.directory import DIALECTS
from rerankd.dialects.fields import EXAMPLE_REQUEST
from rerankd.dialects.root_error import ErrorBody
from rerankd.errors import BadRequest
from rerankd.server.routes import RerankRoute

REFERENCE = "#/components/schemas/{name}"
PARTS = ("request", "response")
REQUIRED = ("query", "documents")
AN_ERROR = BadRequest("`query` is missing; it must be a non-empty string.", param="query")
TEXT_OBJECT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
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


def paths(routes: Sequence[RerankRoute]) -> dict[str, Any]:
    """The rerank routes that are shown: each format once at each of its paths."""
    shown = (route for route in routes if route.warning is None and "{" not in route.path)
    return {
        route.path: {
            "post": {
                "tags": ["rerank" if not route.dialect.prefix else f"rerank: {route.dialect.prefix}"],
                "summary": f"Put documents in order of relevance to a query ({route.dialect.title})",
                "operationId": "rerank_" + re.sub(r"\W+", "_", route.path.strip("/")),
                **operation(route.dialect),
            }
        }
        for route in shown
    }


def operation(dialect: Dialect) -> dict[str, Any]:
    """The `requestBody` and `responses` of a route that speaks `dialect`."""
    references, _ = _described()
    request, response = (references[dialect.name, part] for part in ("request", "response"))
    return {
        "requestBody": {
            "required": True,
            "content": _json(request, json.loads(dialect.render_request(EXAMPLE_REQUEST))),
        },
        "responses": {
            "200": {"description": "The documents, best first.", "content": _json(response)},
            **{status: {"description": text, "content": _error(dialect)} for status, text in ERRORS.items()},
        },
        **CLOSED,
    }


def components() -> dict[str, Any]:
    """Every schema that `operation` refers to."""
    return _described()[1]


@cache
def _described() -> tuple[dict[tuple[str, str], dict[str, Any]], dict[str, Any]]:
    """The schema of each dialect's request and response, mostly a reference, and all that is referred to."""
    kinds = {
        (name, part): kind for name in DIALECTS for part, kind in zip(PARTS, DIALECTS[name].schemas(), strict=True)
    }
    found, schemas = msgspec.json.schema_components([*kinds.values(), ErrorBody], ref_template=REFERENCE)
    references = dict(zip(kinds, found, strict=False))
    for name in DIALECTS:
        _say_what_is_needed(schemas[references[name, "request"]["$ref"].rpartition("/")[2]])
    return references, schemas


def _say_what_is_needed(described: dict[str, Any]) -> None:
    """The decoder takes null and absent for every field, to say by itself what is missing; some are needed all the same."""
    fields = described["properties"]
    fields.update({name: _with_texts(schema) for name, schema in fields.items()})
    needed = [name for name in REQUIRED if name in fields]
    if needed:
        described["required"] = needed
    for name in needed:
        choices = [choice for choice in fields[name].get("anyOf", [fields[name]]) if choice.get("type") != "null"]
        fields[name] = {**fields[name], "anyOf": [_not_empty(choice) for choice in choices]}
        fields[name].pop("default", None)
    for name in ("top_n", "top_k"):
        if name in fields:
            fields[name]["anyOf"] = [{"type": "integer", "minimum": 0}, {"type": "null"}]


def _not_empty(choice: dict[str, Any]) -> dict[str, Any]:
    if choice == TEXT_OBJECT:
        return {**TEXT_OBJECT, "properties": {"text": {"type": "string", "minLength": 1}}}
    least = {"string": "minLength", "array": "minItems"}.get(choice.get("type", ""))
    return {**choice, least: 1} if least else choice


def _with_texts(schema: Any) -> Any:
    """An object in the place of a string is one that holds a text."""
    if isinstance(schema, list):
        return [_with_texts(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    choices = schema.get("anyOf")
    if choices and {"string", "object"} <= {choice.get("type") for choice in choices}:
        return {**schema, "anyOf": [TEXT_OBJECT if part.get("type") == "object" else part for part in choices]}
    return {name: _with_texts(part) for name, part in schema.items()}


def _error(dialect: Dialect) -> dict[str, Any]:
    if dialect.prefix:
        return {"application/json": {"example": json.loads(dialect.render_error(AN_ERROR, "the-request-id")[1])}}
    return _json({"$ref": REFERENCE.format(name=ErrorBody.__name__)})


def _json(schema: Mapping[str, Any], example: object = None) -> dict[str, Any]:
    shown = {} if example is None else {"example": example}
    return {"application/json": {"schema": schema, **shown}}
